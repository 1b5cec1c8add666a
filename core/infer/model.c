#include "infer/model.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/weights.h"
#include "device/oplist.h"
#include "infer/model_internal.h"
#include "net/net.h"
#include "plan/dataset.h"
#include "plan/plans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_JSON_BYTES ((size_t)64 << 20)

struct vx_model *vx_model_free(struct vx_model *m) {
    if (m) {
        for (size_t f = 0; f < m->n_folds; f++) {
            free(m->folds[f].path);
            vx_net_values_free(m->folds[f].weights);
        }
        vx_oplist_free(m->net);
        free(m->plans);
        free(m->dataset);
        free(m->plans_path);
        free(m->dataset_path);
        free(m->dir);
        free(m);
    }
    return NULL;
}

/* --- the plan of a fold --- */

void model_words_release(struct model_words *w) {
    json_decref(w->plans_json);
    json_decref(w->dataset);
    free(w->plans);
    free(w->plans_path);
    free(w->dataset_path);
    *w = (struct model_words){0};
}

/* FOLD_DIR/name where it exists, else DIR/name. */
static int load_nearest(const char *dir, const char *fold, const char *name, char **ret_path,
                        json_t **ret, struct vx_err *err) {
    vx_auto_free char *near = vx_strf("%s/fold_%s/%s", dir, fold, name);
    vx_auto_free char *far = vx_strf("%s/%s", dir, name);
    if (!near || !far) {
        return vx_fail(err, VX_E_NOMEM, NULL, "opening a model");
    }
    *ret_path = vx_path_exists(near) ? vx_steal(near) : vx_steal(far);
    int rc = vx_json_load_file(*ret_path, MAX_JSON_BYTES, ret, err);
    if (rc == VX_E_NOT_FOUND) {
        vx_fail(err, rc, "model_not_found", "%s is no model: it has no %s", dir, name);
    }
    if (rc != VX_OK) {
        vx_err_at(err, "%s", *ret_path);
    }
    return rc;
}

static int read_plans(const json_t *json, struct model_words *w, struct vx_err *err) {
    w->plans = calloc(1, sizeof *w->plans);
    if (!w->plans) {
        return vx_fail(err, VX_E_NOMEM, NULL, "opening a model");
    }
    int rc = vx_plans_from_json(json, w->plans, err);
    if (rc == VX_OK && !vx_plans_config(w->plans, w->configuration)) {
        struct vx_plan_config unusable; /* says why */
        rc = vx_plans_read_config(json, w->configuration, &unusable, err);
        rc = rc == VX_OK ? vx_fail(err, VX_E_UNSUPPORTED, "unsupported_plans",
                                   "configuration %s cannot be used", w->configuration)
                         : rc;
    }
    if (rc != VX_OK) {
        return vx_err_prefix(err, "%s", w->plans_path);
    }
    /* written anew: old forms and inheritance are resolved, so that two plans can be compared */
    w->plans_json = vx_plans_to_json(w->plans);
    return w->plans_json ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "opening a model");
}

static int load_words(const struct vx_model *m, const char *fold, struct model_words *ret,
                      struct vx_err *err) {
    vx_auto_json json_t *plans = NULL;
    int rc = load_nearest(m->dir, fold, "plans.json", &ret->plans_path, &plans, err);
    if (rc == VX_OK) {
        rc = load_nearest(m->dir, fold, "dataset.json", &ret->dataset_path, &ret->dataset, err);
    }
    return rc == VX_OK ? read_plans(plans, ret, err) : rc;
}

static int read_dataset(struct vx_model *m, const struct model_words *w, struct vx_err *err) {
    struct vx_json_problems problems = {0};
    m->dataset = calloc(1, sizeof *m->dataset);
    if (!m->dataset) {
        return vx_fail(err, VX_E_NOMEM, NULL, "opening a model");
    }
    int rc = vx_dataset_parse(m->plans->dataset_name, w->dataset, m->dataset, &problems);
    if (rc != VX_OK) {
        vx_fail(err, rc, "invalid_dataset", "%s: %s", problems.list[0].pointer,
                problems.list[0].text);
        return vx_err_at(err, "%s", w->dataset_path);
    }
    if (m->config->n_channels != m->dataset->n_channels) {
        return vx_fail(err, VX_E_INVALID, "channel_mismatch",
                       "%s names %d channels, %s normalises %d", w->dataset_path,
                       m->dataset->n_channels, w->plans_path, m->config->n_channels);
    }
    return VX_OK;
}

