/* From an operation graph to finalised plans, and plans as text. */
#include "device/cuda/dnn/internal.h"

#include "base/err.h"
#include "base/own.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIGS = 96 };

/* The heuristics' configurations in their order; made and kept by the scope. None is not an error:
 * that is how cuDNN says that it has no engine. */
static int configs(struct dnn_scope *s, const struct dnn *d, desc_t graph,
                   cudnnBackendHeurMode_t mode, desc_t list[MAX_CONFIGS]) {
    desc_t h = dnn_make(s, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    dnn_set_desc(s, h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    dnn_set(s, h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (!d->handle) { /* else the graph's handle says which device */
        dnn_set_desc(s, h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, d->device);
    }
    if (!dnn_finish(s, h, "heuristics")) {
        return 0;
    }
    int64_t n = 0, got = 0;
    cudnnStatus_t status = cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &n, NULL);
    n = n > MAX_CONFIGS ? MAX_CONFIGS : n;
    for (int64_t i = 0; i < n; i++) {
        list[i] = dnn_make(s, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    }
    if (s->rc != VX_OK || status != CUDNN_STATUS_SUCCESS || n == 0) {
        return 0;
    }
    status = cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, n, &got, list);
    return status == CUDNN_STATUS_SUCCESS ? (int)got : 0;
}

static void read_notes(desc_t engine, struct dnn_plan *plan) {
    int64_t n = 0;
    cudnnBackendNumericalNote_t notes[16];
    cudnnBackendBehaviorNote_t ways[16];
    if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                 CUDNN_TYPE_NUMERICAL_NOTE, 16, &n,
                                 notes) == CUDNN_STATUS_SUCCESS) {
        for (int64_t i = 0; i < n && i < 16; i++) {
            plan->tensor_core |= notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
            plan->varying |= notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
        }
    }
    if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                 16, &n, ways) == CUDNN_STATUS_SUCCESS) {
        for (int64_t i = 0; i < n && i < 16; i++) {
            plan->compiled |= ways[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
        }
    }
}

static void describe_engine(struct dnn_scope *s, desc_t config, struct dnn_plan *plan) {
    desc_t engine = dnn_make(s, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    int64_t n = 0;
    plan->engine = -1;
    if (cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                 1, &n, &engine) != CUDNN_STATUS_SUCCESS) {
        return;
    }
    cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n,
                             &plan->engine);
    read_notes(engine, plan);
}

/* Partial sums of a split reduction: as many fp32 copies of the result as the plan's knob says. */
static size_t split_bytes(const struct dnn_plan *plan, int64_t result) {
    vx_auto_free char *json = NULL;
    static const char key[] = "\"CUDNN_KNOB_TYPE_SPLIT_K_BUF\":";
    if (dnn_plan_to_json(plan, &json, NULL) != VX_OK) {
        return 0;
    }
    const char *at = strstr(json, key);
    long pieces = at ? strtol(at + sizeof key - 1, NULL, 10) : 0;
    return pieces > 0 ? (size_t)pieces * (size_t)result * sizeof(float) : 0;
}

