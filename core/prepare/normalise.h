/* The intensity normalisations of nnU-Net v2: before resampling, one channel of a cropped case at a
 * time. Thread: any; pure. */
#ifndef VX_PREPARE_NORMALISE_H
#define VX_PREPARE_NORMALISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_intensity;

/* norm: enum vx_norm (plan/plans.h). In place over n voxels; float32 arithmetic, sums in double.
 *   z-score        (x - mean) / max(std, 1e-8); with use_mask only over voxels with seg >= 0, the
 *                  others are left alone
 *   CT             clip to [0.5 %, 99.5 %] of the data set's foreground, then by its mean and std
 *   none           unchanged
 *   rescale 0..1   (x - min) / max(max - min, 1e-8)
 *   rgb 0..1       x / 255; VX_E_INVALID "rgb_range" where a value is outside 0..255
 * intensity: needed for CT; seg [n]: needed for use_mask. */
int vx_normalise(int norm, bool use_mask, const struct vx_intensity *intensity, const int16_t *seg,
                 float *data, size_t n, struct vx_err *err);

#endif
