#include "device/cuda/engine.h"

#include "base/err.h"
#include "base/io.h"
#include "base/log.h"
#include "base/own.h"
#include "device/cuda/dnn/trial.h"

#include <stdio.h>
#include <stdlib.h>

/* What a plan may ask for beside its tensors; fit plans of the standard networks ask for a few MiB.
 */
static const size_t WORKSPACE_LIMIT = (size_t)1 << 30;
/* Two right plans differ by the order of their sums and a rounding to bfloat16. */
static const double TOLERANCE = 1e-2;

struct engine {
    struct dnn *dnn;
    struct dnn_rules rules;
    char *store; /* owned; NULL: plans are not kept */
};

struct cuda_conv {
    struct engine *engine; /* borrowed, outlives the plan */
    struct dnn_plan plan;
    void *pack; /* pointers of the first run */
};

/* $VOXELD_CUDA_PLANS, else where a service or a user keeps what can be made again. Plans that may
 * vary have a folder of their own: nobody who wants equal bits finds them. */
static char *store_folder(bool fast) {
    const char *own = getenv("VOXELD_CUDA_PLANS"), *service = getenv("CACHE_DIRECTORY");
    const char *user = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const char *below = fast ? "/fast" : "";
    return own && *own           ? vx_strf("%s%s", own, below)
           : service && *service ? vx_strf("%s/cuda-plans%s", service, below)
           : user && *user       ? vx_strf("%s/voxeld/cuda-plans%s", user, below)
           : home && *home       ? vx_strf("%s/.cache/voxeld/cuda-plans%s", home, below)
                                 : NULL;
}

int cuda_engine_open(const char *model, int processors, bool fast, void **ret, struct vx_err *err) {
    struct engine *e = calloc(1, sizeof *e);
    if (!e) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for cuDNN's context");
    }
    int rc = dnn_open_device(model, processors, DNN_BF16, &e->dnn, err);
    if (rc != VX_OK) {
        free(e);
        return rc;
    }
    e->rules = (struct dnn_rules){.workspace = WORKSPACE_LIMIT, .varying = fast};
    e->store = store_folder(fast);
    *ret = e;
    return VX_OK;
}

void cuda_engine_close(void *engine) {
    struct engine *e = engine;
    if (e) {
        dnn_close(e->dnn);
        free(e->store);
        free(e);
    }
}

static void warn_unfit(const struct dnn_plan *plan, const struct dnn_conv *c,
                       enum dnn_direction direction, const struct dnn_rules *rules) {
    enum dnn_fitness fitness = dnn_fitness(plan, c, rules);
    if (fitness != DNN_FIT) {
        vx_log_warn("cuda", "slow_plan direction=%s channels=%d-%d size=%dx%dx%d why=\"%s\"",
                    dnn_direction_name(direction), c->in_channels, c->out_channels, c->in[0],
                    c->in[1], c->in[2],
                    fitness == DNN_HIDDEN_COPY ? "it copies a tensor" : "no tensor cores");
    }
}

/* Chooses by trial where there is memory to try, else by cuDNN's own order. */
static int choose(struct engine *e, const struct dnn_conv *shape, enum dnn_direction direction,
                  struct dnn_plan *ret, struct vx_err *err) {
    struct dnn_plan *list = NULL;
    struct trial *trial = NULL;
    struct vx_err why = {0};
    int n = 0, rc = dnn_list(e->dnn, shape, direction, &list, &n, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (trial_open(e->dnn, shape, direction, list, n, &e->rules, &trial, &why) == VX_OK) {
        struct dnn_trial calls = {.self = trial, .measure = trial_measure, .differ = trial_differ};
        rc = dnn_choose(list, n, shape, direction, &e->rules, &calls, TOLERANCE, err);
        if (trial_failure(trial)) {
            vx_log_warn("cuda", "plan_failed text=\"%s\"", trial_failure(trial));
        }
        trial_close(trial);
    } else {
        vx_log_warn("cuda", "plans_not_tried text=\"%s\"", why.text);
        rc = dnn_choose(list, n, shape, direction, &e->rules, NULL, 0, err);
    }
    if (rc == VX_OK) {
        warn_unfit(&list[0], shape, direction, &e->rules);
        *ret = list[0];
        list[0].desc = NULL;
    }
    dnn_list_free(list, n);
    return rc;
}

static int find(struct engine *e, const struct dnn_conv *shape, enum dnn_direction direction,
                struct dnn_plan *ret, struct vx_err *err) {
    struct vx_err why = {0};
    int rc =
        e->store ? dnn_store_get(e->dnn, e->store, shape, direction, ret, &why) : VX_E_NOT_FOUND;
    if (rc == VX_OK) {
        return VX_OK;
    }
    if (rc != VX_E_NOT_FOUND) {
        vx_log_warn("cuda", "plan_made_anew text=\"%s\"", why.text);
    }
    rc = choose(e, shape, direction, ret, err);
    if (rc == VX_OK && e->store && ret->ms >= 0 &&
        dnn_store_put(e->dnn, e->store, shape, direction, ret, &why) != VX_OK) {
        vx_log_warn("cuda", "plan_not_kept text=\"%s\"", why.text);
    }
    return rc;
}

int cuda_engine_plan(void *engine, const struct dnn_conv *shape, enum dnn_direction direction,
                     struct cuda_conv **ret, size_t *ret_workspace, struct vx_err *err) {
    struct cuda_conv *conv = calloc(1, sizeof *conv);
    if (!conv) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a plan");
    }
    conv->engine = engine;
    int rc = find(conv->engine, shape, direction, &conv->plan, err);
    if (rc != VX_OK) {
        free(conv);
        return rc;
    }
    *ret_workspace = conv->plan.workspace;
    *ret = conv;
    return VX_OK;
}

int cuda_engine_run(struct cuda_conv *conv, void *x, void *w, void *y, void *workspace,
                    struct CUstream_st *stream) {
    void *const xwy[3] = {x, w, y};
    return dnn_run(conv->engine->dnn, &conv->plan, xwy, workspace, &conv->pack, stream);
}

void cuda_engine_free(struct cuda_conv *conv) {
    dnn_pack_free(conv->pack);
    dnn_plan_release(&conv->plan);
    free(conv);
}
