/* Phases of Dice + cross-entropy over all heads. Private to this room.
 *
 * A thread holds eight classes of a voxel. Where there are more, its neighbours hold the others,
 * and each reads all logits of the voxel itself (from the first-level cache) for the maximum and
 * the sum. The gradient's launch computes the softmax again: cheaper than to store it. Formulas:
 * device/oplist.h, struct vx_loss; voxels with the target VX_CUDA_IGNORE count in no term. */
#ifndef VX_DEVICE_CUDA_KERNELS_LOSS_H
#define VX_DEVICE_CUDA_KERNELS_LOSS_H

#include "device/cuda/kernels/columns.h"

/* Sums per class: of p, of p where the voxel is of the class, of such voxels; cross-entropy (one
 * number per lane, in its first column); where hard, hits and predictions. */
enum {
    LOSS_P,
    LOSS_BOTH,
    LOSS_TARGET,
    LOSS_CE,
    LOSS_SOFT,
    LOSS_HIT = LOSS_SOFT,
    LOSS_PREDICTED,
    LOSS_HARD
};

/* Voxels that a thread loads before the first of them is used; as many as registers allow. */
enum { LOSS_BATCH = 4, LOSS_BATCH_WIDE = 2 };

struct loss_arguments {
    struct vx_cuda_loss l;
    struct vx_grid grid[VX_CUDA_MAX_HEADS];
    int64_t first_block[VX_CUDA_MAX_HEADS + 1];
    uint32_t *counters; /* forward: all heads, then [head][n]; backward: [1 + head] */
    double *sums;       /* [head][n][LOSS_HARD][padded] */
    double *terms;      /* [head][n][padded]: Dice of each group and class */
    float *slopes;      /* [head][n][2][padded]: dL/dp where the voxel is of the class, elsewhere */
    float *ce_slopes;   /* [head]: dL/dCE of one voxel */
    float *partials;    /* [block][quantity][padded] */
};

struct loss_registers {
    float sum[LOSS_HARD][8];
    int head;
    struct vx_place p;
};

struct loss_shared {
    struct vx_columns_shared columns;
    bool all_done;
    double loss[VX_CUDA_MAX_HEADS];
};

/* --- one voxel --- */

struct loss_voxel {
    float z[8], e[8]; /* logits and exp(z - top) of this lane */
    float top, sum;   /* over all classes */
    int best;         /* class of the largest logit, the lowest of equal ones */
};

VX_INLINE float loss_exp(float below) {
    float x = below * 1.44269504f;
    return vx_exp2f(x < -125.0f ? -125.0f : x); /* what is no number stays none */
}

/* The logarithm of a sum of exponentials; one that is no number is handed on, which vx_log2f does
 * not do. */
VX_INLINE float loss_log(float sum) {
    return sum > 0 ? vx_log2f(sum) * 0.69314718f : sum;
}

VX_INLINE void loss_top(const float z[8], int first, int classes, struct loss_voxel *v) {
    VX_UNROLL for (int i = 0; i < 8; i++) {
        if (first + i < classes && z[i] > v->top) {
            v->top = z[i];
            v->best = first + i;
        }
    }
}

/* Logits with their bias of eight classes. */
VX_INLINE void loss_logits(const struct vx_pack8 *pack, const float bias[8], float ret[8]) {
    vx_unpack8(pack, ret);
    VX_UNROLL for (int i = 0; i < 8; i++) {
        ret[i] += bias[i];
    }
}

VX_INLINE void loss_load_logits(const struct loss_arguments *a, const struct vx_cuda_head *head,
                                int64_t voxel, int first, float ret[8]) {
    float bias[8];
    struct vx_pack8 pack = vx_load8(head->logits, voxel * a->l.padded + first);
    vx_load_channels(head->bias, first, a->l.classes, bias);
    loss_logits(&pack, bias, ret);
}

/* Adds the exponentials of eight classes; returns them too. */
VX_INLINE float loss_exps(const float z[8], int first, int classes, float top, float ret[8]) {
    float sum = 0;
    VX_UNROLL for (int i = 0; i < 8; i++) {
        ret[i] = first + i < classes ? loss_exp(z[i] - top) : 0.0f;
        sum += ret[i];
    }
    return sum;
}

