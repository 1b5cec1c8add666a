/* The request's body into a spec: strict, every problem at once. */
#include "spec/spec.h"

#include "plan/splits.h"
#include "spec/benchmark.h"
#include "spec/loader.h"

#include "base/err.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static void get_int(const json_t *obj, const char *base, const char *key, int lo, int hi, int *out,
                    struct vx_json_problems *ps) {
    int64_t x = *out;
    vx_json_get_int(obj, base, key, lo, hi, &x, ps);
    *out = (int)x;
}

int vx_spec_one_of(const json_t *obj, const char *base, const char *key, const char *const *words,
                   struct vx_json_problems *ps) {
    char text[64], at[96], list[160] = "";
    if (!vx_json_get_string(obj, base, key, text, sizeof text, ps)) {
        return -1;
    }
    for (int i = 0; words[i]; i++) {
        if (strcmp(words[i], text) == 0) {
            return i;
        }
        strncat(list, i ? ", " : "", sizeof list - strlen(list) - 1);
        strncat(list, words[i], sizeof list - strlen(list) - 1);
    }
    snprintf(at, sizeof at, "%s/%s", base, key);
    vx_json_problem(ps, at, "invalid_value", "must be one of: %s", list);
    return -1;
}

/* Safe as one component of a path. */
static bool folder_name(const char *text) {
    for (const char *p = text; *p; p++) {
        if (!isalnum((unsigned char)*p) && *p != '_' && *p != '-' && (*p != '.' || p == text)) {
            return false;
        }
    }
    return strstr(text, "__") == NULL; /* separates the parts of nnU-Net's folder names */
}

/* A string that becomes a part of the name of a results folder. */
static void parse_folder_name(const json_t *json, const char *base, const char *key, char *buf,
                              size_t size, struct vx_json_problems *ps) {
    char at[64];
    snprintf(at, sizeof at, "%s/%s", base, key);
    if (vx_json_get_string(json, base, key, buf, size, ps) && (!buf[0] || !folder_name(buf))) {
        vx_json_problem(
            ps, at, "invalid_value",
            "may have letters, digits, '-', '.' and single '_', and must not start with '.'");
    }
}

static void parse_type(const json_t *json, struct vx_job_spec *s, struct vx_json_problems *ps) {
    static const char *const types[] = {"train",   "prepare",   "validate",
                                        "predict", "benchmark", NULL};
    static const int known[] = {VX_JOB_TRAIN, VX_JOB_PREPARE, -1, VX_JOB_PREDICT, VX_JOB_BENCHMARK};
    int type = vx_spec_one_of(json, "", "type", types, ps);
    if (type >= 0 && known[type] < 0) {
        vx_json_problem(ps, "/type", "not_supported", "jobs of type %s are not supported yet",
                        types[type]);
    } else if (type >= 0) {
        s->type = (enum vx_job_type)known[type];
    } else if (!json_object_get(json, "type")) {
        vx_json_problem(ps, "/type", "missing",
                        "is required: train, prepare, predict or benchmark");
    }
}

static void parse_what(const json_t *json, struct vx_job_spec *s, struct vx_json_problems *ps) {
    if (!json_object_get(json, "dataset")) {
        vx_json_problem(ps, "/dataset", "missing", "is required, e.g. \"Dataset004_Hippocampus\"");
    } else if (vx_json_get_string(json, "", "dataset", s->dataset, sizeof s->dataset, ps) &&
               !vx_dataset_name_ok(s->dataset)) {
        vx_json_problem(ps, "/dataset", "invalid_value", "must look like Dataset004_Hippocampus");
    }
    parse_folder_name(json, "", "configuration", s->configuration, sizeof s->configuration, ps);
    parse_folder_name(json, "", "plans", s->plans, sizeof s->plans, ps);
    get_int(json, "", "priority", -100, 100, &s->priority, ps);
}

static void parse_fold(const json_t *json, struct vx_job_spec *s, struct vx_json_problems *ps) {
    const json_t *fold = json_object_get(json, "fold");
    if (json_is_string(fold) && strcmp(json_string_value(fold), "all") == 0) {
        s->fold = VX_FOLD_ALL;
    } else if (json_is_string(fold)) {
        vx_json_problem(ps, "/fold", "invalid_value", "must be a number or \"all\"");
    } else {
        get_int(json, "", "fold", 0, 99, &s->fold, ps);
    }
}

static bool device_name(const char *text) {
    const char *rest = strncmp(text, "cpu", 3) == 0    ? text + 3
                       : strncmp(text, "cuda", 4) == 0 ? text + 4
                                                       : NULL;
    if (strcmp(text, "auto") == 0 || (rest && *rest == '\0')) {
        return true;
    }
    return rest && rest[0] == ':' && isdigit((unsigned char)rest[1]) &&
           (rest[2] == '\0' || (isdigit((unsigned char)rest[2]) && rest[3] == '\0'));
}

