/* Defaults, canonical form and stored specs. */
#include "spec/spec.h"

#include "plan/splits.h"
#include "spec/benchmark.h"
#include "spec/loader.h"

#include "base/err.h"
#include "base/own.h"

#include <stdio.h>
#include <string.h>

const char *vx_job_type_word(enum vx_job_type type) {
    static const char *const words[] = {[VX_JOB_TRAIN] = "train",
                                        [VX_JOB_PREPARE] = "prepare",
                                        [VX_JOB_PREDICT] = "predict",
                                        [VX_JOB_BENCHMARK] = "benchmark"};
    return words[type];
}

void vx_spec_defaults(struct vx_job_spec *spec) {
    *spec = (struct vx_job_spec){
        .type = VX_JOB_TRAIN,
        .configuration = "3d_fullres",
        .plans = "nnUNetPlans",
        .resources = {"auto", 1},
        .results = {"voxeld", false},
        .training = {.epochs = 1000,
                     .iterations_per_epoch = 250,
                     .val_iterations_per_epoch = 50,
                     .seed = 1,
                     .initial_lr = 1e-2,
                     .momentum = 0.99,
                     .weight_decay = 3e-5,
                     .oversample_foreground = 0.33,
                     .checkpoint_seconds = 60},
        .loader = {.workers = VX_SPEC_AUTO,
                   .keep_files_open = VX_SPEC_AUTO,
                   .prefetch = VX_SPEC_AUTO,
                   .cache = "auto",
                   .tune = "auto"},
        .augment = {"cpu", true, true},
        .inference = {true, 0.5, false},
        .predict = {.checkpoint = "final"},
        .benchmark = {.seconds = 10, .runs = VX_RUN_SYNTHETIC | VX_RUN_MEMORY | VX_RUN_COLD}};
}

/* Patches of volumes have no axis below 4: 1 is the axis that 2d leaves out. */
static json_t *plan_to_json(const struct vx_job_spec *spec) {
    const struct vx_plan_override *plan = &spec->plan;
    const double *spacing = spec->planning.spacing;
    json_t *json = json_object();
    if (spec->planning.gpu_memory_gb > 0) {
        json_object_set_new(json, "gpu_memory_gb", json_real(spec->planning.gpu_memory_gb));
    }
    if (spacing[0] > 0) {
        json_object_set_new(json, "spacing",
                            json_pack("[f, f, f]", spacing[0], spacing[1], spacing[2]));
    }
    bool flat = plan->patch_size[0] == 1;
    if (plan->batch_size > 0) {
        json_object_set_new(json, "batch_size", json_integer(plan->batch_size));
    }
    if (plan->patch_size[0] > 0) {
        json_t *list = json_array();
        for (int a = flat ? 1 : 0; a < 3; a++) {
            json_array_append_new(list, json_integer(plan->patch_size[a]));
        }
        json_object_set_new(json, "patch_size", list);
    }
    if (plan->n_features > 0) {
        json_t *list = json_array();
        for (int i = 0; i < plan->n_features; i++) {
            json_array_append_new(list, json_integer(plan->features[i]));
        }
        json_object_set_new(json, "features_per_stage", list);
    }
    return json;
}

static const char *const precisions[] = {"auto", "fp32", "bf16"};

static json_t *folds_to_json(const struct vx_job_spec *s) {
    if (s->predict.n_folds == 0) {
        return json_string("auto");
    }
    if (s->predict.folds[0] == VX_FOLD_ALL) {
        return json_string("all");
    }
    json_t *list = json_array();
    for (int i = 0; i < s->predict.n_folds; i++) {
        json_array_append_new(list, json_integer(s->predict.folds[i]));
    }
    return list;
}

static json_t *predict_to_json(const struct vx_job_spec *s) {
    json_t *json = json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:{s:s, s:i}, s:i, s:{s:s}, s:s, "
        "s:{s:b, s:f, s:b}}",
        "spec_version", VX_SPEC_VERSION, "type", vx_job_type_word(s->type), "dataset", s->dataset,
        "configuration", s->configuration, "plans", s->plans, "folds", folds_to_json(s), "input",
        s->predict.input, "checkpoint", s->predict.checkpoint, "resources", "device",
        s->resources.device, "count", s->resources.count, "priority", s->priority, "results",
        "name", s->results.name, "precision", precisions[s->precision], "inference", "mirroring",
        s->inference.mirroring, "step_size", s->inference.step_size, "save_probabilities",
        s->inference.save_probabilities);
    if (json && s->predict.output[0]) {
        json_object_set_new(json, "output", json_string(s->predict.output));
    }
    return json;
}