VX_INLINE void loss_softmax(const struct loss_arguments *a, const struct vx_cuda_head *head,
                            int64_t voxel, int first, bool wide, struct loss_voxel *v) {
    int classes = a->l.classes;
    v->top = -3.0e38f;
    v->best = 0;
    if (!wide) {
        loss_top(v->z, 0, classes, v);
        v->sum = loss_exps(v->z, 0, classes, v->top, v->e);
        return;
    }
    float z[8], e[8];
    for (int c = 0; c < classes; c += 8) {
        loss_load_logits(a, head, voxel, c, z);
        loss_top(z, c, classes, v);
    }
    v->sum = 0;
    for (int c = 0; c < classes; c += 8) {
        loss_load_logits(a, head, voxel, c, z);
        v->sum += loss_exps(z, c, classes, v->top, e);
    }
    loss_exps(v->z, first, classes, v->top, v->e);
}

VX_INLINE void loss_count_voxel(const struct loss_arguments *a, const struct loss_voxel *v,
                                int first, int target, bool hard, struct loss_registers *r) {
    float scale = 1.0f / v->sum;
    VX_UNROLL for (int i = 0; i < 8; i++) {
        float p = v->e[i] * scale;
        bool here = first + i == target;
        r->sum[LOSS_P][i] += p;
        r->sum[LOSS_BOTH][i] += here ? p : 0.0f;
        r->sum[LOSS_TARGET][i] += here ? 1.0f : 0.0f;
        if (here) {
            r->sum[LOSS_CE][0] += loss_log(v->sum) - (v->z[i] - v->top);
        }
        if (hard) {
            bool predicted = first + i == v->best;
            r->sum[LOSS_HIT][i] += here && predicted ? 1.0f : 0.0f;
            r->sum[LOSS_PREDICTED][i] += predicted ? 1.0f : 0.0f;
        }
    }
    (void)a;
}

/* --- forward --- */

VX_INLINE int loss_head_of(const struct loss_arguments *a, int block) {
    int h = 0;
    while (block >= a->first_block[h + 1]) {
        h++;
    }
    return h;
}

VX_INLINE void loss_thread_sums(const struct loss_arguments *a, bool wide, bool hard,
                                struct loss_registers *r) {
    const struct vx_grid *g = &a->grid[r->head];
    const struct vx_cuda_head *head = &a->l.heads[r->head];
    const struct vx_place *p = &r->p;
    VX_UNROLL for (int q = 0; q < LOSS_HARD; q++) {
        VX_UNROLL for (int i = 0; i < 8; i++) {
            r->sum[q][i] = 0;
        }
    }
    float bias[8];
    vx_load_channels(head->bias, p->channel, a->l.classes, bias);
    const int batch = wide ? LOSS_BATCH_WIDE : LOSS_BATCH;
    int64_t rows = g->rows, sample = p->n * g->voxels;
    for (int64_t at = p->first + p->row; p->active && at < p->end; at += batch * rows) {
        struct vx_pack8 pack[LOSS_BATCH] = {{{0}}};
        int target[LOSS_BATCH] = {0};
        VX_UNROLL for (int j = 0; j < batch; j++) {
            int64_t voxel = sample + vx_at_most(at + j * rows, p->end - 1);
            pack[j] = vx_load8(head->logits, voxel * a->l.padded + p->channel);
            target[j] = head->targets[voxel];
        }
        VX_UNROLL for (int j = 0; j < batch; j++) {
            if (at + j * rows < p->end && target[j] != VX_CUDA_IGNORE) {
                struct loss_voxel v;
                loss_logits(&pack[j], bias, v.z);
                loss_softmax(a, head, sample + at + j * rows, p->channel, wide, &v);
                loss_count_voxel(a, &v, p->channel, target[j], hard, r);
            }
        }
    }
}

VX_INLINE double *loss_sum_of(const struct loss_arguments *a, int head, int n, int q) {
    return a->sums + ((int64_t)(head * a->l.n + n) * LOSS_HARD + q) * a->l.padded;
}

