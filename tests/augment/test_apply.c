/* The whole sequence: repeatable, in place where it may be, and equal to its parts in order. */
#include "augment/augment.h"
#include "augment/parts.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/own.h"
#include "base/rng.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { C = 2 };

struct sample {
    struct vx_aug_policy p;
    struct vx_aug_params a;
    struct vx_aug_box box;
    float *src, *image;
    int16_t *src_label, *label;
    void *scratch;
    size_t n, box_n;
};

static void setup(struct sample *s, uint64_t k) {
    int32_t patch[3] = {9, 12, 10};
    cr_assert_eq(vx_aug_policy_default(3, C, patch, &s->p), VX_OK);
    s->p.mask_channels = 2;
    vx_aug_draw(&s->p, 77, 0, k, 1, &s->a);
    vx_aug_source_box(&s->p, &s->a, &s->box);
    s->n = 9 * 12 * 10;
    s->box_n = vx_aug_box_voxels(&s->box);
    s->src = malloc(C * s->box_n * sizeof(float));
    s->src_label = malloc(s->box_n * sizeof(int16_t));
    s->image = malloc(C * s->n * sizeof(float));
    s->label = malloc(s->n * sizeof(int16_t));
    s->scratch = aligned_alloc(64, vx_aug_scratch_bytes(&s->p));
    struct vx_rng r = vx_rng_at(k, 0, 0, 0, 903);
    for (size_t i = 0; i < C * s->box_n; i++) {
        s->src[i] = vx_rng_uniform(&r, -1, 3);
    }
    for (size_t i = 0; i < s->box_n; i++) {
        s->src_label[i] = (int16_t)((int)vx_rng_below(&r, 4) - 1);
    }
    vx_aug_box_clear_margins(&s->box, C, s->src, s->src_label);
}

static void teardown(struct sample *s) {
    free(s->src);
    free(s->src_label);
    free(s->image);
    free(s->label);
    free(s->scratch);
}

static void run(struct sample *s) {
    uint64_t ns[VX_T_COUNT] = {0};
    vx_aug_apply(&s->p, &s->a, &s->box, s->src, s->src_label, s->image, s->label, s->scratch, ns);
    cr_assert_gt(ns[VX_T_LABELS], 0);
}

/* Transform by transform over all channels, the order of the list. */
static void by_parts(struct sample *s, float *image, int16_t *label) {
    const struct vx_aug_params *a = &s->a;
    if (a->spatial) {
        vx_aug_spatial(&s->p, a, &s->box, s->src, s->src_label, image, label, s->scratch);
    } else {
        memcpy(image, s->src, C * s->n * sizeof *image);
        memcpy(label, s->src_label, s->n * sizeof *label);
    }
    if (a->noise) {
        vx_aug_noise(a, image, C * s->n);
    }
    for (int t = VX_T_BLUR; t <= VX_T_GAMMA; t++) {
        for (uint32_t c = 0; c < C; c++) {
            float *x = image + c * s->n;
            if (t == VX_T_BLUR && a->blur >> c & 1) {
                vx_aug_blur(x, s->p.patch, a->blur_sigma[c], 7, s->scratch);
            } else if (t == VX_T_BRIGHTNESS && a->brightness) {
                vx_aug_brightness(x, s->n, a->brightness_factor[c]);
            } else if (t == VX_T_CONTRAST && a->contrast) {
                vx_aug_contrast(x, s->n, a->contrast_factor[c]);
            } else if (t == VX_T_LOWRES && a->lowres >> c & 1) {
                vx_aug_lowres(x, s->p.patch, a->zoom[c], 7, s->scratch);
            } else if (t == VX_T_GAMMA_INVERTED && a->gamma_inverted) {
                vx_aug_gamma(x, s->n, a->gamma_inverted_exponent[c], true);
            } else if (t == VX_T_GAMMA && a->gamma) {
                vx_aug_gamma(x, s->n, a->gamma_exponent[c], false);
            }
        }
    }
    for (uint32_t c = 0; c < C; c++) {
        vx_aug_mirror_image(image + c * s->n, s->p.patch, a->mirror);
    }
    vx_aug_mirror_label(label, s->p.patch, a->mirror);
    vx_aug_labels(image, label, s->n, C, s->p.mask_channels);
}

