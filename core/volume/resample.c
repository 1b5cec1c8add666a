/* Rules, and order 3 for images. Labels and order 1: resample_linear.c. */
#include "volume/resample.h"
#include "base/err.h"
#include "base/own.h"
#include "volume/resample_axis.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ANISOTROPY_THRESHOLD 3.0

static bool anisotropic(const double s[3]) {
    return fmax(s[0], fmax(s[1], s[2])) / fmin(s[0], fmin(s[1], s[2])) > ANISOTROPY_THRESHOLD;
}

int vx_resample_axis(const double spacing[3], const double new_spacing[3]) {
    const double *s = anisotropic(spacing)       ? spacing
                      : anisotropic(new_spacing) ? new_spacing
                                                 : NULL;
    if (!s) {
        return VX_RESAMPLE_JOINT;
    }
    double largest = fmax(s[0], fmax(s[1], s[2]));
    int axis = VX_RESAMPLE_JOINT, n = 0;
    for (int i = 0; i < 3; i++) {
        if (largest / s[i] == 1.0) {
            axis = i;
            n++;
        }
    }
    return n == 1 ? axis : VX_RESAMPLE_JOINT;
}

void vx_resample_shape(const int64_t shape[3], const double spacing[3], const double new_spacing[3],
                       int64_t ret_shape[3]) {
    for (int i = 0; i < 3; i++) {
        double n = nearbyint(spacing[i] / new_spacing[i] * (double)shape[i]);
        ret_shape[i] = n < 1 ? 1 : (int64_t)n;
    }
}

static bool same_shape(const int64_t a[3], const int64_t b[3]) {
    return memcmp(a, b, 3 * sizeof *a) == 0;
}

/* The three axes of one resize and its scratch. */
struct cubic {
    struct spline_axis ax[3];
    float *scratch, *slice; /* slice: between the two passes in a plane */
};

static void cubic_release(struct cubic *c) {
    for (int i = 0; i < 3; i++) {
        spline_axis_release(&c->ax[i]);
    }
    free(c->scratch);
    free(c->slice);
}

static int cubic_init(struct cubic *c, const int64_t in[3], const int64_t out[3],
                      struct vx_err *err) {
    memset(c, 0, sizeof *c);
    int64_t need = 1;
    int rc = VX_OK;
    for (int i = 0; i < 3 && rc == VX_OK; i++) {
        rc = spline_axis_init(&c->ax[i], in[i], out[i]);
        int64_t n = spline_scratch(in[i], out[i]);
        need = n > need ? n : need;
    }
    int64_t y_first = out[1] * in[2], x_first = in[1] * out[2];
    c->scratch = malloc((size_t)need * sizeof(float));
    c->slice = malloc((size_t)(y_first < x_first ? y_first : x_first) * sizeof(float));
    if (rc != VX_OK || !c->scratch || !c->slice) {
        cubic_release(c);
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to resample a volume");
    }
    return VX_OK;
}

/* One slice [Y][X] in plane; the pass that shrinks more comes first. */
static void cubic_slice(const struct cubic *c, const float *src, float *dst, float lo, float hi) {
    const struct spline_axis *y = &c->ax[1], *x = &c->ax[2];
    if (y->same && x->same) {
        memcpy(dst, src, (size_t)(y->n_in * x->n_in) * sizeof(float));
    } else if (x->same) {
        spline_columns(y, src, x->n_in, dst, x->n_in, x->n_in, lo, hi, c->scratch);
    } else if (y->same) {
        spline_rows(x, src, dst, y->n_in, lo, hi, c->scratch);
    } else if (y->n_out * x->n_in < y->n_in * x->n_out) {
        spline_columns(y, src, x->n_in, c->slice, x->n_in, x->n_in, -INFINITY, INFINITY,
                       c->scratch);
        spline_rows(x, c->slice, dst, y->n_out, lo, hi, c->scratch);
    } else {
        spline_rows(x, src, c->slice, y->n_in, -INFINITY, INFINITY, c->scratch);
        spline_columns(y, c->slice, x->n_out, dst, x->n_out, x->n_out, lo, hi, c->scratch);
    }
}

static void value_range(const float *v, int64_t n, float *ret_lo, float *ret_hi) {
    float lo = v[0], hi = v[0];
    for (int64_t i = 1; i < n; i++) {
        lo = v[i] < lo ? v[i] : lo;
        hi = v[i] > hi ? v[i] : hi;
    }
    *ret_lo = lo;
    *ret_hi = hi;
}

