/* Voxel arrays with the geometry they were read with.
 *
 * Arrays are [C][Z][Y][X] (images) and [Z][Y][X] (labels), x fastest: the order in which a NIfTI
 * file stores its voxels, so nothing is moved when reading. This is nnU-Net's (c, z, y, x)
 * convention; "axis 0" is the file's slowest spatial axis. Nothing is reoriented: the geometry
 * carries the axes' directions. Plain data. Thread: any, one at a time per object. */
#ifndef VX_VOLUME_VOLUME_H
#define VX_VOLUME_VOLUME_H

#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;

/* What of a NIfTI-1 header is needed to write another array on the same grid. Values as stored in
 * the file, after undoing its byte order; names as in the NIfTI-1 standard. */
struct vx_geometry {
    double spacing[3]; /* z, y, x; mm, > 0: |pixdim[3..1]| in the units the file declares */
    float pixdim[4];   /* qfac (-1 or 1; 0 counts as 1), then x, y, z as stored (may be negative) */
    int16_t qform_code, sform_code; /* 0: that transform is not set */
    float quatern[3], qoffset[3];   /* b, c, d; x, y, z */
    float srow[3][4];
    uint8_t xyzt_units;
    int ndim; /* 2 where the file is two-dimensional, else 3 */
};

struct vx_volume {
    int channels;
    int64_t shape[3]; /* z, y, x */
    float *data;      /* [C][Z][Y][X], owned */
    struct vx_geometry geo;
};

struct vx_labelmap {
    int64_t shape[3]; /* z, y, x */
    int16_t *data;    /* [Z][Y][X], owned */
    struct vx_geometry geo;
};

/* Axis-aligned 1:1 grid in mm without qform and sform, for volumes that have no file. spacing: z,
 * y, x. */
void vx_geometry_init(struct vx_geometry *geo, const double spacing[3]);
/* Voxel (x, y, z) to mm: the sform where set, else the qform, else the spacing with no rotation
 * (NIfTI-1 methods 3, 2, 1). ret_m[row][col]: rows x, y, z; columns x, y, z, offset; in the file's
 * own length unit. */
void vx_geometry_affine(const struct vx_geometry *geo, double ret_m[3][4]);
/* Spacings equal as numpy's allclose sees it (relative 1e-5, absolute 1e-8): nnU-Net's condition
 * for the files of a case. */
bool vx_geometry_same_spacing(const struct vx_geometry *a, const struct vx_geometry *b);
/* Affines equal (allclose): where not, nnU-Net warns and goes on. */
bool vx_geometry_same_affine(const struct vx_geometry *a, const struct vx_geometry *b);
/* JSON object with every field, exact; for vx_cache_info.geometry. New reference; NULL when out of
 * memory. */
json_t *vx_geometry_to_json(const struct vx_geometry *geo);
/* VX_E_INVALID names the field. */
int vx_geometry_from_json(const json_t *json, struct vx_geometry *ret, struct vx_err *err);

/* Allocates zeros. channels and extents at least 1; VX_E_LIMIT where the product overflows,
 * VX_E_NOMEM. geo may be NULL (1 mm). */
int vx_volume_init(struct vx_volume *v, int channels, const int64_t shape[3],
                   const struct vx_geometry *geo, struct vx_err *err);
int vx_labelmap_init(struct vx_labelmap *m, const int64_t shape[3], const struct vx_geometry *geo,
                     struct vx_err *err);
/* Frees and zeroes; fine on a zeroed object. */
void vx_volume_release(struct vx_volume *v);
void vx_labelmap_release(struct vx_labelmap *m);

static inline int64_t vx_shape_count(const int64_t shape[3]) {
    return shape[0] * shape[1] * shape[2];
}

#define vx_auto_volume   __attribute__((cleanup(vx_volume_release)))
#define vx_auto_labelmap __attribute__((cleanup(vx_labelmap_release)))

#endif