Test(augment_apply, equals_its_parts_in_nnunets_order) {
    for (uint64_t k = 0; k < 60; k++) {
        struct sample s;
        setup(&s, k);
        vx_auto_free float *image = malloc(C * s.n * sizeof(float));
        vx_auto_free int16_t *label = malloc(s.n * sizeof(int16_t));
        run(&s);
        by_parts(&s, image, label);
        cr_assert_eq(memcmp(image, s.image, C * s.n * sizeof *image), 0, "batch %d", (int)k);
        cr_assert_eq(memcmp(label, s.label, s.n * sizeof *label), 0);
        for (size_t i = 0; i < s.n; i++) {
            cr_assert_geq(s.label[i], 0);
        }
        /* once more, over used memory */
        memset(s.image, 0xff, C * s.n * sizeof *image);
        memset(s.scratch, 0xff, vx_aug_scratch_bytes(&s.p));
        run(&s);
        cr_assert_eq(memcmp(image, s.image, C * s.n * sizeof *image), 0);
        teardown(&s);
    }
}

Test(augment_apply, may_work_in_place_without_interpolation) {
    struct sample s;
    uint64_t k = 0;
    for (setup(&s, k); s.a.spatial || !s.a.gamma; setup(&s, ++k)) {
        teardown(&s);
    }
    run(&s);
    vx_aug_apply(&s.p, &s.a, &s.box, s.src, s.src_label, s.src, s.src_label, s.scratch, NULL);
    cr_assert_eq(memcmp(s.src, s.image, C * s.n * sizeof(float)), 0);
    cr_assert_eq(memcmp(s.src_label, s.label, s.n * sizeof(int16_t)), 0);
    teardown(&s);
}

Test(augment_apply, identity_only_relabels) {
    struct sample s;
    setup(&s, 0);
    int32_t patch[3] = {9, 12, 10};
    cr_assert_eq(vx_aug_policy_none(3, C, patch, &s.p), VX_OK);
    vx_aug_identity(&s.a);
    vx_aug_source_box(&s.p, &s.a, &s.box);
    cr_assert_eq(vx_aug_box_voxels(&s.box), s.n);
    cr_assert(s.box.lo[0] == 0 && s.box.lo[1] == 0 && s.box.lo[2] == 0);
    vx_aug_apply(&s.p, &s.a, &s.box, s.src, s.src_label, s.image, s.label, s.scratch, NULL);
    cr_assert_eq(memcmp(s.src, s.image, C * s.n * sizeof(float)), 0);
    for (size_t i = 0; i < s.n; i++) {
        cr_assert_eq(s.label[i], s.src_label[i] < 0 ? 0 : s.src_label[i]);
    }
    teardown(&s);
}

/* The bytes of version 3. A change here breaks the exact resumption of jobs: raise VX_AUG_VERSION
 * with it. */
Test(augment_apply, bytes_belong_to_the_version) {
    enum { SAMPLES = 40, DIGITS = VX_SHA256_HEX - 1 };
    static char all[SAMPLES * 2 * DIGITS + 1];
    char hex[VX_SHA256_HEX];
    for (uint64_t k = 0; k < SAMPLES; k++) {
        struct sample s;
        setup(&s, k);
        run(&s);
        vx_sha256_hex(s.image, C * s.n * sizeof *s.image, all + 2 * k * DIGITS);
        vx_sha256_hex(s.label, s.n * sizeof *s.label, all + (2 * k + 1) * DIGITS);
        teardown(&s);
    }
    vx_sha256_hex(all, sizeof all - 1, hex);
    cr_assert_eq(VX_AUG_VERSION, 3);
    cr_assert_str_eq(hex, "5a85cea41f0b4b6b2e751cf23b8daba2d044ab3aff2e18662578a148eadb5e86");
}
