#include "volume/volume.h"
#include "base/err.h"

#include <math.h>
#include <nifti/nifti1_io.h>
#include <stdlib.h>
#include <string.h>

void vx_geometry_init(struct vx_geometry *geo, const double spacing[3]) {
    memset(geo, 0, sizeof *geo);
    geo->pixdim[0] = 1.0f;
    for (int i = 0; i < 3; i++) {
        geo->spacing[i] = spacing[i];
        geo->pixdim[3 - i] = (float)spacing[i];
    }
    geo->xyzt_units = NIFTI_UNITS_MM;
    geo->ndim = 3;
}

void vx_geometry_affine(const struct vx_geometry *geo, double ret_m[3][4]) {
    memset(ret_m, 0, 12 * sizeof(double));
    if (geo->sform_code > 0) {
        for (int r = 0; r < 3; r++) {
            for (int c = 0; c < 4; c++) {
                ret_m[r][c] = geo->srow[r][c];
            }
        }
    } else if (geo->qform_code > 0) {
        mat44 m = nifti_quatern_to_mat44(geo->quatern[0], geo->quatern[1], geo->quatern[2],
                                         geo->qoffset[0], geo->qoffset[1], geo->qoffset[2],
                                         fabsf(geo->pixdim[1]), fabsf(geo->pixdim[2]),
                                         fabsf(geo->pixdim[3]), geo->pixdim[0] < 0 ? -1.0f : 1.0f);
        for (int r = 0; r < 3; r++) {
            for (int c = 0; c < 4; c++) {
                ret_m[r][c] = m.m[r][c];
            }
        }
    } else {
        for (int r = 0; r < 3; r++) {
            ret_m[r][r] = fabsf(geo->pixdim[r + 1]);
        }
    }
}

/* numpy.allclose for one pair. */
static bool close_enough(double a, double b) {
    return fabs(a - b) <= 1e-8 + 1e-5 * fabs(b);
}

bool vx_geometry_same_spacing(const struct vx_geometry *a, const struct vx_geometry *b) {
    for (int i = 0; i < 3; i++) {
        if (!close_enough(a->spacing[i], b->spacing[i])) {
            return false;
        }
    }
    return true;
}

bool vx_geometry_same_affine(const struct vx_geometry *a, const struct vx_geometry *b) {
    double ma[3][4], mb[3][4];
    vx_geometry_affine(a, ma);
    vx_geometry_affine(b, mb);
    for (int r = 0; r < 3; r++) {
        for (int c = 0; c < 4; c++) {
            if (!close_enough(ma[r][c], mb[r][c])) {
                return false;
            }
        }
    }
    return true;
}

static json_t *floats_to_json(const float *v, int n) {
    json_t *a = json_array();
    for (int i = 0; a && i < n; i++) {
        json_array_append_new(a, json_real((double)v[i]));
    }
    return a;
}

json_t *vx_geometry_to_json(const struct vx_geometry *geo) {
    return json_pack("{s:[fff],s:o,s:i,s:i,s:o,s:o,s:[ooo],s:i,s:i}", "spacing", geo->spacing[0],
                     geo->spacing[1], geo->spacing[2], "pixdim", floats_to_json(geo->pixdim, 4),
                     "qform_code", (int)geo->qform_code, "sform_code", (int)geo->sform_code,
                     "quatern", floats_to_json(geo->quatern, 3), "qoffset",
                     floats_to_json(geo->qoffset, 3), "srow", floats_to_json(geo->srow[0], 4),
                     floats_to_json(geo->srow[1], 4), floats_to_json(geo->srow[2], 4), "xyzt_units",
                     (int)geo->xyzt_units, "ndim", geo->ndim);
}

static int bad_field(struct vx_err *err, const char *field, const char *want) {
    return vx_fail(err, VX_E_INVALID, "bad_geometry", "geometry: field \"%s\" must be %s", field,
                   want);
}

static bool reals(const json_t *array, double *out, size_t n) {
    if (!json_is_array(array) || json_array_size(array) != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(array, i);
        if (!json_is_number(v)) {
            return false;
        }
        out[i] = json_number_value(v);
    }
    return true;
}

