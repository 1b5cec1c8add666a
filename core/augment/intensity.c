/* What changes intensities voxel by voxel: brightness, contrast, gamma, and the statistics they
 * rest on. */
#include "augment/clones.h"
#include "augment/parts.h"
#include "augment/voxel.h"

#include <math.h>

enum { LANES = 16 };

struct lanes {
    double sum[LANES], squares[LANES];
    float min[LANES], max[LANES];
};

/* n is a multiple of LANES. Squares are of x - shift, which keeps them from cancelling. */
VX_CLONES
static void accumulate(const float *restrict x, size_t n, double shift, struct lanes *restrict s) {
    struct lanes a = *s;
    for (size_t i = 0; i < n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float v = x[i + (size_t)l];
            a.min[l] = v < a.min[l] ? v : a.min[l];
            a.max[l] = v > a.max[l] ? v : a.max[l];
            double d = (double)v - shift;
            a.sum[l] += d;
            a.squares[l] += d * d;
        }
    }
    *s = a;
}

void vx_aug_stats(const float *x, size_t n, struct vx_aug_stats *ret) {
    struct lanes s;
    double shift = x[0];
    for (int l = 0; l < LANES; l++) {
        s.sum[l] = s.squares[l] = 0;
        s.min[l] = s.max[l] = x[0];
    }
    size_t whole = n / LANES * LANES;
    accumulate(x, whole, shift, &s);
    double sum = 0, squares = 0;
    struct vx_aug_stats r = {x[0], x[0], 0, 0};
    for (int l = 0; l < LANES; l++) {
        sum += s.sum[l];
        squares += s.squares[l];
        r.min = s.min[l] < r.min ? s.min[l] : r.min;
        r.max = s.max[l] > r.max ? s.max[l] : r.max;
    }
    for (size_t i = whole; i < n; i++) {
        double d = (double)x[i] - shift;
        sum += d;
        squares += d * d;
        r.min = x[i] < r.min ? x[i] : r.min;
        r.max = x[i] > r.max ? x[i] : r.max;
    }
    r.mean = shift + sum / (double)n;
    double about_mean = squares - sum * sum / (double)n;
    r.variance = n > 1 && about_mean > 0 ? about_mean / (double)(n - 1) : 0;
    *ret = r;
}

VX_CLONES
void vx_aug_brightness(float *x, size_t n, float factor) {
    for (size_t i = 0; i < n; i++) {
        x[i] *= factor;
    }
}

VX_CLONES
static void stretch(float *x, size_t n, float mean, float factor, float lo, float hi) {
    for (size_t i = 0; i < n; i++) {
        float v = (x[i] - mean) * factor + mean;
        v = v < lo ? lo : v;
        x[i] = v > hi ? hi : v;
    }
}

void vx_aug_contrast(float *x, size_t n, float factor) {
    struct vx_aug_stats s;
    vx_aug_stats(x, n, &s);
    stretch(x, n, (float)s.mean, factor, s.min, s.max);
}

/* x <- ((sign * x - min) / range)^exponent * range + min */
VX_CLONES
static void power(float *x, size_t n, float sign, float min, float range, float exponent) {
    float scale = range > 1e-7f ? range : 1e-7f;
    for (size_t i = 0; i < n; i++) {
        float unit = (sign * x[i] - min) / scale;
        x[i] = vx_unit_powf(unit, exponent) * range + min;
    }
}

VX_CLONES
static void restore(float *x, size_t n, float sign, float mean, float factor, float new_mean) {
    for (size_t i = 0; i < n; i++) {
        x[i] = sign * ((x[i] - mean) * factor + new_mean);
    }
}

void vx_aug_gamma(float *x, size_t n, float exponent, bool inverted) {
    struct vx_aug_stats before, after;
    float sign = inverted ? -1.0f : 1.0f;
    vx_aug_stats(x, n, &before);
    float min = inverted ? -before.max : before.min;
    power(x, n, sign, min, before.max - before.min, exponent);
    vx_aug_stats(x, n, &after);
    double deviation = sqrt(after.variance);
    double factor = sqrt(before.variance) / (deviation > 1e-7 ? deviation : 1e-7);
    restore(x, n, sign, (float)after.mean, (float)factor, sign * (float)before.mean);
}