/* --- weights --- */

static void shape_text(const int64_t *shape, int rank, char *buf, size_t size) {
    size_t at = 0;
    buf[0] = '\0';
    for (int a = 0; a < rank && at < size; a++) {
        at += (size_t)snprintf(buf + at, size - at, "%s%lld", a ? " x " : "", (long long)shape[a]);
    }
}

static int misfit(const char *name, const char *path, const char *has, const char *wants,
                  struct vx_err *err) {
    vx_fail(err, VX_E_INVALID, "weights_mismatch",
            "parameter %s has shape %s in the checkpoint, %s by the plan", name, has, wants);
    vx_err_at(err, "%s", path);
    return VX_E_INVALID;
}

static int fit_one(const struct vx_param *p, const struct vx_ckpt *c, const char *path, float *dst,
                   struct vx_err *err) {
    int64_t want[5], at = vx_ckpt_find(c, p->name);
    char has[128] = "none (it is missing)", wants[128];
    for (int a = 0; a < p->ndim; a++) {
        want[a] = p->shape[a];
    }
    shape_text(want, p->ndim, wants, sizeof wants);
    if (at < 0) {
        return misfit(p->name, path, has, wants, err);
    }
    const struct vx_ckpt_tensor *t = &c->tensors[at];
    if (t->rank != p->ndim || memcmp(t->shape, want, (size_t)p->ndim * sizeof *want) != 0) {
        shape_text(t->shape, t->rank, has, sizeof has);
        return misfit(p->name, path, has, wants, err);
    }
    memcpy(dst, t->param, p->count * sizeof *dst);
    return VX_OK;
}