/* Over the samples of a group: one of them, or with batch_dice all. */
VX_INLINE double loss_group_sum(const struct loss_arguments *a, int head, int group, int q, int c) {
    int first = a->l.batch_dice ? 0 : group, end = a->l.batch_dice ? a->l.n : group + 1;
    double sum = 0;
    for (int n = first; n < end; n++) {
        sum += vx_fresh_double(loss_sum_of(a, head, n, q) + c);
    }
    return sum;
}

VX_INLINE double loss_total(const struct loss_arguments *a, int head, int q, int c) {
    double sum = 0;
    for (int n = 0; n < a->l.n; n++) {
        sum += vx_fresh_double(loss_sum_of(a, head, n, q) + c);
    }
    return sum;
}

VX_INLINE int loss_groups(const struct loss_arguments *a) {
    return a->l.batch_dice ? 1 : a->l.n;
}

VX_INLINE float *loss_slopes_of(const struct loss_arguments *a, int head, int group) {
    return a->slopes + (int64_t)(head * a->l.n + group) * 2 * a->l.padded;
}

/* Dice of one (head, group, class), and its derivatives. */
VX_INLINE void loss_dice_term(const struct loss_arguments *a, int head, int group, int c) {
    double smooth = (double)a->l.smooth, weight = (double)a->l.heads[head].weight;
    double entries = (double)loss_groups(a) * (a->l.classes - 1);
    double target = loss_group_sum(a, head, group, LOSS_TARGET, c);
    double raw = target + loss_group_sum(a, head, group, LOSS_P, c) + smooth;
    double below = raw < 1e-8 ? 1e-8 : raw; /* what is no number stays none */
    double above = 2 * loss_group_sum(a, head, group, LOSS_BOTH, c) + smooth;
    bool counts = c > 0 && c < a->l.classes;
    double out = counts && !(raw <= 1e-8) ? weight * above / (below * below) / entries : 0;
    double in = counts ? out - weight * 2 / below / entries : 0;
    a->terms[(int64_t)(head * a->l.n + group) * a->l.padded + c] =
        counts ? above / below / entries : 0;
    loss_slopes_of(a, head, group)[c] = (float)in;
    loss_slopes_of(a, head, group)[a->l.padded + c] = (float)out;
}

/* Value of one head, from the terms of the phase before. */
VX_INLINE double loss_of_head(const struct loss_arguments *a, int h) {
    double dice = 0, ce = 0, voxels = 0, weight = (double)a->l.heads[h].weight;
    for (int i = 0; i < loss_groups(a) * a->l.padded; i++) {
        dice += a->terms[(int64_t)h * a->l.n * a->l.padded + i];
    }
    for (int c = 0; c < a->l.padded; c++) {
        ce += c % VX_CUDA_LANES == 0 ? loss_total(a, h, LOSS_CE, c) : 0;
        voxels += loss_total(a, h, LOSS_TARGET, c);
    }
    ce = voxels > 0 ? ce / voxels : 0;
    a->ce_slopes[h] = voxels > 0 ? (float)(weight / voxels) : 0.0f;
    if (h == 0) {
        a->l.result->ce = ce;
        a->l.result->dice = dice;
    }
    return weight * (ce - dice);
}

VX_INLINE void loss_hard_result(const struct loss_arguments *a, int c) {
    double hit = loss_total(a, 0, LOSS_HIT, c);
    a->l.result->tp[c] = (int64_t)hit;
    a->l.result->fp[c] = (int64_t)(loss_total(a, 0, LOSS_PREDICTED, c) - hit);
    a->l.result->fn[c] = (int64_t)(loss_total(a, 0, LOSS_TARGET, c) - hit);
}

/* Three phases of the very last block. */
VX_INLINE void loss_finish(int phase, const struct loss_arguments *a, int thread,
                           struct loss_shared *s) {
    int columns = loss_groups(a) * a->l.padded;
    if (phase == 0) {
        for (int i = thread; i < a->l.n_heads * columns; i += VX_THREADS) {
            loss_dice_term(a, i / columns, i % columns / a->l.padded, i % a->l.padded);
        }
        if (a->l.hard && thread < a->l.classes) {
            loss_hard_result(a, thread);
        }
    } else if (phase == 1 && thread < a->l.n_heads) {
        s->loss[thread] = loss_of_head(a, thread);
    } else if (phase == 2 && thread == 0) {
        double loss = 0;
        for (int h = 0; h < a->l.n_heads; h++) {
            loss += s->loss[h];
        }
        a->l.result->loss = loss;
    }
}

