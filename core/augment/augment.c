/* The order of the transforms. Mirroring comes first here although nnU-Net mirrors last: all others
 * treat both directions of an axis alike (low resolution is told), and where the voxels come from
 * is computed anyway, so it costs nothing there. */
#include "augment/augment.h"

#include "augment/kernels.h"
#include "augment/transforms/chain.h"
#include "augment/transforms/parts.h"
#include "base/clock.h"

#include <math.h>
#include <string.h>

size_t vx_aug_scratch_bytes(const struct vx_aug_policy *p) {
    size_t most = vx_aug_spatial_scratch(p);
    size_t blur = vx_aug_blur_scratch(p->patch), lowres = vx_aug_lowres_scratch(p->patch);
    most = blur > most ? blur : most;
    most = lowres > most ? lowres : most;
    return (most * sizeof(float) + 63) / 64 * 64;
}

/* --- where the voxels come from --- */

/* The copy of a source that is not the output, mirrored along z and y; along x is left to do. */
static void copy_rows(const struct vx_aug_policy *p, const struct vx_aug_params *a, const char *src,
                      char *out, size_t item_bytes) {
    size_t height = (size_t)p->patch[1], row = (size_t)p->patch[2] * item_bytes;
    for (int32_t z = 0; z < p->patch[0]; z++) {
        for (int32_t y = 0; y < p->patch[1]; y++, out += row) {
            size_t from_z = (size_t)(a->mirror & 1u ? p->patch[0] - 1 - z : z);
            size_t from_y = (size_t)(a->mirror & 2u ? p->patch[1] - 1 - y : y);
            memcpy(out, src + (from_z * height + from_y) * row, row);
        }
    }
}

static void fetch(const struct vx_aug_kernels *k, const struct vx_aug_policy *p,
                  const struct vx_aug_params *a, const struct vx_aug_box *box,
                  const float *src_image, const int16_t *src_label, float *image, int16_t *label,
                  void *scratch) {
    size_t n = vx_aug_box_voxels(box);
    if (a->spatial) {
        vx_aug_spatial(k, p, a, box, src_image, src_label, image, label, scratch);
        return;
    }
    for (uint32_t c = 0; src_image != image && c < p->channels; c++) {
        copy_rows(p, a, (const char *)(src_image + c * n), (char *)(image + c * n), sizeof *image);
    }
    if (src_label != label) {
        copy_rows(p, a, (const char *)src_label, (char *)label, sizeof *label);
    }
}

/* --- what changes intensities --- */

static uint32_t blur_axes(const struct vx_aug_policy *p) {
    return p->dims == 2 ? 6u : 7u;
}

static uint32_t lowres_axes(const struct vx_aug_policy *p) {
    return p->dims == 2 || p->dummy_2d ? 6u : 7u;
}

static void contrast(struct vx_chain *c, float factor) {
    struct vx_aug_stats s;
    vx_chain_run(c, VX_T_CONTRAST, &s);
    vx_chain_add(c, VX_OP_STRETCH, VX_T_CONTRAST, (float)s.mean, factor, s.min, s.max);
}

/* An exponent on the channel brought to [0, 1] and back, upside down where inverted; mean and
 * deviation are restored. */
static void gamma_power(struct vx_chain *c, float exponent, bool inverted) {
    enum vx_transform t = inverted ? VX_T_GAMMA_INVERTED : VX_T_GAMMA;
    struct vx_aug_stats before, after;
    float sign = inverted ? -1.0f : 1.0f;
    vx_chain_run(c, t, &before);
    vx_chain_add(c, VX_OP_POWER, t, sign, inverted ? -before.max : before.min,
                 before.max - before.min, exponent);
    vx_chain_run(c, t, &after);
    double deviation = sqrt(after.variance);
    double factor = sqrt(before.variance) / (deviation > 1e-7 ? deviation : 1e-7);
    vx_chain_add(c, VX_OP_RESTORE, t, sign, (float)after.mean, (float)factor,
                 sign * (float)before.mean);
}

