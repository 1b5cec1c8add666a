/* Order 1: logits by slices, labels by corners. */
#include "base/err.h"
#include "base/own.h"
#include "volume/resample.h"
#include "volume/resample_axis.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define MIXED INT_MIN

static void axes_release(struct linear_axis ax[3]) {
    for (int i = 0; i < 3; i++) {
        linear_axis_release(&ax[i]);
    }
}

static int axes_init(struct linear_axis ax[3], const int64_t in[3], int axis, const int64_t out[3],
                     struct vx_err *err) {
    memset(ax, 0, 3 * sizeof *ax);
    for (int i = 0; i < 3; i++) {
        if (linear_axis_init(&ax[i], in[i], out[i], i == axis) != VX_OK) {
            axes_release(ax);
            return vx_fail(err, VX_E_NOMEM, NULL, "no memory to resample a volume");
        }
    }
    return VX_OK;
}

static void linear_plane(const struct linear_axis *y, const struct linear_axis *x, const float *src,
                         float *row, float *dst) {
    for (int64_t oy = 0; oy < y->n_out; oy++) {
        const float *a = src + y->lo[oy] * x->n_in, *b = src + y->hi[oy] * x->n_in;
        float w = (float)y->w[oy];
        for (int64_t i = 0; i < x->n_in; i++) {
            row[i] = a[i] + w * (b[i] - a[i]);
        }
        float *out = dst + oy * x->n_out;
        for (int64_t o = 0; o < x->n_out; o++) {
            float l = row[x->lo[o]], h = row[x->hi[o]];
            out[o] = l + (float)x->w[o] * (h - l);
        }
    }
}

/* Two source slices resized in plane, remembered by their index, and the blend of both. */
struct slices {
    struct linear_axis ax[3];
    float *plane[2], *row, *blend;
    int64_t held[2];
};

static const float *plane_of(struct slices *s, const float *src, int64_t z) {
    int at = (int)(z & 1); /* neighbouring slices take different places */
    if (s->held[at] != z) {
        linear_plane(&s->ax[1], &s->ax[2], src + z * s->ax[1].n_in * s->ax[2].n_in, s->row,
                     s->plane[at]);
        s->held[at] = z;
    }
    return s->plane[at];
}

static int run_slices(struct slices *s, const float *src, vx_resample_slice_fn fn, void *context) {
    const struct linear_axis *z = &s->ax[0];
    int64_t n = s->ax[1].n_out * s->ax[2].n_out;
    for (int64_t o = 0; o < z->n_out; o++) {
        const float *slice = plane_of(s, src, z->lo[o]);
        float w = (float)z->w[o];
        if (w > 0) {
            const float *upper = plane_of(s, src, z->hi[o]);
            for (int64_t i = 0; i < n; i++) {
                s->blend[i] = slice[i] + w * (upper[i] - slice[i]);
            }
            slice = s->blend;
        }
        int rc = fn(context, o, slice);
        if (rc != VX_OK) {
            return rc;
        }
    }
    return VX_OK;
}

