/* The ends of a program: targets from labels, the loss over all heads and its gradient, the
 * optimizer, or the logits for whoever asked for them. */
#include "device/cuda/internal.h"

#include "base/err.h"

#include <string.h>

static const struct cuda_tensor *logits_of(const struct cuda_program *p, int head) {
    return &p->tensors[p->net.loss.logits[head]];
}

/* The convolution that makes the logits; its bias is added by the loss. */
static int bias_of(const struct cuda_program *p, int tensor) {
    for (int i = 0; i < p->net.n_ops; i++) {
        if (p->net.ops[i].out == tensor) {
            return p->net.ops[i].bias;
        }
    }
    return -1;
}

static const float *weights_at(const struct cuda_program *p, int param) {
    return param < 0 ? NULL : p->state->weights + p->state->places[param].at;
}

static struct vx_cuda_loss arguments(const struct cuda_program *p) {
    const struct vx_loss *loss = &p->net.loss;
    const struct cuda_tensor *finest = logits_of(p, p->heads[0]);
    struct vx_cuda_loss a = {.n = finest->n,
                             .classes = p->net.classes,
                             .padded = finest->padded,
                             .batch_dice = loss->batch_dice,
                             .hard = p->mode == VX_MODE_VALIDATE,
                             .smooth = loss->smooth,
                             .n_heads = p->n_heads};
    for (int i = 0; i < p->n_heads; i++) {
        a.heads[i].voxels = logits_of(p, p->heads[i])->voxels;
        a.heads[i].weight = loss->weight[p->heads[i]];
    }
    return a;
}

static void fill(const struct cuda_program *p, struct vx_cuda_loss *a) {
    for (int i = 0; i < p->n_heads; i++) {
        int head = p->heads[i], bias = bias_of(p, p->net.loss.logits[head]);
        a->heads[i].logits = cuda_at(p, &logits_of(p, head)->value);
        a->heads[i].dlogits =
            p->learning ? cuda_at(p, &p->tensors[p->net.loss.logits[head]].grads[0]) : NULL;
        a->heads[i].bias = weights_at(p, bias);
        a->heads[i].dbias = p->learning && cuda_trained(p, bias)
                                ? p->state->vector_grads + p->state->places[bias].grad_at
                                : NULL;
        a->heads[i].targets = cuda_at(p, &p->targets[head]);
    }
    a->result = cuda_at(p, &p->result);
    a->workspace = cuda_at(p, &p->loss_workspace);
}

static int run_forward(struct cuda_program *p, const void *data) {
    struct vx_cuda_loss a = *(const struct vx_cuda_loss *)data;
    fill(p, &a);
    return p->device->api->loss_forward(&a, p->device->compute);
}

static int run_backward(struct cuda_program *p, const void *data) {
    struct vx_cuda_loss a = *(const struct vx_cuda_loss *)data;
    fill(p, &a);
    return p->device->api->loss_backward(&a, p->device->compute);
}

static int make_targets(struct cuda_program *p, struct vx_err *err) {
    int rc = VX_OK;
    for (int i = 0; rc == VX_OK && i < p->n_heads; i++) {
        const struct cuda_tensor *t = logits_of(p, p->heads[i]);
        struct cuda_view *targets = &p->targets[p->heads[i]];
        rc = cuda_new_bytes(p, (size_t)t->n * (size_t)t->voxels, targets, err);
        if (rc == VX_OK) {
            /* Written before the first step. */
            p->buffers[targets->buffer].first = 0;
        }
    }
    return rc;
}

int cuda_load_targets(struct cuda_program *p, const struct cuda_slot *slot) {
    const struct cuda_tensor *in = &p->tensors[p->net.input];
    struct vx_cuda_targets t = {.labels = cuda_at(p, &slot->labels),
                                .sample_stride = in->voxels,
                                .n = in->n,
                                .ignore = VX_CUDA_NO_IGNORE,
                                .n_heads = p->n_heads,
                                .result = cuda_at(p, &p->result)};
    memcpy(t.shape, p->net.tensors[p->net.input].shape + 2, sizeof t.shape);
    for (int i = 0; i < p->n_heads; i++) {
        int head = p->heads[i];
        memcpy(t.head_shape[i], p->net.tensors[p->net.loss.logits[head]].shape + 2,
               sizeof t.head_shape[i]);
        t.targets[i] = cuda_at(p, &p->targets[head]);
    }
    return p->device->api->load_targets(&t, p->device->compute);
}

