/* Phases of instance norm + affine map + leaky ReLU, both directions. Private to this room.
 *
 * Moments: a thread sums its few voxels shifted by the first of them, which is safe: the shift is
 * itself a deviation that the true sum of squares holds. Means come first, then squared deviations
 * from the merged mean, on every level; so large means cost no digits. Source of the merge: Chan,
 * Golub, LeVeque 1979. Formulas: device/oplist.h, VX_OP_NORM_ACT. */
#ifndef VX_DEVICE_CUDA_KERNELS_NORM_H
#define VX_DEVICE_CUDA_KERNELS_NORM_H

#include "device/cuda/kernels/columns.h"

struct norm_arguments {
    struct vx_grid grid;
    int channels, n_grads;
    float eps, slope;
    const float *gamma, *beta;
    float *moments;             /* [n][2][padded]: mean, 1 / std */
    float *sums;                /* [n][2][padded]: over voxels, of g and g * hat */
    float *dgamma, *dbeta;      /* NULL: not wanted */
    float *partials;            /* [block][2][width] */
    uint32_t *counters;         /* [n][groups] */
    struct vx_cuda_view x, out; /* backward: out is dx */
    struct vx_cuda_view copy;   /* forward */
    struct vx_cuda_view grads[VX_CUDA_MAX_GRADS];
};

struct norm_registers {
    float first[8], second[8]; /* mean and squares, or the two sums */
    float count;
    struct vx_place p;
};

struct norm_shared {
    struct vx_columns_shared columns;
    float mean[VX_GROUP_LANES * VX_CUDA_LANES];
    double means[VX_GROUP_LANES * VX_CUDA_LANES];
};

VX_INLINE int64_t norm_element(const struct vx_grid *g, const struct vx_place *p, int64_t voxel,
                               const struct vx_cuda_view *view) {
    return (p->n * g->voxels + voxel) * view->pitch + p->channel;
}

/* --- forward, first launch --- */

VX_INLINE void norm_add_shifted(const struct vx_pack8 *pack, const float pivot[8], float sum[8],
                                float square[8]) {
    float x[8];
    vx_unpack8(pack, x);
    VX_UNROLL for (int i = 0; i < 8; i++) {
        float d = x[i] - pivot[i];
        sum[i] += d;
        square[i] = vx_fma(d, d, square[i]);
    }
}

/* Mean and sum of squared deviations of one thread's voxels. */
VX_INLINE void norm_thread_moments(const struct norm_arguments *a, struct norm_registers *r) {
    const struct vx_grid *g = &a->grid;
    const struct vx_place *p = &r->p;
    float pivot[8], square[8];
    int64_t v = p->first + p->row;
    r->count = 0;
    VX_UNROLL for (int i = 0; i < 8; i++) {
        pivot[i] = r->first[i] = square[i] = r->second[i] = 0;
    }
    if (!p->active || v >= p->end) {
        return;
    }
    struct vx_pack8 pack = vx_load8(a->x.data, norm_element(g, p, v, &a->x));
    vx_unpack8(&pack, pivot);
    r->count = (float)((p->end - v + g->rows - 1) / g->rows);
    for (; v + 3 * g->rows < p->end; v += 4 * g->rows) {
        struct vx_pack8 four[4];
        VX_UNROLL for (int j = 0; j < 4; j++) {
            four[j] = vx_load8(a->x.data, norm_element(g, p, v + j * g->rows, &a->x));
        }
        VX_UNROLL for (int j = 0; j < 4; j++) {
            norm_add_shifted(&four[j], pivot, r->first, square);
        }
    }
    for (; v < p->end; v += g->rows) {
        pack = vx_load8(a->x.data, norm_element(g, p, v, &a->x));
        norm_add_shifted(&pack, pivot, r->first, square);
    }
    VX_UNROLL for (int i = 0; i < 8; i++) {
        float d = r->first[i] / r->count;
        r->second[i] = vx_fma(-d, r->first[i], square[i]);
        r->first[i] = pivot[i] + d;
    }
}

/* What the mean of a chunk or a row adds: count * value, or its squares about the merged mean. */
VX_INLINE void norm_moment_values(const struct norm_registers *r, const float *mean, float ret[8]) {
    VX_UNROLL for (int i = 0; i < 8; i++) {
        float d = mean ? r->first[i] - mean[r->p.lane * 8 + i] : 0.0f;
        ret[i] = mean ? vx_fma(r->count * d, d, r->second[i]) : r->count * r->first[i];
    }
}

