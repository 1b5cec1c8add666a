/* Parameters, momentum and gradients of one network: fp32 in PyTorch's order, whatever the
 * precision that programs compute in. */
#include "device/cpu/internal.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

/* Every parameter starts on a cache line. */
static size_t padded(size_t count) {
    return (count + 15) / 16 * 16;
}

void cpu_state_free(struct vx_state *base) {
    struct cpu_state *state = (struct cpu_state *)base;
    if (state) {
        free(state->params);
        free(state->weight);
        free(state->slab);
        free(state);
    }
}

int cpu_state_create(struct vx_device *device, const struct vx_oplist *net, struct vx_state **ret,
                     struct vx_err *err) {
    size_t n = (size_t)net->n_params, total = 0;
    for (size_t i = 0; i < n; i++) {
        total += padded(net->params[i].count);
    }
    struct cpu_state *state = calloc(1, sizeof *state);
    if (!state) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a state");
    }
    state->base.device = device;
    state->n_params = net->n_params;
    state->version = 1;
    state->params = malloc((n ? n : 1) * sizeof *state->params);
    state->weight = calloc(3 * (n ? n : 1), sizeof *state->weight);
    size_t bytes = 3 * (total ? total : 16) * sizeof(float);
    state->slab = aligned_alloc(64, bytes);
    if (!state->params || !state->weight || !state->slab) {
        cpu_state_free(&state->base);
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the %zu bytes of the parameters",
                       bytes);
    }
    memset(state->slab, 0, bytes);
    memcpy(state->params, net->params, n * sizeof *state->params);
    state->momentum = state->weight + n;
    state->grad = state->momentum + n;
    float *at = state->slab;
    for (size_t i = 0; i < n; i++) {
        state->weight[i] = at;
        state->momentum[i] = at + total;
        state->grad[i] = at + 2 * total;
        at += padded(net->params[i].count);
    }
    *ret = &state->base;
    return VX_OK;
}

static int check_param(const struct cpu_state *state, int param, struct vx_err *err) {
    if (param < 0 || param >= state->n_params) {
        return vx_fail(err, VX_E_INVALID, NULL, "there is no parameter %d: the network has %d",
                       param, state->n_params);
    }
    return VX_OK;
}

int cpu_state_upload(struct vx_state *base, int param, enum vx_state_part part, const float *src,
                     struct vx_err *err) {
    struct cpu_state *state = (struct cpu_state *)base;
    int rc = check_param(state, param, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (part == VX_PART_GRADIENT) {
        return vx_fail(err, VX_E_INVALID, NULL, "gradients can be downloaded only");
    }
    float *to = part == VX_PART_WEIGHT ? state->weight[param] : state->momentum[param];
    memcpy(to, src, state->params[param].count * sizeof *to);
    state->version++;
    return VX_OK;
}

int cpu_state_download(struct vx_state *base, int param, enum vx_state_part part, float *dst,
                       struct vx_err *err) {
    struct cpu_state *state = (struct cpu_state *)base;
    int rc = check_param(state, param, err);
    if (rc != VX_OK) {
        return rc;
    }
    const float *from = part == VX_PART_WEIGHT     ? state->weight[param]
                        : part == VX_PART_MOMENTUM ? state->momentum[param]
                                                   : state->grad[param];
    memcpy(dst, from, state->params[param].count * sizeof *dst);
    return VX_OK;
}
