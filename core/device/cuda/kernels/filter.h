/* Filters between PyTorch's order and cuDNN's. Private to this room. */
#ifndef VX_DEVICE_CUDA_KERNELS_FILTER_H
#define VX_DEVICE_CUDA_KERNELS_FILTER_H

#include "device/cuda/kernels/lanes.h"

struct filter_arguments {
    struct vx_cuda_filter f;
    const void *from; /* float, or bfloat16 where half */
    float *to;
    void *copy;
    bool half;
};

VX_INLINE int64_t filter_padded_count(const struct vx_cuda_filter *f) {
    return (int64_t)f->k_padded * f->taps * f->c_padded;
}

/* Eight elements of the padded filter per thread. */
VX_INLINE void filter_pack(int phase, const struct filter_arguments *a, int block, int thread,
                           struct vx_nothing *r, struct vx_nothing *s) {
    (void)phase, (void)r, (void)s;
    const struct vx_cuda_filter *f = &a->f;
    int64_t at = ((int64_t)block * VX_THREADS + thread) * 8;
    if (at >= filter_padded_count(f)) {
        return;
    }
    int c = (int)(at % f->c_padded), tap = (int)(at / f->c_padded % f->taps);
    int64_t k = at / f->c_padded / f->taps;
    float w[8];
    VX_UNROLL for (int i = 0; i < 8; i++) {
        bool real = k < f->k && c + i < f->c;
        w[i] = real ? ((const float *)a->from)[(k * f->c + c + i) * f->taps + tap] : 0.0f;
    }
    vx_store_floats(a->to, at, w);
    if (a->copy) {
        vx_store8(a->copy, at, w);
    }
}

/* One element of PyTorch's filter per thread. */
VX_INLINE void filter_unpack(int phase, const struct filter_arguments *a, int block, int thread,
                             struct vx_nothing *r, struct vx_nothing *s) {
    (void)phase, (void)r, (void)s;
    const struct vx_cuda_filter *f = &a->f;
    int64_t at = (int64_t)block * VX_THREADS + thread;
    if (at >= (int64_t)f->k * f->c * f->taps) {
        return;
    }
    int64_t tap = at % f->taps, c = at / f->taps % f->c, k = at / f->taps / f->c;
    int64_t from = (k * f->taps + tap) * f->c_padded + c;
    a->to[at] = a->half ? vx_bits_float((uint32_t)((const uint16_t *)a->from)[from] << 16)
                        : ((const float *)a->from)[from];
}

#endif
