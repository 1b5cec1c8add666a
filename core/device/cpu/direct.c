/* Steps of a convolution by our own direct kernels (simd/direct.h), in any direction. Every part of
 * the result is made by one thread, in a fixed order. */
#include "device/cpu/internal.h"

#include "base/err.h"
#include "device/cpu/simd/direct.h"

#include <string.h>

struct direct {
    struct vx_direct shape;
    int n, taps;
    struct cpu_view x, y, weights, bias; /* y: result or its gradient; x: input or its gradient */
};

bool cpu_direct_supported(const struct cpu_program *p, const struct cpu_conv_shape *s) {
    return p->kernels->direct_forward && !s->plain;
}

size_t cpu_direct_weight_at(const struct cpu_program *p, const struct cpu_conv_shape *s,
                            enum cpu_direction direction, int o, int i, int tap) {
    size_t block = (size_t)p->kernels->block, in = (size_t)s->in_channels / block;
    size_t out = (size_t)s->out_channels / block;
    size_t ib = (size_t)i / block, il = (size_t)i % block;
    size_t ob = (size_t)o / block, ol = (size_t)o % block;
    return direction == CPU_BACKWARD_DATA
               ? ((((size_t)tap * out + ob) * in + ib) * block + ol) * block + il
               : ((((size_t)tap * in + ib) * out + ob) * block + il) * block + ol;
}

static int run_forward(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    const struct direct *t = data;
    const struct vx_direct *g = &t->shape;
    int planes = t->n * g->out_blocks * g->out[0];
    const float *bias = t->bias.buffer < 0 ? NULL : cpu_at(p, &t->bias, 0);
#pragma omp parallel for schedule(dynamic) num_threads(p->device->threads)
    for (int i = 0; i < planes; i++) {
        int n = i / g->out[0] / g->out_blocks, block = i / g->out[0] % g->out_blocks;
        p->kernels->direct_forward(
            g, block, i % g->out[0], cpu_at(p, &t->x, n), cpu_at(p, &t->weights, 0),
            bias ? bias + block * p->kernels->block : NULL, cpu_at(p, &t->y, n));
    }
    return VX_OK;
}

static int run_data(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    const struct direct *t = data;
    const struct vx_direct *g = &t->shape;
    int planes = t->n * g->in_blocks * g->in[0];
#pragma omp parallel for schedule(dynamic) num_threads(p->device->threads)
    for (int i = 0; i < planes; i++) {
        int n = i / g->in[0] / g->in_blocks;
        p->kernels->direct_data(g, i / g->in[0] % g->in_blocks, i % g->in[0], cpu_at(p, &t->y, n),
                                cpu_at(p, &t->weights, 0), cpu_at(p, &t->x, n));
    }
    return VX_OK;
}

static int run_weights(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    const struct direct *t = data;
    const struct vx_direct *g = &t->shape;
    int parts = t->taps * g->in_blocks * g->out_blocks;
    size_t block = (size_t)p->kernels->block;
#pragma omp parallel num_threads(p->device->threads)
    {
#pragma omp for schedule(dynamic)
        for (int i = 0; i < parts; i++) {
            float *dw = (float *)cpu_at(p, &t->weights, 0) + (size_t)i * block * block;
            memset(dw, 0, block * block * sizeof *dw);
            for (int n = 0; n < t->n; n++) {
                p->kernels->direct_weights(g, i / g->out_blocks / g->in_blocks,
                                           i / g->out_blocks % g->in_blocks, i % g->out_blocks,
                                           cpu_at(p, &t->x, n), cpu_at(p, &t->y, n), dw);
            }
        }
#pragma omp for schedule(static)
        for (int b = 0; b < g->out_blocks; b++) {
            if (t->bias.buffer >= 0) {
                float *db = (float *)cpu_at(p, &t->bias, 0) + (size_t)b * block;
                memset(db, 0, block * sizeof *db);
                for (int n = 0; n < t->n; n++) {
                    p->kernels->direct_bias(g, b, cpu_at(p, &t->y, n), db);
                }
            }
        }
    }
    return VX_OK;
}

int cpu_direct_add(struct cpu_program *p, const struct cpu_conv *conv, enum cpu_direction direction,
                   const struct cpu_view *x, const struct cpu_view *y, struct vx_err *err) {
    static int (*const runs[])(struct cpu_program *, void *,
                               struct vx_err *) = {run_forward, run_data, run_weights};
    static const char *const names[] = {"forward", "backward data", "backward weights"};
    const struct cpu_conv_shape *s = &conv->shape;
    const struct cpu_tensor *in = &p->tensors[p->net.ops[conv->op].in[0]];
    struct direct *t = cpu_allocate(p, sizeof *t, err);
    if (!t) {
        return VX_E_NOMEM;
    }
    *t = (struct direct){.n = s->n, .x = *x, .y = *y, .weights = conv->packed[direction]};
    t->taps = s->kernel[0] * s->kernel[1] * s->kernel[2];
    t->bias = direction == CPU_FORWARD            ? conv->packed_bias
              : direction == CPU_BACKWARD_WEIGHTS ? conv->grad_bias
                                                  : CPU_NO_VIEW;
    t->shape.in_blocks = in->channels / p->kernels->block;
    t->shape.out_blocks = s->out_channels / p->kernels->block;
    memcpy(t->shape.in, s->in, sizeof s->in);
    memcpy(t->shape.out, s->out, sizeof s->out);
    memcpy(t->shape.kernel, s->kernel, sizeof s->kernel);
    memcpy(t->shape.stride, s->stride, sizeof s->stride);
    memcpy(t->shape.pad, s->pad, sizeof s->pad);
    struct cpu_step step = cpu_step_named(p, conv->op, names[direction]);
    step.implementation = "own:direct";
    step.run = runs[direction];
    step.data = t;
    const struct cpu_view *uses[] = {&t->x, &t->y, &t->weights, &t->bias, NULL};
    return cpu_add_step(p, &step, uses, err);
}
