/* Elementary functions, noise, brightness, contrast, gamma against libm and doubles. */
#include "alone.h"
#include "augment/transforms/chain.h"
#include "augment/voxel.h"

#include <math.h>

enum { N = 61 * 83 };
static const int32_t size[3] = {1, 61, 83};

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

/* The errors that voxel.h states: every mantissa of log2, dense grids of the others. */
Test(augment_voxel, logarithms) {
    for (uint32_t u = 0x3f3504f3u; u < 0x3fb504f3u; u++) {
        float f = vx_bits_float(u);
        cr_assert(fabs((double)vx_log2f(f) - log2((double)f)) < 5e-8, "log2 %.9g", (double)f);
    }
    for (double x = 1.2e-38; x < 1e38; x *= 1.00091) {
        float f = (float)x;
        double want = log2((double)f);
        cr_assert(fabs(vx_log2f(f) - want) < 5e-8 + fabs(want) * 6e-8, "log2 %g", x);
    }
}

Test(augment_voxel, powers) {
    for (int i = -(1 << 22); i <= 1 << 22; i++) {
        float f = (float)i * 0x1p-23f;
        cr_assert(fabs((double)vx_exp2f(f) / exp2((double)f) - 1) < 1e-7, "exp2 %g", (double)f);
    }
    for (double x = -125; x <= 125; x += 0.00173) {
        float f = (float)x;
        cr_assert(fabs(vx_exp2f(f) / exp2((double)f) - 1) < 1e-7, "exp2 %g", x);
    }
    const float exponents[] = {0.7f, 0.93f, 1.0f, 1.21f, 1.5f, 4.0f};
    for (int e = 0; e < 6; e++) {
        for (int i = 1; i <= 1 << 20; i++) {
            float x = (float)i * 0x1p-20f;
            double want = pow((double)x, (double)exponents[e]);
            double error = fabs((double)vx_unit_powf(x, exponents[e]) - want);
            cr_assert(error < 1e-7 && error < 3e-6 * want, "%g ^ %g", (double)x,
                      (double)exponents[e]);
        }
        cr_assert_eq(vx_unit_powf(0.0f, exponents[e]), 0.0f);
    }
}

Test(augment_voxel, normal_pairs_match_box_and_muller) {
    struct vx_rng r = vx_rng_at(1, 2, 3, 4, 5);
    for (int i = 0; i < 1 << 20; i++) {
        uint32_t a = vx_rng_u32(&r), b = vx_rng_u32(&r);
        float x, y;
        vx_normal_pair(a, b, &x, &y);
        double radius = sqrt(-2 * log(((a >> 8) + 1.0) / 16777216.0));
        double turn = (b >> 30) / 4.0 + ((b & 0x3fffffff) >> 6) / 67108864.0 - 0.125;
        cr_assert(fabs((double)x - radius * cos(2 * M_PI * turn)) < 1e-6);
        cr_assert(fabs((double)y - radius * sin(2 * M_PI * turn)) < 1e-6);
    }
    float x, y;
    vx_normal_pair(0, 0, &x, &y);
    cr_assert(isfinite(x) && isfinite(y));
    vx_normal_pair(~0u, ~0u, &x, &y);
    cr_assert_float_eq(x * x + y * y, 0, 1e-6);
}

/* The same from every table and for every beginning within a group of 64 (rows of 37 values). */
Test(augment_intensity, noise_is_the_numbered_normal_values) {
    const int32_t s[3] = {3, 41, 37};
    enum { C = 2, ALL = C * 3 * 41 * 37 };
    EACH_KERNELS(k) {
        vx_auto_free float *x = alone_image(ALL, -1, 1), *before = alone_image(ALL, -1, 1);
        struct vx_aug_params a;
        vx_aug_identity(&a);
        a.seed = 0x123456789abcdefull;
        a.k = 12;
        a.j = 1;
        a.noise = true;
        a.noise_sigma = 0.25f;
        alone_apply(k, s, C, 0, &a, x, NULL);
        double sum = 0, squares = 0;
        for (uint32_t i = 0; i < ALL; i++) {
            uint32_t group = i / VX_NOISE_GROUP, word = i % VX_NOISE_GROUP / 16, lane = i % 16;
            uint32_t counter[4] = {VX_PURPOSE_NOISE_VOXELS, 12, 1, group * 16 + lane};
            struct vx_rng4 r = vx_philox(a.seed, counter);
            float pair[2];
            vx_normal_pair(r.v[word / 2 * 2], r.v[word / 2 * 2 + 1], &pair[0], &pair[1]);
            cr_assert_eq(x[i], before[i] + 0.25f * pair[word % 2], "%s, value %u", k->name, i);
            double z = (x[i] - before[i]) / 0.25;
            sum += z;
            squares += z * z;
        }
        cr_assert_lt(fabs(sum / ALL), 0.05);
        cr_assert_lt(fabs(squares / ALL - 1), 0.07);
    }
}

