/* Sums over voxels per channel, in a fixed order. Private to this room.
 *
 * A sample's voxels are cut into chunks, the channels into groups of at most 64; a block takes one
 * chunk of one group. In it, a thread holds eight channels (a lane) and every rows-th voxel. Sums
 * go thread -> row slices -> block -> chunks, each level in the order of its index; the last block
 * to arrive does the last level. The cut depends on shapes alone, so the bits do too. */
#ifndef VX_DEVICE_CUDA_KERNELS_COLUMNS_H
#define VX_DEVICE_CUDA_KERNELS_COLUMNS_H

#include "device/cuda/kernels/lanes.h"

enum {
    VX_GROUP_LANES = 8,
    VX_SUM_BLOCKS = 528,  /* four for each of 132 multiprocessors; every block costs a partial */
    VX_MAP_BLOCKS = 2112, /* where nothing is summed: smaller pieces end more evenly */
    VX_ROW_VOXELS = 4, /* at least this many for a thread before another chunk is worth a block */
    VX_COUNTERS = VX_CUDA_WORKSPACE_HEAD / 4
};

struct vx_grid {
    int n, padded, groups, lanes, rows, chunks;
    int64_t voxels, per; /* of a sample, of a chunk */
};

/* Where a thread stands. */
struct vx_place {
    int n, group, chunk, lane, row, channel; /* channel: the first of eight */
    bool active;
    int64_t first, end; /* voxels of the chunk within the sample */
};

struct vx_columns_shared {
    float values[VX_THREADS * VX_CUDA_LANES]; /* [row][channel of the group] */
    float slices[VX_THREADS];                 /* [slice][channel of the group] */
    double totals[VX_THREADS];
    bool last;
};

VX_INLINE struct vx_grid vx_grid_of(int n, int padded, int64_t voxels, int blocks) {
    struct vx_grid g;
    int lanes = padded / VX_CUDA_LANES;
    g.n = n;
    g.padded = padded;
    g.voxels = voxels;
    g.groups = (lanes + VX_GROUP_LANES - 1) / VX_GROUP_LANES;
    g.lanes = (lanes + g.groups - 1) / g.groups;
    g.rows = VX_THREADS / g.lanes;
    int64_t wanted = blocks / ((int64_t)n * g.groups);
    int64_t per = vx_pieces(voxels, wanted > 0 ? wanted : 1);
    per = per < (int64_t)g.rows * VX_ROW_VOXELS ? (int64_t)g.rows * VX_ROW_VOXELS : per;
    g.per = vx_pieces(per, g.rows) * g.rows;
    g.chunks = (int)vx_pieces(voxels, g.per);
    return g;
}

VX_INLINE int64_t vx_grid_blocks(const struct vx_grid *g) {
    return (int64_t)g->n * g->groups * g->chunks;
}

VX_INLINE int vx_grid_width(const struct vx_grid *g) {
    return g->lanes * VX_CUDA_LANES;
}

VX_INLINE struct vx_place vx_place_of(const struct vx_grid *g, int block, int thread) {
    struct vx_place p;
    p.chunk = block % g->chunks;
    p.group = block / g->chunks % g->groups;
    p.n = block / g->chunks / g->groups;
    p.lane = thread % g->lanes;
    p.row = thread / g->lanes;
    p.channel = (p.group * g->lanes + p.lane) * VX_CUDA_LANES;
    p.active = p.row < g->rows && p.channel < g->padded;
    p.first = p.chunk * g->per;
    p.end = vx_at_most(p.first + g->per, g->voxels);
    return p;
}

/* Voxels of a chunk, and those of one row of it. */
VX_INLINE int64_t vx_chunk_voxels(const struct vx_grid *g, int chunk) {
    return vx_at_most(g->per, g->voxels - chunk * g->per);
}