static void parse_resources(const json_t *json, struct vx_job_spec *s,
                            struct vx_json_problems *ps) {
    const json_t *o = vx_json_get_object(json, "", "resources", ps);
    if (!o) {
        return;
    }
    vx_json_only_keys(o, "/resources", (const char *const[]){"device", "count", NULL}, ps);
    if (vx_json_get_string(o, "/resources", "device", s->resources.device,
                           sizeof s->resources.device, ps) &&
        !device_name(s->resources.device)) {
        vx_json_problem(ps, "/resources/device", "invalid_value",
                        "must be auto, cpu, cuda or cuda:N");
    }
    get_int(o, "/resources", "count", 1, 1, &s->resources.count, ps);
}

static void parse_results(const json_t *json, struct vx_job_spec *s, struct vx_json_problems *ps) {
    const json_t *o = vx_json_get_object(json, "", "results", ps);
    if (!o) {
        return;
    }
    vx_json_only_keys(o, "/results", (const char *const[]){"name", "replace", NULL}, ps);
    parse_folder_name(o, "/results", "name", s->results.name, sizeof s->results.name, ps);
    vx_json_get_bool(o, "/results", "replace", &s->results.replace, ps);
}

static void parse_training(const json_t *json, struct vx_job_spec *s, struct vx_json_problems *ps) {
    static const char at[] = "/training";
    const json_t *o = vx_json_get_object(json, "", "training", ps);
    if (!o) {
        return;
    }
    vx_json_only_keys(o, at,
                      (const char *const[]){"epochs", "iterations_per_epoch",
                                            "val_iterations_per_epoch", "seed", "initial_lr",
                                            "momentum", "weight_decay", "oversample_foreground",
                                            "checkpoint_seconds", "pretrained_weights", NULL},
                      ps);
    get_int(o, at, "epochs", 1, 100000, &s->training.epochs, ps);
    get_int(o, at, "iterations_per_epoch", 1, 100000, &s->training.iterations_per_epoch, ps);
    get_int(o, at, "val_iterations_per_epoch", 0, 100000, &s->training.val_iterations_per_epoch,
            ps);
    int64_t seed = (int64_t)s->training.seed;
    vx_json_get_int(o, at, "seed", 0, INT64_MAX, &seed, ps);
    s->training.seed = (uint64_t)seed;
    vx_json_get_real(o, at, "initial_lr", 1e-8, 10, &s->training.initial_lr, ps);
    vx_json_get_real(o, at, "momentum", 0, 0.9999, &s->training.momentum, ps);
    vx_json_get_real(o, at, "weight_decay", 0, 1, &s->training.weight_decay, ps);
    vx_json_get_real(o, at, "oversample_foreground", 0, 1, &s->training.oversample_foreground, ps);
    vx_json_get_real(o, at, "checkpoint_seconds", 0, 60, &s->training.checkpoint_seconds, ps);
    vx_json_get_string(o, at, "pretrained_weights", s->training.pretrained_weights,
                       sizeof s->training.pretrained_weights, ps);
}

static void parse_patch(const json_t *plan, struct vx_job_spec *s, struct vx_json_problems *ps) {
    const json_t *patch = vx_json_get_array(plan, "/plan", "patch_size", 2, 3, ps);
    size_t n = json_array_size(patch);
    for (size_t i = 0; patch && i < n; i++) {
        const json_t *v = json_array_get(patch, i);
        char at[48];
        snprintf(at, sizeof at, "/plan/patch_size/%zu", i);
        if (!json_is_integer(v) || json_integer_value(v) < 4 || json_integer_value(v) > 1024) {
            vx_json_problem(ps, at, "out_of_range", "must be an integer from 4 to 1024");
            continue;
        }
        s->plan.patch_size[3 - n + i] = (int)json_integer_value(v);
    }
    if (n == 2) {
        s->plan.patch_size[0] = 1;
    }
    /* other configurations are people's own: the plan says what they are */
    bool flat = strcmp(s->configuration, "2d") == 0;
    bool planned = flat || strncmp(s->configuration, "3d_", 3) == 0;
    if (n && planned && (n == 2) != flat) {
        vx_json_problem(ps, "/plan/patch_size", "invalid_value",
                        "must have %s numbers for configuration %s", n == 2 ? "three" : "two",
                        s->configuration);
    }
}

