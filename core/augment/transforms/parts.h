/* The transforms that look at more than one voxel; augment.c calls them in order. Private to this
 * room. size is [D][H][W]. Thread: any. */
#ifndef VX_AUGMENT_TRANSFORMS_PARTS_H
#define VX_AUGMENT_TRANSFORMS_PARTS_H

#include "augment/augment.h"
#include "augment/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* vx_aug_apply with the kernels of the caller's choice. */
void vx_aug_apply_with(const struct vx_aug_kernels *k, const struct vx_aug_policy *p,
                       const struct vx_aug_params *a, const struct vx_aug_box *box,
                       const float *src_image, const int16_t *src_label, float *image,
                       int16_t *label, void *scratch, uint64_t *ns);

/* --- spatial.c --- */

/* Trilinear image (0 outside the initial patch), voted labels (-1 outside), mirrored. */
void vx_aug_spatial(const struct vx_aug_kernels *k, const struct vx_aug_policy *p,
                    const struct vx_aug_params *a, const struct vx_aug_box *box,
                    const float *src_image, const int16_t *src_label, float *image, int16_t *label,
                    void *scratch);
size_t vx_aug_spatial_scratch(const struct vx_aug_policy *p); /* floats */

/* --- blur.c --- */

/* Taps on each side for a sigma, 1 .. VX_BLUR_RADIUS_MAX; weight[0] is the centre's. */
#define VX_BLUR_RADIUS_MAX 9
int vx_aug_blur_kernel(float sigma, float weight[VX_BLUR_RADIUS_MAX + 1]);

/* Blurring one channel, reflecting at the edges without repeating them. */
struct vx_blur {
    const struct vx_aug_kernels *kernels;
    float *x; /* in place, plane by plane */
    int32_t size[3], radius[3];
    float weight[3][VX_BLUR_RADIUS_MAX + 1];
    float *half;   /* plane z, blurred along z */
    float *kept;   /* the last radius[0] planes as they were */
    float *padded; /* one row with its reflected ends */
};

/* axes: bit i = axis i is blurred. scratch holds vx_aug_blur_scratch floats until the last plane.
 */
void vx_aug_blur_begin(struct vx_blur *b, const struct vx_aug_kernels *k, float *x,
                       const int32_t size[3], const float sigma[3], uint32_t axes, float *scratch);
void vx_aug_blur_plane(void *blur, int32_t z); /* a vx_plane_fn */
size_t vx_aug_blur_scratch(const int32_t size[3]);

/* --- lowres.c --- */

/* Index i of an axis lies between lo[i] and hi[i] of the small one, which picks these voxels. */
struct vx_ladder {
    int32_t *lo, *hi, *picked;
    float *f;
    int32_t small; /* voxels of the small axis */
};

struct vx_lowres {
    const struct vx_aug_kernels *kernels;
    float *x;
    int32_t size[3];
    struct vx_ladder ladder[3];
    float *wide; /* [small z][small y][W] */
    float *slab; /* [small y][W] */
};

/* axes: which are resized. mirror: which run backwards. scratch holds vx_aug_lowres_scratch floats
 * until the last plane. */
void vx_aug_lowres_begin(struct vx_lowres *r, const struct vx_aug_kernels *k, float *x,
                         const int32_t size[3], float zoom, uint32_t axes, uint32_t mirror,
                         float *scratch);
void vx_aug_lowres_plane(void *lowres, int32_t z); /* a vx_plane_fn */
size_t vx_aug_lowres_scratch(const int32_t size[3]);

#endif