/* One slice of the last block's merge over chunks; mean NULL: of means. */
VX_INLINE void norm_merge_slice(const struct norm_arguments *a, const struct norm_registers *r,
                                int thread, const double *mean, struct norm_shared *s) {
    const struct vx_grid *g = &a->grid;
    int width = vx_grid_width(g), slices = VX_THREADS / width, slice = thread / width;
    int column = thread % width, first = (r->p.n * g->groups + r->p.group) * g->chunks;
    double sum = 0;
    for (int k = slice; slice < slices && k < g->chunks; k += slices) {
        double count = (double)vx_chunk_voxels(g, k);
        double m = (double)vx_fresh(vx_partial_of(a->partials, g, 2, first + k, 0) + column);
        if (mean) {
            double d = m - mean[column];
            sum += (double)vx_fresh(vx_partial_of(a->partials, g, 2, first + k, 1) + column);
            sum += count * d * d;
        } else {
            sum += count * m;
        }
    }
    s->columns.totals[thread] = sum;
}

/* Phases 6 to 10: the last block of a sample's group. */
VX_INLINE void norm_merge_moments(int phase, const struct norm_arguments *a,
                                  const struct norm_registers *r, int thread,
                                  struct norm_shared *s) {
    const struct vx_grid *g = &a->grid;
    const struct vx_place *p = &r->p;
    if (phase == 6) {
        if (thread == 0) {
            s->columns.last =
                vx_arrive(&a->counters[p->n * g->groups + p->group], (uint32_t)g->chunks);
        }
        return;
    }
    if (!s->columns.last) {
        return;
    }
    int channel = p->group * vx_grid_width(g) + thread;
    bool mine = thread < vx_grid_width(g) && channel < g->padded;
    if (phase == 7) {
        norm_merge_slice(a, r, thread, NULL, s);
    } else if (phase == 8 && mine) {
        s->means[thread] = vx_columns_merge_total(g, thread, &s->columns) / (double)g->voxels;
    } else if (phase == 9) {
        norm_merge_slice(a, r, thread, s->means, s);
    } else if (phase == 10 && mine) {
        double variance = vx_columns_merge_total(g, thread, &s->columns) / (double)g->voxels;
        float *to = a->moments + (int64_t)p->n * 2 * g->padded + channel;
        to[0] = (float)s->means[thread];
        to[g->padded] = (float)(1 / sqrt(variance + (double)a->eps));
    }
}

enum { NORM_MOMENTS_PHASES = 11 };

VX_INLINE void norm_moments(int phase, const struct norm_arguments *a, int block, int thread,
                            struct norm_registers *r, struct norm_shared *s) {
    const struct vx_grid *g = &a->grid;
    float value[8];
    if (phase == 0) {
        r->p = vx_place_of(g, block, thread);
        norm_thread_moments(a, r);
        norm_moment_values(r, NULL, value);
        vx_columns_put(g, &r->p, value, &s->columns);
    } else if (phase == 1 || phase == 4) {
        vx_columns_slice(g, thread, &s->columns);
    } else if (phase == 2 && thread < vx_grid_width(g)) {
        float mean =
            vx_columns_total(g, thread, &s->columns) / (float)vx_chunk_voxels(g, r->p.chunk);
        vx_partial_of(a->partials, g, 2, block, 0)[thread] = s->mean[thread] = mean;
        vx_publish();
    } else if (phase == 3) {
        norm_moment_values(r, s->mean, value);
        vx_columns_put(g, &r->p, value, &s->columns);
    } else if (phase == 5 && thread < vx_grid_width(g)) {
        vx_partial_of(a->partials, g, 2, block, 1)[thread] =
            vx_columns_total(g, thread, &s->columns);
        vx_publish();
    } else if (phase > 5) {
        norm_merge_moments(phase, a, r, thread, s);
    }
}

/* --- forward, second launch --- */

/* The activation's input is scale * x + shift; backward asks for its sign with the same bits. */
VX_INLINE void norm_affine(const struct norm_arguments *a, const struct vx_place *p, float scale[8],
                           float shift[8]) {
    float mean[8], inverse[8], gamma[8];
    const float *moments = a->moments + (int64_t)p->n * 2 * a->grid.padded + p->channel;
    vx_load_floats(moments, 0, mean);
    vx_load_floats(moments, a->grid.padded, inverse);
    vx_load_channels(a->gamma, p->channel, a->channels, gamma);
    vx_load_channels(a->beta, p->channel, a->channels, shift);
    VX_UNROLL for (int i = 0; i < 8; i++) {
        scale[i] = gamma[i] * inverse[i];
        shift[i] = vx_fma(-mean[i], scale[i], shift[i]);
    }
}

