/* The transforms of one channel or sample, one file each; augment.c calls them in order. Private to
 * this room (tests hold each against a slow version). size is [D][H][W]. Thread: any. */
#ifndef VX_AUGMENT_PARTS_H
#define VX_AUGMENT_PARTS_H

#include "augment/augment.h"

#include <stddef.h>
#include <stdint.h>

/* Sums of a channel; sums are made in 16 fixed lanes of doubles, so they are the same on every CPU.
 */
struct vx_aug_stats {
    float min, max;
    double mean, variance; /* unbiased; 0 for one voxel */
};
void vx_aug_stats(const float *x, size_t n, struct vx_aug_stats *ret);

/* spatial.c: trilinear image (0 outside the initial patch), voted labels (-1 outside). */
void vx_aug_spatial(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                    const struct vx_aug_box *box, const float *src_image, const int16_t *src_label,
                    float *image, int16_t *label, void *scratch);

/* noise.c: x[n] += sigma * normal values; n counts all channels. */
void vx_aug_noise(const struct vx_aug_params *a, float *x, size_t n);

/* filters.c: taps on each side for a sigma, 1 .. VX_BLUR_RADIUS_MAX; weight[0] is the centre's. */
#define VX_BLUR_RADIUS_MAX 9
int vx_aug_blur_kernel(float sigma, float weight[VX_BLUR_RADIUS_MAX + 1]);
/* One channel, separable, reflecting at the edges without repeating them. axes: bit i = axis i is
 * blurred. scratch holds one volume, one plane and one row with its padding. */
void vx_aug_blur(float *x, const int32_t size[3], const float sigma[3], uint32_t axes,
                 float *scratch);

/* intensity.c */
void vx_aug_brightness(float *x, size_t n, float factor);
void vx_aug_contrast(float *x, size_t n, float factor);

/* Down by nearest-exact, up linearly. axes: which are resized. scratch: two volumes, one
 * plane, and index rows. */
void vx_aug_lowres(float *x, const int32_t size[3], float zoom, uint32_t axes, float *scratch);

/* Exponent on the range-normalised channel, mean and deviation restored. */
void vx_aug_gamma(float *x, size_t n, float exponent, bool inverted);

/* mirror.c: in place. */
void vx_aug_mirror_image(float *x, const int32_t size[3], uint32_t axes);
void vx_aug_mirror_label(int16_t *x, const int32_t size[3], uint32_t axes);

/* augment.c: channels of mask become 0 where the label is -1, then -1 becomes 0. */
void vx_aug_labels(float *image, int16_t *label, size_t n, uint32_t channels, uint32_t mask);

#endif
