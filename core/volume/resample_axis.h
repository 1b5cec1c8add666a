/* Inside core/volume: one axis of a separable resize, as tables. */
#ifndef VX_VOLUME_RESAMPLE_AXIS_H
#define VX_VOLUME_RESAMPLE_AXIS_H

#include <stdbool.h>
#include <stdint.h>

/* Lines are worked on side by side, this many at a time. */
#define SPLINE_LANES 64

/* Cubic B-spline: output o = sum over k < 4 of weight[o][k] * coefficient[first[o] + k - 2], where
 * coefficients -2 .. n_in+1 are kept with an offset of 2. The prefilter's gain of 6 is in the
 * weights. */
struct spline_axis {
    int64_t n_in, n_out;
    bool same;      /* n_in == n_out: the identity */
    int32_t *first; /* into the array with offset */
    float (*weight)[4];
};

/* Order 1 or nearest: output = (1 - w) * in[lo] + w * in[hi]. */
struct linear_axis {
    int64_t n_in, n_out;
    int32_t *lo, *hi;
    double *w;
};

/* VX_OK or VX_E_NOMEM, then with nothing to release. */
int spline_axis_init(struct spline_axis *a, int64_t n_in, int64_t n_out);
void spline_axis_release(struct spline_axis *a);
int linear_axis_init(struct linear_axis *a, int64_t n_in, int64_t n_out, bool nearest);
void linear_axis_release(struct linear_axis *a);
/* Index of the nearest source slice. */
int64_t nearest_index(int64_t o, int64_t n_in, int64_t n_out);

/* Floats that spline_* need as scratch for axes up to n_in, n_out. */
int64_t spline_scratch(int64_t n_in, int64_t n_out);

/* width neighbouring columns: src[n * src_stride + j] to dst[o * dst_stride + j], j < width,
 * clamped to [lo, hi]. */
void spline_columns(const struct spline_axis *a, const float *src, int64_t src_stride, float *dst,
                    int64_t dst_stride, int64_t width, float lo, float hi, float *scratch);
/* rows: src[r * n_in + n] to dst[r * n_out + o]. */
void spline_rows(const struct spline_axis *a, const float *src, float *dst, int64_t rows, float lo,
                 float hi, float *scratch);

#endif
