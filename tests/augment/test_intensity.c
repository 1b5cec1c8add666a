/* Elementary functions, noise, brightness, contrast, gamma against libm and doubles. */
#include "augment/parts.h"
#include "augment/voxel.h"
#include "base/own.h"
#include "base/rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 5003 };

static void fill(float *x, float lo, float hi) {
    struct vx_rng r = vx_rng_at(9, 0, 0, 0, 901);
    for (int i = 0; i < N; i++) {
        x[i] = vx_rng_uniform(&r, lo, hi);
    }
}

static double mean_of(const float *x) {
    double s = 0;
    for (int i = 0; i < N; i++) {
        s += x[i];
    }
    return s / N;
}

static double deviation_of(const float *x) {
    double m = mean_of(x), s = 0;
    for (int i = 0; i < N; i++) {
        s += (x[i] - m) * (x[i] - m);
    }
    return sqrt(s / (N - 1));
}

Test(augment_voxel, elementary_functions) {
    for (double x = 1.2e-38; x < 1e38; x *= 1.00091) {
        float f = (float)x;
        double want = log2((double)f);
        cr_assert(fabs(vx_log2f(f) - want) < 1e-6 + fabs(want) * 1.2e-7, "log2 %g", x);
    }
    for (double x = -125; x <= 125; x += 0.00173) {
        float f = (float)x;
        cr_assert(fabs(vx_exp2f(f) / exp2((double)f) - 1) < 3e-7, "exp2 %g", x);
    }
    const float exponents[] = {0.7f, 0.93f, 1.0f, 1.21f, 1.5f};
    for (int e = 0; e < 5; e++) {
        for (double x = 1e-6; x <= 1; x += 0.000177) {
            double want = pow((double)(float)x, (double)exponents[e]);
            cr_assert(fabs(vx_unit_powf((float)x, exponents[e]) - want) < 4e-6 * want, "%g ^ %g", x,
                      (double)exponents[e]);
        }
        cr_assert_eq(vx_unit_powf(0.0f, exponents[e]), 0.0f);
        cr_assert_float_eq(vx_unit_powf(1.0f, exponents[e]), 1.0f, 1e-6);
    }
}

Test(augment_voxel, normal_pairs_match_box_and_muller) {
    struct vx_rng r = vx_rng_at(1, 2, 3, 4, 5);
    for (int i = 0; i < 20000; i++) {
        uint32_t a = vx_rng_u32(&r), b = vx_rng_u32(&r);
        float x, y;
        vx_normal_pair(a, b, &x, &y);
        double radius = sqrt(-2 * log(((a >> 8) + 1.0) / 16777216.0));
        double turn = (b >> 30) / 4.0 + ((b & 0x3fffffff) >> 6) / 67108864.0 - 0.125;
        cr_assert_float_eq(x, radius * cos(2 * M_PI * turn), 3e-6);
        cr_assert_float_eq(y, radius * sin(2 * M_PI * turn), 3e-6);
    }
    float x, y;
    vx_normal_pair(0, 0, &x, &y);
    cr_assert(isfinite(x) && isfinite(y));
    vx_normal_pair(~0u, ~0u, &x, &y);
    cr_assert_float_eq(x * x + y * y, 0, 1e-6);
}

Test(augment_intensity, noise_is_the_numbered_normal_values) {
    float x[N], before[N];
    fill(x, -1, 1);
    memcpy(before, x, sizeof x);
    struct vx_aug_params a;
    vx_aug_identity(&a);
    a.seed = 0x123456789abcdefull;
    a.stream = 0;
    a.k = 12;
    a.j = 1;
    a.noise_sigma = 0.25f;
    vx_aug_noise(&a, x, N);
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < N; i++) {
        uint32_t group = i / VX_NOISE_GROUP, word = i % VX_NOISE_GROUP / 16, lane = i % 16;
        uint32_t counter[4] = {VX_PURPOSE_NOISE_VOXELS, 12, 1, group * 16 + lane};
        struct vx_rng4 r = vx_philox(a.seed, counter);
        float pair[2];
        vx_normal_pair(r.v[word / 2 * 2], r.v[word / 2 * 2 + 1], &pair[0], &pair[1]);
        cr_assert_eq(x[i], before[i] + 0.25f * pair[word % 2], "value %u", i);
        double z = (x[i] - before[i]) / 0.25;
        sum += z;
        squares += z * z;
    }
    cr_assert_lt(fabs(sum / N), 0.06);
    cr_assert_lt(fabs(squares / N - 1), 0.09);
}

