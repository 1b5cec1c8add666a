/* See plan.h. */
#include "daemon/predict/plan.h"

#include "base/budget.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/config.h"
#include "daemon/predict/place.h"
#include "plan/splits.h"
#include "spec/spec.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define CHILD_NICE 10

struct places {
    char model[PATH_MAX], input[PATH_MAX], output[PATH_MAX]; /* output: "" for the job's own */
};

static int at(struct vx_err *err, const char *pointer) {
    return vx_err_at(err, "%s", pointer);
}

static int find_model(const struct vx_job_spec *s, const struct vx_config *c, char ret[PATH_MAX],
                      struct vx_err *err) {
    char rel[512];
    snprintf(rel, sizeof rel, "%s/%s__%s__%s", s->dataset, s->results.name, s->plans,
             s->configuration);
    if (vx_place_find(c->results, "results folder", rel, ret, PATH_MAX, err) != VX_OK) {
        vx_fail(err, VX_E_NOT_FOUND, "unknown_model",
                "there is no trained model %s in the results folder %s", rel, c->results);
        return at(err, "/results/name");
    }
    return VX_OK;
}

static void fold_name(int fold, char buf[8]) {
    snprintf(buf, 8, fold == VX_FOLD_ALL ? "all" : "%d", fold);
}

static int find_folds(const struct vx_job_spec *s, const char *model, struct vx_err *err) {
    for (int i = 0; i < s->predict.n_folds; i++) {
        char name[8];
        fold_name(s->predict.folds[i], name);
        vx_auto_free char *path =
            vx_strf("%s/fold_%s/checkpoint_%s", model, name, s->predict.checkpoint);
        vx_auto_free char *own = path ? vx_strf("%s.safetensors", path) : NULL;
        vx_auto_free char *torch = path ? vx_strf("%s.pth", path) : NULL;
        if (!own || !torch) {
            return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
        }
        if (!vx_path_exists(own) && !vx_path_exists(torch)) {
            vx_fail(err, VX_E_NOT_FOUND, "unknown_fold", "%s has no fold_%s/checkpoint_%s", model,
                    name, s->predict.checkpoint);
            return at(err, "/folds");
        }
    }
    return VX_OK;
}

/* Models are what predictions are made of; none may end up among their files. */
static bool inside_model(const char *asked) {
    return strstr(asked, "__") != NULL;
}

static int find_output(const struct vx_job_spec *s, const struct vx_config *c, char ret[PATH_MAX],
                       struct vx_err *err) {
    const char *asked = s->predict.output;
    ret[0] = '\0';
    if (!asked[0]) {
        return VX_OK;
    }
    int rc = vx_place_new(c->results, "results folder", asked, ret, PATH_MAX, err);
    if (rc == VX_OK && inside_model(ret + strlen(c->results))) {
        rc = vx_fail(err, VX_E_INVALID, "output_in_model",
                     "%s may be the folder of a trained model (its name has \"__\"); give the "
                     "predictions a folder of their own",
                     asked);
    }
    return rc == VX_OK ? rc : at(err, "/output");
}

static int find_places(const struct vx_job_spec *s, const struct vx_config *c, struct places *p,
                       struct vx_err *err) {
    int rc = find_model(s, c, p->model, err);
    rc = rc == VX_OK ? find_folds(s, p->model, err) : rc;
    if (rc == VX_OK &&
        vx_place_find(c->data, "data folder", s->predict.input, p->input, PATH_MAX, err) != VX_OK) {
        rc = at(err, "/input");
    }
    return rc == VX_OK ? find_output(s, c, p->output, err) : rc;
}

int vx_predict_admit(const struct vx_job_spec *spec, const struct vx_config *config,
                     struct vx_err *err) {
    struct places *p = malloc(sizeof *p);
    int rc =
        p ? find_places(spec, config, p, err) : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    free(p);
    return rc;
}

static json_t *folds_of(const struct vx_job_spec *s) {
    json_t *list = json_array();
    for (int i = 0; i < s->predict.n_folds; i++) {
        char name[8];
        fold_name(s->predict.folds[i], name);
        json_array_append_new(list, json_string(name));
    }
    return list;
}

static const char *const precisions[] = {
    [VX_SPEC_PRECISION_AUTO] = "auto", [VX_SPEC_FP32] = "fp32", [VX_SPEC_BF16] = "bf16"};

static int write_brief(const struct vx_job_spec *s, const struct places *p, int64_t job_id,
                       const char *job_dir, const struct vx_config *c, const char *path,
                       struct vx_err *err) {
    vx_auto_free char *own = vx_strf("%s/predictions", job_dir);
    int64_t threads = c->cpu_threads ? c->cpu_threads : (int64_t)vx_budget_cores("");
    vx_auto_json json_t *brief = json_pack(
        "{s:I, s:s, s:s, s:s, s:s, s:o, s:s, s:b, s:f, s:b, s:s, s:s, s:I, s:i}", "job_id",
        (json_int_t)job_id, "dir", job_dir, "model", p->model, "input", p->input, "output",
        p->output[0] ? p->output
        : own        ? own
                     : "",
        "folds", folds_of(s), "checkpoint", s->predict.checkpoint, "mirroring",
        (int)s->inference.mirroring, "step_size", s->inference.step_size, "save_probabilities",
        (int)s->inference.save_probabilities, "device", s->resources.device, "precision",
        precisions[s->precision], "threads", (json_int_t)threads, "nice", CHILD_NICE);
    return own && brief ? vx_json_write_file(path, brief, err)
                        : vx_fail(err, VX_E_NOMEM, NULL, "planning");
}

int vx_predict_plan(const struct vx_job_spec *spec, int64_t job_id, const char *job_dir,
                    const struct vx_config *config, char **ret_brief_path, struct vx_err *err) {
    struct places *p = malloc(sizeof *p);
    vx_auto_free char *path = vx_strf("%s/" VX_PREDICT_BRIEF, job_dir);
    int rc =
        p && path ? find_places(spec, config, p, err) : vx_fail(err, VX_E_NOMEM, NULL, "planning");
    rc = rc == VX_OK ? write_brief(spec, p, job_id, job_dir, config, path, err) : rc;
    free(p);
    if (rc == VX_OK) {
        *ret_brief_path = vx_steal(path);
    }
    return rc;
}

bool vx_predict_is_brief(const char *path) {
    const char *name = strrchr(path, '/');
    return strcmp(name ? name + 1 : path, VX_PREDICT_BRIEF) == 0;
}
