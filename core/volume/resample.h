/* Resampling of whole volumes to another shape, as nnU-Net v2 does it (its default_resampling on
 * scikit-image's resize).
 *
 * Voxel centres: output o of an axis lies at source coordinate (o + 0.5) * in / out - 0.5, clamped
 * to the edge ("edge" mode). Order 3 is the cubic B-spline that interpolates the samples
 * (edge-extended), its result clipped to the source's range: per channel, or per slice where one
 * axis is treated separately. The separate axis takes the nearest slice. All of it is separable, so
 * memory is one intermediate volume at most and no coordinate maps. Where the shape does not change
 * the data is copied untouched. float32 inside; weights and coordinates in double. Axes: z, y, x.
 * Thread: any; one core. */
#ifndef VX_VOLUME_RESAMPLE_H
#define VX_VOLUME_RESAMPLE_H

#include <stdint.h>

struct vx_err;

#define VX_RESAMPLE_JOINT (-1)

/* The axis (0..2) to treat separately, or VX_RESAMPLE_JOINT. nnU-Net's rule with threshold 3:
 * max/min of the current spacing first, then of the new one; joint where several axes tie for the
 * largest. */
int vx_resample_axis(const double spacing[3], const double new_spacing[3]);

/* round(old_spacing / new_spacing * shape), half to even, at least 1. */
void vx_resample_shape(const int64_t shape[3], const double spacing[3], const double new_spacing[3],
                       int64_t ret_shape[3]);

/* Order 3 in plane. src [C][Z][Y][X] of src_shape, dst [C][Z][Y][X] of dst_shape (caller's memory,
 * must not overlap). */
int vx_resample_image(const float *src, int channels, const int64_t src_shape[3], int axis,
                      const int64_t dst_shape[3], float *dst, struct vx_err *err);

/* Order 1 per label, -1 included: the label whose resized mask is largest; where masks are equal
 * the nearest voxel's label if it is one of theirs, else the smallest (batchgenerators 0.25.5;
 * until 0.25.3 the largest label that reached 0.5, else 0). On the separate axis labels are taken
 * from the nearest slice. */
int vx_resample_labels(const int16_t *src, const int64_t src_shape[3], int axis,
                       const int64_t dst_shape[3], int16_t *dst, struct vx_err *err);

/* Order 1 (logits). */
int vx_resample_linear(const float *src, int channels, const int64_t src_shape[3], int axis,
                       const int64_t dst_shape[3], float *dst, struct vx_err *err);

/* Order 1 of one channel, handed out slice by slice ([Y][X] of dst_shape, z ascending), so that the
 * resized volume is never held. fn returns VX_OK or an error that ends the call. */
typedef int (*vx_resample_slice_fn)(void *context, int64_t z, const float *slice);
int vx_resample_linear_slices(const float *src, const int64_t src_shape[3], int axis,
                              const int64_t dst_shape[3], vx_resample_slice_fn fn, void *context,
                              struct vx_err *err);

#endif
