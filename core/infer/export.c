#include "infer/export.h"
#include "base/err.h"
#include "base/own.h"
#include "cache/cache.h"
#include "infer/export_internal.h"
#include "volume/resample.h"
#include "volume/volume.h"

#include <stdlib.h>
#include <string.h>

void vx_export_grid_of_case(const struct vx_cache_info *info, const int transpose_forward[3],
                            struct vx_export_grid *ret) {
    for (int i = 0; i < 3; i++) {
        ret->shape_raw[i] = info->shape_raw[i];
        ret->crop_lo[i] = info->crop_lo[i];
        ret->crop_hi[i] = info->crop_hi[i];
        ret->spacing_raw[i] = info->spacing_raw[i];
        ret->spacing[i] = info->spacing[i];
        ret->transpose_forward[i] = transpose_forward[i];
    }
}

int export_check(const struct vx_export_grid *g, int classes, const int64_t shape[3],
                 struct vx_err *err) {
    int seen = 0;
    for (int i = 0; i < 3; i++) {
        if (g->transpose_forward[i] < 0 || g->transpose_forward[i] > 2) {
            return vx_fail(err, VX_E_INVALID, "bad_grid", "transpose_forward[%d] is %d", i,
                           g->transpose_forward[i]);
        }
        seen |= 1 << g->transpose_forward[i];
        if (g->crop_lo[i] < 0 || g->crop_hi[i] <= g->crop_lo[i] ||
            g->crop_hi[i] > g->shape_raw[i]) {
            return vx_fail(err, VX_E_INVALID, "bad_grid",
                           "the crop box [%lld, %lld) does not lie in %lld voxels on axis %d",
                           (long long)g->crop_lo[i], (long long)g->crop_hi[i],
                           (long long)g->shape_raw[i], i);
        }
        if (!(g->spacing[i] > 0) || !(g->spacing_raw[i] > 0) || shape[i] < 1) {
            return vx_fail(err, VX_E_INVALID, "bad_grid", "no spacing or no voxels on axis %d", i);
        }
    }
    if (seen != 7 || classes < 1 || classes > INT16_MAX) {
        return vx_fail(err, VX_E_INVALID, "bad_grid",
                       "transpose_forward is no permutation, or %d classes", classes);
    }
    return VX_OK;
}

/* The running maximum over classes at every voxel of the cropped original grid. */
struct argmax {
    float *best;
    int16_t *label;
    int64_t plane;
    int16_t current; /* class being added */
};

static int add_slice(void *context, int64_t z, const float *slice) {
    struct argmax *a = context;
    float *best = a->best + z * a->plane;
    int16_t *label = a->label + z * a->plane;
    for (int64_t i = 0; i < a->plane; i++) {
        bool larger = slice[i] > best[i];
        best[i] = larger ? slice[i] : best[i];
        label[i] = larger ? a->current : label[i];
    }
    return VX_OK;
}

static int set_slice(void *context, int64_t z, const float *slice) {
    struct argmax *a = context;
    memcpy(a->best + z * a->plane, slice, (size_t)a->plane * sizeof *slice);
    return VX_OK;
}

void export_shapes(const struct vx_export_grid *g, int64_t ret_cropped[3], int64_t ret_file[3]) {
    for (int i = 0; i < 3; i++) {
        ret_cropped[i] = g->crop_hi[i] - g->crop_lo[i];
        ret_file[g->transpose_forward[i]] = g->shape_raw[i];
    }
}

/* One row of n elements into every step-th one of to. */
static const char *paste_row(const char *from, size_t size, int64_t n, int64_t step, char *to) {
    for (int64_t x = 0; x < n; x++) {
        if (size == sizeof(int16_t)) { /* the sizes spelled out: these copies become moves */
            memcpy(to, from, sizeof(int16_t));
        } else {
            memcpy(to, from, sizeof(float));
        }
        from += size;
        to += (size_t)step * size;
    }
    return from;
}

void export_paste_slice(const struct vx_export_grid *g, int64_t z, const void *values, size_t size,
                        void *volume) {
    int64_t cropped[3], file[3];
    export_shapes(g, cropped, file);
    const int64_t file_stride[3] = {file[1] * file[2], file[2], 1};
    const int *tf = g->transpose_forward;
    int64_t sz = file_stride[tf[0]], sy = file_stride[tf[1]], sx = file_stride[tf[2]];
    const char *from = values;
    for (int64_t y = g->crop_lo[1]; y < g->crop_hi[1]; y++) {
        int64_t at = (g->crop_lo[0] + z) * sz + y * sy + g->crop_lo[2] * sx;
        from = paste_row(from, size, cropped[2], sx, (char *)volume + (size_t)at * size);
    }
}

void export_paste_labels(const struct vx_export_grid *g, const int16_t *labels, int16_t *volume) {
    int64_t cropped[3], file[3];
    export_shapes(g, cropped, file);
    for (int64_t z = 0; z < cropped[0]; z++) {
        export_paste_slice(g, z, labels + z * cropped[1] * cropped[2], sizeof *labels, volume);
    }
}

int vx_export_labels(const float *logits, int classes, const int64_t shape[3],
                     const struct vx_export_grid *g, const struct vx_geometry *geo,
                     struct vx_labelmap *ret, struct vx_err *err) {
    int rc = export_check(g, classes, shape, err);
    if (rc != VX_OK) {
        return rc;
    }
    int64_t cropped[3], file_shape[3];
    export_shapes(g, cropped, file_shape);
    size_t n = (size_t)vx_shape_count(cropped);
    vx_auto_free float *best = malloc(n * sizeof *best);
    vx_auto_free int16_t *label = calloc(n, sizeof *label);
    if (!best || !label) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to export %zu voxels", n);
    }
    struct argmax a = {best, label, cropped[1] * cropped[2], 0};
    int axis = vx_resample_axis(g->spacing, g->spacing_raw);
    for (int c = 0; rc == VX_OK && c < classes; c++) {
        a.current = (int16_t)c;
        rc = vx_resample_linear_slices(logits + c * vx_shape_count(shape), shape, axis, cropped,
                                       c == 0 ? set_slice : add_slice, &a, err);
    }
    rc = rc == VX_OK ? vx_labelmap_init(ret, file_shape, geo, err) : rc;
    if (rc == VX_OK) {
        export_paste_labels(g, label, ret->data);
    }
    return rc;
}