/* All three axes of one channel; the range of the whole channel limits the result. */
static int cubic_joint(const struct cubic *c, const float *src, float *dst, struct vx_err *err) {
    const struct spline_axis *z = &c->ax[0];
    int64_t plane_in = c->ax[1].n_in * c->ax[2].n_in, plane_out = c->ax[1].n_out * c->ax[2].n_out;
    float lo, hi;
    value_range(src, z->n_in * plane_in, &lo, &hi);
    if (z->same) {
        for (int64_t k = 0; k < z->n_in; k++) {
            cubic_slice(c, src + k * plane_in, dst + k * plane_out, lo, hi);
        }
        return VX_OK;
    }
    if (c->ax[1].same && c->ax[2].same) {
        spline_columns(z, src, plane_in, dst, plane_in, plane_in, lo, hi, c->scratch);
        return VX_OK;
    }
    bool z_first = z->n_out * plane_in < z->n_in * plane_out;
    size_t between = (size_t)(z_first ? z->n_out * plane_in : z->n_in * plane_out);
    vx_auto_free float *mid = malloc(between * sizeof(float));
    if (!mid) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for %zu bytes to resample a volume",
                       between * sizeof(float));
    }
    if (z_first) {
        spline_columns(z, src, plane_in, mid, plane_in, plane_in, -INFINITY, INFINITY, c->scratch);
        for (int64_t k = 0; k < z->n_out; k++) {
            cubic_slice(c, mid + k * plane_in, dst + k * plane_out, lo, hi);
        }
    } else {
        for (int64_t k = 0; k < z->n_in; k++) {
            cubic_slice(c, src + k * plane_in, mid + k * plane_out, -INFINITY, INFINITY);
        }
        spline_columns(z, mid, plane_out, dst, plane_out, plane_out, lo, hi, c->scratch);
    }
    return VX_OK;
}

/* In plane only, nearest slice along axis 0; a slice's own range limits it. */
static void cubic_slices(const struct cubic *c, const float *src, float *dst) {
    const struct spline_axis *z = &c->ax[0];
    int64_t plane_in = c->ax[1].n_in * c->ax[2].n_in, plane_out = c->ax[1].n_out * c->ax[2].n_out;
    int64_t last = -1;
    for (int64_t o = 0; o < z->n_out; o++) {
        int64_t i = z->same ? o : nearest_index(o, z->n_in, z->n_out);
        float *to = dst + o * plane_out;
        if (i == last) {
            memcpy(to, to - plane_out, (size_t)plane_out * sizeof(float));
            continue;
        }
        float lo, hi;
        value_range(src + i * plane_in, plane_in, &lo, &hi);
        cubic_slice(c, src + i * plane_in, to, lo, hi);
        last = i;
    }
}

/* dst[i][j][k] = src along axes order[0], order[1], order[2]; shape and strides are the source's.
 */
static void permute(const float *src, const int64_t shape[3], const int order[3], float *dst) {
    const int64_t stride[3] = {shape[1] * shape[2], shape[2], 1};
    int64_t n0 = shape[order[0]], n1 = shape[order[1]], n2 = shape[order[2]];
    int64_t s0 = stride[order[0]], s1 = stride[order[1]], s2 = stride[order[2]];
    for (int64_t i = 0; i < n0; i++) {
        for (int64_t j = 0; j < n1; j++) {
            const float *from = src + i * s0 + j * s1;
            for (int64_t k = 0; k < n2; k++) {
                *dst++ = from[k * s2];
            }
        }
    }
}

/* The separate axis is not the slowest one: bring it there and back. */
static int cubic_turned(const float *src, const int64_t in[3], int axis, const int64_t out[3],
                        float *dst, struct vx_err *err) {
    int order[3] = {axis, 0, axis == 1 ? 2 : 1};
    int back[3];
    int64_t in_turned[3], out_turned[3];
    for (int i = 0; i < 3; i++) {
        in_turned[i] = in[order[i]];
        out_turned[i] = out[order[i]];
        back[order[i]] = i;
    }
    size_t n_in = (size_t)(in[0] * in[1] * in[2]), n_out = (size_t)(out[0] * out[1] * out[2]);
    vx_auto_free float *a = malloc(n_in * sizeof(float)), *b = malloc(n_out * sizeof(float));
    if (!a || !b) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to resample a volume");
    }
    struct cubic c;
    int rc = cubic_init(&c, in_turned, out_turned, err);
    if (rc != VX_OK) {
        return rc;
    }
    permute(src, in, order, a);
    cubic_slices(&c, a, b);
    permute(b, out_turned, back, dst);
    cubic_release(&c);
    return VX_OK;
}

int vx_resample_image(const float *src, int channels, const int64_t src_shape[3], int axis,
                      const int64_t dst_shape[3], float *dst, struct vx_err *err) {
    int64_t n_src = src_shape[0] * src_shape[1] * src_shape[2];
    int64_t n_dst = dst_shape[0] * dst_shape[1] * dst_shape[2];
    if (same_shape(src_shape, dst_shape)) {
        memcpy(dst, src, (size_t)(channels * n_src) * sizeof(float));
        return VX_OK;
    }
    if (axis == 1 || axis == 2) {
        int rc = VX_OK;
        for (int k = 0; rc == VX_OK && k < channels; k++) {
            rc = cubic_turned(src + k * n_src, src_shape, axis, dst_shape, dst + k * n_dst, err);
        }
        return rc;
    }
    struct cubic c;
    int rc = cubic_init(&c, src_shape, dst_shape, err);
    if (rc != VX_OK) {
        return rc;
    }
    for (int k = 0; rc == VX_OK && k < channels; k++) {
        if (axis == 0) {
            cubic_slices(&c, src + k * n_src, dst + k * n_dst);
        } else {
            rc = cubic_joint(&c, src + k * n_src, dst + k * n_dst, err);
        }
    }
    cubic_release(&c);
    return rc;
}