/* What nnU-Net's planner can be asked for: another memory target, another spacing. */
static void parse_planning(const json_t *plan, struct vx_job_spec *s, struct vx_json_problems *ps) {
    vx_json_get_real(plan, "/plan", "gpu_memory_gb", 1, 1000, &s->planning.gpu_memory_gb, ps);
    const json_t *spacing = vx_json_get_array(plan, "/plan", "spacing", 3, 3, ps);
    for (size_t a = 0; spacing && a < 3; a++) {
        const json_t *v = json_array_get(spacing, a);
        char at[48];
        snprintf(at, sizeof at, "/plan/spacing/%zu", a);
        if (!json_is_number(v) || !(json_number_value(v) >= 0.01 && json_number_value(v) <= 100)) {
            vx_json_problem(ps, at, "out_of_range", "must be a number from 0.01 to 100 (mm)");
        } else {
            s->planning.spacing[a] = json_number_value(v);
        }
    }
}

static void parse_plan(const json_t *json, struct vx_job_spec *s, struct vx_json_problems *ps) {
    const json_t *o = vx_json_get_object(json, "", "plan", ps);
    if (!o) {
        return;
    }
    vx_json_only_keys(o, "/plan",
                      (const char *const[]){"batch_size", "patch_size", "features_per_stage",
                                            "gpu_memory_gb", "spacing", NULL},
                      ps);
    parse_planning(o, s, ps);
    get_int(o, "/plan", "batch_size", 1, 4096, &s->plan.batch_size, ps);
    parse_patch(o, s, ps);
    const json_t *features =
        vx_json_get_array(o, "/plan", "features_per_stage", 2, VX_MAX_STAGES, ps);
    for (size_t i = 0; features && i < json_array_size(features); i++) {
        const json_t *v = json_array_get(features, i);
        char at[48];
        snprintf(at, sizeof at, "/plan/features_per_stage/%zu", i);
        if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > 2048) {
            vx_json_problem(ps, at, "out_of_range", "must be an integer from 1 to 2048");
            continue;
        }
        s->plan.features[i] = (int)json_integer_value(v);
        s->plan.n_features = (int)i + 1;
    }
}

static void parse_augment(const json_t *json, struct vx_job_spec *s, struct vx_json_problems *ps) {
    static const char *const places[] = {"cpu", "auto", "gpu", NULL};
    const json_t *o = vx_json_get_object(json, "", "augment", ps);
    if (!o) {
        return;
    }
    vx_json_only_keys(o, "/augment", (const char *const[]){"where", "enabled", "mirror", NULL}, ps);
    int place = vx_spec_one_of(o, "/augment", "where", places, ps);
    if (place == 2) {
        vx_json_problem(ps, "/augment/where", "not_supported",
                        "augmentation on the GPU is not supported yet");
    } else if (place >= 0) {
        snprintf(s->augment.where, sizeof s->augment.where, "%s", places[place]);
    }
    vx_json_get_bool(o, "/augment", "enabled", &s->augment.enabled, ps);
    vx_json_get_bool(o, "/augment", "mirror", &s->augment.mirror, ps);
}

static void not_for_type(const json_t *obj, const char *base, const char *key,
                         const struct vx_job_spec *s, struct vx_json_problems *ps) {
    if (json_object_get(obj, key)) {
        char at[64];
        snprintf(at, sizeof at, "%s/%s", base, key);
        vx_json_problem(ps, at, "not_for_type", "has no meaning for a job of type %s",
                        vx_job_type_word(s->type));
    }
}

static void parse_inference(const json_t *json, struct vx_job_spec *s,
                            struct vx_json_problems *ps) {
    const json_t *o = vx_json_get_object(json, "", "inference", ps);
    if (!o) {
        return;
    }
    vx_json_only_keys(o, "/inference",
                      (const char *const[]){"mirroring", "step_size", "save_probabilities", NULL},
                      ps);
    vx_json_get_bool(o, "/inference", "mirroring", &s->inference.mirroring, ps);
    vx_json_get_real(o, "/inference", "step_size", 0.1, 1, &s->inference.step_size, ps);
    if (s->type == VX_JOB_PREDICT) {
        vx_json_get_bool(o, "/inference", "save_probabilities", &s->inference.save_probabilities,
                         ps);
    } else {
        not_for_type(o, "/inference", "save_probabilities", s, ps);
    }
}

/* --- jobs of type predict --- */

static void parse_fold_list(const json_t *list, struct vx_job_spec *s,
                            struct vx_json_problems *ps) {
    size_t n = json_array_size(list);
    if (n < 1 || n > VX_SPEC_MAX_FOLDS) {
        vx_json_problem(ps, "/folds", "out_of_range", "must name 1 to %d folds", VX_SPEC_MAX_FOLDS);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        char at[32];
        snprintf(at, sizeof at, "/folds/%zu", i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > 99) {
            vx_json_problem(ps, at, json_is_integer(v) ? "out_of_range" : "wrong_type",
                            "must be an integer from 0 to 99");
            continue;
        }
        int fold = (int)json_integer_value(v);
        for (int k = 0; k < s->predict.n_folds; k++) {
            if (s->predict.folds[k] == fold) {
                vx_json_problem(ps, at, "invalid_value", "names fold %d a second time", fold);
            }
        }
        s->predict.folds[s->predict.n_folds++] = fold;
    }
}