/* Narrow logits are overwritten by their gradient. */
static int place_gradient(struct cuda_program *p, int tensor, struct vx_err *err) {
    const struct cuda_tensor *t = &p->tensors[tensor];
    struct cuda_view view = t->value;
    int rc = t->padded == VX_CUDA_LANES ? VX_OK : cuda_new_packed(p, t, &view, err);
    return rc != VX_OK ? rc : cuda_add_grad(p, tensor, &view, err);
}

int cuda_build_loss(struct cuda_program *p, struct vx_err *err) {
    struct vx_cuda_loss *a = cuda_allocate(p, sizeof *a, err);
    int rc = a ? make_targets(p, err) : VX_E_NOMEM;
    if (rc == VX_OK) {
        *a = arguments(p);
        rc = cuda_new_bytes(p, p->device->api->loss_workspace(a), &p->loss_workspace, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    /* Its own, as sums go from forward to backward in it; kept, as its head stays zero from run to
     * run. */
    cuda_keep(p, &p->loss_workspace);
    struct cuda_view uses[3 * VX_MAX_HEADS + 2] = {p->result, p->loss_workspace};
    int n = 2;
    for (int i = 0; i < p->n_heads; i++) {
        uses[n++] = logits_of(p, p->heads[i])->value;
        uses[n++] = p->targets[p->heads[i]];
    }
    rc = cuda_add_step(p, "loss", -1, run_forward, a, uses, n, err);
    for (int i = 0; rc == VX_OK && p->learning && i < p->n_heads; i++) {
        rc = place_gradient(p, p->net.loss.logits[p->heads[i]], err);
        uses[n++] = logits_of(p, p->heads[i])->grads[0];
    }
    return rc == VX_OK && p->learning
               ? cuda_add_step(p, "loss backward", -1, run_backward, a, uses, n, err)
               : rc;
}

static struct vx_cuda_optimizer optimizer_of(const struct cuda_program *p) {
    const struct cuda_state *s = p->state;
    const struct vx_optimizer *o = &p->net.optimizer;
    return (struct vx_cuda_optimizer){.n_filters = s->n_filters,
                                      .n_vectors = s->n_vectors,
                                      .filter_grads = s->filter_grads,
                                      .vector_grads = s->vector_grads,
                                      .weights = s->weights,
                                      .momenta = s->momenta,
                                      .copies = s->copies,
                                      .momentum = o->momentum,
                                      .weight_decay = o->weight_decay,
                                      .clip_norm = o->clip_norm,
                                      .learning_rate = cuda_at(p, &p->rate),
                                      .result = cuda_at(p, &p->result),
                                      .workspace = cuda_at(p, &p->workspace)};
}

static int run_gradient_norm(struct cuda_program *p, const void *data) {
    (void)data;
    struct vx_cuda_optimizer o = optimizer_of(p);
    return p->device->api->gradient_norm(&o, p->device->compute);
}

static int run_update(struct cuda_program *p, const void *data) {
    (void)data;
    struct vx_cuda_optimizer o = optimizer_of(p);
    return p->device->api->update(&o, p->device->compute);
}

int cuda_build_optimizer(struct cuda_program *p, struct vx_err *err) {
    struct cuda_view uses[] = {p->result, p->workspace, p->rate};
    cuda_need(p, &p->workspace, p->device->api->optimizer_workspace());
    int rc = cuda_add_step(p, "gradient norm", -1, run_gradient_norm, NULL, uses, 3, err);
    if (rc == VX_OK && p->mode == VX_MODE_TRAIN) {
        rc = cuda_add_step(p, "update", -1, run_update, NULL, uses, 3, err);
    }
    return rc;
}

const float *cuda_output_bias(const struct cuda_program *p) {
    return weights_at(p, bias_of(p, p->net.output));
}

int cuda_build_read_out(struct cuda_program *p, struct vx_err *err) {
    const struct cuda_tensor *t = &p->tensors[p->net.output];
    size_t bytes = (size_t)t->n * (size_t)t->c * (size_t)t->voxels * sizeof(float);
    int rc = cuda_new_bytes(p, bytes, &p->read_out, err);
    if (rc == VX_OK) {
        p->buffers[t->value.buffer].last = CUDA_ALWAYS;
        cuda_keep(p, &p->read_out);
    }
    return rc;
}
