#include "prepare/check.h"

#include "plan/dataset.h"
#include "volume/volume.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_LISTED 5 /* unexpected values named in one text */

bool check_same_grid(const int64_t shape[3], const struct vx_geometry *geo,
                     const int64_t other_shape[3], const struct vx_geometry *other_geo,
                     const char *what, const char **ret_code, char *ret_text, size_t size) {
    const int64_t *a = shape, *b = other_shape;
    if (memcmp(a, b, 3 * sizeof *a) != 0) {
        *ret_code = "shape_mismatch";
        snprintf(
            ret_text, size,
            "the %s has %lld x %lld x %lld voxels (z, y, x), the first image has %lld x %lld x "
            "%lld; all files of a case must have the same shape",
            what, (long long)b[0], (long long)b[1], (long long)b[2], (long long)a[0],
            (long long)a[1], (long long)a[2]);
        return false;
    }
    if (!vx_geometry_same_spacing(geo, other_geo)) {
        const double *p = geo->spacing, *q = other_geo->spacing;
        *ret_code = "spacing_mismatch";
        snprintf(ret_text, size,
                 "the %s has spacing %g x %g x %g mm (z, y, x), the first image has %g x %g x %g; "
                 "all files of a case must have the same spacing",
                 what, q[0], q[1], q[2], p[0], p[1], p[2]);
        return false;
    }
    return true;
}

bool check_finite(const struct vx_volume *image, char *ret_text, size_t size) {
    size_t n = (size_t)vx_shape_count(image->shape), bad = 0, first = 0;
    for (size_t i = 0; i < n * (size_t)image->channels; i++) {
        if (!isfinite(image->data[i])) {
            first = bad++ ? first : i;
        }
    }
    if (bad > 0) {
        size_t at = first % n, nx = (size_t)image->shape[2], ny = (size_t)image->shape[1];
        snprintf(ret_text, size,
                 "%zu voxels are NaN or infinite, the first in channel %zu at z %zu, y %zu, x %zu; "
                 "replace them, e.g. by 0",
                 bad, first / n, at / nx / ny, at / nx % ny, at % nx);
    }
    return bad == 0;
}

bool check_labels(const struct vx_labelmap *labels, const struct vx_dataset_desc *dataset,
                  char *ret_text, size_t size) {
    size_t n = (size_t)vx_shape_count(labels->shape), voxels = 0;
    int listed[MAX_LISTED], n_listed = 0;
    bool more = false;
    for (size_t i = 0; i < n; i++) {
        int v = labels->data[i];
        if ((v >= 0 && v < dataset->n_labels) || (v >= 0 && v == dataset->ignore_label)) {
            continue;
        }
        voxels++;
        bool known = false;
        for (int j = 0; j < n_listed && !known; j++) {
            known = listed[j] == v;
        }
        if (!known && n_listed < MAX_LISTED) {
            listed[n_listed++] = v;
        } else if (!known) {
            more = true;
        }
    }
    if (voxels == 0) {
        return true;
    }
    char values[96] = "";
    for (int j = 0, len = 0; j < n_listed; j++) {
        len +=
            snprintf(values + len, sizeof values - (size_t)len, "%s%d", j ? ", " : "", listed[j]);
    }
    snprintf(ret_text, size,
             "%zu voxels have the value%s %s%s, which dataset.json does not list (0 to %d%s); "
             "correct the file or add the label",
             voxels, n_listed > 1 ? "s" : "", values, more ? " and others" : "",
             dataset->n_labels - 1, dataset->ignore_label >= 0 ? " and ignore" : "");
    return false;
}
