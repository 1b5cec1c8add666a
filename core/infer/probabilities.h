/* From logits on the plan's grid to probabilities on the grid of the file.
 *
 * Source: nnU-Net v2's export with save_probabilities: logits are resampled as for labels
 * (export.h), softmax in float32, outside the crop box background is 1 and every other class 0,
 * axes back in the file's order. The label map is then the class of largest probability (lowest
 * index on ties), not of largest logit: what an ensemble of these probabilities would see.
 *
 * Nothing of the size classes x voxels is held beside the logits: the softmax's maximum and sum are
 * found in one pass over the classes, and each class is made and handed out in a second. Memory: 14
 * bytes per voxel of the crop box, 6 per voxel of the file. Thread: any. */
#ifndef VX_INFER_PROBABILITIES_H
#define VX_INFER_PROBABILITIES_H

#include "infer/export.h"

#include <stddef.h>

struct vx_cache_info;

/* One class after the other: volume [z][y][x] of the file's shape, n voxels, borrowed for the call.
 * Anything but VX_OK ends the export with it. */
typedef int (*vx_probability_fn)(void *context, int cls, const float *volume, size_t n,
                                 struct vx_err *err);

int vx_export_probabilities(const float *logits, int classes, const int64_t shape[3],
                            const struct vx_export_grid *grid, const struct vx_geometry *geo,
                            vx_probability_fn fn, void *context, struct vx_labelmap *ret,
                            struct vx_err *err);

/* The same into PREFIX.npz (key "probabilities", float32 (classes, z, y, x), deflated) and
 * PREFIX.pkl, the properties by which nnUNetv2_ensemble writes its result: geometry for its
 * SimpleITK and nibabel readers, spacing, shapes and crop box. Both atomic. */
int vx_probability_files(const char *prefix, const float *logits, int classes,
                         const struct vx_cache_info *info, const int transpose_forward[3],
                         const struct vx_geometry *geo, struct vx_labelmap *ret,
                         struct vx_err *err);

#endif