VX_INLINE void norm_forward_voxel(const struct norm_arguments *a, const struct vx_place *p,
                                  int64_t voxel, const struct vx_pack8 *pack, const float scale[8],
                                  const float shift[8]) {
    float x[8];
    vx_unpack8(pack, x);
    VX_UNROLL for (int i = 0; i < 8; i++) {
        float u = vx_fma(scale[i], x[i], shift[i]);
        x[i] = u > 0 ? u : u * a->slope;
    }
    vx_store8(a->out.data, norm_element(&a->grid, p, voxel, &a->out), x);
    if (a->copy.data) {
        vx_store8(a->copy.data, norm_element(&a->grid, p, voxel, &a->copy), x);
    }
}

VX_INLINE void norm_forward(int phase, const struct norm_arguments *a, int block, int thread,
                            struct vx_nothing *r, struct vx_nothing *s) {
    (void)phase, (void)r, (void)s;
    struct vx_place p = vx_place_of(&a->grid, block, thread);
    if (!p.active) {
        return;
    }
    float scale[8], shift[8];
    norm_affine(a, &p, scale, shift);
    int64_t rows = a->grid.rows;
    for (int64_t v = p.first + p.row; v < p.end; v += 4 * rows) {
        struct vx_pack8 four[4];
        VX_UNROLL for (int j = 0; j < 4; j++) {
            int64_t at = vx_at_most(v + j * rows, p.end - 1);
            four[j] = vx_load8(a->x.data, norm_element(&a->grid, &p, at, &a->x));
        }
        VX_UNROLL for (int j = 0; j < 4; j++) {
            if (v + j * rows < p.end) {
                norm_forward_voxel(a, &p, v + j * rows, &four[j], scale, shift);
            }
        }
    }
}

/* --- backward, first launch --- */

/* The gradient of the output: the sum of its sources, in their order. Most have one, and the
 * kernels for those keep fewer registers. */
