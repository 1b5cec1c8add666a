#include "augment/draws.h"

#include "base/rng.h"

#include <string.h>

/* Every rng draws the same number of words whatever the outcomes, so that one choice never shifts
 * another. */

static struct vx_rng rng_for(const struct vx_aug_params *a, enum vx_purpose purpose) {
    return vx_rng_at(a->seed, a->stream, a->k, a->j, (uint32_t)purpose);
}

static bool chance(struct vx_rng *r, float p) {
    return vx_rng_unit(r) < p;
}

/* nnU-Net's BG(lo, hi): below 1 or above 1 with equal probability. */
static float below_or_above(struct vx_rng *r, float lo, float hi) {
    bool below = vx_rng_unit(r) < 0.5f && lo < 1.0f;
    float from = below ? lo : (lo > 1.0f ? lo : 1.0f), to = below ? 1.0f : hi;
    return vx_rng_uniform(r, from, to);
}

static void draw_spatial(const struct vx_aug_policy *p, struct vx_aug_params *a) {
    struct vx_rng r = rng_for(a, VX_PURPOSE_SPATIAL);
    bool rotate = chance(&r, p->p_rotation);
    /* in a plane there is one angle, around axis 0 */
    int angles = p->dims == 2 || p->dummy_2d ? 1 : 3;
    for (int i = 0; i < 3; i++) {
        float angle = vx_rng_uniform(&r, -p->rotation_limit, p->rotation_limit);
        a->angle[i] = rotate && i < angles ? angle : 0.0f;
    }
    bool zoom = chance(&r, p->p_scaling);
    float scale = vx_rng_uniform(&r, p->scale_lo, p->scale_hi);
    a->scale = zoom ? scale : 1.0f;
    a->spatial = rotate || zoom;
}

static void draw_blur(const struct vx_aug_policy *p, struct vx_aug_params *a) {
    struct vx_rng r = rng_for(a, VX_PURPOSE_BLUR);
    bool on = chance(&r, p->p_blur);
    for (uint32_t c = 0; c < p->channels; c++) {
        if (chance(&r, p->p_blur_channel) && on) {
            a->blur |= 1u << c;
        }
        for (int i = 0; i < 3; i++) {
            a->blur_sigma[c][i] = vx_rng_uniform(&r, p->blur_sigma_lo, p->blur_sigma_hi);
        }
    }
}

static void draw_lowres(const struct vx_aug_policy *p, struct vx_aug_params *a) {
    struct vx_rng r = rng_for(a, VX_PURPOSE_LOWRES);
    bool on = chance(&r, p->p_lowres);
    for (uint32_t c = 0; c < p->channels; c++) {
        if (chance(&r, p->p_lowres_channel) && on) {
            a->lowres |= 1u << c;
        }
        a->zoom[c] = vx_rng_uniform(&r, p->zoom_lo, p->zoom_hi);
    }
}

/* A transform of all channels with one factor each. */
static bool draw_factors(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                         enum vx_purpose purpose, const float range[3], float *factor) {
    struct vx_rng r = rng_for(a, purpose);
    bool on = chance(&r, range[0]);
    for (uint32_t c = 0; c < p->channels; c++) {
        factor[c] = below_or_above(&r, range[1], range[2]);
    }
    return on;
}

void vx_aug_identity(struct vx_aug_params *ret) {
    memset(ret, 0, sizeof *ret);
    ret->scale = 1.0f;
}

void vx_aug_draw(const struct vx_aug_policy *p, uint64_t seed, uint32_t stream, uint64_t k,
                 uint32_t j, struct vx_aug_params *ret) {
    vx_aug_identity(ret);
    ret->seed = seed;
    ret->stream = stream;
    ret->k = (uint32_t)k;
    ret->j = j;
    draw_spatial(p, ret);
    struct vx_rng r = rng_for(ret, VX_PURPOSE_NOISE);
    ret->noise = chance(&r, p->p_noise);
    ret->noise_sigma = vx_rng_uniform(&r, 0.0f, p->noise_sigma_hi);
    draw_blur(p, ret);
    const float brightness[3] = {p->p_brightness, p->brightness_lo, p->brightness_hi};
    ret->brightness =
        draw_factors(p, ret, VX_PURPOSE_BRIGHTNESS, brightness, ret->brightness_factor);
    const float contrast[3] = {p->p_contrast, p->contrast_lo, p->contrast_hi};
    ret->contrast = draw_factors(p, ret, VX_PURPOSE_CONTRAST, contrast, ret->contrast_factor);
    draw_lowres(p, ret);
    const float inverted[3] = {p->p_gamma_inverted, p->gamma_lo, p->gamma_hi};
    ret->gamma_inverted =
        draw_factors(p, ret, VX_PURPOSE_GAMMA_INVERTED, inverted, ret->gamma_inverted_exponent);
    const float gamma[3] = {p->p_gamma, p->gamma_lo, p->gamma_hi};
    ret->gamma = draw_factors(p, ret, VX_PURPOSE_GAMMA, gamma, ret->gamma_exponent);
    r = rng_for(ret, VX_PURPOSE_MIRROR);
    for (uint32_t i = 0; i < 3; i++) {
        if (chance(&r, p->p_mirror) && p->mirror_axes >> i & 1u) {
            ret->mirror |= 1u << i;
        }
    }
}
