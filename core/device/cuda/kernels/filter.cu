/* Launches of filter.h: see device/cuda/kernels.h. C subset: a test runs this file on a CPU. */
#include "device/cuda/kernels/filter.h"

VX_KERNEL(filter_pack, struct filter_arguments, struct vx_nothing, struct vx_nothing, 1, 4)
VX_KERNEL(filter_unpack, struct filter_arguments, struct vx_nothing, struct vx_nothing, 1, 4)

static int arguments_of(const struct vx_cuda_filter *f, const void *from, float *to, bool half,
                        struct filter_arguments *ret) {
    ret->f = *f;
    ret->from = from;
    ret->to = to;
    ret->copy = NULL;
    ret->half = half;
    bool ok = f->k >= 1 && f->c >= 1 && f->taps >= 1 && f->k_padded >= f->k &&
              f->c_padded >= f->c && f->c_padded % VX_CUDA_LANES == 0;
    return ok ? 0 : VX_BAD_VALUE;
}

int vx_cuda_filter_pack(const struct vx_cuda_filter *f, const float *torch, float *dst, void *copy,
                        struct CUstream_st *stream) {
    struct filter_arguments a;
    int rc = arguments_of(f, torch, dst, false, &a);
    a.copy = copy;
    int64_t blocks = vx_pieces(filter_padded_count(f), VX_THREADS * 8);
    return rc != 0 ? rc : filter_pack_launch(&a, blocks, stream);
}

static int unpack(const struct vx_cuda_filter *f, const void *src, bool half, float *torch,
                  struct CUstream_st *stream) {
    struct filter_arguments a;
    int rc = arguments_of(f, src, torch, half, &a);
    int64_t blocks = vx_pieces((int64_t)f->k * f->c * f->taps, VX_THREADS);
    return rc != 0 ? rc : filter_unpack_launch(&a, blocks, stream);
}

int vx_cuda_filter_unpack(const struct vx_cuda_filter *f, const float *src, float *torch,
                          struct CUstream_st *stream) {
    return unpack(f, src, false, torch, stream);
}

int vx_cuda_filter_unpack_bf16(const struct vx_cuda_filter *f, const void *src, float *torch,
                               struct CUstream_st *stream) {
    return unpack(f, src, true, torch, stream);
}
