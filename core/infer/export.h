/* From logits on the plan's grid to a label map on the grid of the file.
 *
 * Source: nnU-Net v2's export: logits are resampled linearly (order 1; one axis separately by the
 * rule of volume/resample.h with the plan's spacing as the current one) to the cropped original
 * shape, the class with the largest logit is taken (lowest index on ties), pasted into zeros of the
 * uncropped shape, and the axes go back to the file's order. Class index = label value, as
 * nnU-Net's labels are consecutive. Classes are resampled one after the other, slice by slice:
 * memory is 6 bytes per voxel of the cropped original grid, beside the result. Thread: any. */
#ifndef VX_INFER_EXPORT_H
#define VX_INFER_EXPORT_H

#include <stdint.h>

struct vx_err;
struct vx_geometry;
struct vx_labelmap;
struct vx_cache_info;

/* Array axes: file axes after transpose_forward (array axis i is file axis transpose_forward[i]).
 */
struct vx_export_grid {
    int64_t shape_raw[3];           /* uncropped */
    int64_t crop_lo[3], crop_hi[3]; /* half open */
    double spacing_raw[3];          /* mm, of the file */
    double spacing[3];              /* mm, of the logits */
    int transpose_forward[3];
};

void vx_export_grid_of_case(const struct vx_cache_info *info, const int transpose_forward[3],
                            struct vx_export_grid *ret);

/* logits [classes][Z][Y][X] of shape. geo: of the file the case came from. VX_E_INVALID where grid
 * is not consistent. */
int vx_export_labels(const float *logits, int classes, const int64_t shape[3],
                     const struct vx_export_grid *grid, const struct vx_geometry *geo,
                     struct vx_labelmap *ret, struct vx_err *err);

#endif
