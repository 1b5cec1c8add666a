/* Patch sampling against nnU-Net's formulas and their statistics. */
#include "augment/policy.h"
#include "base/err.h"
#include "loader/sampler.h"
#include "session/schedule.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static const char *const names[] = {"a", "b", "c", "d"};
static const uint32_t train[] = {0, 1, 3}, val[] = {2};

static struct vx_recipe *make(uint32_t batch, const struct vx_quarantine *q, bool has_ignore) {
    struct vx_recipe_params p = {.dataset = "Dataset001_X",
                                 .cache_key = "k",
                                 .seed = 3,
                                 .cases = names,
                                 .n_cases = 4,
                                 .train = train,
                                 .n_train = 3,
                                 .val = val,
                                 .n_val = 1,
                                 .dims = 3,
                                 .channels = 1,
                                 .batch = batch,
                                 .patch = {40, 56, 40},
                                 .has_ignore = has_ignore,
                                 .quarantines = q,
                                 .n_quarantines = q ? 1 : 0};
    struct vx_recipe *r = NULL;
    cr_assert_eq(vx_recipe_create(&p, &r, NULL), VX_OK);
    return r;
}

Test(loader_sampler, positions_in_a_batch_that_are_forced) {
    const uint32_t batch[] = {1, 2, 3, 4, 5, 6, 8, 9, 12, 40, 366};
    const uint32_t forced[] = {0, 1, 1, 1, 2, 2, 3, 3, 4, 13, 121};
    for (size_t i = 0; i < sizeof batch / sizeof *batch; i++) {
        struct vx_recipe *r = make(batch[i], NULL, false);
        uint32_t n = 0;
        for (uint32_t j = 0; j < batch[i]; j++) {
            bool f = vx_sample_forced(vx_recipe_view(r), j);
            cr_assert(!n || f, "the forced ones are the last");
            n += f;
        }
        cr_assert_eq(n, forced[i], "batch %u: %u", batch[i], n);
        vx_recipe_free(r);
    }
}

Test(loader_sampler, cases_are_uniform_and_quarantine_ends_them) {
    struct vx_quarantine q = {.case_index = 1, .from_k = {5000, 7}};
    struct vx_recipe *r = make(2, &q, false);
    const struct vx_recipe_view *v = vx_recipe_view(r);
    int seen[2][4] = {{0}};
    for (uint64_t k = 0; k < 10000; k++) {
        uint32_t c;
        cr_assert_eq(vx_sample_case(v, VX_STREAM_TRAIN, k, 1, &c), VX_OK);
        seen[k >= 5000][c]++;
        cr_assert_eq(vx_sample_case(v, VX_STREAM_VAL, k, 0, &c), VX_OK);
        cr_assert_eq(c, 2);
    }
    for (int c = 0; c < 4; c++) {
        double want = c == 2 ? 0 : 5000.0 / 3;
        cr_assert(fabs(seen[0][c] - want) < 150, "case %d: %d", c, seen[0][c]);
        want = c == 0 || c == 3 ? 2500 : 0;
        cr_assert(fabs(seen[1][c] - want) < 160, "case %d: %d", c, seen[1][c]);
    }
    vx_recipe_free(r);
    struct vx_quarantine only = {.case_index = 2, .from_k = {0, 7}};
    uint32_t c;
    r = make(2, &only, false);
    cr_assert_eq(vx_sample_case(vx_recipe_view(r), VX_STREAM_VAL, 6, 0, &c), VX_OK);
    cr_assert_eq(vx_sample_case(vx_recipe_view(r), VX_STREAM_VAL, 7, 0, &c), VX_E_NOT_FOUND);
    vx_recipe_free(r);
}

/* Only the samples that showed the case change, and only from the sample on that is named. */
Test(loader_sampler, quarantine_leaves_every_other_sample_alone) {
    struct vx_quarantine q = {.case_index = 0, .from_j = {1, 0}, .from_k = {1000, 0}};
    struct vx_recipe *before = make(3, NULL, false), *after = make(3, &q, false);
    int changed = 0, kept = 0;
    for (uint64_t k = 0; k < 4000; k++) {
        for (uint32_t j = 0; j < 3; j++) {
            uint32_t a, b;
            bool reached = k > 1000 || (k == 1000 && j >= 1);
            cr_assert_eq(vx_sample_case(vx_recipe_view(before), VX_STREAM_TRAIN, k, j, &a), VX_OK);
            cr_assert_eq(vx_sample_case(vx_recipe_view(after), VX_STREAM_TRAIN, k, j, &b), VX_OK);
            if (a == 0 && reached) {
                cr_assert_neq(b, 0);
                changed++;
            } else {
                cr_assert_eq(a, b, "k %d j %u", (int)k, j);
                kept++;
            }
        }
    }
    cr_assert(changed > 2000 && kept > 9000, "%d changed, %d kept", changed, kept);
    vx_recipe_free(before);
    vx_recipe_free(after);
}

/* Class c has n_locations[c] voxels; voxel i of class c lies at (i, 100 + 10 * c + i, 5). */
static int location(void *ctx, uint32_t c, int64_t i, int32_t ret[3], struct vx_err *err) {
    (void)ctx;
    (void)err;
    ret[0] = (int32_t)i;
    ret[1] = (int32_t)(100 + 10 * c + (uint32_t)i);
    ret[2] = 5;
    return VX_OK;
}

