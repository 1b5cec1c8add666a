/* What is still to be done to one channel, so that it happens in one sweep over memory.
 *
 * Transforms that look at one voxel at a time are only noted (vx_chain_add). They run when
 * something needs their result: a block of a few rows is made, or taken as it is, and all noted
 * operations follow while it lies in the first cache; where the next transform rests on mean,
 * deviation or range, the block's sums are taken as well. So a channel crosses memory once per
 * sweep instead of once per transform. Private to this room. Thread: any, one at a time. */
#ifndef VX_AUGMENT_TRANSFORMS_CHAIN_H
#define VX_AUGMENT_TRANSFORMS_CHAIN_H

#include "augment/augment.h"
#include "augment/kernels.h"

/* The parameters v of each are those of the kernel of the same name. */
enum vx_op_kind {
    VX_OP_REVERSE, /* every row: mirroring along axis 2 */
    VX_OP_NOISE,   /* v: sigma */
    VX_OP_SCALE,
    VX_OP_STRETCH,
    VX_OP_POWER,
    VX_OP_RESTORE,
    VX_OP_MASK
};

struct vx_op {
    enum vx_op_kind kind;
    enum vx_transform transform; /* whose time it is */
    float v[4];
};

/* Makes plane z of the channel; called once for every z, upwards. */
typedef void vx_plane_fn(void *ctx, int32_t z);

enum { VX_OPS_MAX = 8 };

struct vx_chain {
    const struct vx_aug_kernels *kernels;
    float *x;             /* the channel, [D][H][W] */
    const int16_t *label; /* [D][H][W], -1 still in it; for VX_OP_MASK */
    int32_t size[3];
    struct vx_noise_key noise;
    uint64_t number;     /* of the channel's first voxel among all channels', for noise */
    uint64_t *ns, *mark; /* nanoseconds per transform, and since when; NULL: not counted */

    /* noted, not done */
    vx_plane_fn *plane; /* NULL: the channel is there */
    void *plane_ctx;
    enum vx_transform plane_transform;
    struct vx_op op[VX_OPS_MAX];
    int n_ops;
};

/* Range and moments of a channel. */
struct vx_aug_stats {
    float min, max;
    double mean, variance; /* unbiased; 0 for one voxel */
};

void vx_chain_add(struct vx_chain *c, enum vx_op_kind kind, enum vx_transform transform, float v0,
                  float v1, float v2, float v3);
/* The channel is to be made plane by plane, before anything is added. ctx is borrowed until the
 * next vx_chain_run. */
void vx_chain_make(struct vx_chain *c, vx_plane_fn *plane, void *ctx, enum vx_transform transform);
/* Does what was noted. ret_stats (NULL allowed): of the result; the time that takes is
 * transform's. Nothing to do costs nothing. */
void vx_chain_run(struct vx_chain *c, enum vx_transform transform, struct vx_aug_stats *ret_stats);

/* Adds the time since *mark to a transform and moves the mark; ns NULL: nothing. */
void vx_aug_lap(uint64_t *ns, enum vx_transform t, uint64_t *mark);

#endif
