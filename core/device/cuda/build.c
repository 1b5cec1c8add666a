/* From the op list to steps: forward in order, the loss, then backwards in reverse order. */
#include "device/cuda/internal.h"

#include "base/err.h"

#include <stdlib.h>

bool cuda_trained(const struct cuda_program *p, int param) {
    return param >= 0 && p->state->places[param].trained;
}

bool cuda_is_packed(const struct cuda_tensor *t, const struct cuda_view *view) {
    return view->buffer >= 0 && view->offset == 0 && view->pitch == t->padded;
}

/* The tensor's place in the concatenation that reads it. */
static int place_slice(struct cuda_program *p, struct cuda_tensor *t, struct vx_err *err) {
    const struct vx_op *concat = &p->net.ops[t->concat];
    struct cuda_tensor *whole = &p->tensors[concat->out];
    if (whole->value.buffer < 0) {
        int rc = cuda_new_packed(p, whole, &whole->value, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    t->slice = whole->value;
    if (t->concat_input == 1) {
        t->slice.offset += (size_t)p->tensors[concat->in[0]].padded * sizeof(uint16_t);
    }
    return VX_OK;
}

int cuda_place_tensor(struct cuda_program *p, struct cuda_tensor *t, struct vx_err *err) {
    int rc = t->concat >= 0 ? place_slice(p, t, err) : VX_OK;
    if (rc != VX_OK) {
        return rc;
    }
    if (t->concat < 0 || t->readers > 0) {
        return cuda_new_packed(p, t, &t->value, err);
    }
    t->value = t->slice;
    return VX_OK;
}

int cuda_add_grad(struct cuda_program *p, int tensor, const struct cuda_view *view,
                  struct vx_err *err) {
    struct cuda_tensor *t = &p->tensors[tensor];
    if (t->n_grads == CUDA_MAX_GRADS) {
        return vx_fail(err, VX_E_UNSUPPORTED, "bad_network",
                       "tensor %d of the network has more than %d readers", tensor, CUDA_MAX_GRADS);
    }
    t->grads[t->n_grads++] = *view;
    return VX_OK;
}

/* Gradients of a concatenation are slices of its gradient. */
static int concat_backward(struct cuda_program *p, int index, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[index];
    int rc = cuda_merge_grads(p, index, &p->tensors[op->out], -1, err);
    struct cuda_view view = p->tensors[op->out].grads[0];
    for (int k = 0; rc == VX_OK && k < 2; k++) {
        rc = cuda_add_grad(p, op->in[k], &view, err);
        view.offset += (size_t)p->tensors[op->in[k]].padded * sizeof(uint16_t);
    }
    return rc;
}

static int forward(struct cuda_program *p, int op, struct cuda_view *moments, struct vx_err *err) {
    switch (p->net.ops[op].kind) {
    case VX_OP_CONV:
        return cuda_conv_forward(p, op, err);
    case VX_OP_CONV_TRANSPOSE:
        return cuda_transpose_forward(p, op, err);
    case VX_OP_NORM_ACT:
        return cuda_norm_forward(p, op, moments, err);
    case VX_OP_CONCAT:
        return VX_OK; /* whoever makes its inputs writes into it */
    }
    return vx_fail(err, VX_E_UNSUPPORTED, "bad_network", "operation %d is of unknown kind", op);
}

static int backward(struct cuda_program *p, int op, const struct cuda_view *moments,
                    struct vx_err *err) {
    switch (p->net.ops[op].kind) {
    case VX_OP_CONV:
        return cuda_conv_backward(p, op, err);
    case VX_OP_CONV_TRANSPOSE:
        return cuda_transpose_backward(p, op, err);
    case VX_OP_NORM_ACT:
        return cuda_norm_backward(p, op, moments, err);
    case VX_OP_CONCAT:
        return concat_backward(p, op, err);
    }
    return VX_E_INTERNAL;
}

/* Written before the first step. */
static int place_input(struct cuda_program *p, struct vx_err *err) {
    struct cuda_tensor *input = &p->tensors[p->net.input];
    int rc = cuda_new_packed(p, input, &input->value, err);
    if (rc == VX_OK) {
        p->buffers[input->value.buffer].first = 0;
    }
    return rc;
}

static int build_all(struct cuda_program *p, struct cuda_view *moments, struct vx_err *err) {
    int rc = place_input(p, err);
    for (int i = 0; rc == VX_OK && i < p->net.n_ops; i++) {
        if (p->tensors[p->net.ops[i].out].needed) {
            rc = forward(p, i, &moments[i], err);
        }
    }
    if (rc == VX_OK && p->mode == VX_MODE_INFER) {
        return cuda_build_read_out(p, err);
    }
    rc = rc != VX_OK ? rc : cuda_build_loss(p, err);
    for (int i = p->net.n_ops - 1; rc == VX_OK && p->learning && i >= 0; i--) {
        if (p->tensors[p->net.ops[i].out].needed) {
            rc = backward(p, i, &moments[i], err);
        }
    }
    return rc == VX_OK && p->learning ? cuda_build_optimizer(p, err) : rc;
}

int cuda_build(struct cuda_program *p, struct vx_err *err) {
    struct cuda_view *moments = calloc((size_t)p->net.n_ops + 1, sizeof *moments);
    if (!moments) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to plan a program");
    }
    int rc = build_all(p, moments, err);
    free(moments);
    return rc;
}
