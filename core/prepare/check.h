/* Inside core/prepare: what must hold of a case's voxels, for the integrity report and for
 * preparation alike. Pure. Thread: any. */
#ifndef VX_PREPARE_CHECK_H
#define VX_PREPARE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_dataset_desc;
struct vx_geometry;
struct vx_labelmap;
struct vx_volume;

/* True where image and labels are defined on the same grid; else ret_text says both values.
 * ret_code: "shape_mismatch" or "spacing_mismatch". what: e.g. "label". */
bool check_same_grid(const int64_t shape[3], const struct vx_geometry *geo,
                     const int64_t other_shape[3], const struct vx_geometry *other_geo,
                     const char *what, const char **ret_code, char *ret_text, size_t size);
/* True where every voxel is finite. */
bool check_finite(const struct vx_volume *image, char *ret_text, size_t size);
/* True where only labels of the data set (ignore included) occur. */
bool check_labels(const struct vx_labelmap *labels, const struct vx_dataset_desc *dataset,
                  char *ret_text, size_t size);

#endif
