/* The whole sequence: repeatable, in place where it may be, the same from every instruction set,
 * and equal to its transforms one by one. */
#include "alone.h"
#include "base/hash.h"

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

static void setup_patch(struct sample *s, const int32_t patch[3], uint64_t k) {
    cr_assert_eq(vx_aug_policy_default(patch[0] == 1 ? 2 : 3, C, patch, &s->p), VX_OK);
    s->p.mask_channels = 2;
    vx_aug_draw(&s->p, 77, 0, k, 1, &s->a);
    vx_aug_source_box(&s->p, &s->a, &s->box);
    s->n = alone_voxels(patch);
    s->box_n = vx_aug_box_voxels(&s->box);
    s->src = malloc(C * s->box_n * sizeof(float));
    s->src_label = malloc((s->box_n + 1) * sizeof(int16_t));
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

static void setup(struct sample *s, uint64_t k) {
    setup_patch(s, (const int32_t[3]){9, 12, 10}, k);
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

/* The same parameters, one transform only. */
static struct vx_aug_params only(const struct vx_aug_params *a, enum vx_transform t) {
    struct vx_aug_params one = *a;
    one.spatial = a->spatial && t == VX_T_SPATIAL;
    one.noise = a->noise && t == VX_T_NOISE;
    one.blur = t == VX_T_BLUR ? a->blur : 0;
    one.brightness = a->brightness && t == VX_T_BRIGHTNESS;
    one.contrast = a->contrast && t == VX_T_CONTRAST;
    one.lowres = t == VX_T_LOWRES ? a->lowres : 0;
    one.gamma_inverted = a->gamma_inverted && t == VX_T_GAMMA_INVERTED;
    one.gamma = a->gamma && t == VX_T_GAMMA;
    one.mirror = t == VX_T_MIRROR ? a->mirror : 0;
    return one;
}

/* Transform by transform over the whole sample, in nnU-Net's order: mirroring and masking last.
 * Every call makes -1 a 0, so labels are one higher until the last. */
static void one_by_one(const struct sample *s, float *image, int16_t *label) {
    vx_auto_free float *from = malloc(C * s->box_n * sizeof *from);
    vx_auto_free int16_t *labels = malloc((s->box_n + 1) * sizeof *labels);
    struct vx_aug_box box = s->box;
    memcpy(from, s->src, C * s->box_n * sizeof *from);
    for (size_t i = 0; i < s->box_n; i++) {
        labels[i] = (int16_t)(s->src_label[i] + 1);
    }
    for (int t = VX_T_SPATIAL; t <= VX_T_LABELS; t++) {
        struct vx_aug_params a = only(&s->a, (enum vx_transform)t);
        struct vx_aug_policy p = s->p;
        p.mask_channels = t == VX_T_LABELS ? s->p.mask_channels : 0;
        vx_aug_apply(&p, &a, &box, from, labels, image, label, s->scratch, NULL);
        memcpy(from, image, C * s->n * sizeof *from);
        for (size_t i = 0; i < s->n; i++) {
            labels[i] = (int16_t)(label[i] - (t == VX_T_MIRROR));
        }
        vx_aug_identity(&a);
        vx_aug_source_box(&p, &a, &box);
    }
}

Test(augment_apply, equals_its_transforms_in_nnunets_order) {
    int noisy = 0, mirrored = 0;
    for (uint64_t k = 0; k < 80; k++) {
        struct sample s;
        setup(&s, k);
        vx_auto_free float *image = malloc(C * s.n * sizeof(float));
        vx_auto_free int16_t *label = malloc(s.n * sizeof(int16_t));
        noisy += s.a.noise;
        s.a.noise = s.a.noise && !s.a.mirror; /* noise is numbered in the mirrored sample */
        mirrored += s.a.mirror != 0;
        run(&s);
        one_by_one(&s, image, label);
        for (size_t i = 0; i < C * s.n; i++) {
            cr_assert_float_eq(image[i], s.image[i], 2e-5, "batch %d voxel %zu", (int)k, i);
        }
        cr_assert_eq(memcmp(label, s.label, s.n * sizeof *label), 0);
        for (size_t i = 0; i < s.n; i++) {
            cr_assert_geq(s.label[i], 0);
        }
        teardown(&s);
    }
    cr_assert(noisy > 2 && mirrored > 40);
}

/* What is left in buffers from the sample before has no say. */
Test(augment_apply, the_same_bytes_over_used_memory) {
    for (uint64_t k = 0; k < 60; k++) {
        struct sample s;
        setup(&s, k);
        vx_auto_free float *image = malloc(C * s.n * sizeof(float));
        run(&s);
        memcpy(image, s.image, C * s.n * sizeof(float));
        memset(s.image, 0xff, C * s.n * sizeof *image);
        memset(s.scratch, 0xff, vx_aug_scratch_bytes(&s.p));
        run(&s);
        cr_assert_eq(memcmp(image, s.image, C * s.n * sizeof *image), 0);
        teardown(&s);
    }
}

/* The source may be the output, filled as vx_aug_source_layout says. */
Test(augment_apply, works_in_place_without_interpolation) {
    int done = 0;
    for (uint64_t k = 0; done < 20; k++) {
        struct sample s;
        struct vx_aug_layout at;
        setup(&s, k);
        if (!s.a.spatial) {
            vx_auto_free float *image = malloc(C * s.n * sizeof(float));
            vx_auto_free int16_t *label = malloc(s.n * sizeof(int16_t));
            const int32_t *f = s.p.patch;
            run(&s);
            vx_aug_source_layout(&s.p, &s.a, &s.box, &at);
            for (size_t i = 0; i < s.n; i++) {
                int64_t x = (int64_t)i % f[2], y = (int64_t)i / f[2] % f[1],
                        z = (int64_t)i / f[2] / f[1];
                int64_t to = at.first + z * at.stride[1] + y * at.stride[2] + x;
                for (int c = 0; c < C; c++) {
                    image[to + c * at.stride[0]] = s.src[(size_t)c * s.n + i];
                }
                label[to] = s.src_label[i];
            }
            vx_aug_apply(&s.p, &s.a, &s.box, image, label, image, label, s.scratch, NULL);
            cr_assert_eq(memcmp(image, s.image, C * s.n * sizeof(float)), 0);
            cr_assert_eq(memcmp(label, s.label, s.n * sizeof(int16_t)), 0);
            done++;
        }
        teardown(&s);
    }
}

/* Every table of kernels gives the bytes of the portable one: odd widths, 2d, slices, and taps and
 * angles beyond nnU-Net's. */
Test(augment_apply, every_instruction_set_gives_the_same_bytes) {
    static const int32_t patches[][3] = {{9, 12, 10}, {5, 7, 33},  {4, 5, 16}, {3, 6, 47},
                                         {1, 9, 21},  {2, 19, 31}, {6, 4, 1},  {2, 3, 130}};
    for (size_t i = 0; i < sizeof patches / sizeof *patches; i++) {
        for (uint64_t k = 0; k < 24; k++) {
            struct sample s;
            setup_patch(&s, patches[i], k);
            s.a.noise |= k % 5 == 0;
            s.a.gamma |= k % 3 == 0;
            s.a.blur |= k % 4 == 1 ? 3u : 0u;
            s.a.lowres |= k % 4 == 2 ? 3u : 0u;
            s.a.blur_sigma[0][k % 3] *= k % 2 ? 3 : 1;
            vx_auto_free float *image = malloc(C * s.n * sizeof(float));
            vx_auto_free int16_t *label = malloc(s.n * sizeof(int16_t));
            EACH_KERNELS(table) {
                vx_aug_apply_with(table, &s.p, &s.a, &s.box, s.src, s.src_label, s.image, s.label,
                                  s.scratch, NULL);
                if (table_i == 0) {
                    memcpy(image, s.image, C * s.n * sizeof(float));
                    memcpy(label, s.label, s.n * sizeof(int16_t));
                }
                cr_assert_eq(memcmp(image, s.image, C * s.n * sizeof(float)), 0, "%s %zu %d",
                             table->name, i, (int)k);
                cr_assert_eq(memcmp(label, s.label, s.n * sizeof(int16_t)), 0, "%s", table->name);
            }
            teardown(&s);
        }
    }
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

/* The bytes of version 4. A change here breaks the exact resumption of jobs: raise VX_AUG_VERSION
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
    cr_assert_eq(VX_AUG_VERSION, 4);
    cr_assert_str_eq(hex, "129bfece893c00dd2f08257cb19d9c57d5cdf9e4a38953d41d6fb21761025689");
}
