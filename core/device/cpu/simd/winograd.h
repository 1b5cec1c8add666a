/* 3 x 3 convolutions (one or three planes deep, stride 1, padding 1) by Winograd's minimal
 * filtering F(2x2, 3x3): 16 products give the 2 x 2 outputs that take 36 directly.
 *
 * A tile is 2 x 2 outputs and the 4 x 4 inputs they read. Inputs become V = B'dB, weights U = GgG',
 * and for each of the 16 coefficients a small matrix product over input channels (and planes of the
 * kernel) gives the coefficients of the output, Y = A'MA. Matrices: Lavin and Gray, "Fast
 * algorithms for convolutional neural networks", 2015. The gradient of the input is the same
 * operation with turned weights; that of the weights is its adjoint, dU = sum V (A dY A').
 *
 * Work is cut into units (a few rows of tiles, a range of planes) that stay in the second-level
 * cache; body of the kernels: winograd_body.h. */
#ifndef VX_DEVICE_CPU_SIMD_WINOGRAD_H
#define VX_DEVICE_CPU_SIMD_WINOGRAD_H

#include <stddef.h>

enum { VX_WINO_COEFS = 16 };

struct vx_wino {
    int in_channels, out_channels; /* multiples of the block */
    int size[3];                   /* D, H, W of input and output */
    int planes;                    /* of the kernel: 1 or 3 */
    int rows;                      /* tile rows of a unit */
};

/* Output planes [first_plane, end_plane) of tile rows [first_row, end_row) of one sample. */
struct vx_wino_unit {
    int first_row, end_row, first_plane, end_plane;
};

/* Channels [0, 2 blocks), [2 blocks, 4 blocks), ... of the output form groups, the last may be one
 * block. Index of weight (o, i, plane) of coefficient k in U and dU: [k][group][plane][i][o in
 * group]. */
static inline size_t vx_wino_weight_at(const struct vx_wino *w, int block, int k, int o, int i,
                                       int plane) {
    size_t wide = 2 * (size_t)block, group = (size_t)o / wide;
    size_t left = (size_t)w->out_channels - group * wide, in_group = left < wide ? left : wide;
    size_t depth = (size_t)w->planes * (size_t)w->in_channels;
    size_t start = ((size_t)k * (size_t)w->out_channels + group * wide) * depth;
    return start + ((size_t)plane * (size_t)w->in_channels + (size_t)i) * in_group +
           (size_t)o % wide;
}

static inline int vx_wino_tile_rows(const struct vx_wino *w) {
    return (w->size[1] + 1) / 2;
}

static inline int vx_wino_tile_columns(const struct vx_wino *w) {
    return (w->size[2] + 1) / 2;
}

/* Floats of U or dU. */
static inline size_t vx_wino_weights(const struct vx_wino *w) {
    return VX_WINO_COEFS * (size_t)w->planes * (size_t)w->in_channels * (size_t)w->out_channels;
}

/* Floats of scratch that one unit needs. */
static inline size_t vx_wino_scratch(const struct vx_wino *w, int block) {
    size_t columns = (size_t)vx_wino_tile_columns(w), tiles = (size_t)w->rows * columns;
    size_t channels = (size_t)w->planes * (size_t)w->in_channels + (size_t)w->out_channels;
    return VX_WINO_COEFS * tiles * channels + 4 * (2 * columns + 2) * (size_t)block;
}

#endif