Test(augment_intensity, stats) {
    EACH_KERNELS(k) {
        vx_auto_free float *x = alone_image(N, 999, 1001); /* squares must not cancel */
        struct vx_aug_stats s;
        struct vx_chain c = {.kernels = k, .x = x, .size = {1, 1, N}};
        x[77] = 995;
        x[N - 1] = 1006;
        vx_chain_run(&c, VX_T_CONTRAST, &s);
        cr_assert(s.min == 995 && s.max == 1006);
        cr_assert_float_eq(s.mean, mean_of(x), 1e-7);
        cr_assert_float_eq(sqrt(s.variance), deviation_of(x), 1e-8);
        float one = 4;
        c = (struct vx_chain){.kernels = k, .x = &one, .size = {1, 1, 1}};
        vx_chain_run(&c, VX_T_CONTRAST, &s);
        cr_assert(s.mean == 4 && s.variance == 0 && s.min == 4 && s.max == 4);
    }
}

Test(augment_intensity, brightness_and_contrast) {
    vx_auto_free float *before = alone_image(N, -3, 5);
    double m = mean_of(before), lo = 1e9, hi = -1e9;
    for (int i = 0; i < N; i++) {
        lo = before[i] < lo ? before[i] : lo;
        hi = before[i] > hi ? before[i] : hi;
    }
    EACH_KERNELS(k) {
        vx_auto_free float *x = alone_image(N, -3, 5), *y = alone_image(N, -3, 5);
        struct vx_aug_params a;
        int clamped = 0;
        vx_aug_identity(&a);
        a.brightness = true;
        a.brightness_factor[0] = 1.2f;
        alone_apply(k, size, 1, 0, &a, x, NULL);
        a.brightness = false;
        a.contrast = true;
        a.contrast_factor[0] = 1.24f;
        alone_apply(k, size, 1, 0, &a, y, NULL);
        for (int i = 0; i < N; i++) {
            double want = fmin(fmax((before[i] - m) * 1.24 + m, lo), hi);
            cr_assert_float_eq(x[i], before[i] * 1.2, 1e-6);
            cr_assert_float_eq(y[i], want, 3e-6);
            clamped += want == lo || want == hi;
        }
        cr_assert_gt(clamped, 100);
    }
}

static void gamma_alone(const struct vx_aug_kernels *k, const int32_t shape[3], float exponent,
                        bool inverted, float *x) {
    struct vx_aug_params a;
    vx_aug_identity(&a);
    a.gamma = !inverted;
    a.gamma_inverted = inverted;
    a.gamma_exponent[0] = a.gamma_inverted_exponent[0] = exponent;
    alone_apply(k, shape, 1, 0, &a, x, NULL);
}

static void check_gamma(float exponent, bool inverted) {
    vx_auto_free float *before = alone_image(N, -3, 5);
    vx_auto_free double *y = malloc(N * sizeof *y);
    double lo = 1e9, hi = -1e9, mean = 0, deviation = 0;
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
    EACH_KERNELS(k) {
        vx_auto_free float *x = alone_image(N, -3, 5);
        gamma_alone(k, size, exponent, inverted, x);
        for (int i = 0; i < N; i++) {
            double want = (y[i] - mean) * old_deviation / sqrt(deviation) + old_mean;
            cr_assert_float_eq(x[i], inverted ? -want : want, 2e-5);
        }
        cr_assert_float_eq(mean_of(x), mean_of(before), 1e-5);
        cr_assert_float_eq(deviation_of(x), old_deviation, 1e-5);
    }
}

Test(augment_intensity, gamma_keeps_mean_and_deviation) {
    check_gamma(0.7f, false);
    check_gamma(1.5f, false);
    check_gamma(0.83f, true);
    check_gamma(1.31f, true);
}

Test(augment_intensity, gamma_of_a_constant_is_that_constant) {
    EACH_KERNELS(k) {
        const int32_t shape[3] = {1, 4, 16};
        float x[64];
        for (int i = 0; i < 64; i++) {
            x[i] = 2.5f;
        }
        gamma_alone(k, shape, 0.8f, false, x);
        gamma_alone(k, shape, 1.2f, true, x);
        for (int i = 0; i < 64; i++) {
            cr_assert_float_eq(x[i], 2.5f, 1e-6);
        }
    }
}