VX_INLINE int64_t vx_row_voxels(const struct vx_grid *g, int64_t chunk_voxels, int row) {
    return chunk_voxels > row ? (chunk_voxels - row + g->rows - 1) / g->rows : 0;
}

/* Where one block's sums of quantity q begin: [block][q][width]. */
VX_INLINE float *vx_partial_of(float *partials, const struct vx_grid *g, int quantities, int block,
                               int q) {
    return partials + ((int64_t)block * quantities + q) * vx_grid_width(g);
}

VX_INLINE size_t vx_partials_bytes(const struct vx_grid *g, int quantities) {
    return (size_t)(vx_grid_blocks(g) * quantities * vx_grid_width(g)) * sizeof(float);
}

/* --- one quantity of a block: three phases --- */

VX_INLINE void vx_columns_put(const struct vx_grid *g, const struct vx_place *p,
                              const float value[8], struct vx_columns_shared *s) {
    float *to = s->values + p->row * vx_grid_width(g) + p->lane * VX_CUDA_LANES;
    if (p->row < g->rows) {
        VX_UNROLL for (int i = 0; i < 8; i++) {
            to[i] = value[i]; /* past the padded channels: read by nobody */
        }
    }
}

VX_INLINE void vx_columns_slice(const struct vx_grid *g, int thread, struct vx_columns_shared *s) {
    int width = vx_grid_width(g), slices = VX_THREADS / width, slice = thread / width;
    if (slice < slices) {
        float sum = 0;
        for (int row = slice; row < g->rows; row += slices) {
            sum += s->values[row * width + thread % width];
        }
        s->slices[thread] = sum;
    }
}

/* The sum of column thread < width over the slices. */
VX_INLINE float vx_columns_total(const struct vx_grid *g, int thread,
                                 const struct vx_columns_shared *s) {
    int width = vx_grid_width(g), slices = VX_THREADS / width;
    float sum = 0;
    for (int slice = 0; slice < slices; slice++) {
        sum += s->slices[slice * width + thread];
    }
    return sum;
}

/* Phases 0 to 2 of one quantity, and the block's sum to where it belongs. */
VX_INLINE void vx_columns_reduce(int phase, const struct vx_grid *g, const struct vx_place *p,
                                 int thread, const float value[8], float *partial,
                                 struct vx_columns_shared *s) {
    if (phase == 0) {
        vx_columns_put(g, p, value, s);
    } else if (phase == 1) {
        vx_columns_slice(g, thread, s);
    } else if (thread < vx_grid_width(g)) {
        partial[thread] = vx_columns_total(g, thread, s);
        vx_publish();
    }
}

/* --- the last block: two phases for each quantity --- */

/* Blocks first, first + step, ..., count of them, are added up; column and slice by thread. */
VX_INLINE void vx_columns_merge_slice(const struct vx_grid *g, int thread, float *partials,
                                      int quantities, int q, int first, int count,
                                      struct vx_columns_shared *s) {
    int width = vx_grid_width(g), slices = VX_THREADS / width, slice = thread / width;
    if (slice < slices) {
        double sum = 0;
        for (int k = slice; k < count; k += slices) {
            const float *from = vx_partial_of(partials, g, quantities, first + k, q);
            sum += (double)vx_fresh(from + thread % width);
        }
        s->totals[thread] = sum;
    }
}

VX_INLINE double vx_columns_merge_total(const struct vx_grid *g, int thread,
                                        const struct vx_columns_shared *s) {
    int width = vx_grid_width(g), slices = VX_THREADS / width;
    double sum = 0;
    for (int slice = 0; slice < slices; slice++) {
        sum += s->totals[slice * width + thread];
    }
    return sum;
}

/* Counters at the workspace's head, and scratch behind them. */
VX_INLINE uint32_t *vx_counters(void *workspace) {
    return (uint32_t *)workspace;
}

VX_INLINE float *vx_scratch(void *workspace) {
    return (float *)((char *)workspace + VX_CUDA_WORKSPACE_HEAD);
}

#endif