int vx_resample_linear_slices(const float *src, const int64_t src_shape[3], int axis,
                              const int64_t dst_shape[3], vx_resample_slice_fn fn, void *context,
                              struct vx_err *err) {
    int64_t plane = dst_shape[1] * dst_shape[2];
    if (memcmp(src_shape, dst_shape, 3 * sizeof *src_shape) == 0) {
        int rc = VX_OK;
        for (int64_t z = 0; rc == VX_OK && z < dst_shape[0]; z++) {
            rc = fn(context, z, src + z * plane);
        }
        return rc;
    }
    struct slices s = {.held = {-1, -1}};
    int rc = axes_init(s.ax, src_shape, axis, dst_shape, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_free float *memory = malloc((size_t)(3 * plane + src_shape[2]) * sizeof(float));
    if (!memory) {
        axes_release(s.ax);
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to resample a volume");
    }
    s.plane[0] = memory;
    s.plane[1] = memory + plane;
    s.blend = memory + 2 * plane;
    s.row = memory + 3 * plane;
    rc = run_slices(&s, src, fn, context);
    axes_release(s.ax);
    return rc;
}

struct copy_sink {
    float *dst;
    size_t plane;
};

static int copy_slice(void *context, int64_t z, const float *slice) {
    struct copy_sink *s = context;
    memcpy(s->dst + (size_t)z * s->plane, slice, s->plane * sizeof(float));
    return VX_OK;
}

int vx_resample_linear(const float *src, int channels, const int64_t src_shape[3], int axis,
                       const int64_t dst_shape[3], float *dst, struct vx_err *err) {
    int64_t n_src = src_shape[0] * src_shape[1] * src_shape[2];
    int64_t n_dst = dst_shape[0] * dst_shape[1] * dst_shape[2];
    int rc = VX_OK;
    for (int c = 0; rc == VX_OK && c < channels; c++) {
        struct copy_sink sink = {dst + c * n_dst, (size_t)(dst_shape[1] * dst_shape[2])};
        rc = vx_resample_linear_slices(src + c * n_src, src_shape, axis, dst_shape, copy_slice,
                                       &sink, err);
    }
    return rc;
}

/* The label of one output voxel from its eight neighbours: the one with the largest sum of weights;
 * of several equal ones that of the nearest voxel, else the smallest. Sums are SciPy's to the last
 * bit, since it is exact equality that decides. */
static int16_t label_of_corners(const int16_t v[8], const double w[8], int16_t nearest) {
    int16_t label[8];
    double score[8];
    int n = 0, best = 0;
    for (int i = 0; i < 8; i++) {
        int k = 0;
        while (k < n && label[k] != v[i]) {
            k++;
        }
        if (k == n) {
            label[n] = v[i];
            score[n++] = 0;
        }
        score[k] += w[i];
    }
    for (int k = 1; k < n; k++) {
        bool equal = score[k] == score[best];
        if (score[k] > score[best] || (equal && label[k] < label[best])) {
            best = k;
        }
    }
    for (int k = 0; k < n; k++) {
        if (label[k] == nearest && score[k] == score[best]) {
            return nearest;
        }
    }
    return label[best];
}

/* 1 where the upper of both neighbours is the nearest voxel (SciPy's rounding of the coordinate).
 */
static int upper_is_nearest(const struct linear_axis *a, int64_t o) {
    return (double)a->lo[o] + a->w[o] + 0.5 >= (double)a->lo[o] + 1;
}

/* One output row. row: the four source rows (z lo/hi, y lo/hi), the nearest of them; same: scratch
 * of one int per source x. */
static void label_row(const int16_t *const row[4], const double wzy[4], int nearest,
                      const struct linear_axis *x, int *same, int16_t *out) {
    for (int64_t i = 0; i < x->n_in; i++) {
        bool equal = row[0][i] == row[1][i] && row[0][i] == row[2][i] && row[0][i] == row[3][i];
        same[i] = equal ? row[0][i] : MIXED;
    }
    for (int64_t o = 0; o < x->n_out; o++) {
        int lo = x->lo[o], hi = x->hi[o];
        if (same[lo] != MIXED && same[lo] == same[hi]) {
            out[o] = (int16_t)same[lo];
            continue;
        }
        int16_t v[8];
        double w[8];
        for (int k = 0; k < 4; k++) {
            v[2 * k] = row[k][lo];
            v[2 * k + 1] = row[k][hi];
            w[2 * k] = wzy[k] * (1 - x->w[o]);
            w[2 * k + 1] = wzy[k] * x->w[o];
        }
        out[o] = label_of_corners(v, w, v[2 * nearest + upper_is_nearest(x, o)]);
    }
}

int vx_resample_labels(const int16_t *src, const int64_t src_shape[3], int axis,
                       const int64_t dst_shape[3], int16_t *dst, struct vx_err *err) {
    if (memcmp(src_shape, dst_shape, 3 * sizeof *src_shape) == 0) {
        memcpy(dst, src, (size_t)(src_shape[0] * src_shape[1] * src_shape[2]) * sizeof *src);
        return VX_OK;
    }
    struct linear_axis ax[3];
    int rc = axes_init(ax, src_shape, axis, dst_shape, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_free int *same = malloc((size_t)src_shape[2] * sizeof *same);
    if (!same) {
        axes_release(ax);
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to resample a label map");
    }
    int64_t nx = src_shape[2], plane = src_shape[1] * nx;
    for (int64_t z = 0; z < dst_shape[0]; z++) {
        const int16_t *below = src + ax[0].lo[z] * plane, *above = src + ax[0].hi[z] * plane;
        double wz = ax[0].w[z];
        for (int64_t y = 0; y < dst_shape[1]; y++) {
            int64_t lo = ax[1].lo[y] * nx, hi = ax[1].hi[y] * nx;
            double wy = ax[1].w[y];
            const int16_t *const row[4] = {below + lo, below + hi, above + lo, above + hi};
            const double wzy[4] = {(1 - wz) * (1 - wy), (1 - wz) * wy, wz * (1 - wy), wz * wy};
            int nearest = 2 * upper_is_nearest(&ax[0], z) + upper_is_nearest(&ax[1], y);
            label_row(row, wzy, nearest, &ax[2], same, dst);
            dst += dst_shape[2];
        }
    }
    axes_release(ax);
    return VX_OK;
}
