/* Values with a bias into a concatenation, gradients out of it. */
#include "device/cuda/internal.h"

#include "base/err.h"

struct move {
    int bias, channels, padded; /* bias: parameter, -1: none */
    int64_t voxels;             /* of all samples */
    struct cuda_view src, dst;
};

static int run_move(struct cuda_program *p, const void *data) {
    const struct move *m = data;
    const float *bias = m->bias < 0 ? NULL : p->state->weights + p->state->places[m->bias].at;
    return p->device->api->bias_forward(cuda_tensor_at(p, &m->src), bias, m->channels, m->padded,
                                        m->voxels, cuda_tensor_at(p, &m->dst), p->device->compute);
}

int cuda_add_move(struct cuda_program *p, int op, const struct cuda_tensor *t, int bias,
                  const struct cuda_view *src, const struct cuda_view *dst, struct vx_err *err) {
    struct move *m = cuda_allocate(p, sizeof *m, err);
    if (!m) {
        return VX_E_NOMEM;
    }
    *m = (struct move){.bias = bias,
                       .channels = t->c,
                       .padded = t->padded,
                       .voxels = t->n * t->voxels,
                       .src = *src,
                       .dst = *dst};
    struct cuda_view uses[] = {*src, *dst};
    return cuda_add_step(p, "move", op, run_move, m, uses, 2, err);
}

struct sum {
    int bias, channels, padded, n_grads;
    int64_t voxels;
    struct cuda_view grads[VX_CUDA_MAX_GRADS], dst;
};

static int run_sum(struct cuda_program *p, const void *data) {
    const struct sum *s = data;
    struct vx_cuda_view grads[VX_CUDA_MAX_GRADS], none = {0};
    for (int i = 0; i < s->n_grads; i++) {
        grads[i] = cuda_tensor_at(p, &s->grads[i]);
    }
    float *dbias = s->bias < 0 ? NULL : p->state->vector_grads + p->state->places[s->bias].grad_at;
    return p->device->api->bias_backward(grads, s->n_grads, s->channels, s->padded, s->voxels,
                                         s->dst.buffer < 0 ? none : cuda_tensor_at(p, &s->dst),
                                         dbias, cuda_at(p, &p->workspace), p->device->compute);
}

/* dst: CUDA_NO_VIEW where only the bias's gradient is wanted. */
static int add_sum(struct cuda_program *p, int op, const struct cuda_tensor *t, int first, int n,
                   int bias, const struct cuda_view *dst, struct vx_err *err) {
    struct sum *s = cuda_allocate(p, sizeof *s, err);
    if (!s) {
        return VX_E_NOMEM;
    }
    *s = (struct sum){.bias = bias,
                      .channels = t->c,
                      .padded = t->padded,
                      .n_grads = n,
                      .voxels = t->n * t->voxels,
                      .dst = *dst};
    struct cuda_view uses[VX_CUDA_MAX_GRADS + 2] = {*dst, p->workspace};
    for (int i = 0; i < n; i++) {
        uses[2 + i] = s->grads[i] = t->grads[first + i];
    }
    cuda_need(p, &p->workspace, p->device->api->bias_workspace(t->padded, s->voxels));
    return cuda_add_step(p, "sum of gradients", op, run_sum, s, uses, 2 + n, err);
}

int cuda_merge_grads(struct cuda_program *p, int op, struct cuda_tensor *t, int bias,
                     struct vx_err *err) {
    struct cuda_view none = CUDA_NO_VIEW;
    if (t->n_grads == 1 && cuda_is_packed(t, &t->grads[0])) {
        return bias < 0 ? VX_OK : add_sum(p, op, t, 0, 1, bias, &none, err);
    }
    while (t->n_grads > VX_CUDA_MAX_GRADS) {
        int at = t->n_grads - VX_CUDA_MAX_GRADS;
        struct cuda_view dst;
        int rc = cuda_new_packed(p, t, &dst, err);
        rc = rc != VX_OK ? rc : add_sum(p, op, t, at, VX_CUDA_MAX_GRADS, -1, &dst, err);
        if (rc != VX_OK) {
            return rc;
        }
        t->grads[at] = dst;
        t->n_grads = at + 1;
    }
    struct cuda_view dst;
    int rc = cuda_new_packed(p, t, &dst, err);
    rc = rc != VX_OK ? rc : add_sum(p, op, t, 0, t->n_grads, bias, &dst, err);
    if (rc == VX_OK) {
        t->grads[0] = dst;
        t->n_grads = 1;
    }
    return rc;
}
