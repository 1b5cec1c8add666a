/* Resampling against scikit-image's values and against a slow version in double that evaluates all
 * three axes at once. */
#include "base/err.h"
#include "base/own.h"
#include "resample_golden.h"
#include "volume/resample.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int64_t small_in[3] = {3, 4, 5}, small_out[3] = {5, 3, 7};

static void golden_source(float *v, int n) {
    for (int i = 0; i < n; i++) {
        v[i] = (float)(i * 37 % 23) - 7 + 0.25f * (float)(i % 5);
    }
}

static void golden_source_labels(int16_t *v, const int64_t s[3]) {
    for (int64_t z = 0; z < s[0]; z++) {
        for (int64_t y = 0; y < s[1]; y++) {
            for (int64_t x = 0; x < s[2]; x++) {
                *v++ = (int16_t)((z / 2 * 3 + y / 2 * 2 + x / 3) % 4 - 1);
            }
        }
    }
}

Test(volume_resample, cubic_equals_scikit_image) {
    float src[60], dst[105];
    golden_source(src, 60);
    static const struct {
        int axis;
        const double *want;
    } rows[] = {{VX_RESAMPLE_JOINT, golden_joint}, {0, golden_axis0}, {2, golden_axis2}};
    for (size_t k = 0; k < VX_COUNTOF(rows); k++) {
        cr_assert_eq(vx_resample_image(src, 1, small_in, rows[k].axis, small_out, dst, NULL),
                     VX_OK);
        for (int i = 0; i < 105; i++) {
            cr_assert_float_eq(dst[i], rows[k].want[i], 1e-5, "axis %d, value %d: %g, not %g",
                               rows[k].axis, i, (double)dst[i], rows[k].want[i]);
        }
    }
}

Test(volume_resample, labels_equal_scikit_image) {
    static const int64_t in[3] = {4, 5, 7}, out[3] = {6, 8, 9};
    int16_t src[140], dst[432];
    golden_source_labels(src, in);
    cr_assert_eq(vx_resample_labels(src, in, VX_RESAMPLE_JOINT, out, dst, NULL), VX_OK);
    cr_assert_arr_eq(dst, golden_labels_joint, sizeof dst);
    cr_assert_eq(vx_resample_labels(src, in, 0, out, dst, NULL), VX_OK);
    cr_assert_arr_eq(dst, golden_labels_axis0, sizeof dst);
}

/* Every sample lies between voxels, so that most are decided among labels with equal masks; where
 * no mask reaches a half, no label that is not there may appear. */
Test(volume_resample, equal_labels_go_to_the_nearest_voxel) {
    static const int64_t in[3] = {8, 6, 10}, out[3] = {4, 3, 5};
    int16_t src[480], dst[60];
    for (int i = 0; i < 480; i++) {
        src[i] = (int16_t)((i * 7 + i / 3 * 5 + i / 11) % 5 - 1);
    }
    cr_assert_eq(vx_resample_labels(src, in, VX_RESAMPLE_JOINT, out, dst, NULL), VX_OK);
    cr_assert_arr_eq(dst, golden_labels_halved, sizeof dst);
    cr_assert_eq(vx_resample_labels(src, in, 0, out, dst, NULL), VX_OK);
    cr_assert_arr_eq(dst, golden_labels_halved_axis0, sizeof dst);
}

/* ---- the slow version ---- */

struct grid {
    const double *v;
    const int64_t *n;
};

static double at(const struct grid *g, int64_t z, int64_t y, int64_t x) {
    int64_t p[3] = {z, y, x};
    for (int i = 0; i < 3; i++) {
        p[i] = p[i] < 0 ? 0 : p[i] >= g->n[i] ? g->n[i] - 1 : p[i];
    }
    return g->v[(p[0] * g->n[1] + p[1]) * g->n[2] + p[2]];
}

/* Cardinal cubic spline: its value at distance t from a sample, summed from B-splines and the
 * inverse filter's response sqrt(3) z^|k|. */
static double cardinal(double t) {
    double sum = 0;
    for (int k = -40; k <= 40; k++) {
        double d = fabs(t - k), b = 0;
        if (d < 1) {
            b = 2.0 / 3 - d * d + d * d * d / 2;
        } else if (d < 2) {
            b = (2 - d) * (2 - d) * (2 - d) / 6;
        }
        sum += b * sqrt(3) * pow(sqrt(3) - 2, abs(k));
    }
    return sum;
}

static double tent(double t) {
    return fabs(t) < 1 ? 1 - fabs(t) : 0;
}

/* One output value: the whole neighbourhood with a product of kernels; axes that are kept have in =
 * out. */