VX_INLINE void norm_load_gradient(const struct norm_arguments *a, const struct vx_place *p,
                                  int64_t voxel, bool several, float ret[8]) {
    struct vx_pack8 packs[VX_CUDA_MAX_GRADS];
    if (!several) {
        packs[0] = vx_load8(a->grads[0].data, norm_element(&a->grid, p, voxel, &a->grads[0]));
        vx_unpack8(&packs[0], ret);
        return;
    }
    VX_UNROLL for (int k = 0; k < VX_CUDA_MAX_GRADS; k++) {
        if (k < a->n_grads) {
            packs[k] = vx_load8(a->grads[k].data, norm_element(&a->grid, p, voxel, &a->grads[k]));
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

/* g through the activation whose input is scale * x + shift. */
VX_INLINE void norm_through_activation(const struct norm_arguments *a, const float x[8],
                                       const float scale[8], const float shift[8], float g[8]) {
    VX_UNROLL for (int i = 0; i < 8; i++) {
        g[i] = vx_fma(scale[i], x[i], shift[i]) > 0 ? g[i] : g[i] * a->slope;
    }
}

VX_INLINE void norm_thread_sums(const struct norm_arguments *a, bool several,
                                struct norm_registers *r) {
    const struct vx_place *p = &r->p;
    float scale[8], shift[8], mean[8], inverse[8];
    VX_UNROLL for (int i = 0; i < 8; i++) {
        r->first[i] = r->second[i] = 0;
    }
    if (!p->active) {
        return;
    }
    const float *moments = a->moments + (int64_t)p->n * 2 * a->grid.padded + p->channel;
    norm_affine(a, p, scale, shift);
    vx_load_floats(moments, 0, mean);
    int64_t rows = a->grid.rows;
    for (int64_t v = p->first + p->row; v < p->end; v += 2 * rows) {
        struct vx_pack8 pack[2];
        float g[2][8], x[8];
        VX_UNROLL for (int j = 0; j < 2; j++) {
            int64_t at = vx_at_most(v + j * rows, p->end - 1);
            pack[j] = vx_load8(a->x.data, norm_element(&a->grid, p, at, &a->x));
            norm_load_gradient(a, p, at, several, g[j]);
        }
        VX_UNROLL for (int j = 0; j < 2; j++) {
            vx_unpack8(&pack[j], x);
            norm_through_activation(a, x, scale, shift, g[j]);
            bool inside = v + j * rows < p->end;
            VX_UNROLL for (int i = 0; i < 8; i++) {
                float here = inside ? g[j][i] : 0.0f;
                r->first[i] += here;
                r->second[i] = vx_fma(here, x[i] - mean[i], r->second[i]);
            }
        }
    }
    vx_load_floats(moments, a->grid.padded, inverse);
    VX_UNROLL for (int i = 0; i < 8; i++) {
        r->second[i] *= inverse[i];
    }
}

enum { NORM_SUMS_PHASES = 11 };

VX_INLINE void norm_sums(int phase, const struct norm_arguments *a, int block, int thread,
                         bool several, struct norm_registers *r, struct vx_columns_shared *s) {
    const struct vx_grid *g = &a->grid;
    if (phase == 0) {
        r->p = vx_place_of(g, block, thread);
        norm_thread_sums(a, several, r);
    }
    if (phase < 6) {
        vx_columns_reduce(phase % 3, g, &r->p, thread, phase < 3 ? r->first : r->second,
                          vx_partial_of(a->partials, g, 2, block, phase / 3), s);
        return;
    }
    int unit = r->p.n * g->groups + r->p.group;
    if (phase == 6) {
        if (thread == 0) {
            s->last = vx_arrive(&a->counters[unit], (uint32_t)g->chunks);
        }
        return;
    }
    if (!s->last) {
        return;
    }
    int q = (phase - 7) / 2, channel = r->p.group * vx_grid_width(g) + thread;
    if ((phase - 7) % 2 == 0) {
        vx_columns_merge_slice(g, thread, a->partials, 2, q, unit * g->chunks, g->chunks, s);
    } else if (thread < vx_grid_width(g) && channel < g->padded) {
        a->sums[((int64_t)r->p.n * 2 + q) * g->padded + channel] =
            (float)vx_columns_merge_total(g, thread, s);
    }
}

/* --- backward, second launch --- */

/* dx = scale * (g - mean g - hat * mean (g * hat)) as scale * g + (slope_x * x + rest). */
VX_INLINE void norm_dx_terms(const struct norm_arguments *a, const struct vx_place *p,
                             const float scale[8], float slope_x[8], float rest[8]) {
    float mean[8], inverse[8], sum[8], sum_hat[8], voxels = (float)a->grid.voxels;
    int64_t at = (int64_t)p->n * 2 * a->grid.padded + p->channel;
    vx_load_floats(a->moments, at, mean);
    vx_load_floats(a->moments, at + a->grid.padded, inverse);
    vx_load_floats(a->sums, at, sum);
    vx_load_floats(a->sums, at + a->grid.padded, sum_hat);
    VX_UNROLL for (int i = 0; i < 8; i++) {
        slope_x[i] = -scale[i] * inverse[i] * (sum_hat[i] / voxels);
        rest[i] = vx_fma(-slope_x[i], mean[i], -scale[i] * (sum[i] / voxels));
    }
}

/* dgamma and dbeta of this thread's channels: the samples' sums, in their order. */
VX_INLINE void norm_affine_gradients(const struct norm_arguments *a, const struct vx_place *p) {
    const struct vx_grid *g = &a->grid;
    for (int i = 0; i < 8 && p->channel + i < a->channels; i++) {
        float beta = 0, gamma = 0;
        for (int n = 0; n < g->n; n++) {
            const float *sums = a->sums + (int64_t)n * 2 * g->padded + p->channel + i;
            beta += sums[0];
            gamma += sums[g->padded];
        }
        a->dbeta[p->channel + i] = beta;
        a->dgamma[p->channel + i] = gamma;
    }
}

VX_INLINE void norm_backward(const struct norm_arguments *a, int block, int thread, bool several) {
    struct vx_place p = vx_place_of(&a->grid, block, thread);
    if (!p.active) {
        return;
    }
    if (a->dgamma && p.n == 0 && p.chunk == 0 && p.row == 0) {
        norm_affine_gradients(a, &p);
    }
    float scale[8], shift[8], slope_x[8], rest[8];
    norm_affine(a, &p, scale, shift);
    norm_dx_terms(a, &p, scale, slope_x, rest);
    int64_t rows = a->grid.rows;
    for (int64_t v = p.first + p.row; v < p.end; v += 2 * rows) {
        struct vx_pack8 pack[2];
        float g[2][8], x[8];
        VX_UNROLL for (int j = 0; j < 2; j++) {
            int64_t at = vx_at_most(v + j * rows, p.end - 1);
            pack[j] = vx_load8(a->x.data, norm_element(&a->grid, &p, at, &a->x));
            norm_load_gradient(a, &p, at, several, g[j]);
        }
        VX_UNROLL for (int j = 0; j < 2; j++) {
            vx_unpack8(&pack[j], x);
            norm_through_activation(a, x, scale, shift, g[j]);
            VX_UNROLL for (int i = 0; i < 8; i++) {
                x[i] = vx_fma(scale[i], g[j][i], vx_fma(slope_x[i], x[i], rest[i]));
            }
            if (v + j * rows < p.end) {
                vx_store8(a->out.data, norm_element(&a->grid, &p, v + j * rows, &a->out), x);
            }
        }
    }
}

#endif
