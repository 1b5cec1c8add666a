/* VX_OP_CONV_TRANSPOSE with kernel = stride: a matrix product and a permutation.
 *
 * Such a layer writes every output voxel once: out[o][z*k + tap] = sum_i w[i][o][tap] * in[i][z].
 * So it is a 1x1x1 convolution to taps * O channels (tap-major) and a move of each 16-channel
 * vector to its place; backwards the vectors are collected first. oneDNN's own deconvolution is
 * several times slower here, in bfloat16 most of all. */
#include "device/cpu/internal.h"

#include "base/err.h"

#include <string.h>

struct transpose {
    const struct vx_op *op;
    const struct cpu_tensor *in, *out;
    struct cpu_conv *product;
    int taps, blocks;       /* blocks of the output */
    struct cpu_view flat;   /* product: [N][taps][blocks][voxel][block] */
    struct cpu_view target; /* forward: where the result goes */
    int n_sources;
    struct cpu_view sources[VX_NORM_SOURCES];
    float *bias;         /* [blocks][block], padded with zeros */
    float *bias_partial; /* [n][blocks][input planes][block] */
};

/* One input row (n, d, h) of one output block: every tap of it. */
struct row {
    int n, block, d, h;
};

static struct row row_at(const struct transpose *t, size_t i) {
    struct row r;
    r.h = (int)(i % (size_t)t->in->size[1]);
    i /= (size_t)t->in->size[1];
    r.d = (int)(i % (size_t)t->in->size[0]);
    i /= (size_t)t->in->size[0];
    r.block = (int)(i % (size_t)t->blocks);
    r.n = (int)(i / (size_t)t->blocks);
    return r;
}

/* Bytes of the row's start from the start of a sample in the flat product... */
static size_t flat_offset(const struct cpu_program *p, const struct transpose *t,
                          const struct row *r, int tap) {
    size_t voxel = ((size_t)r->d * t->in->size[1] + r->h) * (size_t)t->in->size[2];
    size_t block = (size_t)tap * t->blocks + r->block;
    return (block * t->in->voxels + voxel) * p->kernels->block * p->kernels->element;
}

/* ... and in the output. */
static size_t out_offset(const struct cpu_program *p, const struct transpose *t,
                         const struct row *r, int tap) {
    const int *k = t->op->kernel;
    size_t z = (size_t)r->d * k[0] + tap / (k[1] * k[2]);
    size_t y = (size_t)r->h * k[1] + tap / k[2] % k[1];
    size_t voxel = (z * t->out->size[1] + y) * (size_t)t->out->size[2] + tap % k[2];
    return (r->block * t->out->voxels + voxel) * p->kernels->block * p->kernels->element;
}

static size_t plane_count(const struct transpose *t) {
    return (size_t)t->in->n * t->blocks * t->in->size[0];
}

static void load_bias(const struct cpu_program *p, const struct transpose *t) {
    if (t->op->bias >= 0) {
        memcpy(t->bias, p->state->weight[t->op->bias], (size_t)t->out->c * sizeof(float));
    }
}

static int run_spread(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    const struct transpose *t = data;
    size_t planes = plane_count(t), rows = (size_t)t->in->size[1];
    load_bias(p, t);
#pragma omp parallel for schedule(static) num_threads(p->device->threads)
    for (size_t plane = 0; plane < planes; plane++) {
        for (size_t i = plane * rows; i < (plane + 1) * rows; i++) {
            struct row r = row_at(t, i);
            for (int tap = 0; tap < t->taps; tap++) {
                p->kernels->spread((char *)cpu_at(p, &t->flat, r.n) + flat_offset(p, t, &r, tap),
                                   t->bias + r.block * p->kernels->block,
                                   (char *)cpu_at(p, &t->target, r.n) + out_offset(p, t, &r, tap),
                                   (size_t)t->op->kernel[2], (size_t)t->in->size[2]);
            }
        }
    }
    return VX_OK;
}

static void collect_row(struct cpu_program *p, const struct transpose *t, size_t i, float *bias) {
    struct row r = row_at(t, i);
    for (int tap = 0; tap < t->taps; tap++) {
        const void *src[VX_NORM_SOURCES];
        for (int s = 0; s < t->n_sources; s++) {
            src[s] = (char *)cpu_at(p, &t->sources[s], r.n) + out_offset(p, t, &r, tap);
        }
        p->kernels->collect(src, t->n_sources, (size_t)t->op->kernel[2],
                            (char *)cpu_at(p, &t->flat, r.n) + flat_offset(p, t, &r, tap), bias,
                            (size_t)t->in->size[2]);
    }
}

