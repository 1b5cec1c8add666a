/* VX_OP_CONV and VX_OP_CONV_TRANSPOSE: the same convolution of cuDNN, seen from its two ends. */
#include "device/cuda/internal.h"

#include "base/err.h"
#include "device/cuda/shape.h"

#include <stdlib.h>

/* The side of the convolution with the input channels is x, whoever reads or writes it. */
struct conv {
    struct cuda_conv *plan;
    int weight;
    bool gradient; /* w is the weight's gradient */
    struct cuda_view x, y;
};

static int run_conv(struct cuda_program *p, const void *data) {
    const struct conv *c = data;
    const struct cuda_place *place = &p->state->places[c->weight];
    uint16_t *w =
        c->gradient ? p->state->filter_grads + place->grad_at : p->state->copies + place->copy_at;
    return p->device->api->conv_run(c->plan, cuda_at(p, &c->x), w, cuda_at(p, &c->y),
                                    cuda_at(p, &p->conv_workspace), p->device->compute);
}

static int plan_conv(struct cuda_program *p, int op, enum dnn_direction direction,
                     struct cuda_conv **ret, struct vx_err *err) {
    struct cuda_conv **list = realloc(p->convs, (size_t)(p->n_convs + 1) * sizeof *list);
    if (!list) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to plan a program");
    }
    p->convs = list;
    struct dnn_conv shape;
    size_t workspace = 0;
    cuda_conv_of(&p->net, &p->net.ops[op], &shape);
    int rc = p->device->api->conv_plan(p->device->engine, &shape, direction, ret, &workspace, err);
    if (rc == VX_OK) {
        list[p->n_convs++] = *ret;
        cuda_need(p, &p->conv_workspace, workspace);
    }
    return rc;
}

static int add_conv(struct cuda_program *p, int op, enum dnn_direction direction,
                    const struct cuda_view *x, const struct cuda_view *y, struct vx_err *err) {
    struct conv *c = cuda_allocate(p, sizeof *c, err);
    if (!c) {
        return VX_E_NOMEM;
    }
    *c = (struct conv){
        .weight = p->net.ops[op].weight, .gradient = direction == DNN_WEIGHTS, .x = *x, .y = *y};
    int rc = plan_conv(p, op, direction, &c->plan, err);
    struct cuda_view uses[] = {*x, *y, p->conv_workspace};
    return rc != VX_OK
               ? rc
               : cuda_add_step(p, dnn_direction_name(direction), op, run_conv, c, uses, 3, err);
}

/* Whether the bias of a convolution does anything: normalisation takes it out again, and the loss
 * adds that of a head itself. */
static bool lively_bias(const struct cuda_program *p, const struct vx_op *op) {
    const struct cuda_tensor *out = &p->tensors[op->out];
    bool normalised = out->readers > 0 && out->readers == out->norms && out->concat < 0;
    return op->bias >= 0 && !normalised && !out->is_logits;
}

int cuda_conv_forward(struct cuda_program *p, int index, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[index];
    struct cuda_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    int bias = lively_bias(p, op) ? op->bias : -1;
    int rc = cuda_place_tensor(p, out, err);
    struct cuda_view result = out->value;
    if (rc == VX_OK && !cuda_is_packed(out, &result)) {
        rc = cuda_new_packed(p, out, &result, err);
    }
    rc = rc != VX_OK ? rc : add_conv(p, index, DNN_FORWARD, &in->value, &result, err);
    bool elsewhere = result.buffer != out->value.buffer;
    if (rc == VX_OK && (bias >= 0 || elsewhere)) {
        rc = cuda_add_move(p, index, out, bias, &result, &out->value, err);
    }
    if (rc == VX_OK && out->slice.buffer >= 0 && !elsewhere) {
        rc = cuda_add_move(p, index, out, -1, &out->value, &out->slice, err);
    }
    return rc;
}

int cuda_conv_backward(struct cuda_program *p, int index, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[index];
    struct cuda_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    int bias = lively_bias(p, op) && cuda_trained(p, op->bias) ? op->bias : -1;
    int rc = cuda_merge_grads(p, index, out, bias, err);
    if (rc == VX_OK && cuda_trained(p, op->weight)) {
        rc = add_conv(p, index, DNN_WEIGHTS, &in->value, &out->grads[0], err);
    }
    struct cuda_view grad;
    if (rc == VX_OK && in->wants_grad) {
        rc = cuda_new_packed(p, in, &grad, err);
        rc = rc != VX_OK ? rc : add_conv(p, index, DNN_DATA, &grad, &out->grads[0], err);
        rc = rc != VX_OK ? rc : cuda_add_grad(p, op->in[0], &grad, err);
    }
    return rc;
}

int cuda_transpose_forward(struct cuda_program *p, int index, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[index];
    struct cuda_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    struct cuda_view result;
    int rc = cuda_place_tensor(p, out, err);
    rc = rc != VX_OK ? rc : cuda_new_packed(p, out, &result, err);
    rc = rc != VX_OK ? rc : add_conv(p, index, DNN_DATA, &result, &in->value, err);
    rc = rc != VX_OK ? rc : cuda_add_move(p, index, out, op->bias, &result, &out->value, err);
    if (rc == VX_OK && out->slice.buffer >= 0 && out->slice.buffer != out->value.buffer) {
        rc = cuda_add_move(p, index, out, -1, &out->value, &out->slice, err);
    }
    return rc;
}

int cuda_transpose_backward(struct cuda_program *p, int index, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[index];
    struct cuda_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    int bias = op->bias >= 0 && cuda_trained(p, op->bias) ? op->bias : -1;
    int rc = cuda_merge_grads(p, index, out, bias, err);
    if (rc == VX_OK && cuda_trained(p, op->weight)) {
        rc = add_conv(p, index, DNN_WEIGHTS, &out->grads[0], &in->value, err);
    }
    struct cuda_view grad;
    if (rc == VX_OK && in->wants_grad) {
        rc = cuda_new_packed(p, in, &grad, err);
        rc = rc != VX_OK ? rc : add_conv(p, index, DNN_FORWARD, &out->grads[0], &grad, err);
        rc = rc != VX_OK ? rc : cuda_add_grad(p, op->in[0], &grad, err);
    }
    return rc;
}
