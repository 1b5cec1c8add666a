/* VX_OP_NORM_ACT. */
#include "device/cuda/internal.h"

#include "base/err.h"

struct norm {
    int gamma, beta;
    struct vx_cuda_norm shape; /* without pointers */
    struct cuda_view moments, x, out, copy;
    struct cuda_view grads[VX_CUDA_MAX_GRADS];
    int n_grads;
};

static struct vx_cuda_norm arguments(const struct cuda_program *p, const struct norm *n) {
    struct vx_cuda_norm a = n->shape;
    a.gamma = p->state->weights + p->state->places[n->gamma].at;
    a.beta = p->state->weights + p->state->places[n->beta].at;
    a.moments = cuda_at(p, &n->moments);
    a.workspace = cuda_at(p, &p->workspace);
    return a;
}

static int run_forward(struct cuda_program *p, const void *data) {
    const struct norm *n = data;
    struct vx_cuda_norm a = arguments(p, n);
    return p->device->api->norm_forward(&a, cuda_tensor_at(p, &n->x), cuda_tensor_at(p, &n->out),
                                        cuda_tensor_at(p, &n->copy), p->device->compute);
}

static int run_backward(struct cuda_program *p, const void *data) {
    const struct norm *n = data;
    struct vx_cuda_norm a = arguments(p, n);
    struct vx_cuda_view grads[VX_CUDA_MAX_GRADS];
    for (int i = 0; i < n->n_grads; i++) {
        grads[i] = cuda_tensor_at(p, &n->grads[i]);
    }
    bool both = cuda_trained(p, n->gamma) && cuda_trained(p, n->beta);
    float *to = p->state->vector_grads;
    return p->device->api->norm_backward(
        &a, cuda_tensor_at(p, &n->x), grads, n->n_grads, cuda_tensor_at(p, &n->out),
        both ? to + p->state->places[n->gamma].grad_at : NULL,
        both ? to + p->state->places[n->beta].grad_at : NULL, p->device->compute);
}

static struct norm *new_norm(struct cuda_program *p, const struct vx_op *op, struct vx_err *err) {
    const struct cuda_tensor *x = &p->tensors[op->in[0]];
    struct norm *n = cuda_allocate(p, sizeof *n, err);
    if (n) {
        *n = (struct norm){.gamma = op->weight,
                           .beta = op->bias,
                           .shape = {.n = x->n,
                                     .channels = x->c,
                                     .padded = x->padded,
                                     .voxels = x->voxels,
                                     .eps = op->eps,
                                     .slope = op->slope},
                           .x = x->value,
                           .copy = CUDA_NO_VIEW};
        cuda_need(p, &p->workspace, p->device->api->norm_workspace(x->n, x->padded, x->voxels));
    }
    return n;
}

int cuda_norm_forward(struct cuda_program *p, int index, struct cuda_view *moments,
                      struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[index];
    struct cuda_tensor *x = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    struct norm *n = new_norm(p, op, err);
    int rc = n ? VX_OK : VX_E_NOMEM;
    if (rc == VX_OK && !p->learning && x->readers == 1 && x->concat < 0 && out->concat < 0) {
        out->value = x->value;
    } else if (rc == VX_OK) {
        rc = cuda_place_tensor(p, out, err);
    }
    size_t bytes = (size_t)x->n * 2 * (size_t)x->padded * sizeof(float);
    rc = rc != VX_OK ? rc : cuda_new_bytes(p, bytes, moments, err);
    if (rc != VX_OK) {
        return rc;
    }
    n->moments = *moments;
    n->out = out->value;
    if (out->slice.buffer >= 0 && out->slice.buffer != out->value.buffer) {
        n->copy = out->slice;
    }
    struct cuda_view uses[] = {n->x, n->out, n->copy, n->moments, p->workspace};
    return cuda_add_step(p, "forward", index, run_forward, n, uses, 5, err);
}

int cuda_norm_backward(struct cuda_program *p, int index, const struct cuda_view *moments,
                       struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[index];
    struct cuda_tensor *out = &p->tensors[op->out];
    struct norm *n = new_norm(p, op, err);
    int rc = n ? VX_OK : VX_E_NOMEM;
    if (rc == VX_OK && out->n_grads > VX_CUDA_MAX_GRADS) {
        rc = cuda_merge_grads(p, index, out, -1, err);
    }
    rc = rc != VX_OK ? rc : cuda_new_packed(p, &p->tensors[op->in[0]], &n->out, err);
    if (rc != VX_OK) {
        return rc;
    }
    n->moments = *moments;
    n->n_grads = out->n_grads;
    struct cuda_view uses[CUDA_MAX_USES] = {n->x, n->out, n->moments, p->workspace};
    for (int i = 0; i < n->n_grads; i++) {
        uses[4 + i] = n->grads[i] = out->grads[i];
    }
    rc = cuda_add_step(p, "backward", index, run_backward, n, uses, 4 + n->n_grads, err);
    return rc != VX_OK ? rc : cuda_add_grad(p, op->in[0], &n->out, err);
}