static double slow_value(const struct grid *g, const int64_t out[3], const int64_t o[3],
                         double (*kernel)(double), int reach) {
    double c[3], sum = 0;
    int64_t f[3];
    int r[3];
    for (int i = 0; i < 3; i++) {
        c[i] = ((double)o[i] + 0.5) * (double)g->n[i] / (double)out[i] - 0.5;
        f[i] = (int64_t)floor(c[i]);
        r[i] = g->n[i] == out[i] ? 0 : reach;
    }
    for (int dz = -r[0]; dz <= r[0]; dz++) {
        for (int dy = -r[1]; dy <= r[1]; dy++) {
            for (int dx = -r[2]; dx <= r[2]; dx++) {
                double w = (r[0] ? kernel(c[0] - (double)(f[0] + dz)) : 1) *
                           (r[1] ? kernel(c[1] - (double)(f[1] + dy)) : 1) *
                           (r[2] ? kernel(c[2] - (double)(f[2] + dx)) : 1);
                sum += w == 0 ? 0 : w * at(g, f[0] + dz, f[1] + dy, f[2] + dx);
            }
        }
    }
    return sum;
}

static void check_against_slow(const int64_t in[3], const int64_t out[3]) {
    size_t n_in = (size_t)(in[0] * in[1] * in[2]), n_out = (size_t)(out[0] * out[1] * out[2]);
    float *src = calloc(n_in, sizeof *src), *cubic = malloc(n_out * sizeof *cubic);
    float *linear = malloc(n_out * sizeof *linear);
    double *exact = malloc(n_in * sizeof *exact);
    golden_source(src, (int)n_in);
    double lo = src[0], hi = src[0];
    for (size_t i = 0; i < n_in; i++) {
        exact[i] = src[i];
        lo = fmin(lo, src[i]);
        hi = fmax(hi, src[i]);
    }
    cr_assert_eq(vx_resample_image(src, 1, in, VX_RESAMPLE_JOINT, out, cubic, NULL), VX_OK);
    cr_assert_eq(vx_resample_linear(src, 1, in, VX_RESAMPLE_JOINT, out, linear, NULL), VX_OK);
    struct grid g = {exact, in};
    for (size_t i = 0; i < n_out; i += 5) {
        int64_t k = (int64_t)i, o[3] = {k / (out[1] * out[2]), k / out[2] % out[1], k % out[2]};
        double want = fmin(fmax(slow_value(&g, out, o, cardinal, 12), lo), hi);
        cr_assert_float_eq(cubic[i], want, 2e-5, "%g, not %g", (double)cubic[i], want);
        want = slow_value(&g, out, o, tent, 2);
        cr_assert_float_eq(linear[i], want, 1e-5, "%g, not %g", (double)linear[i], want);
    }
    free(src);
    free(cubic);
    free(linear);
    free(exact);
}

Test(volume_resample, equals_slow_version) {
    check_against_slow((const int64_t[3]){5, 6, 7}, (const int64_t[3]){8, 4, 9});
    check_against_slow((const int64_t[3]){6, 5, 70}, (const int64_t[3]){4, 7, 66}); /* > 64 lanes */
    check_against_slow((const int64_t[3]){1, 9, 2}, (const int64_t[3]){3, 9, 1});
    check_against_slow((const int64_t[3]){4, 6, 5}, (const int64_t[3]){4, 11, 5});
    check_against_slow((const int64_t[3]){4, 6, 5}, (const int64_t[3]){9, 6, 5});
    check_against_slow((const int64_t[3]){1, 1, 1}, (const int64_t[3]){2, 2, 2});
}

/* Every order of passes: each axis shrinks, stays or grows. Splines overshoot at steps. */
Test(volume_resample, results_stay_in_the_range_of_the_source) {
    static const int64_t in[3] = {8, 9, 10};
    float src[720], dst[11 * 12 * 13];
    for (int i = 0; i < 720; i++) {
        src[i] = (float)((i / 90 / 2 + i / 10 % 9 / 2 + i % 10 / 2) % 2);
    }
    for (int k = 0; k < 27; k++) {
        const int64_t out[3] = {in[0] + k / 9 * 3 - 3, in[1] + k / 3 % 3 * 3 - 3,
                                in[2] + k % 3 * 3 - 3};
        for (int axis = -1; axis < 3; axis++) {
            cr_assert_eq(vx_resample_image(src, 1, in, axis, out, dst, NULL), VX_OK);
            for (int64_t i = 0; i < out[0] * out[1] * out[2]; i++) {
                cr_assert(dst[i] >= 0 && dst[i] <= 1, "to %d x %d x %d, axis %d: %g", (int)out[0],
                          (int)out[1], (int)out[2], axis, (double)dst[i]);
            }
        }
    }
}

