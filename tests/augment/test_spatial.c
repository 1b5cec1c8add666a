/* Rotation and scaling against the slow obvious version: every voxel by itself, doubles, one-hot
 * label volumes. */
#include "alone.h"
#include "augment/voxel.h"

#include <math.h>

enum { LABELS = 4 }; /* -1, 0, 1, 2 */

struct volume {
    int32_t size[3];
    float *image;   /* [C][size] */
    int16_t *label; /* [size] */
};

/* The initial patch: noise, and blocks of labels with ragged borders. */
static void make_volume(struct volume *v, const int32_t size[3], uint32_t channels) {
    size_t n = (size_t)size[0] * (size_t)size[1] * (size_t)size[2];
    memcpy(v->size, size, sizeof v->size);
    v->image = malloc(channels * n * sizeof(float));
    v->label = malloc(n * sizeof(int16_t));
    struct vx_rng r = vx_rng_at(5, 0, 0, 0, 900);
    for (size_t i = 0; i < channels * n; i++) {
        v->image[i] = vx_rng_uniform(&r, -2, 2);
    }
    for (size_t i = 0; i < n; i++) {
        int32_t x = (int32_t)(i % (size_t)size[2]), y = (int32_t)(i / (size_t)size[2]) % size[1];
        int32_t block = (x / 5 + y / 4) % LABELS - 1;
        v->label[i] = (int16_t)(vx_rng_below(&r, 8) == 0 ? (int)vx_rng_below(&r, 4) - 1 : block);
    }
}

static void free_volume(struct volume *v) {
    free(v->image);
    free(v->label);
}

static double at(const float *x, const int32_t s[3], const int32_t i[3]) {
    for (int a = 0; a < 3; a++) {
        if (i[a] < 0 || i[a] >= s[a]) {
            return 0;
        }
    }
    return x[((size_t)i[0] * (size_t)s[1] + (size_t)i[1]) * (size_t)s[2] + (size_t)i[2]];
}

/* Linear interpolation at position p with zeros outside. */
static double linear(const float *x, const int32_t s[3], const double p[3]) {
    double sum = 0;
    for (int corner = 0; corner < 8; corner++) {
        int32_t i[3];
        double w = 1;
        for (int a = 0; a < 3; a++) {
            int up = corner >> a & 1;
            double f = p[a] - floor(p[a]);
            i[a] = (int32_t)floor(p[a]) + up;
            w *= up ? f : 1 - f;
        }
        sum += w == 0 ? 0 : w * at(x, s, i);
    }
    return sum;
}

/* Rounds to 11 significant bits, ties to even. */
static double half(double x) {
    if (x == 0) {
        return 0;
    }
    int e;
    frexp(x, &e);
    double unit = ldexp(1, e - 11);
    return rint(x / unit) * unit;
}

/* What batchgeneratorsv2 0.3.6 does: the volume is padded with label -1, then every label's volume
 * is interpolated. one_hot[0], which belongs to -1, holds 0 and -1 instead of 1 and 0. */
static int16_t one_hot_label(const struct volume *v, float *one_hot[LABELS], const double p[3],
                             double *ret_gap) {
    int best = 0;
    double votes[LABELS], sorted = -1;
    for (int l = 0; l < LABELS; l++) {
        votes[l] = half((linear(one_hot[l], v->size, p) + (l == 0)) * 1000);
        if (votes[l] > votes[best]) {
            best = l;
        }
    }
    for (int l = 0; l < LABELS; l++) {
        sorted = l != best && votes[l] > sorted ? votes[l] : sorted;
    }
    *ret_gap = votes[best] - sorted;
    return (int16_t)(best - 1);
}

struct result {
    size_t voxels, labels_compared, outside;
};