/* Phases after the block's own sums: one sample of one head, then everything. */
VX_INLINE void loss_merge(int phase, const struct loss_arguments *a, int thread, int quantities,
                          const struct loss_registers *r, struct loss_shared *s) {
    const struct vx_grid *g = &a->grid[r->head];
    int unit = r->head * a->l.n + r->p.n;
    if (phase == 0) {
        if (thread == 0) {
            s->all_done = false;
            s->columns.last = vx_arrive(&a->counters[1 + unit], (uint32_t)g->chunks);
        }
    } else if (phase <= 2 * quantities && s->columns.last) {
        int q = (phase - 1) / 2, first = (int)a->first_block[r->head] + r->p.n * g->chunks;
        if (phase % 2 == 1) {
            vx_columns_merge_slice(g, thread, a->partials, quantities, q, first, g->chunks,
                                   &s->columns);
        } else if (thread < a->l.padded) {
            loss_sum_of(a, r->head, r->p.n, q)[thread] =
                vx_columns_merge_total(g, thread, &s->columns);
            vx_publish();
        }
    } else if (phase == 2 * quantities + 1 && s->columns.last && thread == 0) {
        s->all_done = vx_arrive(&a->counters[0], (uint32_t)(a->l.n_heads * a->l.n));
    } else if (phase > 2 * quantities + 1 && s->all_done) {
        loss_finish(phase - 2 * quantities - 2, a, thread, s);
    }
}

#define LOSS_SUMS_PHASES(quantities) (5 * (quantities) + 5)

VX_INLINE void loss_sums(int phase, const struct loss_arguments *a, int block, int thread,
                         bool wide, int quantities, struct loss_registers *r,
                         struct loss_shared *s) {
    if (phase == 0) {
        r->head = loss_head_of(a, block);
        r->p = vx_place_of(&a->grid[r->head], block - (int)a->first_block[r->head], thread);
        loss_thread_sums(a, wide, quantities == LOSS_HARD, r);
    }
    const struct vx_grid *g = &a->grid[r->head];
    if (phase < 3 * quantities) {
        vx_columns_reduce(phase % 3, g, &r->p, thread, r->sum[phase / 3],
                          vx_partial_of(a->partials, g, quantities, block, phase / 3), &s->columns);
    } else {
        loss_merge(phase - 3 * quantities, a, thread, quantities, r, s);
    }
}

/* --- backward --- */

struct loss_slopes {
    float in[8], out[8], bias[8], ce;
};

/* Sum over all classes of e * slope. */
VX_INLINE float loss_dot(const struct loss_arguments *a, const struct vx_cuda_head *head,
                         const float *slopes, int64_t voxel, int target,
                         const struct loss_voxel *v) {
    float z[8], e[8], in[8], out[8], sum = 0;
    for (int c = 0; c < a->l.classes; c += 8) {
        loss_load_logits(a, head, voxel, c, z);
        loss_exps(z, c, a->l.classes, v->top, e);
        vx_load_floats(slopes, c, in);
        vx_load_floats(slopes, a->l.padded + c, out);
        VX_UNROLL for (int i = 0; i < 8; i++) {
            sum = vx_fma(e[i], c + i == target ? in[i] : out[i], sum);
        }
    }
    return sum;
}

