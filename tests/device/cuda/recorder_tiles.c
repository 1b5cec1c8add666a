/* Calls at the end of inference: logits read, tiles cut and added up. */
#include "recorder_calls.h"

#include <string.h>

struct logits_args {
    const void *logits;
    const float *bias;
    int n, classes, padded;
    int64_t voxels;
    float *dst;
};

static int run_read_logits(const void *args) {
    const struct logits_args *a = args;
    return vx_cuda_read_logits(a->logits, a->bias, a->n, a->classes, a->padded, a->voxels, a->dst,
                               NULL);
}

int record_read_logits(const void *logits, const float *bias, int n, int classes, int padded,
                       int64_t voxels, float *dst, struct CUstream_st *stream) {
    BEGIN(read_logits, struct logits_args, logits, bias, n, classes, padded, voxels, dst);
    touch(t, logits, (size_t)(n * voxels * padded) * 2, false);
    touch(t, bias, (size_t)classes * sizeof(float), false);
    touch(t, dst, (size_t)(n * voxels * classes) * sizeof(float), true);
    return submit(&c, stream);
}

static int64_t voxels_of(const int64_t n[3]) {
    return n[0] * n[1] * n[2];
}

/* Voxels of the volume from the tile's first inside of it to its last; 0 where it lies outside. */
static int64_t inside(const struct vx_cuda_tile *t, int64_t *ret_first) {
    int64_t first = 0, last = 0;
    for (int a = 0; a < 3; a++) {
        int64_t lo = t->start[a] < 0 ? 0 : t->start[a], end = t->start[a] + t->patch[a];
        int64_t hi = (end < t->volume[a] ? end : t->volume[a]) - 1;
        if (lo > hi) {
            return 0;
        }
        first = first * t->volume[a] + lo;
        last = last * t->volume[a] + hi;
    }
    *ret_first = first;
    return last - first + 1;
}

/* What the tile covers of an array [channels][volume], from its first voxel to its last. */
static void touch_volume(struct touched *t, const struct vx_cuda_tile *tile, const float *array,
                         int channels, bool write) {
    int64_t first = 0, n = inside(tile, &first);
    size_t floats = (size_t)((channels - 1) * voxels_of(tile->volume) + n);
    touch(t, array + first, n > 0 ? floats * sizeof *array : 0, write);
}

static size_t tile_bytes(const struct vx_cuda_tile *t, int padded) {
    return (size_t)t->patch[0] * (size_t)t->patch[1] * (size_t)t->patch[2] * (size_t)padded * 2;
}

struct tile_args {
    struct vx_cuda_tile tile;
    const float *image, *bias, *importance;
    const void *logits;
    int channels, padded;
    void *out;
    float *sums;
};

static int run_cut_tile(const void *args) {
    const struct tile_args *a = args;
    return vx_cuda_cut_tile(&a->tile, a->image, a->channels, a->padded, a->out, NULL);
}

int record_cut_tile(const struct vx_cuda_tile *tile, const float *image, int channels, int padded,
                    void *out, struct CUstream_st *stream) {
    BEGIN(cut_tile, struct tile_args, .tile = *tile, .image = image, .channels = channels,
          .padded = padded, .out = out);
    c.begins = shadow_is_input(out) ? out : NULL;
    touch_volume(t, tile, image, channels, false);
    touch(t, out, tile_bytes(tile, padded), true);
    return submit(&c, stream);
}

static int run_add_tile(const void *args) {
    const struct tile_args *a = args;
    return vx_cuda_add_tile(&a->tile, a->logits, a->bias, a->channels, a->padded, a->importance,
                            a->sums, NULL);
}

int record_add_tile(const struct vx_cuda_tile *tile, const void *logits, const float *bias,
                    int classes, int padded, const float *importance, float *sums,
                    struct CUstream_st *stream) {
    BEGIN(add_tile, struct tile_args, .tile = *tile, .logits = logits, .bias = bias,
          .channels = classes, .padded = padded, .importance = importance, .sums = sums);
    size_t factors = (size_t)(tile->patch[0] + tile->patch[1] + tile->patch[2]);
    touch(t, logits, tile_bytes(tile, padded), false);
    touch(t, bias, (size_t)classes * sizeof *bias, false);
    touch(t, importance, factors * sizeof *importance, false);
    touch_volume(t, tile, sums, classes, false);
    touch_volume(t, tile, sums, classes, true);
    return submit(&c, stream);
}

struct divide_args {
    int64_t volume[3];
    int classes;
    const float *weights;
    float passes, *sums;
    int32_t *not_finite;
};

static int run_divide_tiles(const void *args) {
    const struct divide_args *a = args;
    return vx_cuda_divide_tiles(a->volume, a->classes, a->weights, a->passes, a->sums,
                                a->not_finite, NULL);
}

int record_divide_tiles(const int64_t volume[3], int classes, const float *weights, float passes,
                        float *sums, int32_t *not_finite, struct CUstream_st *stream) {
    BEGIN(divide_tiles, struct divide_args, .volume = {volume[0], volume[1], volume[2]},
          .classes = classes, .weights = weights, .passes = passes, .sums = sums,
          .not_finite = not_finite);
    size_t bytes = (size_t)(classes * voxels_of(volume)) * sizeof *sums;
    touch(t, weights, (size_t)(volume[0] + volume[1] + volume[2]) * sizeof *weights, false);
    touch(t, sums, bytes, false);
    touch(t, sums, bytes, true);
    touch(t, not_finite, sizeof *not_finite, true);
    return submit(&c, stream);
}
