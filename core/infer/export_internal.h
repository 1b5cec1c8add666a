/* Between export.c and probabilities.c. Private to this room. Thread: any. */
#ifndef VX_INFER_EXPORT_INTERNAL_H
#define VX_INFER_EXPORT_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_export_grid;

/* VX_E_INVALID where grid is not consistent. */
int export_check(const struct vx_export_grid *g, int classes, const int64_t shape[3],
                 struct vx_err *err);
/* Shape of the crop box (array axes) and of the uncropped volume (file axes). */
void export_shapes(const struct vx_export_grid *g, int64_t ret_cropped[3], int64_t ret_file[3]);
/* Puts slice z of the crop box (values of size bytes each, 2 or 4) into the uncropped volume, whose
 * axes are the file's; and all slices of a label map. */
void export_paste_slice(const struct vx_export_grid *g, int64_t z, const void *values, size_t size,
                        void *volume);
void export_paste_labels(const struct vx_export_grid *g, const int16_t *labels, int16_t *volume);

#endif
