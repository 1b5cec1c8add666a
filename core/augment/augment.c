#include "augment/augment.h"

#include "augment/clones.h"
#include "augment/parts.h"
#include "base/clock.h"

#include <string.h>

size_t vx_aug_scratch_bytes(const struct vx_aug_policy *p) {
    size_t plane = (size_t)p->patch[1] * (size_t)p->patch[2];
    size_t volume = plane * (size_t)p->patch[0];
    size_t edges = (size_t)p->patch[0] + (size_t)p->patch[1] + (size_t)p->patch[2];
    /* two volumes and a plane, then index rows: low resolution 3 per axis, spatial 4 of a padded
     * row, blur one row */
    size_t values = 2 * volume + plane + 4 * edges + 4 * 16 + 2 * VX_BLUR_RADIUS_MAX;
    return (values * sizeof(float) + 63) / 64 * 64;
}

/* Adds the time since *mark to one transform and moves the mark. */
static void lap(uint64_t *ns, enum vx_transform t, uint64_t *mark) {
    if (ns) {
        uint64_t now = vx_now_ns();
        ns[t] += now - *mark;
        *mark = now;
    }
}

static void fetch(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                  const struct vx_aug_box *box, const float *src_image, const int16_t *src_label,
                  float *image, int16_t *label, void *scratch) {
    if (a->spatial) {
        vx_aug_spatial(p, a, box, src_image, src_label, image, label, scratch);
        return;
    }
    size_t n = vx_aug_box_voxels(box);
    if (src_image != image) {
        memcpy(image, src_image, p->channels * n * sizeof *image);
    }
    if (src_label != label) {
        memcpy(label, src_label, n * sizeof *label);
    }
}

/* Noise to gamma: what changes intensities. */
static void intensities(const struct vx_aug_policy *p, const struct vx_aug_params *a, float *image,
                        void *scratch, uint64_t *ns, uint64_t *mark) {
    size_t n = (size_t)p->patch[0] * (size_t)p->patch[1] * (size_t)p->patch[2];
    uint32_t blur_axes = p->dims == 2 ? 6u : 7u;
    uint32_t lowres_axes = p->dims == 2 || p->dummy_2d ? 6u : 7u;
    if (a->noise) {
        vx_aug_noise(a, image, n * p->channels);
        lap(ns, VX_T_NOISE, mark);
    }
    for (uint32_t c = 0; c < p->channels; c++) {
        float *x = image + c * n;
        if (a->blur >> c & 1u) {
            vx_aug_blur(x, p->patch, a->blur_sigma[c], blur_axes, scratch);
            lap(ns, VX_T_BLUR, mark);
        }
        if (a->brightness) {
            vx_aug_brightness(x, n, a->brightness_factor[c]);
            lap(ns, VX_T_BRIGHTNESS, mark);
        }
        if (a->contrast) {
            vx_aug_contrast(x, n, a->contrast_factor[c]);
            lap(ns, VX_T_CONTRAST, mark);
        }
        if (a->lowres >> c & 1u) {
            vx_aug_lowres(x, p->patch, a->zoom[c], lowres_axes, scratch);
            lap(ns, VX_T_LOWRES, mark);
        }
        if (a->gamma_inverted) {
            vx_aug_gamma(x, n, a->gamma_inverted_exponent[c], true);
            lap(ns, VX_T_GAMMA_INVERTED, mark);
        }
        if (a->gamma) {
            vx_aug_gamma(x, n, a->gamma_exponent[c], false);
            lap(ns, VX_T_GAMMA, mark);
        }
    }
}

VX_CLONES
static void mask_channel(float *restrict x, const int16_t *restrict label, size_t n) {
    for (size_t i = 0; i < n; i++) {
        x[i] = label[i] < 0 ? 0.0f : x[i];
    }
}

VX_CLONES
static void outside_to_background(int16_t *label, size_t n) {
    for (size_t i = 0; i < n; i++) {
        label[i] = label[i] < 0 ? 0 : label[i];
    }
}

void vx_aug_labels(float *image, int16_t *label, size_t n, uint32_t channels, uint32_t mask) {
    for (uint32_t c = 0; c < channels; c++) {
        if (mask >> c & 1u) {
            mask_channel(image + c * n, label, n);
        }
    }
    outside_to_background(label, n);
}

void vx_aug_apply(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                  const struct vx_aug_box *box, const float *src_image, const int16_t *src_label,
                  float *image, int16_t *label, void *scratch, uint64_t *ns) {
    size_t n = (size_t)p->patch[0] * (size_t)p->patch[1] * (size_t)p->patch[2];
    uint64_t mark = ns ? vx_now_ns() : 0;
    fetch(p, a, box, src_image, src_label, image, label, scratch);
    lap(ns, VX_T_SPATIAL, &mark);
    intensities(p, a, image, scratch, ns, &mark);
    if (a->mirror) {
        for (uint32_t c = 0; c < p->channels; c++) {
            vx_aug_mirror_image(image + c * n, p->patch, a->mirror);
        }
        vx_aug_mirror_label(label, p->patch, a->mirror);
        lap(ns, VX_T_MIRROR, &mark);
    }
    vx_aug_labels(image, label, n, p->channels, p->mask_channels);
    lap(ns, VX_T_LABELS, &mark);
}
