/* Draws: repeatable, independent of one another, and distributed as nnU-Net says. */
#include "augment/draws.h"
#include "base/err.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { N = 10000, C = 3 };

static struct vx_aug_policy default_policy(void) {
    struct vx_aug_policy p;
    int32_t patch[3] = {40, 56, 40};
    cr_assert_eq(vx_aug_policy_default(3, C, patch, &p), VX_OK);
    return p;
}

/* A share of n draws lies within 4.5 standard deviations of its probability. */
static void check_share(const char *what, double count, double n, double p) {
    double bound = 4.5 * sqrt(p * (1 - p) / n);
    cr_assert(fabs(count / n - p) < bound, "%s: %g not %g +- %g", what, count / n, p, bound);
}

struct sums {
    double rotated, scaled, spatial, noise, blur, blur_one, bright, contrast, lowres, low_one;
    double inverted, gamma, mirror[3];
    double angle, angle2, scale, sigma, factor, factor_below, zoom, exponent;
    double channels_blurred, channels_low;
};

static void add(struct sums *s, const struct vx_aug_params *a) {
    bool rotated = a->angle[0] != 0;
    s->rotated += rotated;
    s->scaled += a->scale != 1.0f;
    s->spatial += a->spatial;
    s->noise += a->noise;
    s->blur += a->blur != 0;
    s->channels_blurred += __builtin_popcount(a->blur);
    s->bright += a->brightness;
    s->contrast += a->contrast;
    s->lowres += a->lowres != 0;
    s->channels_low += __builtin_popcount(a->lowres);
    s->inverted += a->gamma_inverted;
    s->gamma += a->gamma;
    for (int i = 0; i < 3; i++) {
        s->mirror[i] += a->mirror >> i & 1;
    }
    s->angle += a->angle[1];
    s->angle2 += (double)a->angle[2] * a->angle[2];
    s->scale += a->scale != 1.0f ? a->scale : 0;
    s->sigma += a->noise_sigma;
    s->factor += a->brightness_factor[1];
    s->factor_below += a->brightness_factor[1] < 1;
    s->zoom += a->zoom[2];
    s->exponent += a->gamma_exponent[0];
}

Test(augment_draws, probabilities_and_means) {
    struct vx_aug_policy p = default_policy();
    struct sums s;
    memset(&s, 0, sizeof s);
    for (uint64_t k = 0; k < N; k++) {
        struct vx_aug_params a;
        vx_aug_draw(&p, 11, 0, k / 2, (uint32_t)(k % 2), &a);
        add(&s, &a);
        for (int c = 0; c < C; c++) {
            cr_assert(a.blur_sigma[c][0] >= 0.5f && a.blur_sigma[c][2] <= 1.0f);
            cr_assert(a.contrast_factor[c] >= 0.75f && a.contrast_factor[c] <= 1.25f);
            cr_assert(a.gamma_exponent[c] >= 0.7f && a.gamma_exponent[c] <= 1.5f);
            cr_assert(a.zoom[c] >= 0.5f && a.zoom[c] <= 1.0f);
        }
        cr_assert(fabsf(a.angle[2]) <= p.rotation_limit && a.scale >= 0.7f && a.scale <= 1.4f);
        cr_assert(a.noise_sigma >= 0 && a.noise_sigma <= 0.1f);
    }
    check_share("rotation", s.rotated, N, 0.2);
    check_share("scaling", s.scaled, N, 0.2);
    check_share("interpolated", s.spatial, N, 0.36);
    check_share("noise", s.noise, N, 0.1);
    check_share("blur", s.blur, N, 0.2 * (1 - 0.125));
    check_share("blur per channel", s.channels_blurred, N * C * 0.2, 0.5);
    check_share("brightness", s.bright, N, 0.15);
    check_share("contrast", s.contrast, N, 0.15);
    check_share("low resolution", s.lowres, N, 0.25 * (1 - 0.125));
    check_share("low resolution per channel", s.channels_low, N * C * 0.25, 0.5);
    check_share("gamma inverted", s.inverted, N, 0.1);
    check_share("gamma", s.gamma, N, 0.3);
    for (int i = 0; i < 3; i++) {
        check_share("mirror", s.mirror[i], N, 0.5);
    }
    check_share("factors below 1", s.factor_below, N, 0.5);
    cr_assert_float_eq(s.angle / s.rotated, 0, 0.03);
    double limit = p.rotation_limit;
    cr_assert_float_eq(s.angle2 / s.rotated, limit * limit / 3, 0.01);
    cr_assert_float_eq(s.scale / s.scaled, 1.05, 0.02);
    cr_assert_float_eq(s.sigma / N, 0.05, 0.002);
    cr_assert_float_eq(s.factor / N, (0.875 + 1.125) / 2, 0.01);
    cr_assert_float_eq(s.zoom / N, 0.75, 0.01);
    cr_assert_float_eq(s.exponent / N, (0.85 + 1.25) / 2, 0.01);
}

Test(augment_draws, are_a_function_of_seed_stream_batch_and_sample) {
    struct vx_aug_policy p = default_policy();
    struct vx_aug_params a, b;
    vx_aug_draw(&p, 1, 0, 17, 1, &a);
    vx_aug_draw(&p, 1, 0, 17, 1, &b);
    cr_assert_eq(memcmp(&a, &b, sizeof a), 0);
    const uint64_t other[4][4] = {{2, 0, 17, 1}, {1, 1, 17, 1}, {1, 0, 18, 1}, {1, 0, 17, 0}};
    for (int i = 0; i < 4; i++) {
        vx_aug_draw(&p, other[i][0], (uint32_t)other[i][1], other[i][2], (uint32_t)other[i][3], &b);
        cr_assert_neq(a.zoom[0], b.zoom[0]);
        cr_assert_neq(a.noise_sigma, b.noise_sigma);
    }
}

/* Turning one transform off moves no draw of another. */
Test(augment_draws, transforms_do_not_shift_each_other) {
    struct vx_aug_policy p = default_policy(), q = p;
    q.p_rotation = 0;
    q.p_blur = 1;
    q.p_mirror = 0;
    for (uint64_t k = 0; k < 200; k++) {
        struct vx_aug_params a, b;
        vx_aug_draw(&p, 3, 0, k, 0, &a);
        vx_aug_draw(&q, 3, 0, k, 0, &b);
        cr_assert_eq(a.scale, b.scale);
        cr_assert_eq(a.lowres, b.lowres);
        cr_assert_eq(memcmp(a.gamma_exponent, b.gamma_exponent, sizeof a.gamma_exponent), 0);
        cr_assert_eq(b.mirror, 0);
    }
}

Test(augment_draws, planes_turn_around_one_axis) {
    struct vx_aug_policy p;
    int32_t patch[3] = {20, 320, 256};
    cr_assert_eq(vx_aug_policy_default(3, 1, patch, &p), VX_OK);
    int turned = 0;
    for (uint64_t k = 0; k < 500; k++) {
        struct vx_aug_params a;
        vx_aug_draw(&p, 3, 0, k, 0, &a);
        cr_assert(a.angle[1] == 0 && a.angle[2] == 0);
        turned += a.angle[0] != 0;
    }
    cr_assert_gt(turned, 50);
}
