/* Launches of sliding.h: see device/cuda/kernels.h. C subset: a test runs this file on a CPU. */
#include "device/cuda/kernels/sliding.h"

VX_KERNEL(sliding_cut, struct tile_arguments, struct vx_nothing, struct vx_nothing, 1, 4)
VX_KERNEL(sliding_add, struct tile_arguments, struct vx_nothing, struct vx_nothing, 1, 4)
VX_KERNEL(sliding_divide, struct divide_arguments, struct vx_nothing, struct vx_nothing, 1, 4)
VX_KERNEL(sliding_read, struct read_arguments, struct vx_nothing, struct vx_nothing, 1, 4)

static int arguments_of(const struct vx_cuda_tile *tile, int channels, int padded,
                        struct tile_arguments *ret) {
    memset(ret, 0, sizeof *ret);
    ret->tile = *tile;
    ret->channels = channels;
    ret->padded = padded;
    return padded < channels || padded % VX_CUDA_LANES != 0 || tile_voxels(tile) > INT32_MAX
               ? VX_BAD_VALUE
               : 0;
}

int vx_cuda_cut_tile(const struct vx_cuda_tile *tile, const float *image, int channels, int padded,
                     void *out, struct CUstream_st *stream) {
    struct tile_arguments a;
    int rc = arguments_of(tile, channels, padded, &a);
    a.image = image;
    a.out = out;
    return rc != 0 ? rc : sliding_cut_launch(&a, vx_pieces(tile_voxels(tile), VX_THREADS), stream);
}

int vx_cuda_add_tile(const struct vx_cuda_tile *tile, const void *logits, const float *bias,
                     int classes, int padded, const float *importance, float *sums,
                     struct CUstream_st *stream) {
    struct tile_arguments a;
    int rc = arguments_of(tile, classes, padded, &a);
    a.logits = logits;
    a.bias = bias;
    a.importance = importance;
    a.sums = sums;
    return rc != 0 ? rc : sliding_add_launch(&a, vx_pieces(tile_voxels(tile), VX_THREADS), stream);
}

int vx_cuda_divide_tiles(const int64_t volume[3], int classes, const float *weights, float passes,
                         float *sums, int32_t *not_finite, struct CUstream_st *stream) {
    struct divide_arguments a;
    memcpy(a.volume, volume, sizeof a.volume);
    a.classes = classes;
    a.weights = weights;
    a.passes = passes;
    a.sums = sums;
    a.not_finite = not_finite;
    int64_t voxels = volume[0] * volume[1] * volume[2];
    return sliding_divide_launch(&a, vx_pieces(voxels, VX_THREADS), stream);
}

int vx_cuda_read_logits(const void *logits, const float *bias, int n, int classes, int padded,
                        int64_t voxels, float *dst, struct CUstream_st *stream) {
    struct read_arguments a;
    a.logits = logits;
    a.bias = bias;
    a.classes = classes;
    a.padded = padded;
    a.voxels = voxels;
    a.all = n * voxels;
    a.dst = dst;
    return sliding_read_launch(&a, vx_pieces(a.all, VX_THREADS), stream);
}
