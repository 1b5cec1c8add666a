/* See predict_args.h. */
#include "daemon/roles/predict_args.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <dirent.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: voxeld predict --input DIR --output DIR (--model DIR | --dataset NAME --configuration "
    "NAME)\n"
    "\n"
    "  --input DIR            images CASE_0000.nii.gz, CASE_0001.nii.gz, ... (or .nii, as the "
    "model's)\n"
    "  --output DIR           gets CASE.nii.gz, dataset.json, plans.json, predict_args.json\n"
    "  --model DIR            a trained model: .../DatasetXXX_Name/TRAINER__PLANS__CONFIGURATION\n"
    "  --dataset NAME|ID      or by its parts, beneath the results folder\n"
    "  --configuration NAME   e.g. 3d_fullres\n"
    "  --trainer NAME         voxeld\n"
    "  --plans NAME           nnUNetPlans\n"
    "  --results DIR          $nnUNet_results\n"
    "  --folds 0,1,2|all      whose logits are averaged; all: the one fold trained on all cases;\n"
    "                         without it every numbered fold there is\n"
    "  --checkpoint final|best\n"
    "  --step-size X          distance of tiles, share of the patch: 0.5\n"
    "  --no-mirroring         a half to an eighth of the time\n"
    "  --save-probabilities   also CASE.npz and CASE.pkl, for nnUNetv2_ensemble\n"
    "  --continue             keep what an earlier run with the same model has finished\n"
    "  --threads N, --device cpu, --precision auto|fp32|bf16\n";

/* Where the model lies by its parts. */
struct parts {
    const char *results, *dataset, *configuration, *trainer, *plans;
};

/* "4" or "004" to the folder Dataset004_... in results. */
static char *name_of_number(const char *results, const char *number) {
    char prefix[32], found[256] = "";
    snprintf(prefix, sizeof prefix, "Dataset%03d_", atoi(number));
    DIR *dir = opendir(results);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) == 0) {
            snprintf(found, sizeof found, "%s", e->d_name);
        }
    }
    if (dir) {
        closedir(dir);
    }
    return strdup(found[0] ? found : number);
}

static int find_model(const struct parts *p, struct vx_predict_args *a, struct vx_err *err) {
    const char *root = p->results ? p->results : getenv("nnUNet_results");
    if (!root || !root[0]) {
        return vx_fail(err, VX_E_INVALID, "no_results_folder",
                       "--dataset needs --results DIR, or nnUNet_results in the environment");
    }
    bool number = p->dataset[strspn(p->dataset, "0123456789")] == '\0';
    vx_auto_free char *name = number ? name_of_number(root, p->dataset) : strdup(p->dataset);
    a->model = name
                   ? vx_strf("%s/%s/%s__%s__%s", root, name, p->trainer, p->plans, p->configuration)
                   : NULL;
    return a->model ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
}

/* "0,1,2" into its parts. */
static bool split_folds(const char *text, struct vx_predict_args *a) {
    free(a->folds_text);
    a->folds_text = strdup(text);
    a->n_folds = 0;
    char *rest = a->folds_text;
    for (char *part; rest && (part = strsep(&rest, ","));) {
        if (a->n_folds == VX_PREDICT_MAX_FOLDS || !part[0]) {
            return false;
        }
        a->folds[a->n_folds++] = part;
    }
    return a->n_folds > 0;
}

static bool number_in(const char *text, double lo, double hi, double *ret) {
    char *end;
    double x = strtod(text, &end);
    bool ok = end != text && *end == '\0' && x >= lo && x <= hi;
    *ret = ok ? x : 0;
    return ok;
}

static bool one_of(const char *text, const char *a, const char *b) {
    return strcmp(text, a) == 0 || strcmp(text, b) == 0;
}

enum {
    INPUT = 1,
    OUTPUT,
    MODEL,
    DATASET,
    CONFIGURATION,
    TRAINER,
    PLANS,
    RESULTS,
    FOLDS,
    CHECKPOINT,
    STEP,
    FLAT,
    PROBABILITIES,
    KEEP,
    THREADS,
    DEVICE,
    PRECISION,
    HELP
};