static int run_collect(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    const struct transpose *t = data;
    size_t planes = plane_count(t), rows = (size_t)t->in->size[1], block = p->kernels->block;
#pragma omp parallel for schedule(static) num_threads(p->device->threads)
    for (size_t plane = 0; plane < planes; plane++) {
        float *bias = t->bias_partial + plane * block;
        memset(bias, 0, block * sizeof *bias);
        for (size_t i = plane * rows; i < (plane + 1) * rows; i++) {
            collect_row(p, t, i, bias);
        }
    }
    if (t->op->bias < 0 || !cpu_trainable(p, t->op->bias)) {
        return VX_OK;
    }
    /* A plane is (n, block, d); sums in the order of n, then d. */
    for (size_t c = 0; c < (size_t)t->out->c; c++) {
        double sum = 0;
        for (size_t n = 0; n < (size_t)t->in->n; n++) {
            for (size_t d = 0; d < (size_t)t->in->size[0]; d++) {
                size_t plane = (n * t->blocks + c / block) * t->in->size[0] + d;
                sum += (double)t->bias_partial[plane * block + c % block];
            }
        }
        p->state->grad[t->op->bias][c] = (float)sum;
    }
    return VX_OK;
}

/* Weight [i][o][tap] of the parameter in a layout of the product. */
static int product_layout(struct cpu_program *p, const struct transpose *t,
                          enum cpu_direction direction, struct cpu_layout *ret,
                          struct vx_err *err) {
    int c = t->out->c, rc;
    rc = cpu_layout_create(p, t->op->weight, t->in->c, c * t->taps, ret, err);
    for (int i = 0; rc == VX_OK && i < t->in->c; i++) {
        int at = cpu_physical_channel(t->in, i);
        ret->row[i] = cpu_conv_weight_at(p, t->product, direction, 0, at, 0);
    }
    for (int k = 0; rc == VX_OK && k < c * t->taps; k++) {
        int at = k % t->taps * t->out->channels + k / t->taps;
        ret->column[k] = cpu_conv_weight_at(p, t->product, direction, at, 0, 0);
    }
    return rc;
}

static int create_product(struct cpu_program *p, int op_index, struct transpose *t,
                          struct vx_err *err) {
    const int one[3] = {1, 1, 1};
    struct cpu_conv_shape s = {.n = t->in->n,
                               .in_channels = t->in->channels,
                               .out_channels = t->out->channels * t->taps,
                               .directions = {true}};
    memcpy(s.in, t->in->size, sizeof s.in);
    memcpy(s.out, t->in->size, sizeof s.out);
    memcpy(s.kernel, one, sizeof s.kernel);
    memcpy(s.stride, one, sizeof s.stride);
    s.directions[CPU_BACKWARD_DATA] = p->learning && t->in->wants_grad;
    s.directions[CPU_BACKWARD_WEIGHTS] = p->learning && cpu_trainable(p, t->op->weight);
    int rc = cpu_conv_create(p, op_index, &s, &t->product, err);
    for (int d = CPU_FORWARD; d <= CPU_BACKWARD_DATA && rc == VX_OK; d++) {
        struct cpu_layout layout;
        if (s.directions[d]) {
            rc = product_layout(p, t, (enum cpu_direction)d, &layout, err);
            rc = rc != VX_OK ? rc
                             : cpu_add_pack(p, &layout, &t->product->packed[d], p->kernels->element,
                                            NULL, err);
        }
    }
    return rc;
}

static struct transpose *create(struct cpu_program *p, int op_index, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[op_index];
    struct transpose *t = cpu_allocate(p, sizeof *t, err);
    if (!t) {
        return NULL;
    }
    t->op = op;
    t->in = &p->tensors[op->in[0]];
    t->out = &p->tensors[op->out];
    t->taps = op->kernel[0] * op->kernel[1] * op->kernel[2];
    t->blocks = t->out->channels / p->kernels->block;
    t->bias = cpu_allocate(p, (size_t)t->out->channels * sizeof *t->bias, err);
    size_t partials = plane_count(t) * (size_t)p->kernels->block;
    t->bias_partial = t->bias ? cpu_allocate(p, partials * sizeof *t->bias_partial, err) : NULL;
    return t->bias_partial ? t : NULL;
}