static int fit_weights(const struct vx_model *m, const struct vx_ckpt *c,
                       struct vx_model_fold *fold, struct vx_err *err) {
    fold->weights = vx_net_values_create(m->net);
    if (!fold->weights) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the weights of fold %s", fold->name);
    }
    for (int i = 0; i < m->net->n_params; i++) {
        int rc = fit_one(&m->net->params[i], c, fold->path, fold->weights[i], err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    for (size_t i = 0; i < c->n_tensors; i++) {
        if (vx_oplist_param(m->net, c->tensors[i].name) < 0) {
            char has[128];
            shape_text(c->tensors[i].shape, c->tensors[i].rank, has, sizeof has);
            return misfit(c->tensors[i].name, fold->path, has, "none (no such parameter)", err);
        }
    }
    return VX_OK;
}

/* --- what a checkpoint says of its parameters --- */

/* Checkpoints of the first voxeld say nothing of mirroring; the job beside them does. */
static bool job_mirrored(const struct vx_model_fold *fold) {
    vx_auto_free char *dir = strndup(fold->path, (size_t)(strrchr(fold->path, '/') - fold->path));
    vx_auto_free char *path = dir ? vx_strf("%s/voxeld_job.json", dir) : NULL;
    vx_auto_json json_t *job = NULL;
    if (!path || vx_json_load_file(path, MAX_JSON_BYTES, &job, NULL) != VX_OK) {
        return true;
    }
    const json_t *augment = json_object_get(json_object_get(job, "spec"), "augment");
    return !json_is_false(json_object_get(augment, "mirror")) &&
           !json_is_false(json_object_get(augment, "enabled"));
}

/* The part of a model folder's name behind the last "__". */
static const char *configuration_of(const char *dir) {
    const char *at = strrchr(dir, '/'), *found = NULL;
    for (at = at ? at + 1 : dir; (at = strstr(at, "__")); at += 2) {
        found = at + 2;
    }
    return found ? found : "";
}

static void take_words(const struct vx_model *m, const struct vx_model_fold *fold,
                       const json_t *network, struct model_words *ret) {
    const char *configuration = json_string_value(json_object_get(network, "configuration"));
    const json_t *axes = json_object_get(network, "mirror_axes");
    snprintf(ret->configuration, sizeof ret->configuration, "%s",
             configuration ? configuration : configuration_of(m->dir));
    ret->mirror_known = json_is_array(axes);
    for (size_t i = 0; i < json_array_size(axes); i++) {
        int64_t a = json_integer_value(json_array_get(axes, i));
        if (a >= 0 && a < 3) {
            ret->mirror[a] = true;
        }
    }
    if (!ret->mirror_known && job_mirrored(fold)) {
        ret->mirror[0] = ret->mirror[1] = ret->mirror[2] = true; /* 2d: see set_mirror */
    }
}

/* 2d networks have no array axis 0 to mirror. */
static void set_mirror(struct vx_model *m, const struct model_words *w) {
    for (int a = 0; a < 3; a++) {
        m->mirror[a] = w->mirror[a] && !(a == 0 && m->config->dims == 2);
    }
}

/* --- folds --- */

/* The first fold says what the model is. */
static int take_model(struct vx_model *m, struct model_words *w, struct vx_err *err) {
    m->plans = vx_steal(w->plans);
    m->config = vx_plans_config(m->plans, w->configuration);
    int rc = read_dataset(m, w, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_net_options options;
    vx_net_options_default(&options);
    set_mirror(m, w);
    return vx_net_build(m->config, m->dataset->n_channels, m->dataset->n_labels, 1, &options,
                        &m->net, err);
}

static int open_fold(struct vx_model *m, size_t f, struct model_words *first, struct vx_err *err) {
    struct vx_model_fold *fold = &m->folds[f];
    vx_auto_ckpt struct vx_ckpt c;
    vx_ckpt_init(&c);
    __attribute__((cleanup(model_words_release))) struct model_words words = {0};
    int rc = vx_weights_read(fold->path, &c, err);
    if (rc != VX_OK) {
        vx_ckpt_init(&c); /* nothing to release */
        return vx_err_at(err, "%s", fold->path);
    }
    take_words(m, fold, c.network, &words);
    rc = load_words(m, fold->name, &words, err);
    if (rc == VX_OK && f > 0) {
        rc = model_same_words(first, m->folds[0].name, &words, fold->name, err);
    } else if (rc == VX_OK) {
        rc = take_model(m, &words, err);
        *first = words;
        words = (struct model_words){0};
    }
    return rc == VX_OK ? fit_weights(m, &c, fold, err) : rc;
}

/* Everything that decides over a prediction's voxels. */
static int make_digest(struct vx_model *m, const struct model_words *w, struct vx_err *err) {
    vx_auto_json json_t *said = model_deciding_words(w);
    vx_auto_free char *text = said ? vx_json_canonical(said) : NULL;
    struct vx_buf all = VX_BUF_INIT;
    vx_buf_printf(&all, "%s %d%d%d", text ? text : "", m->mirror[0], m->mirror[1], m->mirror[2]);
    for (size_t f = 0; f < m->n_folds; f++) {
        for (int i = 0; i < m->net->n_params; i++) {
            char hex[VX_SHA256_HEX];
            vx_sha256_hex(m->folds[f].weights[i], m->net->params[i].count * sizeof(float), hex);
            vx_buf_printf(&all, " %s", hex);
        }
    }
    bool whole = text && !all.failed;
    if (whole) {
        vx_sha256_hex(all.data, all.len, m->digest);
    }
    vx_buf_release(&all);
    return whole ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "opening a model");
}

int vx_model_open(const struct vx_model_options *options, struct vx_model **ret,
                  struct vx_err *err) {
    vx_auto_model struct vx_model *m = calloc(1, sizeof *m);
    if (!m || !(m->dir = strdup(options->dir))) {
        return vx_fail(err, VX_E_NOMEM, NULL, "opening a model");
    }
    for (size_t n = strlen(m->dir); n > 1 && m->dir[n - 1] == '/'; n--) {
        m->dir[n - 1] = '\0';
    }
    __attribute__((cleanup(model_words_release))) struct model_words first = {0};
    int rc = model_find_folds(m, options, err);
    for (size_t f = 0; rc == VX_OK && f < m->n_folds; f++) {
        rc = open_fold(m, f, &first, err);
    }
    rc = rc == VX_OK ? make_digest(m, &first, err) : rc;
    if (rc == VX_OK) {
        m->plans_path = vx_steal(first.plans_path);
        m->dataset_path = vx_steal(first.dataset_path);
        *ret = vx_steal(m);
    }
    return rc;
}
