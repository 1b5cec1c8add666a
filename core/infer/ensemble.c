#include "infer/ensemble.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "device/device.h"
#include "device/oplist.h"
#include "infer/model.h"
#include "net/net.h"
#include "plan/dataset.h"
#include "plan/plans.h"

#include <stdlib.h>
#include <string.h>

struct vx_ensemble {
    const struct vx_model *model; /* borrowed */
    struct vx_oplist *net;        /* model->net with a batch of tiles */
    struct vx_state *state;
    struct vx_program *program;
    struct vx_predictor *predictor;
    struct vx_sliding_options sliding;
    int precision;
    size_t loaded; /* fold whose weights the state holds; n_folds: none */
};

struct vx_ensemble *vx_ensemble_free(struct vx_ensemble *e) {
    if (e) {
        vx_predictor_free(e->predictor);
        vx_program_free(e->program);
        vx_state_free(e->state);
        vx_oplist_free(e->net);
        free(e);
    }
    return NULL;
}

int vx_ensemble_classes(const struct vx_ensemble *e) {
    return e->net->classes;
}

int vx_ensemble_stamp(const struct vx_ensemble *e, char ret[VX_SHA256_HEX], struct vx_err *err) {
    const bool *m = e->sliding.mirror;
    vx_auto_free char *text = vx_strf("%s %d%d%d %.17g %d", e->model->digest, m[0], m[1], m[2],
                                      e->sliding.step, e->precision);
    if (!text) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    vx_sha256_hex(text, strlen(text), ret);
    return VX_OK;
}

static int load_weights(struct vx_ensemble *e, size_t fold, struct vx_err *err) {
    if (e->loaded == fold) {
        return VX_OK;
    }
    e->loaded = e->model->n_folds;
    for (int i = 0; i < e->net->n_params; i++) {
        int rc =
            vx_state_upload(e->state, i, VX_PART_WEIGHT, e->model->folds[fold].weights[i], err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    e->loaded = fold;
    return VX_OK;
}

static int fill(struct vx_ensemble *e, const struct vx_ensemble_options *o, struct vx_err *err) {
    const struct vx_model *m = e->model;
    struct vx_net_options net;
    vx_net_options_default(&net);
    int rc = vx_net_build(m->config, m->dataset->n_channels, m->dataset->n_labels,
                          o->tiles ? o->tiles : VX_ENSEMBLE_TILES, &net, &e->net, err);
    rc = rc == VX_OK ? vx_state_create(o->device, e->net, &e->state, err) : rc;
    if (rc == VX_OK) {
        rc = vx_program_compile(e->state, e->net, VX_MODE_INFER, (enum vx_precision)o->precision,
                                &e->program, err);
    }
    e->precision = o->precision;
    e->sliding.step = o->step == 0 ? 0.5 : o->step;
    for (int a = 0; a < 3; a++) {
        e->sliding.mirror[a] = m->mirror[a] && !o->no_mirroring;
    }
    return rc == VX_OK ? vx_predictor_create(e->program, e->net, &e->sliding, &e->predictor, err)
                       : rc;
}

int vx_ensemble_create(const struct vx_model *model, const struct vx_ensemble_options *options,
                       struct vx_ensemble **ret, struct vx_err *err) {
    vx_auto_ensemble struct vx_ensemble *e = calloc(1, sizeof *e);
    if (!e) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the networks of the folds");
    }
    e->model = model;
    e->loaded = model->n_folds;
    int rc = fill(e, options, err);
    if (rc == VX_OK) {
        *ret = vx_steal(e);
    }
    return rc;
}

/* The caller's tick, counting over all passes. */
struct counting {
    vx_sliding_tick_fn tick;
    void *context;
    int64_t pass, passes;
};

static int count(void *context, int64_t done, int64_t total) {
    const struct counting *c = context;
    return c->tick ? c->tick(c->context, c->pass * total + done, c->passes * total) : 0;
}

int vx_ensemble_run(struct vx_ensemble *e, const float *image, const int64_t shape[3],
                    float *logits, vx_sliding_tick_fn tick, void *context, struct vx_err *err) {
    int n = (int)e->model->n_folds;
    int rc = vx_predictor_begin(e->predictor, shape, logits, err);
    for (int f = 0; rc == VX_OK && f < n; f++) {
        struct counting counting = {tick, context, f, n};
        rc = load_weights(e, (size_t)f, err);
        if (rc == VX_OK) {
            rc = vx_predictor_add(e->predictor, image, shape, logits, count, &counting, err);
        }
    }
    return rc == VX_OK ? vx_predictor_finish(e->predictor, shape, n, logits, err) : rc;
}
