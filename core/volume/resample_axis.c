/* One axis at a time. A B-spline prefilter is a recursion along the line, so lines are processed in
 * groups of neighbouring lanes: every step of the recursion is then one vector operation.
 *
 * The signal is continued with its edge values for ever (scikit-image's "edge" mode; SciPy
 * continues 12 samples, which differs by less than 1e-13 of the step). Then both recursions have
 * closed forms outside: with pole z, the causal part is s0 / (1 - z) left of the line and a + d z^k
 * right of it. Source: M. Unser, "Splines: a perfect fit for signal and image processing", IEEE
 * Signal Processing Magazine 1999. */
#include "volume/resample_axis.h"
#include "base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define POLE  (-0.26794919243112270647) /* sqrt(3) - 2 */
#define EXTRA 2                         /* coefficients kept on either side */

/* Several instruction sets, chosen when the program starts; results do not depend on the choice, as
 * the room is compiled without contraction to fused multiply-adds. Not under sanitizers, which are
 * not ready when the choice is made. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define VX_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define VX_CLONES
#endif

static double source_coordinate(int64_t o, int64_t n_in, int64_t n_out) {
    return ((double)o + 0.5) * ((double)n_in / (double)n_out) - 0.5;
}

int64_t nearest_index(int64_t o, int64_t n_in, int64_t n_out) {
    double i = floor(source_coordinate(o, n_in, n_out) + 0.5);
    return i < 0 ? 0 : i > (double)(n_in - 1) ? n_in - 1 : (int64_t)i;
}

int spline_axis_init(struct spline_axis *a, int64_t n_in, int64_t n_out) {
    *a = (struct spline_axis){.n_in = n_in, .n_out = n_out, .same = n_in == n_out};
    a->first = malloc((size_t)n_out * sizeof *a->first);
    a->weight = malloc((size_t)n_out * sizeof *a->weight);
    if (!a->first || !a->weight) {
        spline_axis_release(a);
        return VX_E_NOMEM;
    }
    for (int64_t o = 0; o < n_out; o++) {
        double c = source_coordinate(o, n_in, n_out), f = floor(c), t = c - f, u = 1 - t;
        a->first[o] = (int32_t)f - 1 + EXTRA;
        a->weight[o][0] = (float)(u * u * u);
        a->weight[o][1] = (float)(4 - 6 * t * t + 3 * t * t * t);
        a->weight[o][2] = (float)(4 - 6 * u * u + 3 * u * u * u);
        a->weight[o][3] = (float)(t * t * t);
    }
    return VX_OK;
}

void spline_axis_release(struct spline_axis *a) {
    free(a->first);
    free(a->weight);
    memset(a, 0, sizeof *a);
}

int linear_axis_init(struct linear_axis *a, int64_t n_in, int64_t n_out, bool nearest) {
    *a = (struct linear_axis){.n_in = n_in, .n_out = n_out};
    a->lo = malloc((size_t)n_out * sizeof *a->lo);
    a->hi = malloc((size_t)n_out * sizeof *a->hi);
    a->w = malloc((size_t)n_out * sizeof *a->w);
    if (!a->lo || !a->hi || !a->w) {
        linear_axis_release(a);
        return VX_E_NOMEM;
    }
    for (int64_t o = 0; o < n_out; o++) {
        double c = source_coordinate(o, n_in, n_out);
        c = nearest ? (double)nearest_index(o, n_in, n_out) : c;
        c = c < 0 ? 0 : c > (double)(n_in - 1) ? (double)(n_in - 1) : c;
        a->lo[o] = (int32_t)c;
        a->hi[o] = a->lo[o] + 1 < n_in ? a->lo[o] + 1 : a->lo[o];
        a->w[o] = c - a->lo[o];
    }
    return VX_OK;
}

void linear_axis_release(struct linear_axis *a) {
    free(a->lo);
    free(a->hi);
    free(a->w);
    memset(a, 0, sizeof *a);
}

int64_t spline_scratch(int64_t n_in, int64_t n_out) {
    return (n_in + 2 * EXTRA + n_out) * SPLINE_LANES;
}

/* In place: samples in rows EXTRA .. EXTRA + n - 1 of c become coefficients (times 1/6) in all n +
 * 2 EXTRA rows. */