static const struct option options[] = {{"input", required_argument, NULL, INPUT},
                                        {"output", required_argument, NULL, OUTPUT},
                                        {"model", required_argument, NULL, MODEL},
                                        {"dataset", required_argument, NULL, DATASET},
                                        {"configuration", required_argument, NULL, CONFIGURATION},
                                        {"trainer", required_argument, NULL, TRAINER},
                                        {"plans", required_argument, NULL, PLANS},
                                        {"results", required_argument, NULL, RESULTS},
                                        {"folds", required_argument, NULL, FOLDS},
                                        {"checkpoint", required_argument, NULL, CHECKPOINT},
                                        {"step-size", required_argument, NULL, STEP},
                                        {"no-mirroring", no_argument, NULL, FLAT},
                                        {"save-probabilities", no_argument, NULL, PROBABILITIES},
                                        {"continue", no_argument, NULL, KEEP},
                                        {"threads", required_argument, NULL, THREADS},
                                        {"device", required_argument, NULL, DEVICE},
                                        {"precision", required_argument, NULL, PRECISION},
                                        {"help", no_argument, NULL, HELP},
                                        {NULL, 0, NULL, 0}};

/* An option of the prediction; false where its value is none. */
static bool take(int opt, const char *value, struct vx_predict_args *a) {
    double threads;
    switch (opt) {
    case INPUT:
        a->input = value;
        return true;
    case OUTPUT:
        a->output = value;
        return true;
    case MODEL:
        free(a->model);
        a->model = strdup(value);
        return a->model != NULL;
    case FOLDS:
        return split_folds(value, a);
    case CHECKPOINT:
        a->checkpoint = value;
        return one_of(value, "final", "best");
    case STEP:
        return number_in(value, 0.05, 1, &a->step);
    case FLAT:
        return a->no_mirroring = true;
    case PROBABILITIES:
        return a->probabilities = true;
    case KEEP:
        return a->keep = true;
    case THREADS:
        a->threads = number_in(value, 1, 1024, &threads) ? (int)threads : 0;
        return a->threads > 0;
    case DEVICE:
        a->device = value;
        return true;
    case PRECISION:
        a->precision = value;
        return strcmp(value, "auto") == 0 || one_of(value, "fp32", "bf16");
    default:
        return false;
    }
}

/* An option that names a part of the model's path. */
static bool take_part(int opt, const char *value, struct parts *p) {
    const char **place = opt == DATASET         ? &p->dataset
                         : opt == CONFIGURATION ? &p->configuration
                         : opt == TRAINER       ? &p->trainer
                         : opt == PLANS         ? &p->plans
                         : opt == RESULTS       ? &p->results
                                                : NULL;
    if (place) {
        *place = value;
    }
    return place != NULL;
}

static int wrong_usage(const char *option, const char *value) {
    if (option) {
        fprintf(stderr, "voxeld predict: --%s cannot be \"%s\"\n", option, value);
    }
    fputs(usage, stderr);
    return 2;
}

int vx_predict_args_read(int argc, char **argv, struct vx_predict_args *ret, int *ret_status,
                         struct vx_err *err) {
    struct vx_predict_args a = {
        .checkpoint = "final", .device = "cpu", .precision = "auto", .step = 0.5};
    struct parts parts = {.trainer = "voxeld", .plans = "nnUNetPlans"};
    int opt, index = 0, status = -1;
    while (status < 0 && (opt = getopt_long(argc, argv, "", options, &index)) != -1) {
        if (opt == HELP) {
            fputs(usage, stdout);
            status = 0;
        } else if (opt == '?') {
            status = wrong_usage(NULL, NULL);
        } else if (!take_part(opt, optarg, &parts) && !take(opt, optarg, &a)) {
            status = wrong_usage(options[index].name, optarg ? optarg : "");
        }
    }
    bool by_parts = parts.dataset && parts.configuration;
    if (status < 0 && (!a.input || !a.output || optind != argc || by_parts == (a.model != NULL))) {
        status = wrong_usage(NULL, NULL);
    }
    int rc = status < 0 && by_parts ? find_model(&parts, &a, err) : VX_OK;
    status = rc != VX_OK ? 1 : status;
    if (status >= 0) {
        vx_predict_args_release(&a);
        *ret_status = status;
        return rc != VX_OK ? rc : VX_E_INVALID;
    }
    *ret = a;
    return VX_OK;
}

void vx_predict_args_release(struct vx_predict_args *a) {
    free(a->model);
    free(a->folds_text);
    *a = (struct vx_predict_args){0};
}