static void parse_folds(const json_t *json, struct vx_job_spec *s, struct vx_json_problems *ps) {
    const json_t *folds = json_object_get(json, "folds");
    const char *word = json_string_value(folds);
    if (json_is_array(folds)) {
        parse_fold_list(folds, s, ps);
    } else if (word && strcmp(word, "all") == 0) {
        s->predict.n_folds = 1;
        s->predict.folds[0] = VX_FOLD_ALL;
    } else if (folds && !(word && strcmp(word, "auto") == 0)) {
        vx_json_problem(ps, "/folds", word ? "invalid_value" : "wrong_type",
                        "must be a list of folds, \"all\" (the fold trained on all cases) or "
                        "\"auto\" (every fold there is)");
    }
}

static void parse_predict(const json_t *json, struct vx_job_spec *s, struct vx_json_problems *ps) {
    static const char *const checkpoints[] = {"final", "best", NULL};
    if (!json_object_get(json, "input")) {
        vx_json_problem(ps, "/input", "missing",
                        "is required: a folder of images beneath the data folder");
    }
    vx_json_get_string(json, "", "input", s->predict.input, sizeof s->predict.input, ps);
    vx_json_get_string(json, "", "output", s->predict.output, sizeof s->predict.output, ps);
    parse_folds(json, s, ps);
    int checkpoint = vx_spec_one_of(json, "", "checkpoint", checkpoints, ps);
    if (checkpoint >= 0) {
        snprintf(s->predict.checkpoint, sizeof s->predict.checkpoint, "%s",
                 checkpoints[checkpoint]);
    }
    static const char *const others[] = {"fold",   "training", "plan",
                                         "loader", "augment",  "benchmark"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        not_for_type(json, "", others[i], s, ps);
    }
    not_for_type(json_object_get(json, "results"), "/results", "replace", s, ps);
}

/* Jobs of type benchmark: nothing is trained, nothing published. */
static void parse_benchmark(const json_t *json, struct vx_job_spec *s,
                            struct vx_json_problems *ps) {
    static const char *const others[] = {"training", "results", "precision", "inference",
                                         "folds",    "input",   "output",    "checkpoint"};
    parse_fold(json, s, ps);
    parse_plan(json, s, ps);
    /* what is measured stays as it is, unless the tuner is what is looked at */
    snprintf(s->loader.tune, sizeof s->loader.tune, "off");
    vx_spec_parse_loader(json, s, ps);
    parse_augment(json, s, ps);
    vx_spec_parse_benchmark(json, s, ps);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        not_for_type(json, "", others[i], s, ps);
    }
}

/* Jobs of type train and prepare. */
static void parse_train(const json_t *json, struct vx_job_spec *s, struct vx_json_problems *ps) {
    parse_fold(json, s, ps);
    parse_training(json, s, ps);
    parse_plan(json, s, ps);
    vx_spec_parse_loader(json, s, ps);
    parse_augment(json, s, ps);
    static const char *const others[] = {"folds", "input", "output", "checkpoint", "benchmark"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        not_for_type(json, "", others[i], s, ps);
    }
}

int vx_spec_parse(const json_t *json, struct vx_job_spec *ret, struct vx_json_problems *ps) {
    static const char *const precisions[] = {"auto", "fp32", "bf16", NULL};
    size_t before = ps->n;
    struct vx_job_spec s;
    vx_spec_defaults(&s);
    if (!json_is_object(json)) {
        vx_json_problem(ps, "", "wrong_type", "a job must be a JSON object");
        return VX_E_INVALID;
    }
    vx_json_only_keys(json, "",
                      (const char *const[]){"type",      "dataset",    "configuration", "plans",
                                            "fold",      "resources",  "priority",      "results",
                                            "training",  "plan",       "loader",        "augment",
                                            "precision", "inference",  "folds",         "input",
                                            "output",    "checkpoint", "benchmark",     NULL},
                      ps);
    parse_type(json, &s, ps);
    parse_what(json, &s, ps);
    parse_resources(json, &s, ps);
    parse_results(json, &s, ps);
    (s.type == VX_JOB_PREDICT     ? parse_predict
     : s.type == VX_JOB_BENCHMARK ? parse_benchmark
                                  : parse_train)(json, &s, ps);
    int precision = vx_spec_one_of(json, "", "precision", precisions, ps);
    if (precision >= 0) {
        s.precision = (enum vx_spec_precision)precision;
    }
    parse_inference(json, &s, ps);
    if (ps->n != before) {
        return VX_E_INVALID;
    }
    *ret = s;
    return VX_OK;
}