/* dL/dz of one voxel's eight classes. */
VX_INLINE void loss_gradient_voxel(const struct loss_arguments *a, const struct loss_registers *r,
                                   const struct loss_slopes *k, int64_t voxel,
                                   const struct vx_pack8 *pack, int target, bool wide,
                                   float ret[8]) {
    const struct vx_cuda_head *head = &a->l.heads[r->head];
    int first = r->p.channel;
    struct loss_voxel v;
    loss_logits(pack, k->bias, v.z);
    loss_softmax(a, head, voxel, first, wide, &v);
    float scale = 1.0f / v.sum, dot = 0;
    if (wide) {
        const float *slopes = loss_slopes_of(a, r->head, a->l.batch_dice ? 0 : r->p.n);
        dot = loss_dot(a, head, slopes, voxel, target, &v);
    } else {
        VX_UNROLL for (int i = 0; i < 8; i++) {
            dot = vx_fma(v.e[i], i == target ? k->in[i] : k->out[i], dot);
        }
    }
    dot *= scale;
    VX_UNROLL for (int i = 0; i < 8; i++) {
        bool here = first + i == target;
        float p = v.e[i] * scale, slope = here ? k->in[i] : k->out[i];
        float ce = here ? p - 1.0f : p;
        ret[i] = vx_fma(p, slope - dot, k->ce * ce);
        ret[i] = first + i < a->l.classes && target != VX_CUDA_IGNORE ? ret[i] : 0.0f;
    }
}

VX_INLINE void loss_thread_gradients(const struct loss_arguments *a, bool wide,
                                     struct loss_registers *r) {
    const struct vx_grid *g = &a->grid[r->head];
    const struct vx_cuda_head *head = &a->l.heads[r->head];
    const struct vx_place *p = &r->p;
    VX_UNROLL for (int i = 0; i < 8; i++) {
        r->sum[0][i] = 0;
    }
    if (!p->active) {
        return;
    }
    struct loss_slopes k;
    const float *slopes = loss_slopes_of(a, r->head, a->l.batch_dice ? 0 : p->n);
    vx_load_floats(slopes, p->channel, k.in);
    vx_load_floats(slopes, a->l.padded + p->channel, k.out);
    vx_load_channels(head->bias, p->channel, a->l.classes, k.bias);
    k.ce = a->ce_slopes[r->head];
    const int batch = wide ? LOSS_BATCH_WIDE : LOSS_BATCH;
    int64_t rows = g->rows, sample = p->n * g->voxels;
    for (int64_t at = p->first + p->row; at < p->end; at += batch * rows) {
        struct vx_pack8 pack[LOSS_BATCH] = {{{0}}};
        int target[LOSS_BATCH] = {0};
        VX_UNROLL for (int j = 0; j < batch; j++) {
            int64_t voxel = sample + vx_at_most(at + j * rows, p->end - 1);
            pack[j] = vx_load8(head->logits, voxel * a->l.padded + p->channel);
            target[j] = head->targets[voxel];
        }
        VX_UNROLL for (int j = 0; j < batch; j++) {
            int64_t voxel = sample + at + j * rows;
            if (at + j * rows < p->end) {
                float dz[8];
                loss_gradient_voxel(a, r, &k, voxel, &pack[j], target[j], wide, dz);
                vx_store8(head->dlogits, voxel * a->l.padded + p->channel, dz);
                VX_UNROLL for (int i = 0; i < 8; i++) {
                    r->sum[0][i] += dz[i];
                }
            }
        }
    }
}

enum { LOSS_GRADIENT_PHASES = 6 };

VX_INLINE void loss_gradient(int phase, const struct loss_arguments *a, int block, int thread,
                             bool wide, struct loss_registers *r, struct vx_columns_shared *s) {
    if (phase == 0) {
        r->head = loss_head_of(a, block);
        r->p = vx_place_of(&a->grid[r->head], block - (int)a->first_block[r->head], thread);
        loss_thread_gradients(a, wide, r);
    }
    const struct vx_grid *g = &a->grid[r->head];
    float *dbias = a->l.heads[r->head].dbias;
    int blocks = (int)vx_grid_blocks(g);
    if (!dbias) {
        return;
    }
    if (phase < 3) {
        vx_columns_reduce(phase, g, &r->p, thread, r->sum[0],
                          vx_partial_of(a->partials, g, 1, block, 0), s);
    } else if (phase == 3) {
        if (thread == 0) {
            s->last = vx_arrive(&a->counters[1 + r->head], (uint32_t)blocks);
        }
    } else if (phase == 4 && s->last) {
        vx_columns_merge_slice(g, thread, a->partials, 1, 0, (int)a->first_block[r->head], blocks,
                               s);
    } else if (phase == 5 && s->last && thread < a->l.classes) {
        dbias[thread] = (float)vx_columns_merge_total(g, thread, s);
    }
}

#endif