Test(volume_resample, same_shape_is_untouched) {
    float src[60], dst[60];
    golden_source(src, 60);
    src[3] = NAN;
    cr_assert_eq(vx_resample_image(src, 1, small_in, VX_RESAMPLE_JOINT, small_in, dst, NULL), 0);
    cr_assert_eq(memcmp(src, dst, sizeof src), 0);
    cr_assert_eq(vx_resample_linear(src, 1, small_in, 0, small_in, dst, NULL), VX_OK);
    cr_assert_eq(memcmp(src, dst, sizeof src), 0);
}

Test(volume_resample, channels_are_independent) {
    float src[120], dst[210], one[105];
    golden_source(src, 120);
    for (int axis = -1; axis < 3; axis++) {
        cr_assert_eq(vx_resample_image(src, 2, small_in, axis, small_out, dst, NULL), VX_OK);
        cr_assert_eq(vx_resample_image(src + 60, 1, small_in, axis, small_out, one, NULL), VX_OK);
        cr_assert_eq(memcmp(dst + 105, one, sizeof one), 0);
        cr_assert_eq(vx_resample_linear(src, 2, small_in, axis, small_out, dst, NULL), VX_OK);
        cr_assert_eq(vx_resample_linear(src + 60, 1, small_in, axis, small_out, one, NULL), VX_OK);
        cr_assert_eq(memcmp(dst + 105, one, sizeof one), 0);
    }
}

Test(volume_resample, separate_axis_takes_the_nearest_slice) {
    /* 2 slices to 5: sources 0 0 1 1 1 (the tie at 0.5 goes up) */
    static const int64_t in[3] = {2, 3, 3}, out[3] = {5, 3, 3};
    static const int from[5] = {0, 0, 1, 1, 1};
    float src[18], cubic[45], linear[45];
    int16_t labels[18], resized[45];
    golden_source(src, 18);
    for (int i = 0; i < 18; i++) {
        labels[i] = (int16_t)(i % 4 - 1);
    }
    cr_assert_eq(vx_resample_image(src, 1, in, 0, out, cubic, NULL), VX_OK);
    cr_assert_eq(vx_resample_linear(src, 1, in, 0, out, linear, NULL), VX_OK);
    cr_assert_eq(vx_resample_labels(labels, in, 0, out, resized, NULL), VX_OK);
    for (int z = 0; z < 5; z++) {
        cr_assert_eq(memcmp(cubic + 9 * z, src + 9 * from[z], 9 * sizeof(float)), 0);
        cr_assert_eq(memcmp(linear + 9 * z, src + 9 * from[z], 9 * sizeof(float)), 0);
        cr_assert_eq(memcmp(resized + 9 * z, labels + 9 * from[z], 9 * sizeof(int16_t)), 0);
    }
}

Test(volume_resample, separate_axis_rule) {
    static const struct {
        double cur[3], new[3];
        int axis;
    } rows[] = {
        {{1, 1, 1}, {1, 1, 1}, -1},
        {{5, 1, 1}, {1, 1, 1}, 0},
        {{1, 5, 1}, {4, 1, 1}, 1}, /* the current spacing decides first */
        {{1, 1, 1}, {1, 1, 3.5}, 2},
        {{3, 1, 1}, {3, 1, 1}, -1}, /* not over 3 */
        {{5, 5, 1}, {1, 1, 1}, -1}, /* two axes tie */
        {{5, 5, 1}, {9, 1, 1}, -1}, /* and the new spacing is not asked then */
        {{3.27, 0.977, 0.977}, {1, 1, 1}, 0},
    };
    for (size_t i = 0; i < VX_COUNTOF(rows); i++) {
        cr_assert_eq(vx_resample_axis(rows[i].cur, rows[i].new), rows[i].axis, "row %zu", i);
    }
}

Test(volume_resample, new_shape_rounds_half_to_even) {
    int64_t out[3];
    vx_resample_shape((const int64_t[3]){5, 7, 3}, (const double[3]){0.5, 0.5, 0.1},
                      (const double[3]){1, 1, 1}, out);
    cr_assert(out[0] == 2 && out[1] == 4 && out[2] == 1);
}

static int stop_at_two(void *context, int64_t z, const float *slice) {
    (void)slice;
    *(int64_t *)context = z;
    return z == 2 ? VX_E_CANCELLED : VX_OK;
}

Test(volume_resample, slices_stop_on_error) {
    float src[60];
    golden_source(src, 60);
    int64_t last = -1;
    cr_assert_eq(vx_resample_linear_slices(src, small_in, VX_RESAMPLE_JOINT, small_out, stop_at_two,
                                           &last, NULL),
                 VX_E_CANCELLED);
    cr_assert_eq(last, 2);
}
