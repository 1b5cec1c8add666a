/* Crop to the part of a case that is not zero (nnU-Net v2, crop_to_nonzero).
 *
 * The mask is "some channel differs from 0", with holes filled: a zero voxel stays outside where a
 * path over the 6 neighbours leads from it to the edge of the array. Bounding box of the mask; the
 * whole array where it is empty. Labels that are 0 outside the mask become -1. Thread: any; pure.
 */
#ifndef VX_PREPARE_CROP_H
#define VX_PREPARE_CROP_H

#include <stdint.h>

struct vx_err;

struct vx_crop_box {
    int64_t lo[3], hi[3]; /* half open */
};

/* image [C][shape]; ret_mask [shape] (caller's) gets 1 inside, 0 outside. VX_E_NOMEM. */
int vx_crop_find(const float *image, int channels, const int64_t shape[3], uint8_t *ret_mask,
                 struct vx_crop_box *ret_box, struct vx_err *err);
/* dst [C][box], from src [C][shape]. May not overlap. */
void vx_crop_image(const float *src, int channels, const int64_t shape[3],
                   const struct vx_crop_box *box, float *dst);
/* dst [box]: the label, or -1 where it is 0 and the mask is 0. src NULL: 0 inside, -1 outside. */
void vx_crop_labels(const int16_t *src, const uint8_t *mask, const int64_t shape[3],
                    const struct vx_crop_box *box, int16_t *dst);
void vx_crop_box_shape(const struct vx_crop_box *box, int64_t ret_shape[3]);

#endif
