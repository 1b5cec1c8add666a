/* A sample that is not interpolated, through the whole sequence with the kernels of choice. */
#ifndef VX_TESTS_AUGMENT_ALONE_H
#define VX_TESTS_AUGMENT_ALONE_H

#include "augment/transforms/parts.h"
#include "base/err.h"
#include "base/own.h"
#include "base/rng.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* for (k = every table of kernels that this CPU runs) */
#define EACH_KERNELS(k)                                                                            \
    int k##_i = 0;                                                                                 \
    for (const struct vx_aug_kernels *k; (k = vx_aug_kernels_at(k##_i)) != NULL; k##_i++)

static inline size_t alone_voxels(const int32_t size[3]) {
    return (size_t)size[0] * (size_t)size[1] * (size_t)size[2];
}

static inline size_t alone_index(const int32_t s[3], int32_t z, int32_t y, int32_t x) {
    return ((size_t)z * (size_t)s[1] + (size_t)y) * (size_t)s[2] + (size_t)x;
}

/* Uniform numbers; caller frees. */
static inline float *alone_image(size_t n, float lo, float hi) {
    float *x = malloc(n * sizeof *x);
    struct vx_rng r = vx_rng_at(9, 0, 0, 0, 901);
    for (size_t i = 0; i < n; i++) {
        x[i] = vx_rng_uniform(&r, lo, hi);
    }
    return x;
}

/* image [C][size] and label [size] (NULL: all 0) become what the transforms of a make of them; the
 * policy is nnU-Net's for this size, mask its mask_channels. */
static inline void alone_apply(const struct vx_aug_kernels *k, const int32_t size[3],
                               uint32_t channels, uint32_t mask, const struct vx_aug_params *a,
                               float *image, int16_t *label) {
    struct vx_aug_policy p;
    struct vx_aug_box box;
    cr_assert_eq(vx_aug_policy_default(size[0] == 1 ? 2 : 3, channels, size, &p), VX_OK);
    p.mask_channels = mask;
    size_t n = alone_voxels(size);
    vx_auto_free float *from = malloc(channels * n * sizeof *from);
    vx_auto_free int16_t *labels = calloc(n, sizeof *labels);
    vx_auto_free int16_t *no_label = calloc(n, sizeof *no_label);
    vx_auto_free void *scratch = aligned_alloc(64, vx_aug_scratch_bytes(&p));
    memcpy(from, image, channels * n * sizeof *from);
    if (label) {
        memcpy(labels, label, n * sizeof *labels);
    }
    vx_aug_source_box(&p, a, &box);
    vx_aug_apply_with(k, &p, a, &box, from, labels, image, label ? label : no_label, scratch, NULL);
}

#endif
