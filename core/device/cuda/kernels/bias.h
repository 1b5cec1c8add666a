/* Phases of moves with a bias: transposed convolutions into and out of a concatenation, and the
 * gradient that several readers of one tensor left. Private to this room. */
#ifndef VX_DEVICE_CUDA_KERNELS_BIAS_H
#define VX_DEVICE_CUDA_KERNELS_BIAS_H

#include "device/cuda/kernels/columns.h"

struct bias_arguments {
    struct vx_grid grid; /* n = 1: all samples' voxels in a row */
    int channels, n_grads;
    const float *bias;
    float *dbias;
    float *partials;    /* [block][width] */
    uint32_t *counters; /* [groups] */
    struct vx_cuda_view in, out;
    struct vx_cuda_view grads[VX_CUDA_MAX_GRADS];
};

struct bias_registers {
    float sum[8];
    struct vx_place p;
};

VX_INLINE void bias_forward(int phase, const struct bias_arguments *a, int block, int thread,
                            struct vx_nothing *r, struct vx_nothing *s) {
    (void)phase, (void)r, (void)s;
    struct vx_place p = vx_place_of(&a->grid, block, thread);
    if (!p.active) {
        return;
    }
    float bias[8], x[8];
    vx_load_channels(a->bias, p.channel, a->channels, bias);
    int64_t rows = a->grid.rows;
    for (int64_t v = p.first + p.row; v < p.end; v += 4 * rows) {
        struct vx_pack8 four[4];
        VX_UNROLL for (int j = 0; j < 4; j++) {
            int64_t at = vx_at_most(v + j * rows, p.end - 1);
            four[j] = vx_load8(a->in.data, at * a->in.pitch + p.channel);
        }
        VX_UNROLL for (int j = 0; j < 4; j++) {
            vx_unpack8(&four[j], x);
            VX_UNROLL for (int i = 0; i < 8; i++) {
                x[i] += bias[i];
            }
            if (v + j * rows < p.end) {
                vx_store8(a->out.data, (v + j * rows) * a->out.pitch + p.channel, x);
            }
        }
    }
}

/* Sum of the views at one voxel, in their order. */
VX_INLINE void bias_gradient(const struct bias_arguments *a, int64_t voxel, int channel,
                             float ret[8]) {
    struct vx_pack8 packs[VX_CUDA_MAX_GRADS];
    VX_UNROLL for (int k = 0; k < VX_CUDA_MAX_GRADS; k++) {
        if (k < a->n_grads) {
            packs[k] = vx_load8(a->grads[k].data, voxel * a->grads[k].pitch + channel);
        }
    }
    vx_unpack8(&packs[0], ret);
    VX_UNROLL for (int k = 1; k < VX_CUDA_MAX_GRADS; k++) {
        if (k < a->n_grads) {
            float more[8];
            vx_unpack8(&packs[k], more);
            VX_UNROLL for (int i = 0; i < 8; i++) {
                ret[i] += more[i];
            }
        }
    }
}

/* Writes the summed gradient and adds up what was written in full precision. */
VX_INLINE void bias_thread_sum(const struct bias_arguments *a, struct bias_registers *r) {
    const struct vx_place *p = &r->p;
    VX_UNROLL for (int i = 0; i < 8; i++) {
        r->sum[i] = 0;
    }
    int64_t rows = a->grid.rows;
    for (int64_t v = p->first + p->row; p->active && v < p->end; v += 2 * rows) {
        float g[2][8];
        VX_UNROLL for (int j = 0; j < 2; j++) {
            bias_gradient(a, vx_at_most(v + j * rows, p->end - 1), p->channel, g[j]);
        }
        VX_UNROLL for (int j = 0; j < 2; j++) {
            if (v + j * rows < p->end) {
                VX_UNROLL for (int i = 0; i < 8; i++) {
                    r->sum[i] += g[j][i];
                }
                if (a->out.data) {
                    vx_store8(a->out.data, (v + j * rows) * a->out.pitch + p->channel, g[j]);
                }
            }
        }
    }
}

enum { BIAS_SUMS_PHASES = 6 };

VX_INLINE void bias_sums(int phase, const struct bias_arguments *a, int block, int thread,
                         struct bias_registers *r, struct vx_columns_shared *s) {
    const struct vx_grid *g = &a->grid;
    if (phase == 0) {
        r->p = vx_place_of(g, block, thread);
        bias_thread_sum(a, r);
    }
    if (!a->dbias) {
        return;
    }
    int group = r->p.group, channel = group * vx_grid_width(g) + thread;
    if (phase < 3) {
        vx_columns_reduce(phase, g, &r->p, thread, r->sum,
                          vx_partial_of(a->partials, g, 1, block, 0), s);
    } else if (phase == 3) {
        if (thread == 0) {
            s->last = vx_arrive(&a->counters[group], (uint32_t)g->chunks);
        }
    } else if (phase == 4 && s->last) {
        vx_columns_merge_slice(g, thread, a->partials, 1, 0, group * g->chunks, g->chunks, s);
    } else if (phase == 5 && s->last && thread < vx_grid_width(g) && channel < a->channels) {
        a->dbias[channel] = (float)vx_columns_merge_total(g, thread, s);
    }
}

#endif
