/* Phases of the gradient's norm and of SGD with Nesterov momentum. Formulas: device/oplist.h.
 * Private to this room. */
#ifndef VX_DEVICE_CUDA_KERNELS_OPTIMIZER_H
#define VX_DEVICE_CUDA_KERNELS_OPTIMIZER_H

#include "device/cuda/kernels/columns.h"

struct optimizer_arguments {
    struct vx_cuda_optimizer o;
    uint32_t *counter;
    double *partials; /* [VX_SUM_BLOCKS] */
};

struct optimizer_shared {
    double sums[VX_THREADS], slices[VX_THREADS / 16];
    bool last;
};

/* Eight gradients: of a filter, or of a vector behind all filters. */
VX_INLINE void optimizer_gradient(const struct vx_cuda_optimizer *o, int64_t at, float ret[8]) {
    if (at < o->n_filters) {
        struct vx_pack8 pack = vx_load8(o->filter_grads, at);
        vx_unpack8(&pack, ret);
    } else {
        vx_load_floats(o->vector_grads, at - o->n_filters, ret);
    }
}

VX_INLINE double optimizer_thread_squares(const struct vx_cuda_optimizer *o, int block,
                                          int thread) {
    const int64_t step = (int64_t)VX_SUM_BLOCKS * VX_THREADS * 8, all = o->n_filters + o->n_vectors;
    float sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (int64_t at = ((int64_t)block * VX_THREADS + thread) * 8; at < all; at += 4 * step) {
        float g[4][8];
        VX_UNROLL for (int j = 0; j < 4; j++) {
            optimizer_gradient(o, at + j * step < all ? at + j * step : at, g[j]);
        }
        VX_UNROLL for (int j = 0; j < 4; j++) {
            bool inside = at + j * step < all;
            VX_UNROLL for (int i = 0; i < 8; i++) {
                float here = inside ? g[j][i] : 0.0f;
                sum[i] = vx_fma(here, here, sum[i]);
            }
        }
    }
    double total = 0;
    VX_UNROLL for (int i = 0; i < 8; i++) {
        total += (double)sum[i];
    }
    return total;
}

/* Two phases (0, 1) that add up s->sums; the total is right in thread 0 from the third on. */
VX_INLINE double optimizer_add_up(int phase, int thread, struct optimizer_shared *s) {
    double sum = 0;
    if (phase == 0 && thread < VX_THREADS / 16) {
        for (int i = 0; i < 16; i++) {
            sum += s->sums[thread * 16 + i];
        }
        s->slices[thread] = sum;
    } else if (phase == 1 && thread == 0) {
        for (int i = 0; i < VX_THREADS / 16; i++) {
            sum += s->slices[i];
        }
    }
    return sum;
}

enum { OPTIMIZER_NORM_PHASES = 7 };

VX_INLINE void optimizer_norm(int phase, const struct optimizer_arguments *a, int block, int thread,
                              struct vx_nothing *r, struct optimizer_shared *s) {
    (void)r;
    if (phase == 0) {
        s->sums[thread] = optimizer_thread_squares(&a->o, block, thread);
    } else if (phase == 1 || phase == 2) {
        double sum = optimizer_add_up(phase - 1, thread, s);
        if (phase == 2 && thread == 0) {
            a->partials[block] = sum;
            vx_publish();
        }
    } else if (phase == 3) {
        if (thread == 0) {
            s->last = vx_arrive(a->counter, VX_SUM_BLOCKS);
        }
    } else if (phase == 4 && s->last) {
        double sum = 0;
        for (int i = thread; i < VX_SUM_BLOCKS; i += VX_THREADS) {
            sum += vx_fresh_double(a->partials + i);
        }
        s->sums[thread] = sum;
    } else if (s->last) {
        double sum = optimizer_add_up(phase - 5, thread, s);
        if (phase == 6 && thread == 0) {
            double norm = sqrt(sum), clip = (double)a->o.clip_norm / (norm + 1e-6);
            a->o.result->grad_norm = norm;
            a->o.result->clip = (float)(clip < 1 ? clip : 1); /* NaN: 1, and the norm says so */
        }
    }
}

/* One thread, eight parameters: reads 16 to 32 + 64 bytes, writes 64 to 80. */
VX_INLINE void optimizer_update(int phase, const struct optimizer_arguments *a, int block,
                                int thread, struct vx_nothing *r, struct vx_nothing *s) {
    (void)phase, (void)r, (void)s;
    const struct vx_cuda_optimizer *o = &a->o;
    int64_t at = ((int64_t)block * VX_THREADS + thread) * 8;
    if (at >= o->n_filters + o->n_vectors) {
        return;
    }
    float rate = *o->learning_rate, clip = o->result->clip, g[8], w[8], m[8];
    optimizer_gradient(o, at, g);
    vx_load_floats(o->weights, at, w);
    vx_load_floats(o->momenta, at, m);
    VX_UNROLL for (int i = 0; i < 8; i++) {
        float slope = vx_fma(o->weight_decay, w[i], clip * g[i]);
        m[i] = vx_fma(o->momentum, m[i], slope);
        w[i] = vx_fma(-rate, vx_fma(o->momentum, m[i], slope), w[i]);
    }
    vx_store_floats(o->weights, at, w);
    vx_store_floats(o->momenta, at, m);
    if (at < o->n_filters) {
        vx_store8(o->copies, at, w);
    }
}

#endif