VX_CLONES static void prefilter(float *restrict c, int64_t n) {
    const float z = (float)POLE, over = (float)(1 / (1 - POLE));
    const float over2 = (float)(1 / (1 - POLE * POLE));
    float left[SPLINE_LANES], steady[SPLINE_LANES], step[SPLINE_LANES];
    float *first = c + EXTRA * SPLINE_LANES, *last = first + (n - 1) * SPLINE_LANES;
    for (int j = 0; j < SPLINE_LANES; j++) {
        left[j] = first[j] * over;
        steady[j] = last[j] * over;
        first[j] = left[j];
    }
    for (float *row = first + SPLINE_LANES; row <= last; row += SPLINE_LANES) {
        const float *before = row - SPLINE_LANES;
        for (int j = 0; j < SPLINE_LANES; j++) {
            row[j] += z * before[j];
        }
    }
    for (int j = 0; j < SPLINE_LANES; j++) {
        step[j] = (last[j] - steady[j]) * over2;
        steady[j] *= over;
    }
    for (int k = 0; k <= EXTRA; k++) {
        float *row = last + k * SPLINE_LANES;
        for (int j = 0; j < SPLINE_LANES; j++) {
            row[j] = -z * (steady[j] + step[j]);
            step[j] *= z;
        }
    }
    for (float *row = last - SPLINE_LANES; row >= first; row -= SPLINE_LANES) {
        const float *after = row + SPLINE_LANES;
        for (int j = 0; j < SPLINE_LANES; j++) {
            row[j] = z * (after[j] - row[j]);
        }
    }
    for (float *row = first - SPLINE_LANES; row >= c; row -= SPLINE_LANES) {
        const float *after = row + SPLINE_LANES;
        for (int j = 0; j < SPLINE_LANES; j++) {
            row[j] = z * (after[j] - left[j]);
        }
    }
}

/* One output row of all lanes. */
VX_CLONES static void evaluate(const float *restrict c, const float w[4], float lo, float hi,
                               float *restrict out) {
    const float *c1 = c + SPLINE_LANES, *c2 = c1 + SPLINE_LANES, *c3 = c2 + SPLINE_LANES;
    for (int j = 0; j < SPLINE_LANES; j++) {
        float v = w[0] * c[j] + w[1] * c1[j] + w[2] * c2[j] + w[3] * c3[j];
        v = v < lo ? lo : v;
        out[j] = v > hi ? hi : v;
    }
}

void spline_columns(const struct spline_axis *a, const float *src, int64_t src_stride, float *dst,
                    int64_t dst_stride, int64_t width, float lo, float hi, float *scratch) {
    float *samples = scratch + EXTRA * SPLINE_LANES;
    float *out = scratch + (a->n_in + 2 * EXTRA) * SPLINE_LANES;
    for (int64_t x = 0; x < width; x += SPLINE_LANES) {
        size_t n = width - x < SPLINE_LANES ? (size_t)(width - x) : SPLINE_LANES;
        for (int64_t i = 0; i < a->n_in; i++) {
            memcpy(samples + i * SPLINE_LANES, src + i * src_stride + x, n * sizeof(float));
            memset(samples + i * SPLINE_LANES + n, 0, (SPLINE_LANES - n) * sizeof(float));
        }
        prefilter(scratch, a->n_in);
        for (int64_t o = 0; o < a->n_out; o++) {
            evaluate(scratch + a->first[o] * SPLINE_LANES, a->weight[o], lo, hi, out);
            memcpy(dst + o * dst_stride + x, out, n * sizeof(float));
        }
    }
}

void spline_rows(const struct spline_axis *a, const float *src, float *dst, int64_t rows, float lo,
                 float hi, float *scratch) {
    float *samples = scratch + EXTRA * SPLINE_LANES;
    float *out = scratch + (a->n_in + 2 * EXTRA) * SPLINE_LANES;
    for (int64_t r0 = 0; r0 < rows; r0 += SPLINE_LANES) {
        int64_t n = rows - r0 < SPLINE_LANES ? rows - r0 : SPLINE_LANES;
        if (n < SPLINE_LANES) {
            memset(samples, 0, (size_t)a->n_in * SPLINE_LANES * sizeof(float));
        }
        for (int64_t r = 0; r < n; r++) {
            const float *line = src + (r0 + r) * a->n_in;
            for (int64_t i = 0; i < a->n_in; i++) {
                samples[i * SPLINE_LANES + r] = line[i];
            }
        }
        prefilter(scratch, a->n_in);
        for (int64_t o = 0; o < a->n_out; o++) {
            evaluate(scratch + a->first[o] * SPLINE_LANES, a->weight[o], lo, hi,
                     out + o * SPLINE_LANES);
        }
        for (int64_t r = 0; r < n; r++) {
            float *line = dst + (r0 + r) * a->n_out;
            for (int64_t o = 0; o < a->n_out; o++) {
                line[o] = out[o * SPLINE_LANES + r];
            }
        }
    }
}