/* Channel number i; c has nothing noted. */
static void change_channel(struct vx_chain *c, const struct vx_aug_policy *p,
                           const struct vx_aug_params *a, uint32_t i, void *scratch) {
    struct vx_blur blur;
    struct vx_lowres lowres;
    if (!a->spatial && a->mirror & 4u) {
        vx_chain_add(c, VX_OP_REVERSE, VX_T_MIRROR, 0, 0, 0, 0);
    }
    if (a->noise) {
        vx_chain_add(c, VX_OP_NOISE, VX_T_NOISE, a->noise_sigma, 0, 0, 0);
    }
    if (a->blur >> i & 1u) {
        vx_chain_run(c, VX_T_BLUR, NULL);
        vx_aug_blur_begin(&blur, c->kernels, c->x, c->size, a->blur_sigma[i], blur_axes(p),
                          scratch);
        vx_chain_make(c, vx_aug_blur_plane, &blur, VX_T_BLUR);
    }
    if (a->brightness) {
        vx_chain_add(c, VX_OP_SCALE, VX_T_BRIGHTNESS, a->brightness_factor[i], 0, 0, 0);
    }
    if (a->contrast) {
        contrast(c, a->contrast_factor[i]);
    }
    if (a->lowres >> i & 1u) {
        vx_chain_run(c, VX_T_LOWRES, NULL);
        vx_aug_lowres_begin(&lowres, c->kernels, c->x, c->size, a->zoom[i], lowres_axes(p),
                            a->mirror, scratch);
        vx_aug_lap(c->ns, VX_T_LOWRES, c->mark);
        vx_chain_make(c, vx_aug_lowres_plane, &lowres, VX_T_LOWRES);
    }
    if (a->gamma_inverted) {
        gamma_power(c, a->gamma_inverted_exponent[i], true);
    }
    if (a->gamma) {
        gamma_power(c, a->gamma_exponent[i], false);
    }
    if (p->mask_channels >> i & 1u) {
        vx_chain_add(c, VX_OP_MASK, VX_T_LABELS, 0, 0, 0, 0);
    }
    vx_chain_run(c, VX_T_LABELS, NULL);
}

/* What is left to do to labels: mirroring along x, -1 to 0. */
static void finish_labels(const struct vx_aug_kernels *k, const struct vx_aug_policy *p,
                          int16_t *label, bool reverse, bool background) {
    size_t width = (size_t)p->patch[2], rows = (size_t)p->patch[0] * (size_t)p->patch[1];
    for (size_t r = 0; r < rows && (reverse || background); r++, label += width) {
        if (reverse) {
            k->reverse_labels(label, width);
        }
        if (background) {
            k->background(label, width);
        }
    }
}

void vx_aug_apply_with(const struct vx_aug_kernels *k, const struct vx_aug_policy *p,
                       const struct vx_aug_params *a, const struct vx_aug_box *box,
                       const float *src_image, const int16_t *src_label, float *image,
                       int16_t *label, void *scratch, uint64_t *ns) {
    size_t n = (size_t)p->patch[0] * (size_t)p->patch[1] * (size_t)p->patch[2];
    uint64_t mark = ns ? vx_now_ns() : 0;
    fetch(k, p, a, box, src_image, src_label, image, label, scratch);
    vx_aug_lap(ns, VX_T_SPATIAL, &mark);
    /* channels are masked by -1 before it goes */
    bool masked = p->mask_channels != 0;
    finish_labels(k, p, label, !a->spatial && a->mirror & 4u, !masked);
    vx_aug_lap(ns, VX_T_LABELS, &mark);
    for (uint32_t i = 0; i < p->channels; i++) {
        struct vx_chain c = {
            .kernels = k,
            .x = image + i * n,
            .label = label,
            .size = {p->patch[0], p->patch[1], p->patch[2]},
            .noise = {a->seed, a->stream << 16 | VX_PURPOSE_NOISE_VOXELS, a->k, a->j},
            .number = i * n,
            .ns = ns,
            .mark = &mark};
        change_channel(&c, p, a, i, scratch);
    }
    finish_labels(k, p, label, false, masked);
    vx_aug_lap(ns, VX_T_LABELS, &mark);
}

void vx_aug_apply(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                  const struct vx_aug_box *box, const float *src_image, const int16_t *src_label,
                  float *image, int16_t *label, void *scratch, uint64_t *ns) {
    vx_aug_apply_with(vx_aug_kernels(), p, a, box, src_image, src_label, image, label, scratch, ns);
}
