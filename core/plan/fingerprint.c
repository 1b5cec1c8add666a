#include "plan/fingerprint.h"

#include "base/err.h"
#include "base/own.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int vx_fingerprint_init(struct vx_fingerprint *fp, int n_cases, int n_channels,
                        struct vx_err *err) {
    *fp = (struct vx_fingerprint){.n_cases = n_cases, .n_channels = n_channels};
    fp->spacings = calloc((size_t)n_cases, sizeof *fp->spacings);
    fp->shapes = calloc((size_t)n_cases, sizeof *fp->shapes);
    if (!fp->spacings || !fp->shapes) {
        vx_fingerprint_release(fp);
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the fingerprint of %d cases", n_cases);
    }
    return VX_OK;
}

void vx_fingerprint_release(struct vx_fingerprint *fp) {
    free(fp->spacings);
    free(fp->shapes);
    *fp = (struct vx_fingerprint){0};
}

/* Name and place of each statistic, shared by writer and reader. */
static const struct {
    const char *key;
    size_t offset;
} statistics[] = {
    {"mean", offsetof(struct vx_intensity, mean)},
    {"median", offsetof(struct vx_intensity, median)},
    {"std", offsetof(struct vx_intensity, std)},
    {"min", offsetof(struct vx_intensity, min)},
    {"max", offsetof(struct vx_intensity, max)},
    {"percentile_99_5", offsetof(struct vx_intensity, percentile_99_5)},
    {"percentile_00_5", offsetof(struct vx_intensity, percentile_00_5)},
};

json_t *vx_intensity_to_json(const struct vx_intensity *list, int n) {
    json_t *all = json_object();
    for (int c = 0; c < n; c++) {
        char number[16];
        snprintf(number, sizeof number, "%d", c);
        json_t *one = json_object();
        for (size_t s = 0; s < VX_COUNTOF(statistics); s++) {
            double x = *(const double *)((const char *)&list[c] + statistics[s].offset);
            json_object_set_new(one, statistics[s].key, json_real(x));
        }
        json_object_set_new(all, number, one);
    }
    return all;
}

int vx_intensity_from_json(const json_t *json, struct vx_intensity *list, int *ret_n,
                           struct vx_err *err) {
    const char *key = "foreground_intensity_properties_per_channel";
    size_t n = json_object_size(json);
    if (!json_is_object(json) || n < 1 || n > VX_MAX_CHANNELS) {
        return vx_fail(err, VX_E_INVALID, "invalid_value", "%s must have 1 to %d channels", key,
                       VX_MAX_CHANNELS);
    }
    for (size_t c = 0; c < n; c++) {
        char number[16];
        snprintf(number, sizeof number, "%zu", c);
        const json_t *one = json_object_get(json, number);
        for (size_t s = 0; s < VX_COUNTOF(statistics); s++) {
            const json_t *v = json_object_get(one, statistics[s].key);
            if (!json_is_number(v) || !isfinite(json_number_value(v))) {
                return vx_fail(err, VX_E_INVALID, "invalid_value", "%s/%s/%s must be a number", key,
                               number, statistics[s].key);
            }
            *(double *)((char *)&list[c] + statistics[s].offset) = json_number_value(v);
        }
    }
    *ret_n = (int)n;
    return VX_OK;
}

json_t *vx_fingerprint_to_json(const struct vx_fingerprint *fp) {
    json_t *spacings = json_array(), *shapes = json_array();
    for (int i = 0; i < fp->n_cases; i++) {
        json_array_append_new(spacings, json_pack("[f, f, f]", fp->spacings[i][0],
                                                  fp->spacings[i][1], fp->spacings[i][2]));
        json_array_append_new(
            shapes, json_pack("[i, i, i]", fp->shapes[i][0], fp->shapes[i][1], fp->shapes[i][2]));
    }
    return json_pack("{s:o, s:f, s:o, s:o}", "foreground_intensity_properties_per_channel",
                     vx_intensity_to_json(fp->intensity, fp->n_channels),
                     "median_relative_size_after_cropping", fp->median_relative_size_after_cropping,
                     "shapes_after_crop", shapes, "spacings", spacings);
}

static int read_case(const json_t *spacing, const json_t *shape, int i, struct vx_fingerprint *fp,
                     struct vx_err *err) {
    for (size_t a = 0; a < 3; a++) {
        const json_t *mm = json_array_get(spacing, a), *voxels = json_array_get(shape, a);
        if (!json_is_number(mm) || !(json_number_value(mm) > 0) || !json_is_number(voxels) ||
            !(json_number_value(voxels) >= 1) || json_number_value(voxels) > 1e6) {
            return vx_fail(err, VX_E_INVALID, "invalid_value",
                           "fingerprint: case %d needs three positive spacings and shapes", i);
        }
        fp->spacings[i][a] = json_number_value(mm);
        fp->shapes[i][a] = (int)json_number_value(voxels);
    }
    return VX_OK;
}

int vx_fingerprint_from_json(const json_t *json, struct vx_fingerprint *ret, struct vx_err *err) {
    const json_t *spacings = json_object_get(json, "spacings"),
                 *shapes = json_object_get(json, "shapes_after_crop");
    const json_t *relative = json_object_get(json, "median_relative_size_after_cropping");
    size_t n = json_array_size(spacings);
    if (n < 1 || n != json_array_size(shapes) || !json_is_number(relative)) {
        return vx_fail(err, VX_E_INVALID, "invalid_value",
                       "fingerprint: spacings and shapes_after_crop must list the same cases, and "
                       "median_relative_size_after_cropping must be a number");
    }
    struct vx_fingerprint fp;
    int rc = vx_fingerprint_init(&fp, (int)n, 0, err);
    if (rc != VX_OK) {
        return rc;
    }
    fp.median_relative_size_after_cropping = json_number_value(relative);
    for (size_t i = 0; i < n && rc == VX_OK; i++) {
        rc = read_case(json_array_get(spacings, i), json_array_get(shapes, i), (int)i, &fp, err);
    }
    if (rc == VX_OK) {
        rc = vx_intensity_from_json(
            json_object_get(json, "foreground_intensity_properties_per_channel"), fp.intensity,
            &fp.n_channels, err);
    }
    if (rc != VX_OK) {
        vx_fingerprint_release(&fp);
        return rc;
    }
    *ret = fp;
    return VX_OK;
}