/* A plan of this configuration; false where it does not finalise, or is not asked for. */
static bool finalise(const struct dnn *d, desc_t config, struct dnn_plan *plan) {
    struct vx_err ignored = {0};
    struct dnn_scope s = {.err = &ignored};
    describe_engine(&s, config, plan);
    if (plan->compiled && !d->compiled) {
        dnn_scope_end(&s);
        return false;
    }
    desc_t p = dnn_make(&s, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    dnn_set_desc(&s, p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (d->handle) {
        cudnnHandle_t handle = d->handle;
        dnn_set(&s, p, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    } else {
        dnn_set_desc(&s, p, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, d->device);
    }
    int64_t bytes = 0, n = 0;
    p = dnn_finish(&s, p, "a plan");
    bool good =
        p && cudnnBackendGetAttribute(p, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
                                      1, &n, &bytes) == CUDNN_STATUS_SUCCESS;
    if (good) {
        plan->desc = dnn_keep(&s, p);
        plan->workspace = (size_t)bytes;
    }
    dnn_scope_end(&s);
    return good;
}

static int64_t result_elements(const struct dnn_conv *c, enum dnn_direction direction) {
    return direction == DNN_FORWARD ? dnn_y_elements(c)
           : direction == DNN_DATA  ? dnn_x_elements(c)
                                    : dnn_w_elements(c);
}

/* All of one mode behind the n plans there are; the new number of plans. */
static int add_mode(const struct dnn *d, const struct dnn_conv *c, enum dnn_direction direction,
                    cudnnBackendHeurMode_t mode, struct dnn_plan *list, int n, struct vx_err *err) {
    struct dnn_scope s = {.err = err};
    desc_t config[MAX_CONFIGS];
    desc_t graph = dnn_graph(&s, d, c, direction);
    int found = graph ? configs(&s, d, graph, mode, config) : 0;
    int64_t result = result_elements(c, direction);
    for (int i = 0; i < found; i++) {
        struct dnn_plan plan = {
            .rank = n, .fallback = mode == CUDNN_HEUR_MODE_FALLBACK, .ms = -1, .checked_with = -1};
        if (finalise(d, config[i], &plan)) {
            plan.split = split_bytes(&plan, result);
            list[n++] = plan;
        }
    }
    dnn_scope_end(&s);
    return n;
}

int dnn_list(struct dnn *d, const struct dnn_conv *c, enum dnn_direction direction,
             struct dnn_plan **ret, int *ret_n, struct vx_err *err) {
    struct dnn_plan *list = calloc(2 * MAX_CONFIGS, sizeof *list);
    if (!list) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a list of plans");
    }
    struct vx_err why = {0};
    int n = add_mode(d, c, direction, CUDNN_HEUR_MODE_A, list, 0, &why);
    n = add_mode(d, c, direction, CUDNN_HEUR_MODE_FALLBACK, list, n, &why);
    if (n == 0) {
        free(list);
        return vx_fail(err, why.code && why.code != VX_E_UNSUPPORTED ? why.code : VX_E_UNSUPPORTED,
                       "no_plan",
                       "cuDNN %zu has no plan on %s for the %s direction of a convolution %d -> %d "
                       "channels, %dx%dx%d, kernel %dx%dx%d: %s",
                       dnn_version(), d->model, dnn_direction_name(direction), c->in_channels,
                       c->out_channels, c->in[0], c->in[1], c->in[2], c->kernel[0], c->kernel[1],
                       c->kernel[2], why.code ? why.text : "no engine");
    }
    *ret = list;
    *ret_n = n;
    return VX_OK;
}

void dnn_plan_release(struct dnn_plan *plan) {
    if (plan->desc) {
        cudnnBackendDestroyDescriptor(plan->desc);
        plan->desc = NULL;
    }
}

void dnn_list_free(struct dnn_plan *list, int n) {
    for (int i = 0; list && i < n; i++) {
        dnn_plan_release(&list[i]);
    }
    free(list);
}

int dnn_plan_to_json(const struct dnn_plan *plan, char **ret, struct vx_err *err) {
    return dnn_text(plan->desc, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, ret, err);
}

int dnn_plan_from_json(struct dnn *d, const char *json, void **ret_desc, struct vx_err *err) {
    struct dnn_scope s = {.err = err};
    desc_t p = dnn_make(&s, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    /* With neither of the two, finalising a plan of cuDNN 9.19 from text crashes. */
    if (d->handle) {
        dnn_set(&s, p, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &d->handle);
    } else {
        dnn_set_desc(&s, p, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, d->device);
    }
    dnn_set(&s, p, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
            (int64_t)strlen(json) + 1, json);
    p = dnn_finish(&s, p, "a plan from text");
    if (p) {
        *ret_desc = dnn_keep(&s, p);
    }
    dnn_scope_end(&s);
    return s.rc;
}