Test(augment_intensity, stats) {
    float x[N];
    struct vx_aug_stats s;
    fill(x, 999, 1001); /* far from zero: squares must not cancel */
    x[77] = 995;
    x[N - 1] = 1006;
    vx_aug_stats(x, N, &s);
    cr_assert(s.min == 995 && s.max == 1006);
    cr_assert_float_eq(s.mean, mean_of(x), 1e-7);
    cr_assert_float_eq(sqrt(s.variance), deviation_of(x), 1e-8);
    float one = 4;
    vx_aug_stats(&one, 1, &s);
    cr_assert(s.mean == 4 && s.variance == 0 && s.min == 4 && s.max == 4);
}

Test(augment_intensity, brightness_and_contrast) {
    float x[N], before[N];
    fill(x, -3, 5);
    memcpy(before, x, sizeof x);
    vx_aug_brightness(x, N, 1.2f);
    for (int i = 0; i < N; i++) {
        cr_assert_float_eq(x[i], before[i] * 1.2, 1e-6);
    }
    fill(x, -3, 5);
    vx_aug_contrast(x, N, 1.24f);
    double m = mean_of(before), lo = 1e9, hi = -1e9;
    for (int i = 0; i < N; i++) {
        lo = before[i] < lo ? before[i] : lo;
        hi = before[i] > hi ? before[i] : hi;
    }
    int clamped = 0;
    for (int i = 0; i < N; i++) {
        double want = fmin(fmax((before[i] - m) * 1.24 + m, lo), hi);
        cr_assert_float_eq(x[i], want, 3e-6);
        clamped += want == lo || want == hi;
    }
    cr_assert_gt(clamped, 100);
}

static void check_gamma(float exponent, bool inverted) {
    float x[N], before[N];
    fill(x, -3, 5);
    memcpy(before, x, sizeof x);
    vx_aug_gamma(x, N, exponent, inverted);
    double y[N], lo = 1e9, hi = -1e9, mean = 0, deviation = 0;
    for (int i = 0; i < N; i++) {
        y[i] = inverted ? -(double)before[i] : before[i];
        lo = fmin(lo, y[i]);
        hi = fmax(hi, y[i]);
    }
    double old_mean = (inverted ? -1 : 1) * mean_of(before), old_deviation = deviation_of(before);
    for (int i = 0; i < N; i++) {
        y[i] = pow((y[i] - lo) / (hi - lo), exponent) * (hi - lo) + lo;
        mean += y[i] / N;
    }
    for (int i = 0; i < N; i++) {
        deviation += (y[i] - mean) * (y[i] - mean) / (N - 1);
    }
    for (int i = 0; i < N; i++) {
        double want = (y[i] - mean) * old_deviation / sqrt(deviation) + old_mean;
        cr_assert_float_eq(x[i], inverted ? -want : want, 2e-5);
    }
    cr_assert_float_eq(mean_of(x), mean_of(before), 1e-5);
    cr_assert_float_eq(deviation_of(x), old_deviation, 1e-5);
}

Test(augment_intensity, gamma_keeps_mean_and_deviation) {
    check_gamma(0.7f, false);
    check_gamma(1.5f, false);
    check_gamma(0.83f, true);
    check_gamma(1.31f, true);
}

Test(augment_intensity, gamma_of_a_constant_is_that_constant) {
    float x[64];
    for (int i = 0; i < 64; i++) {
        x[i] = 2.5f;
    }
    vx_aug_gamma(x, 64, 0.8f, false);
    vx_aug_gamma(x, 64, 1.2f, true);
    for (int i = 0; i < 64; i++) {
        cr_assert_float_eq(x[i], 2.5f, 1e-6);
    }
}
