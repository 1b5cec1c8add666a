/* CASE.npz and CASE.pkl. The npy header is numpy's format 1.0 (numpy.lib.format). */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "cache/cache.h"
#include "checkpoint/pickle_write.h"
#include "checkpoint/zip.h"
#include "infer/probabilities.h"
#include "volume/volume.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NPY_HEADER 128 /* bytes; a multiple of 64 that holds every shape */

/* Magic, version, length of the text, text padded with blanks to the end, newline. */
static void npy_header(const int64_t shape[4], char ret[NPY_HEADER]) {
    static const char magic[] = "\x93NUMPY\x01";
    memset(ret, ' ', NPY_HEADER);
    memcpy(ret, magic, 8); /* with the NUL: minor version 0 */
    ret[8] = (char)(NPY_HEADER - 10);
    ret[9] = 0;
    int n = snprintf(
        ret + 10, NPY_HEADER - 10,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld, %lld, %lld), }",
        (long long)shape[0], (long long)shape[1], (long long)shape[2], (long long)shape[3]);
    ret[10 + n] = ' ';
    ret[NPY_HEADER - 1] = '\n';
}

static int put_class(void *context, int cls, const float *volume, size_t n, struct vx_err *err) {
    (void)cls;
    return vx_zip_put(context, volume, n * sizeof *volume, err);
}

static int write_npz(const char *path, const float *logits, int classes,
                     const struct vx_cache_info *info, const struct vx_export_grid *grid,
                     const struct vx_geometry *geo, struct vx_labelmap *ret, struct vx_err *err) {
    vx_auto_zip_writer struct vx_zip_writer *zip = NULL;
    int64_t shape[4] = {classes};
    for (int a = 0; a < 3; a++) {
        shape[1 + grid->transpose_forward[a]] = grid->shape_raw[a];
    }
    char header[NPY_HEADER];
    npy_header(shape, header);
    uint64_t bytes = (uint64_t)classes * (uint64_t)vx_shape_count(shape + 1) * sizeof(float);
    int rc = vx_zip_create(path, &zip, err);
    if (rc == VX_OK) {
        rc = vx_zip_begin(zip, "probabilities.npy", sizeof header + bytes, VX_ZIP_DEFLATED, err);
    }
    rc = rc == VX_OK ? vx_zip_put(zip, header, sizeof header, err) : rc;
    if (rc == VX_OK) {
        rc = vx_export_probabilities(logits, classes, info->shape, grid, geo, put_class, zip, ret,
                                     err);
    }
    rc = rc == VX_OK ? vx_zip_end(zip, err) : rc;
    return rc == VX_OK ? vx_zip_commit(zip, err) : rc;
}

static void put_reals(struct vx_pickle *p, const char *key, const double *x, int n) {
    vx_pickle_str(p, key);
    vx_pickle_tuple(p);
    for (int i = 0; i < n; i++) {
        vx_pickle_real(p, x[i]);
    }
    vx_pickle_end(p);
}

/* As ITK reads the file: axes x, y, z; world axes left, posterior, superior, so that x and y change
 * their sign against NIfTI's. A two-dimensional file has two of each. */
static void put_itk(struct vx_pickle *p, const struct vx_geometry *geo) {
    double m[3][4], spacing[3], origin[3], direction[9];
    int n = geo->ndim == 2 ? 2 : 3;
    vx_geometry_affine(geo, m);
    for (int r = 0; r < n; r++) {
        double sign = r < 2 ? -1 : 1;
        spacing[r] = geo->spacing[2 - r];
        origin[r] = sign * m[r][3];
        for (int c = 0; c < n; c++) {
            double length = sqrt(m[0][c] * m[0][c] + m[1][c] * m[1][c] + m[2][c] * m[2][c]);
            direction[r * n + c] = sign * m[r][c] / length;
        }
    }
    vx_pickle_str(p, "sitk_stuff");
    vx_pickle_dict(p);
    put_reals(p, "spacing", spacing, n);
    put_reals(p, "origin", origin, n);
    put_reals(p, "direction", direction, n * n);
    vx_pickle_end(p);
}

static void put_nibabel(struct vx_pickle *p, const struct vx_geometry *geo) {
    double m[4][4] = {[3] = {0, 0, 0, 1}};
    vx_geometry_affine(geo, m);
    vx_pickle_str(p, "nibabel_stuff");
    vx_pickle_dict(p);
    vx_pickle_str(p, "original_affine");
    vx_pickle_list(p);
    for (int r = 0; r < 4; r++) {
        vx_pickle_list(p);
        for (int c = 0; c < 4; c++) {
            vx_pickle_real(p, m[r][c]);
        }
        vx_pickle_end(p);
    }
    vx_pickle_end(p);
    vx_pickle_end(p);
}

static int write_properties(const char *path, const struct vx_cache_info *info,
                            const struct vx_geometry *geo, struct vx_err *err) {
    vx_auto_pickle struct vx_pickle p = VX_PICKLE_INIT;
    vx_pickle_dict(&p);
    put_itk(&p, geo);
    put_nibabel(&p, geo);
    put_reals(&p, "spacing", geo->spacing, 3);
    vx_pickle_str(&p, "shape_before_cropping");
    vx_pickle_ints(&p, info->shape_raw, 3);
    vx_pickle_str(&p, "bbox_used_for_cropping");
    vx_pickle_list(&p);
    for (int a = 0; a < 3; a++) {
        vx_pickle_ints(&p, (const int64_t[2]){info->crop_lo[a], info->crop_hi[a]}, 2);
    }
    vx_pickle_end(&p);
    vx_pickle_str(&p, "shape_after_cropping_and_before_resampling");
    vx_pickle_ints(&p, info->shape_cropped, 3);
    vx_pickle_end(&p);
    vx_auto_free char *data = NULL;
    size_t len = 0;
    int rc = vx_pickle_finish(&p, &data, &len, err);
    return rc == VX_OK ? vx_write_file_atomic(path, data, len, 0666, err) : rc;
}

int vx_probability_files(const char *prefix, const float *logits, int classes,
                         const struct vx_cache_info *info, const int transpose_forward[3],
                         const struct vx_geometry *geo, struct vx_labelmap *ret,
                         struct vx_err *err) {
    vx_auto_free char *npz = vx_strf("%s.npz", prefix), *pkl = vx_strf("%s.pkl", prefix);
    if (!npz || !pkl) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    struct vx_export_grid grid;
    vx_export_grid_of_case(info, transpose_forward, &grid);
    int rc = write_npz(npz, logits, classes, info, &grid, geo, ret, err);
    return rc == VX_OK ? write_properties(pkl, info, geo, err) : rc;
}