static struct result check_with(const struct vx_aug_kernels *k, const struct vx_aug_policy *p,
                                const struct vx_aug_params *a) {
    struct volume v;
    struct vx_aug_box box;
    struct result res = {0, 0, 0};
    make_volume(&v, p->initial, p->channels);
    size_t volume = (size_t)v.size[0] * (size_t)v.size[1] * (size_t)v.size[2];
    size_t n = (size_t)p->patch[0] * (size_t)p->patch[1] * (size_t)p->patch[2];
    vx_aug_source_box(p, a, &box);
    size_t bn = vx_aug_box_voxels(&box);
    cr_assert_leq(bn, vx_aug_box_voxels_max(p));
    vx_auto_free float *src = malloc(p->channels * bn * sizeof *src);
    vx_auto_free int16_t *src_label = malloc((bn + 1) * sizeof *src_label);
    vx_auto_free float *out = malloc(p->channels * n * sizeof *out);
    vx_auto_free int16_t *label = malloc(n * sizeof *label);
    vx_auto_free void *scratch = aligned_alloc(64, vx_aug_scratch_bytes(p));
    for (size_t i = 0; i < p->channels * bn; i++) {
        src[i] = NAN; /* whatever the margins do not cover must come from the box */
    }
    vx_aug_box_clear_margins(&box, p->channels, src, src_label);
    int32_t dim[3];
    for (int i = 0; i < 3; i++) {
        dim[i] = box.size[i] + 2 * box.margin[i];
    }
    for (int32_t z = 0; z < box.size[0]; z++) {
        for (int32_t y = 0; y < box.size[1]; y++) {
            size_t from = ((size_t)(z + box.lo[0]) * (size_t)v.size[1] + (size_t)(y + box.lo[1])) *
                              (size_t)v.size[2] +
                          (size_t)box.lo[2];
            size_t to =
                ((size_t)(z + box.margin[0]) * (size_t)dim[1] + (size_t)(y + box.margin[1])) *
                    (size_t)dim[2] +
                (size_t)box.margin[2];
            for (uint32_t c = 0; c < p->channels; c++) {
                memcpy(src + c * bn + to, v.image + c * volume + from,
                       (size_t)box.size[2] * sizeof(float));
            }
            memcpy(src_label + to, v.label + from, (size_t)box.size[2] * sizeof(int16_t));
        }
    }
    vx_aug_spatial(k, p, a, &box, src, src_label, out, label, scratch);

    float *one_hot[LABELS];
    for (int l = 0; l < LABELS; l++) {
        one_hot[l] = malloc(volume * sizeof(float));
        for (size_t i = 0; i < volume; i++) {
            one_hot[l][i] = (float)((v.label[i] == l - 1) - (l == 0));
        }
    }
    double m[3][3];
    struct vx_aug_params straight = *a; /* mirroring: by the place of the result */
    straight.mirror = 0;
    vx_aug_matrix(p, &straight, m);
    for (int32_t z = 0; z < p->patch[0]; z++) {
        for (int32_t y = 0; y < p->patch[1]; y++) {
            for (int32_t x = 0; x < p->patch[2]; x++) {
                size_t i = alone_index(p->patch, a->mirror & 1 ? p->patch[0] - 1 - z : z,
                                       a->mirror & 2 ? p->patch[1] - 1 - y : y,
                                       a->mirror & 4 ? p->patch[2] - 1 - x : x);
                double g[3] = {z - (p->patch[0] - 1) / 2.0, y - (p->patch[1] - 1) / 2.0,
                               x - (p->patch[2] - 1) / 2.0};
                double pos[3];
                for (int r = 0; r < 3; r++) {
                    pos[r] = m[r][0] * g[0] + m[r][1] * g[1] + m[r][2] * g[2] +
                             (p->initial[r] - 1) / 2.0;
                }
                for (uint32_t c = 0; c < p->channels; c++) {
                    double want = linear(v.image + c * volume, v.size, pos);
                    cr_assert(fabs(out[c * n + i] - want) < 5e-4, "voxel %d %d %d: %g not %g", z, y,
                              x, (double)out[c * n + i], want);
                }
                double gap;
                int16_t want = one_hot_label(&v, one_hot, pos, &gap);
                if (gap > 1.0) { /* closer votes hang on the last bits of the coordinates */
                    cr_assert_eq(label[i], want, "label at %d %d %d: %d not %d", z, y, x, label[i],
                                 want);
                    res.labels_compared++;
                }
                res.outside += want == -1;
                res.voxels++;
            }
        }
    }
    for (int l = 0; l < LABELS; l++) {
        free(one_hot[l]);
    }
    free_volume(&v);
    return res;
}

