/* voxeld plan [options] DIR: plans.json of a raw data set on stdout. Written to
 * PREPROCESSED/DatasetXXX_Name/NAME.json, it is what jobs with "plans": NAME run by. */
#include "base/err.h"
#include "base/own.h"
#include "daemon/plans_source.h"
#include "daemon/roles/examine.h"
#include "daemon/roles/say.h"
#include "daemon/verbs.h"
#include "plan/dataset.h"
#include "plan/planner.h"

#include <getopt.h>
#include <stdio.h>

struct wishes {
    const char *name;
    int threads;
    struct vx_planner_options planner;
};

static const char usage[] =
    "usage: voxeld plan [options] DATASET_DIR\n"
    "  --plans-name NAME      nnUNetPlans where it is left out\n"
    "  --gpu-memory-gb GB     what a training may take on a GPU, 1 to 1000; nnU-Net plans for 8\n"
    "  --spacing Z,Y,X        target spacing of the full resolution in mm, 0.01 to 100\n"
    "  --processes N          cases read side by side; every core where it is left out\n";

/* A number from lo to hi with nothing behind it but *end. */
static bool read_number(const char *text, double lo, double hi, char end, double *ret,
                        const char **ret_end) {
    char *stop;
    *ret = strtod(text, &stop);
    *ret_end = stop + 1;
    return stop != text && *stop == end && *ret >= lo && *ret <= hi;
}

static bool take_option(struct wishes *w, int option, const char *value) {
    double *s = w->planner.spacing;
    const char *rest;
    switch (option) {
    case 'm':
        return read_number(value, 1, 1000, '\0', &w->planner.gpu_memory_gb, &rest);
    case 's':
        return read_number(value, 0.01, 100, ',', &s[0], &rest) &&
               read_number(rest, 0.01, 100, ',', &s[1], &rest) &&
               read_number(rest, 0.01, 100, '\0', &s[2], &rest);
    case 'p':
        w->name = value;
        return *value != '\0';
    case 'n':
        w->threads = atoi(value);
        return w->threads > 0;
    default:
        return false;
    }
}

static int plan(const char *dir, const struct wishes *w, struct vx_err *err) {
    struct vx_examination x = {0};
    struct vx_dataset_desc dataset;
    vx_auto_json json_t *plans = NULL;
    int rc = vx_examine(dir, w->threads, false, NULL, &x, err);
    if (rc == VX_OK && !x.valid) {
        rc = vx_fail(err, VX_E_INVALID, x.code, "%s; voxeld verify lists every problem", x.message);
    }
    rc = rc == VX_OK ? vx_dataset_load(dir, &dataset, err) : rc;
    rc = rc == VX_OK ? vx_plans_make(&dataset, x.fingerprint, &w->planner, w->name, &plans, err)
                     : rc;
    if (rc == VX_OK) {
        vx_auto_free char *text = json_dumps(plans, JSON_INDENT(4) | JSON_PRESERVE_ORDER);
        puts(text ? text : "out of memory");
    }
    vx_examination_release(&x);
    return rc;
}

int vx_role_plan(int argc, char **argv) {
    static const struct option options[] = {{"processes", required_argument, NULL, 'n'},
                                            {"plans-name", required_argument, NULL, 'p'},
                                            {"gpu-memory-gb", required_argument, NULL, 'm'},
                                            {"spacing", required_argument, NULL, 's'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct wishes w = {.name = "nnUNetPlans"};
    struct vx_err err = {0};
    int opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (!take_option(&w, opt, optarg)) {
            fputs(usage, opt == 'h' ? stdout : stderr);
            return opt == 'h' ? 0 : 2;
        }
    }
    if (optind + 1 != argc) {
        fputs(usage, stderr);
        return 2;
    }
    return plan(argv[optind], &w, &err) == VX_OK ? 0 : vx_say_error("plan", &err);
}