static json_t *fold_to_json(const struct vx_job_spec *s) {
    return s->fold == VX_FOLD_ALL ? json_string("all") : json_integer(s->fold);
}

static json_t *benchmark_to_json(const struct vx_job_spec *s) {
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:o, s:{s:s, s:i}, s:i, s:o, s:o, s:{s:s, s:b, "
                     "s:b}, s:o}",
                     "spec_version", VX_SPEC_VERSION, "type", vx_job_type_word(s->type), "dataset",
                     s->dataset, "configuration", s->configuration, "plans", s->plans, "fold",
                     fold_to_json(s), "resources", "device", s->resources.device, "count",
                     s->resources.count, "priority", s->priority, "plan", plan_to_json(s), "loader",
                     vx_spec_loader_to_json(s), "augment", "where", s->augment.where, "enabled",
                     s->augment.enabled, "mirror", s->augment.mirror, "benchmark",
                     vx_spec_benchmark_to_json(s));
}

json_t *vx_spec_to_json(const struct vx_job_spec *s) {
    if (s->type == VX_JOB_PREDICT) {
        return predict_to_json(s);
    }
    if (s->type == VX_JOB_BENCHMARK) {
        return benchmark_to_json(s);
    }
    json_t *training = json_pack(
        "{s:i, s:i, s:i, s:I, s:f, s:f, s:f, s:f, s:f}", "epochs", s->training.epochs,
        "iterations_per_epoch", s->training.iterations_per_epoch, "val_iterations_per_epoch",
        s->training.val_iterations_per_epoch, "seed", (json_int_t)s->training.seed, "initial_lr",
        s->training.initial_lr, "momentum", s->training.momentum, "weight_decay",
        s->training.weight_decay, "oversample_foreground", s->training.oversample_foreground,
        "checkpoint_seconds", s->training.checkpoint_seconds);
    if (s->training.pretrained_weights[0]) {
        json_object_set_new(training, "pretrained_weights",
                            json_string(s->training.pretrained_weights));
    }
    return json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:o, s:{s:s, s:i}, s:i, s:{s:s, s:b}, s:o, s:o, s:o, "
        "s:{s:s, s:b, s:b}, s:s, "
        "s:{s:b, s:f}}",
        "spec_version", VX_SPEC_VERSION, "type", vx_job_type_word(s->type), "dataset", s->dataset,
        "configuration", s->configuration, "plans", s->plans, "fold", fold_to_json(s), "resources",
        "device", s->resources.device, "count", s->resources.count, "priority", s->priority,
        "results", "name", s->results.name, "replace", s->results.replace, "training", training,
        "plan", plan_to_json(s), "loader", vx_spec_loader_to_json(s), "augment", "where",
        s->augment.where, "enabled", s->augment.enabled, "mirror", s->augment.mirror, "precision",
        precisions[s->precision], "inference", "mirroring", s->inference.mirroring, "step_size",
        s->inference.step_size);
}

/* One step per version: migrations[v] turns a spec of version v into one of v + 1, in place. */
typedef void (*migration)(json_t *spec);
static const migration migrations[VX_SPEC_VERSION + 1] = {NULL};

int vx_spec_from_stored(const json_t *json, struct vx_job_spec *ret, struct vx_err *err) {
    int64_t version = json_integer_value(json_object_get(json, "spec_version"));
    if (version < 1 || version > VX_SPEC_VERSION) {
        return vx_fail(err, VX_E_UNSUPPORTED, "spec_version",
                       "the stored job has spec_version %lld; this build reads 1 to %d",
                       (long long)version, VX_SPEC_VERSION);
    }
    vx_auto_json json_t *spec = json_deep_copy(json);
    if (!spec) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (int64_t v = version; v < VX_SPEC_VERSION; v++) {
        migrations[v](spec);
    }
    json_object_del(spec, "spec_version");
    struct vx_json_problems ps = {0};
    int rc = vx_spec_parse(spec, ret, &ps);
    return rc == VX_OK ? VX_OK
                       : vx_fail(err, rc, "invalid_spec", "stored spec: %s %s", ps.list[0].pointer,
                                 ps.list[0].text);
}