/* With every table of kernels. */
static struct result check(const struct vx_aug_policy *p, const struct vx_aug_params *a) {
    struct result r = {0, 0, 0};
    EACH_KERNELS(k) {
        r = check_with(k, p, a);
    }
    return r;
}

static struct vx_aug_policy policy(uint32_t dims, int32_t d, int32_t h, int32_t w) {
    struct vx_aug_policy p;
    int32_t patch[3] = {d, h, w};
    cr_assert_eq(vx_aug_policy_default(dims, 2, patch, &p), VX_OK);
    return p;
}

Test(augment_spatial, trilinear_and_votes_match_the_slow_version) {
    struct vx_aug_policy p = policy(3, 10, 14, 11);
    for (uint64_t k = 0, done = 0; done < 6; k++) {
        struct vx_aug_params a;
        vx_aug_draw(&p, 21, 0, k, 0, &a);
        if (a.spatial) {
            struct result r = check(&p, &a);
            cr_assert_gt(r.labels_compared, r.voxels * 9 / 10);
            done++;
        }
    }
}

Test(augment_spatial, far_outside_is_zero_and_minus_one) {
    struct vx_aug_policy p = policy(3, 10, 14, 11);
    struct vx_aug_params a;
    vx_aug_identity(&a);
    a.spatial = true;
    a.angle[0] = 0.5f;
    a.angle[1] = -0.5f;
    a.angle[2] = 0.5f;
    a.scale = 4.0f; /* beyond the policy: most of the patch lies outside */
    struct result r = check(&p, &a);
    cr_assert_gt(r.outside, r.voxels / 2);
    a.scale = 0.02f; /* all of it inside one or two voxels */
    check(&p, &a);
}

Test(augment_spatial, planes_are_bilinear) {
    struct vx_aug_policy p = policy(2, 1, 22, 17);
    struct vx_aug_params a;
    vx_aug_identity(&a);
    a.spatial = true;
    a.angle[0] = 2.1f;
    a.scale = 1.3f;
    check(&p, &a);
    a.mirror = 4;
    check(&p, &a);
    p = policy(3, 4, 22, 17);
    cr_assert(p.dummy_2d);
    check(&p, &a);
    a.mirror = 7;
    check(&p, &a);
}

/* Without turn or zoom the affine path is a crop, up to half-voxel centres. */
Test(augment_spatial, identity_keeps_voxels) {
    struct vx_aug_policy p = policy(3, 8, 8, 8);
    struct vx_aug_params a;
    p.initial[0] = p.initial[1] = p.initial[2] = 12;
    vx_aug_identity(&a);
    a.spatial = true;
    struct vx_aug_box box;
    vx_aug_source_box(&p, &a, &box);
    for (int i = 0; i < 3; i++) {
        cr_assert(box.lo[i] <= 2 && box.lo[i] + box.size[i] >= 10);
    }
    struct result r = check(&p, &a);
    cr_assert_eq(r.labels_compared, r.voxels);
    cr_assert_lt(r.outside, r.voxels);
    a.spatial = false;
    vx_aug_source_box(&p, &a, &box);
    cr_assert(box.lo[0] == 2 && box.size[0] == 8 && box.margin[0] == 0);
}