static bool floats(const json_t *array, float *out, size_t n) {
    double v[4];
    if (!reals(array, v, n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        out[i] = (float)v[i];
    }
    return true;
}

static bool integer(const json_t *json, const char *key, int lo, int hi, int *out) {
    const json_t *v = json_object_get(json, key);
    if (!json_is_integer(v) || json_integer_value(v) < lo || json_integer_value(v) > hi) {
        return false;
    }
    *out = (int)json_integer_value(v);
    return true;
}

int vx_geometry_from_json(const json_t *json, struct vx_geometry *ret, struct vx_err *err) {
    struct vx_geometry g = {0};
    int qcode, scode, units;
    if (!reals(json_object_get(json, "spacing"), g.spacing, 3) || !(g.spacing[0] > 0) ||
        !(g.spacing[1] > 0) || !(g.spacing[2] > 0)) {
        return bad_field(err, "spacing", "three positive numbers");
    }
    if (!floats(json_object_get(json, "pixdim"), g.pixdim, 4)) {
        return bad_field(err, "pixdim", "four numbers");
    }
    if (!floats(json_object_get(json, "quatern"), g.quatern, 3)) {
        return bad_field(err, "quatern", "three numbers");
    }
    if (!floats(json_object_get(json, "qoffset"), g.qoffset, 3)) {
        return bad_field(err, "qoffset", "three numbers");
    }
    const json_t *srow = json_object_get(json, "srow");
    for (size_t r = 0; r < 3; r++) {
        if (json_array_size(srow) != 3 || !floats(json_array_get(srow, r), g.srow[r], 4)) {
            return bad_field(err, "srow", "three rows of four numbers");
        }
    }
    if (!integer(json, "qform_code", INT16_MIN, INT16_MAX, &qcode) ||
        !integer(json, "sform_code", INT16_MIN, INT16_MAX, &scode)) {
        return bad_field(err, "qform_code, sform_code", "16-bit integers");
    }
    if (!integer(json, "xyzt_units", 0, 255, &units) || !integer(json, "ndim", 2, 3, &g.ndim)) {
        return bad_field(err, "xyzt_units, ndim", "integers in 0..255 and 2..3");
    }
    g.qform_code = (int16_t)qcode;
    g.sform_code = (int16_t)scode;
    g.xyzt_units = (uint8_t)units;
    *ret = g;
    return VX_OK;
}

/* Zeroed array of channels x shape elements of elem bytes; the product is checked. */
static int alloc_array(int channels, const int64_t shape[3], size_t elem, void **ret,
                       struct vx_err *err) {
    size_t n = elem;
    bool fits = channels >= 1 && !__builtin_mul_overflow(n, (size_t)channels, &n);
    for (int i = 0; i < 3; i++) {
        fits = fits && shape[i] >= 1 && !__builtin_mul_overflow(n, (size_t)shape[i], &n);
    }
    if (!fits || n > PTRDIFF_MAX) {
        return vx_fail(err, VX_E_LIMIT, "volume_too_large",
                       "a volume of %d x %lld x %lld x %lld voxels is not possible", channels,
                       (long long)shape[0], (long long)shape[1], (long long)shape[2]);
    }
    void *data = calloc(n, 1);
    if (!data) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a volume of %zu bytes", n);
    }
    *ret = data;
    return VX_OK;
}

static void set_geometry(struct vx_geometry *dst, const struct vx_geometry *geo) {
    if (geo) {
        *dst = *geo;
    } else {
        vx_geometry_init(dst, (const double[3]){1, 1, 1});
    }
}

int vx_volume_init(struct vx_volume *v, int channels, const int64_t shape[3],
                   const struct vx_geometry *geo, struct vx_err *err) {
    void *data = NULL;
    int rc = alloc_array(channels, shape, sizeof(float), &data, err);
    if (rc != VX_OK) {
        return rc;
    }
    *v = (struct vx_volume){.channels = channels, .data = data};
    memcpy(v->shape, shape, sizeof v->shape);
    set_geometry(&v->geo, geo);
    return VX_OK;
}

int vx_labelmap_init(struct vx_labelmap *m, const int64_t shape[3], const struct vx_geometry *geo,
                     struct vx_err *err) {
    void *data = NULL;
    int rc = alloc_array(1, shape, sizeof(int16_t), &data, err);
    if (rc != VX_OK) {
        return rc;
    }
    *m = (struct vx_labelmap){.data = data};
    memcpy(m->shape, shape, sizeof m->shape);
    set_geometry(&m->geo, geo);
    return VX_OK;
}

void vx_volume_release(struct vx_volume *v) {
    free(v->data);
    memset(v, 0, sizeof *v);
}

void vx_labelmap_release(struct vx_labelmap *m) {
    free(m->data);
    memset(m, 0, sizeof *m);
}
