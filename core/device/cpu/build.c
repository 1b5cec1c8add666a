/* From the op list to steps: forward in order, the loss, then backwards in reverse order. */
#include "device/cpu/internal.h"

#include "base/err.h"

#include <stdlib.h>

bool cpu_trainable(const struct cpu_program *p, int param) {
    return param >= 0 && p->net.params[param].trainable;
}

/* The tensor's place in the concatenation that reads it. */
static int place_slice(struct cpu_program *p, struct cpu_tensor *t, struct vx_err *err) {
    const struct vx_op *concat = &p->net.ops[t->concat];
    struct cpu_tensor *whole = &p->tensors[concat->out];
    if (whole->value.buffer < 0) {
        int rc = cpu_new_value(p, whole, &whole->value, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    t->slice = whole->value;
    if (t->concat_input == 1) {
        t->slice.offset +=
            cpu_block_offset(p, t, p->tensors[concat->in[0]].channels / p->kernels->block);
    }
    return VX_OK;
}

int cpu_place(struct cpu_program *p, struct cpu_tensor *t, bool dense, struct vx_err *err) {
    int rc = t->concat >= 0 ? place_slice(p, t, err) : VX_OK;
    if (rc != VX_OK) {
        return rc;
    }
    if (t->concat < 0 || t->readers > 0 || dense) {
        return cpu_new_value(p, t, &t->value, err);
    }
    t->value = t->slice;
    return VX_OK;
}

struct sum {
    int n_sources, samples;
    size_t bytes; /* of a sample */
    struct cpu_view src[CPU_MAX_SOURCES], dst;
};

static int run_sum(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    const struct sum *s = data;
    enum { PIECE = 64 << 10 };
    size_t pieces = (s->bytes + PIECE - 1) / PIECE, all = pieces * (size_t)s->samples;
#pragma omp parallel for schedule(static) num_threads(p->device->threads)
    for (size_t i = 0; i < all; i++) {
        int n = (int)(i / pieces);
        size_t at = i % pieces * PIECE, left = s->bytes - at;
        const void *src[CPU_MAX_SOURCES];
        for (int k = 0; k < s->n_sources; k++) {
            src[k] = (char *)cpu_at(p, &s->src[k], n) + at;
        }
        p->kernels->add(src, s->n_sources, (char *)cpu_at(p, &s->dst, n) + at,
                        (left < PIECE ? left : PIECE) / p->kernels->element);
    }
    return VX_OK;
}

int cpu_add_sum(struct cpu_program *p, const struct cpu_tensor *t, const struct cpu_view *src,
                int n, const struct cpu_view *dst, struct vx_err *err) {
    struct sum *s = cpu_allocate(p, sizeof *s, err);
    if (!s) {
        return VX_E_NOMEM;
    }
    *s = (struct sum){.n_sources = n,
                      .samples = t->n,
                      .bytes = (size_t)t->channels * t->voxels * p->kernels->element,
                      .dst = *dst};
    const struct cpu_view *uses[CPU_MAX_SOURCES + 2] = {dst};
    for (int i = 0; i < n; i++) {
        s->src[i] = src[i];
        uses[1 + i] = &src[i];
    }
    struct cpu_step step = cpu_step_named(p, -1, n == 1 ? "copy" : "sum");
    step.run = run_sum;
    step.data = s;
    return cpu_add_step(p, &step, uses, err);
}

int cpu_add_grad(struct cpu_program *p, struct cpu_tensor *t, const struct cpu_view *view,
                 struct vx_err *err) {
    if (!t->wants_grad) {
        return VX_OK;
    }
    if (t->n_grads == CPU_MAX_SOURCES) {
        return vx_fail(err, VX_E_UNSUPPORTED, "bad_network",
                       "tensor %d of the network is read by more than %d operations",
                       (int)(t - p->tensors), CPU_MAX_SOURCES);
    }
    t->grads[t->n_grads++] = *view;
    return VX_OK;
}

int cpu_merge_grads(struct cpu_program *p, struct cpu_tensor *t, int most, struct vx_err *err) {
    size_t dense = (size_t)t->channels * t->voxels * p->kernels->element;
    if (t->n_grads == 0) {
        return vx_fail(err, VX_E_INTERNAL, NULL, "tensor %d has no gradient",
                       (int)(t - p->tensors));
    }
    if (t->n_grads <= most && (most > 1 || t->grads[0].stride == dense || t->n == 1)) {
        return VX_OK;
    }
    /* The last ones become one. */
    int keep = most - 1, n = t->n_grads - keep;
    struct cpu_view sum;
    int rc = cpu_new_grad(p, t, &sum, err);
    rc = rc != VX_OK ? rc : cpu_add_sum(p, t, t->grads + keep, n, &sum, err);
    t->grads[keep] = sum;
    t->n_grads = most;
    return rc;
}

static int concat_forward(struct cpu_program *p, int op, void **ret, struct vx_err *err) {
    (void)ret;
    struct cpu_tensor *whole = &p->tensors[p->net.ops[op].out];
    if (whole->concat < 0) {
        return VX_OK; /* its inputs were written into it */
    }
    struct cpu_view value = whole->value;
    int rc = place_slice(p, whole, err);
    return rc != VX_OK ? rc : cpu_add_sum(p, whole, &value, 1, &whole->slice, err);
}

static int concat_backward(struct cpu_program *p, int op, void *made, struct vx_err *err) {
    (void)made;
    struct cpu_tensor *whole = &p->tensors[p->net.ops[op].out];
    int rc = cpu_merge_grads(p, whole, 1, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct cpu_tensor *a = &p->tensors[p->net.ops[op].in[0]];
    struct cpu_tensor *b = &p->tensors[p->net.ops[op].in[1]];
    struct cpu_view second = whole->grads[0];
    second.offset += cpu_block_offset(p, a, a->channels / p->kernels->block);
    rc = cpu_add_grad(p, a, &whole->grads[0], err);
    return rc != VX_OK ? rc : cpu_add_grad(p, b, &second, err);
}

struct layer_kind {
    int (*forward)(struct cpu_program *p, int op, void **ret, struct vx_err *err);
    int (*backward)(struct cpu_program *p, int op, void *made, struct vx_err *err);
};

/* By enum vx_op_kind. */
static const struct layer_kind kinds[] = {
    [VX_OP_CONV] = {cpu_layer_conv, cpu_layer_conv_backward},
    [VX_OP_NORM_ACT] = {cpu_layer_norm, cpu_layer_norm_backward},
    [VX_OP_CONV_TRANSPOSE] = {cpu_layer_transpose, cpu_layer_transpose_backward},
    [VX_OP_CONCAT] = {concat_forward, concat_backward},
};

static int place_input(struct cpu_program *p, struct vx_err *err) {
    struct cpu_tensor *input = &p->tensors[p->net.input];
    int rc = cpu_new_value(p, input, &input->value, err);
    if (rc == VX_OK) {
        /* Written before the first step. */
        p->buffers[input->value.buffer].first = 0;
    }
    return rc != VX_OK || input->concat < 0 ? rc
                                            : vx_fail(err, VX_E_UNSUPPORTED, "bad_network",
                                                      "a network that concatenates its input");
}

static int build_all(struct cpu_program *p, void **made, struct vx_err *err) {
    int rc = place_input(p, err);
    for (int i = 0; rc == VX_OK && i < p->net.n_ops; i++) {
        if (p->tensors[p->net.ops[i].out].needed) {
            rc = kinds[p->net.ops[i].kind].forward(p, i, &made[i], err);
        }
    }
    if (rc == VX_OK && p->mode == VX_MODE_INFER) {
        p->buffers[p->tensors[p->net.output].value.buffer].last = CPU_ALWAYS;
    } else if (rc == VX_OK) {
        rc = cpu_build_loss(p, err);
    }
    for (int i = p->net.n_ops - 1; rc == VX_OK && p->learning && i >= 0; i--) {
        if (p->tensors[p->net.ops[i].out].needed) {
            rc = kinds[p->net.ops[i].kind].backward(p, i, made[i], err);
        }
    }
    return rc == VX_OK && p->learning ? cpu_build_optimizer(p, err) : rc;
}

int cpu_build(struct cpu_program *p, struct vx_err *err) {
    void **made = calloc((size_t)p->net.n_ops + 1, sizeof *made);
    if (!made) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to plan a program");
    }
    int rc = build_all(p, made, err);
    free(made);
    return rc;
}
