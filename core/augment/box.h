/* The part of the initial patch that a drawn sample really looks at, so that a loader reads only
 * that. 64 % of the samples of the default policy need just the final patch. Thread: any. */
#ifndef VX_AUGMENT_BOX_H
#define VX_AUGMENT_BOX_H

#include "augment/draws.h"

#include <stddef.h>

struct vx_aug_box {
    int32_t lo[3];   /* in the initial patch, 0 <= lo */
    int32_t size[3]; /* lo + size <= initial patch; never 0 */
    /* The source arrays hold one more voxel on each side (image 0, label -1) when the sample is
     * interpolated: dimensions size + 2 * margin, the box starting at index `margin` of each axis.
     * Along an axis that is not interpolated (axis 0 of 2d and dummy 2d) the margin is 0. */
    int32_t margin[3];
};

void vx_aug_source_box(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                       struct vx_aug_box *ret);
/* How a loader fills the source arrays: where the box's first voxel goes, and how far channels, z
 * and y neighbours are apart, in voxels (x neighbours adjoin). Where nothing is interpolated the
 * arrays are the output itself, and the distances along mirrored axes 0 and 1 are negative. */
struct vx_aug_layout {
    int64_t first, stride[3];
};

void vx_aug_source_layout(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                          const struct vx_aug_box *b, struct vx_aug_layout *ret);
/* The voxels v of the initial patch that an interpolated sample looks at, those beside its
 * positions included: |row[i] . (v - centre)| <= half[i] for i = 0, 1, 2. The box is the smallest
 * with straight sides around them; where the sample is turned most of its corners are not looked
 * at. */
struct vx_aug_region {
    double row[3][3], centre[3], half[3];
};

void vx_aug_source_region(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                          struct vx_aug_region *ret);
/* Voxels of one channel of the source arrays of this box, margins included. */
size_t vx_aug_box_voxels(const struct vx_aug_box *b);
/* The most vx_aug_box_voxels can return for this policy. */
size_t vx_aug_box_voxels_max(const struct vx_aug_policy *p);
/* Sets the margins to image 0 and label -1; what lies inside is untouched. */
void vx_aug_box_clear_margins(const struct vx_aug_box *b, uint32_t channels, float *image,
                              int16_t *label);

/* The matrix [3][3] that maps coordinates of the final patch, from its centre, to the initial
 * patch, from its centre: Rz * Ry * Rx * diag(scale), columns of mirrored axes negated. */
void vx_aug_matrix(const struct vx_aug_policy *p, const struct vx_aug_params *a, double ret[3][3]);

#endif
