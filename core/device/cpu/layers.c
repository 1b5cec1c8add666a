/* VX_OP_CONV: by Winograd's method where that suits, else through oneDNN, with weights and bias in
 * and out of its layouts. */
#include "device/cpu/internal.h"

#include "base/err.h"

struct layer {
    bool wino;
    struct cpu_conv *conv; /* where not wino */
};

/* Where weight [o][i][tap] of the parameter lies in that direction's layout. */
static int conv_layout(struct cpu_program *p, const struct cpu_conv *conv,
                       enum cpu_direction direction, struct cpu_layout *ret, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[conv->op];
    const struct cpu_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    int taps = op->kernel[0] * op->kernel[1] * op->kernel[2];
    int rc = cpu_layout_create(p, op->weight, out->c, in->c * taps, ret, err);
    for (int o = 0; rc == VX_OK && o < out->c; o++) {
        ret->row[o] = cpu_conv_weight_at(p, conv, direction, cpu_physical_channel(out, o), 0, 0);
    }
    for (int k = 0; rc == VX_OK && k < in->c * taps; k++) {
        int i = cpu_physical_channel(in, k / taps);
        ret->column[k] = cpu_conv_weight_at(p, conv, direction, 0, i, k % taps);
    }
    return rc;
}

static int bias_layout(struct cpu_program *p, const struct cpu_conv *conv, struct cpu_layout *ret,
                       struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[conv->op];
    const struct cpu_tensor *out = &p->tensors[op->out];
    int rc = cpu_layout_create(p, op->bias, 1, out->c, ret, err);
    for (int o = 0; rc == VX_OK && o < out->c; o++) {
        ret->column[o] = cpu_physical_channel(out, o);
    }
    return rc;
}

static int add_packs(struct cpu_program *p, const struct cpu_conv *conv, struct vx_err *err) {
    struct cpu_layout layout;
    int rc = VX_OK;
    for (int d = CPU_FORWARD; d <= CPU_BACKWARD_DATA && rc == VX_OK; d++) {
        if (conv->shape.directions[d]) {
            rc = conv_layout(p, conv, (enum cpu_direction)d, &layout, err);
            rc = rc != VX_OK
                     ? rc
                     : cpu_add_pack(p, &layout, &conv->packed[d], p->kernels->element, NULL, err);
        }
    }
    if (rc == VX_OK && conv->shape.bias) {
        rc = bias_layout(p, conv, &layout, err);
        rc = rc != VX_OK ? rc
                         : cpu_add_pack(p, &layout, &conv->packed_bias, sizeof(float), NULL, err);
    }
    return rc;
}

static int through_onednn(struct cpu_program *p, int op_index, struct layer *layer,
                          const struct cpu_conv_shape *shape, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[op_index];
    struct cpu_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    int rc = cpu_conv_create(p, op_index, shape, &layer->conv, err);
    rc = rc != VX_OK ? rc : add_packs(p, layer->conv, err);
    return rc != VX_OK ? rc : cpu_conv_forward(p, layer->conv, &in->value, &out->value, err);
}

int cpu_layer_conv(struct cpu_program *p, int op_index, void **ret, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[op_index];
    struct cpu_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    struct cpu_conv_shape shape = cpu_conv_shape_of(p, op);
    struct layer *layer = cpu_allocate(p, sizeof *layer, err);
    int rc = layer ? cpu_place(p, out, true, err) : VX_E_NOMEM;
    if (rc == VX_OK) {
        layer->wino = cpu_wino_suits(p, &shape);
        rc = layer->wino ? cpu_wino_forward(p, op_index, false, &in->value, &out->value, err)
                         : through_onednn(p, op_index, layer, &shape, err);
    }
    if (rc == VX_OK && out->slice.buffer >= 0) {
        rc = cpu_add_sum(p, out, &out->value, 1, &out->slice, err);
    }
    if (rc == VX_OK) {
        *ret = layer;
    }
    return rc;
}

static int gradients_out(struct cpu_program *p, const struct cpu_conv *conv, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[conv->op];
    struct cpu_layout layout;
    int rc = conv_layout(p, conv, CPU_BACKWARD_WEIGHTS, &layout, err);
    rc = rc != VX_OK
             ? rc
             : cpu_add_unpack(p, conv->op, &layout, &conv->packed[CPU_BACKWARD_WEIGHTS], err);
    if (rc == VX_OK && conv->shape.bias && cpu_trainable(p, op->bias)) {
        rc = bias_layout(p, conv, &layout, err);
        rc = rc != VX_OK ? rc : cpu_add_unpack(p, conv->op, &layout, &conv->grad_bias, err);
    }
    return rc;
}

static int weights_backward(struct cpu_program *p, int op_index, const struct layer *layer,
                            struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[op_index];
    struct cpu_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    if (layer->wino) {
        return cpu_wino_weights(p, op_index, &in->value, &out->grads[0], err);
    }
    int rc = cpu_conv_backward_weights(p, layer->conv, &in->value, &out->grads[0], err);
    return rc != VX_OK ? rc : gradients_out(p, layer->conv, err);
}

static int data_backward(struct cpu_program *p, int op_index, const struct layer *layer,
                         struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[op_index];
    struct cpu_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    struct cpu_view grad;
    int rc = cpu_new_grad(p, in, &grad, err);
    if (rc == VX_OK) {
        rc = layer->wino ? cpu_wino_forward(p, op_index, true, &out->grads[0], &grad, err)
                         : cpu_conv_backward_data(p, layer->conv, &out->grads[0], &grad, err);
    }
    return rc != VX_OK ? rc : cpu_add_grad(p, in, &grad, err);
}

int cpu_layer_conv_backward(struct cpu_program *p, int op_index, void *made, struct vx_err *err) {
    const struct layer *layer = made;
    const struct vx_op *op = &p->net.ops[op_index];
    struct cpu_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    int rc = cpu_merge_grads(p, out, 1, err);
    if (rc == VX_OK && cpu_trainable(p, op->weight)) {
        rc = weights_backward(p, op_index, layer, err);
    }
    return rc == VX_OK && in->wants_grad ? data_backward(p, op_index, layer, err) : rc;
}