static struct vx_sample_source source(const int64_t *n, uint32_t classes, int32_t annotated) {
    return (struct vx_sample_source){{36, 50, 35}, classes, n, annotated, location, NULL};
}

static int64_t floor_div(int64_t a, int64_t b) {
    return (int64_t)floor((double)a / (double)b);
}

/* nnU-Net's bounds, spelled out. */
static void bounds(const struct vx_recipe_view *v, bool training, const int64_t shape[3],
                   int64_t lo[3], int64_t hi[3]) {
    for (int i = 0; i < 3; i++) {
        int64_t final = v->policy->patch[i], size = training ? v->policy->initial[i] : final;
        int64_t need = size - final;
        need = need + shape[i] < size ? size - shape[i] : need;
        lo[i] = floor_div(-need, 2);
        hi[i] = shape[i] + floor_div(need, 2) + need % 2 - size;
    }
}

Test(loader_sampler, random_places_fill_the_bounds) {
    struct vx_recipe *r = make(2, NULL, false);
    const struct vx_recipe_view *v = vx_recipe_view(r);
    int64_t n[2] = {4, 4};
    struct vx_sample_source src = source(n, 2, -1);
    const int64_t shapes[3][3] = {{36, 50, 35}, {140, 90, 64}, {40, 56, 41}};
    for (int s = 0; s < 3; s++) {
        memcpy(src.shape, shapes[s], sizeof src.shape);
        for (uint32_t stream = 0; stream < 2; stream++) {
            int64_t lo[3], hi[3], min[3], max[3];
            bounds(v, stream == VX_STREAM_TRAIN, src.shape, lo, hi);
            for (int i = 0; i < 3; i++) {
                min[i] = 1000, max[i] = -1000;
            }
            for (uint64_t k = 0; k < 2000; k++) {
                struct vx_place p;
                cr_assert_eq(vx_sample_place(v, stream, k, 0, &src, &p, NULL), VX_OK);
                cr_assert_eq(p.forced_class, -1);
                for (int i = 0; i < 3; i++) {
                    min[i] = p.lo[i] < min[i] ? p.lo[i] : min[i];
                    max[i] = p.lo[i] > max[i] ? p.lo[i] : max[i];
                }
            }
            for (int i = 0; i < 3; i++) {
                cr_assert(min[i] == lo[i] && max[i] == hi[i], "shape %d axis %d: %d..%d", s, i,
                          (int)min[i], (int)max[i]);
            }
        }
    }
    vx_recipe_free(r);
}

Test(loader_sampler, forced_places_centre_a_voxel_of_a_random_class) {
    struct vx_recipe *r = make(2, NULL, false);
    const struct vx_recipe_view *v = vx_recipe_view(r);
    int64_t n[4] = {3, 0, 20, 9};
    struct vx_sample_source src = source(n, 4, 3); /* the last means "annotated" */
    src.shape[0] = src.shape[1] = src.shape[2] = 300;
    int seen[4] = {0}, voxels[20] = {0};
    for (uint64_t k = 0; k < 6000; k++) {
        struct vx_place p;
        cr_assert_eq(vx_sample_place(v, VX_STREAM_TRAIN, k, 1, &src, &p, NULL), VX_OK);
        seen[p.forced_class]++;
        int64_t lo[3], hi[3];
        bounds(v, true, src.shape, lo, hi);
        int64_t y = p.lo[1] + v->policy->initial[1] / 2;
        int64_t i = y - 100 - 10 * p.forced_class;
        cr_assert(i >= 0 && i < n[p.forced_class]);
        int64_t z = i - v->policy->initial[0] / 2, x = 5 - v->policy->initial[2] / 2;
        cr_assert_eq(p.lo[0], z < lo[0] ? lo[0] : z);
        cr_assert_eq(p.lo[2], x < lo[2] ? lo[2] : x);
        if (p.forced_class == 2) {
            voxels[i]++;
        }
    }
    cr_assert(seen[1] == 0 && seen[3] == 0);
    cr_assert(abs(seen[0] - 3000) < 200 && abs(seen[2] - 3000) < 200);
    for (int i = 0; i < 20; i++) {
        cr_assert(abs(voxels[i] - 150) < 60);
    }
    vx_recipe_free(r);
}

Test(loader_sampler, without_foreground_a_forced_sample_is_random) {
    struct vx_recipe *r = make(2, NULL, true);
    const struct vx_recipe_view *v = vx_recipe_view(r);
    int64_t none[2] = {0, 0}, annotated[2] = {0, 6};
    struct vx_sample_source src = source(none, 2, -1);
    struct vx_place p;
    cr_assert_eq(vx_sample_place(v, VX_STREAM_TRAIN, 1, 1, &src, &p, NULL), VX_OK);
    cr_assert_eq(p.forced_class, -1);
    /* with an ignore label, even samples that are not forced look at annotated voxels */
    src = source(annotated, 2, 1);
    src.shape[1] = 300;
    for (uint32_t j = 0; j < 2; j++) {
        for (uint64_t k = 0; k < 100; k++) {
            cr_assert_eq(vx_sample_place(v, VX_STREAM_VAL, k, j, &src, &p, NULL), VX_OK);
            int32_t y = p.lo[1] + v->policy->patch[1] / 2;
            cr_assert(y >= 110 && y < 116);
        }
    }
    vx_recipe_free(r);
}
