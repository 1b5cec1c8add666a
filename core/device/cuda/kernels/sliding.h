/* Phases of the sliding window: tiles cut, added and divided. Rules: infer/sliding.h. Private to
 * this room. */
#ifndef VX_DEVICE_CUDA_KERNELS_SLIDING_H
#define VX_DEVICE_CUDA_KERNELS_SLIDING_H

#include "device/cuda/kernels/lanes.h"

struct tile_arguments {
    struct vx_cuda_tile tile;
    int channels, padded; /* or classes */
    const float *image, *bias, *importance;
    void *out;
    const void *logits;
    float *sums;
};

/* A voxel of the tile as the network sees it, and where it lies in the volume. */
struct tile_voxel {
    int64_t volume; /* index; -1: outside */
    int at[3];      /* position in the tile before mirroring: what importance belongs to */
};

VX_INLINE int64_t tile_voxels(const struct vx_cuda_tile *t) {
    return (int64_t)t->patch[0] * t->patch[1] * t->patch[2];
}

VX_INLINE struct tile_voxel tile_voxel_of(const struct vx_cuda_tile *t, int64_t v) {
    struct tile_voxel r;
    uint32_t x = (uint32_t)t->patch[2], y = (uint32_t)t->patch[1], row = (uint32_t)v / x;
    r.at[2] = (int)((uint32_t)v % x); /* a tile has fewer than 2^31 voxels */
    r.at[1] = (int)(row % y);
    r.at[0] = (int)(row / y);
    r.volume = 0;
    VX_UNROLL for (int i = 0; i < 3; i++) {
        r.at[i] = t->flip[i] ? t->patch[i] - 1 - r.at[i] : r.at[i];
        int64_t here = t->start[i] + r.at[i];
        bool inside = here >= 0 && here < t->volume[i] && r.volume >= 0;
        r.volume = inside ? r.volume * t->volume[i] + here : -1;
    }
    return r;
}

VX_INLINE void sliding_cut(int phase, const struct tile_arguments *a, int block, int thread,
                           struct vx_nothing *r, struct vx_nothing *s) {
    (void)phase, (void)r, (void)s;
    int64_t v = (int64_t)block * VX_THREADS + thread;
    if (v >= tile_voxels(&a->tile)) {
        return;
    }
    struct tile_voxel from = tile_voxel_of(&a->tile, v);
    int64_t volume = a->tile.volume[0] * a->tile.volume[1] * a->tile.volume[2];
    for (int c = 0; c < a->padded; c += VX_CUDA_LANES) {
        float x[8];
        VX_UNROLL for (int i = 0; i < 8; i++) {
            bool real = from.volume >= 0 && c + i < a->channels;
            x[i] = real ? a->image[(c + i) * volume + from.volume] : 0.0f;
        }
        vx_store8(a->out, v * a->padded + c, x);
    }
}

VX_INLINE void sliding_add(int phase, const struct tile_arguments *a, int block, int thread,
                           struct vx_nothing *r, struct vx_nothing *s) {
    (void)phase, (void)r, (void)s;
    const struct vx_cuda_tile *t = &a->tile;
    int64_t v = (int64_t)block * VX_THREADS + thread;
    if (v >= tile_voxels(t)) {
        return;
    }
    struct tile_voxel to = tile_voxel_of(t, v);
    if (to.volume < 0) {
        return;
    }
    int64_t volume = t->volume[0] * t->volume[1] * t->volume[2];
    const float *wy = a->importance + t->patch[0], *wx = wy + t->patch[1];
    float weight = a->importance[to.at[0]] * wy[to.at[1]] * wx[to.at[2]];
    for (int c = 0; c < a->channels; c += VX_CUDA_LANES) {
        float z[8], bias[8];
        struct vx_pack8 pack = vx_load8(a->logits, v * a->padded + c);
        vx_unpack8(&pack, z);
        vx_load_channels(a->bias, c, a->channels, bias);
        VX_UNROLL for (int i = 0; i < 8; i++) {
            if (c + i < a->channels) {
                float *sum = a->sums + (c + i) * volume + to.volume;
                *sum = vx_fma(weight, z[i] + bias[i], *sum);
            }
        }
    }
}

struct divide_arguments {
    int64_t volume[3];
    int classes;
    const float *weights;
    float passes;
    float *sums;
    int32_t *not_finite;
};

VX_INLINE void sliding_divide(int phase, const struct divide_arguments *a, int block, int thread,
                              struct vx_nothing *r, struct vx_nothing *s) {
    (void)phase, (void)r, (void)s;
    const int64_t *n = a->volume;
    int64_t v = (int64_t)block * VX_THREADS + thread, volume = n[0] * n[1] * n[2];
    if (v >= volume) {
        return;
    }
    const float *wy = a->weights + n[0], *wx = wy + n[1];
    float weight = a->weights[v / n[2] / n[1]] * wy[v / n[2] % n[1]] * wx[v % n[2]] * a->passes;
    for (int c = 0; c < a->classes; c++) {
        float q = a->sums[c * volume + v] / weight;
        a->sums[c * volume + v] = q;
        if ((vx_float_bits(q) & 0x7f800000u) == 0x7f800000u) {
            *a->not_finite = 1; /* by whoever: always the same value */
        }
    }
}

struct read_arguments {
    const void *logits;
    const float *bias;
    int classes, padded;
    int64_t voxels, all; /* of a sample, of all */
    float *dst;
};

VX_INLINE void sliding_read(int phase, const struct read_arguments *a, int block, int thread,
                            struct vx_nothing *r, struct vx_nothing *s) {
    (void)phase, (void)r, (void)s;
    int64_t v = (int64_t)block * VX_THREADS + thread;
    if (v >= a->all) {
        return;
    }
    float *dst = a->dst + v / a->voxels * a->classes * a->voxels + v % a->voxels;
    for (int c = 0; c < a->classes; c += VX_CUDA_LANES) {
        float z[8], bias[8];
        struct vx_pack8 pack = vx_load8(a->logits, v * a->padded + c);
        vx_unpack8(&pack, z);
        vx_load_channels(a->bias, c, a->classes, bias);
        VX_UNROLL for (int i = 0; i < 8; i++) {
            if (c + i < a->classes) {
                dst[(c + i) * a->voxels] = z[i] + bias[i];
            }
        }
    }
}

#endif