static int flat_view(struct cpu_program *p, const struct transpose *t, struct cpu_view *ret,
                     struct vx_err *err) {
    size_t sample = (size_t)t->out->channels * t->taps * t->in->voxels * p->kernels->element;
    int rc = cpu_new_bytes(p, sample * (size_t)t->in->n, ret, err);
    ret->stride = sample;
    return rc;
}

/* One step that moves the product to one place. */
static int add_spread(struct cpu_program *p, int op_index, const struct transpose *t,
                      const struct cpu_view *target, struct vx_err *err) {
    struct transpose *copy = cpu_allocate(p, sizeof *copy, err);
    if (!copy) {
        return VX_E_NOMEM;
    }
    *copy = *t;
    copy->target = *target;
    struct cpu_step step = cpu_step_named(p, op_index, "spread");
    step.run = run_spread;
    step.data = copy;
    return cpu_add_step(p, &step, (const struct cpu_view *[]){&copy->flat, target, NULL}, err);
}

int cpu_layer_transpose(struct cpu_program *p, int op_index, void **ret, struct vx_err *err) {
    struct transpose *t = create(p, op_index, err);
    if (!t) {
        return VX_E_NOMEM;
    }
    struct cpu_tensor *out = &p->tensors[t->op->out];
    if (out->is_logits) {
        return vx_fail(err, VX_E_UNSUPPORTED, "bad_network",
                       "operation %d: a transposed convolution cannot be a head", op_index);
    }
    int rc = create_product(p, op_index, t, err);
    rc = rc != VX_OK ? rc : cpu_place(p, out, false, err);
    rc = rc != VX_OK ? rc : flat_view(p, t, &t->flat, err);
    rc = rc != VX_OK ? rc : cpu_conv_forward(p, t->product, &t->in->value, &t->flat, err);
    rc = rc != VX_OK ? rc : add_spread(p, op_index, t, &out->value, err);
    if (rc == VX_OK && out->slice.buffer >= 0 && !cpu_same_view(&out->value, &out->slice)) {
        rc = add_spread(p, op_index, t, &out->slice, err);
    }
    if (rc == VX_OK) {
        *ret = t;
    }
    return rc;
}

static int backward_products(struct cpu_program *p, struct transpose *t, struct vx_err *err) {
    struct cpu_conv *product = t->product;
    struct cpu_tensor *in = &p->tensors[t->op->in[0]];
    struct cpu_layout layout;
    int rc = VX_OK;
    if (product->shape.directions[CPU_BACKWARD_WEIGHTS]) {
        rc = cpu_conv_backward_weights(p, product, &t->in->value, &t->flat, err);
        rc = rc != VX_OK ? rc : product_layout(p, t, CPU_BACKWARD_WEIGHTS, &layout, err);
        rc = rc != VX_OK ? rc
                         : cpu_add_unpack(p, product->op, &layout,
                                          &product->packed[CPU_BACKWARD_WEIGHTS], err);
    }
    if (rc == VX_OK && product->shape.directions[CPU_BACKWARD_DATA]) {
        struct cpu_view grad;
        rc = cpu_new_grad(p, in, &grad, err);
        rc = rc != VX_OK ? rc : cpu_conv_backward_data(p, product, &t->flat, &grad, err);
        rc = rc != VX_OK ? rc : cpu_add_grad(p, in, &grad, err);
    }
    return rc;
}

int cpu_layer_transpose_backward(struct cpu_program *p, int op_index, void *made,
                                 struct vx_err *err) {
    struct transpose *t = made;
    struct cpu_tensor *out = &p->tensors[t->op->out];
    int rc = cpu_merge_grads(p, out, VX_NORM_SOURCES, err);
    rc = rc != VX_OK ? rc : flat_view(p, t, &t->flat, err);
    if (rc != VX_OK) {
        return rc;
    }
    const struct cpu_view *uses[VX_NORM_SOURCES + 2] = {&t->flat};
    t->n_sources = out->n_grads;
    for (int i = 0; i < out->n_grads; i++) {
        t->sources[i] = out->grads[i];
        uses[1 + i] = &t->sources[i];
    }
    struct cpu_step step = cpu_step_named(p, op_index, "collect");
    step.run = run_collect;
    step.data = t;
    rc = cpu_add_step(p, &step, uses, err);
    return rc != VX_OK ? rc : backward_products(p, t, err);
}