Test(augment_spatial, votes_follow_nnunets_rule) {
    /* ties go to the label of the nearest corner */
    int16_t two[2] = {3, 1};
    float even[2] = {0.5f, 0.5f};
    cr_assert_eq(vx_label_vote(two, even, 2, 0), 3);
    cr_assert_eq(vx_label_vote(two, even, 2, 1), 1);
    /* a difference that half precision cannot see is a tie */
    float nearly[2] = {0.50005f, 0.49995f};
    cr_assert_eq(vx_label_vote(two, nearly, 2, 1), 1);
    float clear[2] = {0.502f, 0.498f};
    cr_assert_eq(vx_label_vote(two, clear, 2, 1), 3);
    /* where that label has lost, to the smallest of the tied */
    int16_t three[3] = {5, 4, 2};
    float lost[3] = {0.4f, 0.4f, 0.2f};
    cr_assert_eq(vx_label_vote(three, lost, 3, 2), 4);
    /* corners of one label add up */
    int16_t four[4] = {-1, 2, 7, 2};
    float weight[4] = {0.4f, 0.25f, 0.0f, 0.35f};
    cr_assert_eq(vx_label_vote(four, weight, 4, 0), 2);
}

/* Other values outside the region change nothing: a loader need not read them. */
Test(augment_spatial, only_the_region_is_looked_at) {
    struct vx_aug_policy p = policy(3, 20, 24, 18);
    size_t spared = 0;
    for (uint64_t k = 0, done = 0; done < 12; k++) {
        struct vx_aug_params a;
        struct vx_aug_box b;
        struct vx_aug_region region;
        vx_aug_draw(&p, 22, 0, k, 0, &a);
        if (!a.spatial) {
            continue;
        }
        vx_aug_source_box(&p, &a, &b);
        vx_aug_source_region(&p, &a, &region);
        size_t n = vx_aug_box_voxels(&b), patch = alone_voxels(p.patch);
        vx_auto_free float *src = alone_image(2 * n, -2, 2), *out = malloc(2 * patch * sizeof *out);
        vx_auto_free float *again = malloc(2 * patch * sizeof *again);
        vx_auto_free int16_t *seg = malloc((n + 1) * sizeof *seg);
        vx_auto_free int16_t *label = malloc(patch * sizeof *label);
        vx_auto_free int16_t *label_again = malloc(patch * sizeof *label_again);
        vx_auto_free void *scratch = aligned_alloc(64, vx_aug_scratch_bytes(&p));
        for (size_t i = 0; i <= n; i++) {
            seg[i] = (int16_t)((int)(i / 7 % 4) - 1);
        }
        vx_aug_box_clear_margins(&b, 2, src, seg);
        vx_aug_apply(&p, &a, &b, src, seg, out, label, scratch, NULL);
        for (int32_t z = 0; z < b.size[0]; z++) {
            for (int32_t y = 0; y < b.size[1]; y++) {
                for (int32_t x = 0; x < b.size[2]; x++) {
                    const int32_t dim[3] = {b.size[0] + 2 * b.margin[0],
                                            b.size[1] + 2 * b.margin[1],
                                            b.size[2] + 2 * b.margin[2]};
                    size_t at = alone_index(dim, z + b.margin[0], y + b.margin[1], x + b.margin[2]);
                    bool in = true;
                    for (int i = 0; i < 3; i++) {
                        const double *r = region.row[i], *c = region.centre;
                        double d = r[0] * (b.lo[0] + z - c[0]) + r[1] * (b.lo[1] + y - c[1]) +
                                   r[2] * (b.lo[2] + x - c[2]);
                        in = in && fabs(d) <= region.half[i];
                    }
                    spared += !in;
                    src[at] = in ? src[at] : 9e5f;
                    src[at + n] = in ? src[at + n] : -3e7f;
                    seg[at] = in ? seg[at] : 5;
                }
            }
        }
        vx_aug_apply(&p, &a, &b, src, seg, again, label_again, scratch, NULL);
        cr_assert_eq(memcmp(out, again, 2 * patch * sizeof *out), 0, "batch %d", (int)k);
        cr_assert_eq(memcmp(label, label_again, patch * sizeof *label), 0);
        done++;
    }
    cr_assert_gt(spared, 5000);
}
