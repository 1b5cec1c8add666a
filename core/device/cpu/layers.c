/* VX_OP_CONV: by Winograd's method where that suits, else through oneDNN, with weights and bias in
 * and out of its layouts.
 *
 * oneDNN has no fast gradient of the weights for inputs with fewer planes than the kernel is deep.
 * Such a layer (always a tiny one) computes it on copies of input and gradient that have zero
 * planes added at the end: those contribute nothing. */
#include "device/cpu/internal.h"

#include "base/err.h"

#include <string.h>

struct layer {
    bool wino; /* the members below are unused */
    struct cpu_conv *conv;
    struct cpu_conv *weights; /* gradient of the weights: conv itself, or one of more planes */
};

enum { MAX_EXTRA_PLANES = 8 };

/* Where weight [o][i][tap] of the parameter lies in that direction's layout. */
static int conv_layout(struct cpu_program *p, const struct cpu_conv *conv,
                       enum cpu_direction direction, struct cpu_layout *ret, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[conv->op];
    const struct cpu_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    int taps = op->kernel[0] * op->kernel[1] * op->kernel[2];
    int rc = cpu_layout_create(p, op->weight, out->c, in->c * taps, ret, err);
    for (int o = 0; rc == VX_OK && o < out->c; o++) {
        ret->row[o] = cpu_conv_weight_at(conv, direction, cpu_physical_channel(out, o), 0, 0);
    }
    for (int k = 0; rc == VX_OK && k < in->c * taps; k++) {
        int i = cpu_physical_channel(in, k / taps);
        ret->column[k] = cpu_conv_weight_at(conv, direction, 0, i, k % taps);
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

/* Takes the gradient of the weights out of shape and gives the shape with more planes that has a
 * fast one; false where there is nothing to be done. */
static bool needs_more_planes(struct cpu_program *p, struct cpu_conv_shape *shape,
                              struct cpu_conv_shape *ret) {
    struct cpu_conv_shape only = *shape;
    only.directions[CPU_FORWARD] = only.directions[CPU_BACKWARD_DATA] = false;
    if (!shape->directions[CPU_BACKWARD_WEIGHTS] || cpu_conv_supported(p, &only)) {
        return false;
    }
    for (int extra = 1; extra <= MAX_EXTRA_PLANES; extra++) {
        only.in[0] = shape->in[0] + extra;
        only.out[0] = (only.in[0] + 2 * only.pad[0] - only.kernel[0]) / only.stride[0] + 1;
        if (!only.plain && cpu_conv_supported(p, &only)) {
            shape->directions[CPU_BACKWARD_WEIGHTS] = false;
            *ret = only;
            return true;
        }
    }
    return false;
}

static int through_onednn(struct cpu_program *p, int op_index, struct layer *layer,
                          struct cpu_conv_shape *shape, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[op_index];
    struct cpu_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    struct cpu_conv_shape tall;
    bool separate = needs_more_planes(p, shape, &tall);
    int rc = cpu_conv_create(p, op_index, shape, &layer->conv, err);
    layer->weights = layer->conv;
    if (rc == VX_OK && separate) {
        rc = cpu_conv_create(p, op_index, &tall, &layer->weights, err);
    }
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

/* Copies [units][bytes] to [units][tall_bytes], the rest zero. */
struct stretch {
    struct cpu_view from, to;
    size_t units, bytes, tall_bytes;
};

static int run_stretch(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    const struct stretch *s = data;
    const char *from = cpu_at(p, &s->from, 0);
    char *to = cpu_at(p, &s->to, 0);
    for (size_t u = 0; u < s->units; u++) {
        memcpy(to + u * s->tall_bytes, from + u * s->bytes, s->bytes);
        memset(to + u * s->tall_bytes + s->bytes, 0, s->tall_bytes - s->bytes);
    }
    return VX_OK;
}

/* A copy of a dense view of t with so many planes. */
static int add_stretch(struct cpu_program *p, int op, const struct cpu_tensor *t,
                       const struct cpu_view *from, int planes, struct cpu_view *ret,
                       struct vx_err *err) {
    struct stretch *s = cpu_allocate(p, sizeof *s, err);
    if (!s) {
        return VX_E_NOMEM;
    }
    size_t block = (size_t)p->kernels->block;
    s->from = *from;
    s->units = (size_t)t->n * (size_t)t->channels / block;
    s->bytes = t->voxels * block * p->kernels->element;
    s->tall_bytes = s->bytes / (size_t)t->size[0] * (size_t)planes;
    int rc = cpu_new_bytes(p, s->units * s->tall_bytes, &s->to, err);
    *ret = s->to;
    struct cpu_step step = cpu_step_named(p, op, "add planes");
    step.run = run_stretch;
    step.data = s;
    return rc != VX_OK
               ? rc
               : cpu_add_step(p, &step, (const struct cpu_view *[]){&s->from, &s->to, NULL}, err);
}

static int weights_backward(struct cpu_program *p, int op_index, const struct layer *layer,
                            struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[op_index];
    struct cpu_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    struct cpu_view src = in->value, grad = out->grads[0];
    int rc = VX_OK;
    if (layer->weights != layer->conv) {
        const struct cpu_conv_shape *tall = &layer->weights->shape;
        rc = add_stretch(p, op_index, in, &in->value, tall->in[0], &src, err);
        rc = rc != VX_OK ? rc
                         : add_stretch(p, op_index, out, &out->grads[0], tall->out[0], &grad, err);
    }
    rc = rc != VX_OK ? rc : cpu_conv_backward_weights(p, layer->weights, &src, &grad, err);
    return rc != VX_OK ? rc : gradients_out(p, layer->weights, err);
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
        rc = layer->wino ? cpu_wino_weights(p, op_index, &in->value, &out->grads[0], err)
                         : weights_backward(p, op_index, layer, err);
    }
    return rc == VX_OK && in->wants_grad ? data_backward(p, op_index, layer, err) : rc;
}
