/* The loops over voxels, one table per instruction set. All tables give the same bits: they are
 * compiled from one source (simd/body.h), which rounds where the formulas of voxel.h say and sums
 * in fixed lanes; only what looks voxels up at computed places has versions of its own
 * (simd/gather_*.h). The portable table is the truth in tests. Private to this room. Thread: any.
 */
#ifndef VX_AUGMENT_KERNELS_H
#define VX_AUGMENT_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VX_LANES = 16 };

/* Sums over a channel so far; lane l takes the values at l, l + 16, ... of each block. */
struct vx_aug_sums {
    double shift; /* the first value: squares of x - shift do not cancel */
    double sum[VX_LANES], squares[VX_LANES];
    float min[VX_LANES], max[VX_LANES];
};

/* Whose noise: see VX_PURPOSE_NOISE_VOXELS. */
struct vx_noise_key {
    uint64_t seed;
    uint32_t stream_purpose, k, j;
};

/* One output row of the spatial transform: where each voxel lies in the source arrays. */
struct vx_aug_row {
    int32_t *at;             /* index of the lower corner; valid up to a multiple of VX_LANES */
    float *f[3];             /* fractions along z, y, x; the same */
    int32_t n;               /* voxels */
    int32_t dim[3], size[3]; /* of the source arrays with and without margins */
    int32_t axes;            /* 3, or 2: z is not interpolated */
    int32_t z;               /* source slice where axes = 2 */
};

/* Voxels between labels, gathered until there are enough to vote for all of them at once. */
enum { VX_BALLOTS = 32 };

struct vx_aug_ballots {
    int32_t n;
    size_t place[VX_BALLOTS];     /* in the output */
    int32_t label[8][VX_BALLOTS]; /* corners z y x: 000, 001, 010, ... */
    float f[3][VX_BALLOTS];       /* fractions; z is 0 where the row has two axes */
    float weight[8][VX_BALLOTS];  /* filled by count */
    int32_t best[VX_BALLOTS];     /* the winner where there are two labels */
    int32_t several[VX_BALLOTS];  /* more than two, or a tie */
};

/* x[n] is changed in place unless the parameters name an output. */
struct vx_aug_kernels {
    const char *name;

    /* --- voxel by voxel --- */
    void (*reverse)(float *x, size_t n);
    void (*scale)(float *x, size_t n, float factor);
    /* (x - mean) * factor + mean, kept in [lo, hi] */
    void (*stretch)(float *x, size_t n, float mean, float factor, float lo, float hi);
    /* ((sign * x - min) / range)^exponent * range + min */
    void (*power)(float *x, size_t n, float sign, float min, float range, float exponent);
    /* sign * ((x - mean) * factor + new_mean) */
    void (*restore)(float *x, size_t n, float sign, float mean, float factor, float new_mean);
    /* x += sigma * normal values number at, at + 1, ... */
    void (*noise)(float *x, size_t n, const struct vx_noise_key *key, uint64_t at, float sigma);
    void (*sum)(const float *x, size_t n, struct vx_aug_sums *s);
    /* 0 where the label is -1 */
    void (*mask)(float *x, const int16_t *label, size_t n);
    /* -1 becomes 0 */
    void (*background)(int16_t *label, size_t n);
    void (*reverse_labels)(int16_t *label, size_t n);

    /* --- neighbours --- */
    /* out = weight[0] * rows[0] + sum over i of weight[i] * (rows[2i - 1] + rows[2i]) */
    void (*taps)(float *out, const float *const *rows, const float *weight, int radius, size_t n);
    /* out[i] = between in[lo[i]] and in[hi[i]] */
    void (*widen)(float *out, const float *in, const int32_t *lo, const int32_t *hi, const float *f,
                  size_t n);
    void (*mix)(float *out, const float *a, const float *b, float f, size_t n);

    /* --- sampling --- */
    /* position = start + step * w in source array coordinates z, y, x */
    void (*place)(struct vx_aug_row *r, const float start[3], const float step[3]);
    void (*sample)(const struct vx_aug_row *r, const float *src, float *out);
    /* The lower corner's label, which is right where all corners agree; returns how many do not,
     * and which those are (mixed holds n + VX_LANES). */
    int32_t (*label)(const struct vx_aug_row *r, const int16_t *src, int16_t *out, int32_t *mixed);
    void (*count)(struct vx_aug_ballots *b);
    /* lo[i] and hi[i] take in label[i] */
    void (*range)(int16_t *lo, int16_t *hi, const int16_t *label, size_t n);
};

/* The fastest table that this CPU runs. */
const struct vx_aug_kernels *vx_aug_kernels(void);
/* Table i of those this CPU runs, the portable one first; NULL after the last. */
const struct vx_aug_kernels *vx_aug_kernels_at(int i);

#endif
