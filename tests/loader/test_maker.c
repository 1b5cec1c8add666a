/* A made sample against voxels taken straight from the arrays that went into the store. */
#include "augment/augment.h"
#include "loader/made_up_store.h"
#include "loader/maker.h"
#include "session/schedule.h"

enum { VOXELS = 12 * 14 * 10 };

/* Voxel (z, y, x) of a case, nothing outside. */
static bool voxel_of(const struct made_case *c, int64_t z, int64_t y, int64_t x, size_t *ret) {
    if (z < 0 || y < 0 || x < 0 || z >= c->shape[0] || y >= c->shape[1] || x >= c->shape[2]) {
        return false;
    }
    *ret = (size_t)((z * c->shape[1] + y) * c->shape[2] + x);
    return true;
}

static void check_crop(const struct made_case *c, const struct vx_place *p, const int32_t shift[3],
                       uint32_t mask, const float *image, const int16_t *label) {
    size_t n = (size_t)(c->shape[0] * c->shape[1] * c->shape[2]), i = 0;
    for (int z = 0; z < 12; z++) {
        for (int y = 0; y < 14; y++) {
            for (int x = 0; x < 10; x++, i++) {
                size_t v = 0;
                bool in = voxel_of(c, p->lo[0] + shift[0] + z, p->lo[1] + shift[1] + y,
                                   p->lo[2] + shift[2] + x, &v);
                int16_t seg = in ? c->seg[v] : -1;
                cr_assert_eq(label[i], seg < 0 ? 0 : seg);
                for (uint32_t ch = 0; ch < STORE_CHANNELS; ch++) {
                    bool masked = mask >> ch & 1 && seg < 0;
                    float want = in && !masked ? c->image[ch * n + v] : 0.0f;
                    cr_assert_eq(image[ch * VOXELS + i], want);
                }
            }
        }
    }
}

Test(loader_maker, samples_without_transforms_are_crops_with_padding) {
    struct made_store s;
    struct vx_err err = {0};
    struct vx_cache *cache = NULL;
    struct vx_maker *m = NULL;
    static float image[STORE_CHANNELS * VOXELS];
    static int16_t label[VOXELS];
    made_store_open(&s);
    struct vx_recipe *r = made_recipe(VX_AUG_MODE_NONE, NULL, 0);
    cr_assert_eq(vx_cache_open(s.dir, &cache, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_maker_create(r, cache, &m, &err), VX_OK, "%s", err.text);
    const int32_t none[3] = {0, 0, 0};
    int used[STORE_CASES] = {0}, forced = 0;
    for (uint32_t q = 0; q < 200; q++) {
        struct vx_made made;
        uint32_t c, stream = q % 3 == 2;
        cr_assert_eq(
            vx_maker_make(m, stream, q / 2, q % 2, image, label, &c, &made, NULL, NULL, &err),
            VX_OK, "%s", err.text);
        used[c]++;
        forced += made.place.forced_class >= 0;
        /* validation samples are not masked */
        check_crop(&s.cases[c], &made.place, none, stream ? 0 : 2, image, label);
        if (made.place.forced_class >= 0) {
            int found = 0;
            for (int i = 0; i < VOXELS; i++) {
                found += label[i] == made.place.forced_class + 1;
            }
            cr_assert_gt(found, 0, "the forced class is in the patch");
        }
    }
    for (int i = 0; i < STORE_CASES; i++) {
        cr_assert_gt(used[i], 10);
    }
    cr_assert_gt(forced, 50);
    vx_maker_free(m);
    vx_cache_free(cache);
    vx_recipe_free(r);
    made_store_close(&s);
}

/* Augmented samples equal the augmentation of the whole initial patch, although only a box of it
 * was read. */
Test(loader_maker, reading_only_the_box_changes_nothing) {
    struct made_store s;
    struct vx_err err = {0};
    struct vx_cache *cache = NULL;
    struct vx_maker *m = NULL;
    static float image[STORE_CHANNELS * VOXELS], want[STORE_CHANNELS * VOXELS];
    static int16_t label[VOXELS], want_label[VOXELS];
    made_store_open(&s);
    struct vx_recipe *r = made_recipe(VX_AUG_MODE_DEFAULT, NULL, 0);
    const struct vx_aug_policy *p = vx_recipe_view(r)->policy;
    cr_assert_eq(vx_cache_open(s.dir, &cache, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_maker_create(r, cache, &m, &err), VX_OK, "%s", err.text);
    void *scratch = aligned_alloc(64, vx_aug_scratch_bytes(p));
    int spatial = 0;
    for (uint32_t q = 0; q < 60; q++) {
        struct vx_made made;
        uint32_t c;
        cr_assert_eq(
            vx_maker_make(m, VX_STREAM_TRAIN, q, 1, image, label, &c, &made, NULL, NULL, &err),
            VX_OK);
        spatial += made.spatial;
        struct vx_aug_params a;
        struct vx_aug_box box;
        vx_aug_draw(p, 12345, VX_STREAM_TRAIN, q, 1, &a);
        vx_aug_source_box(p, &a, &box);
        size_t n = vx_aug_box_voxels(&box);
        float *src = calloc(STORE_CHANNELS * n, sizeof *src);
        int16_t *seg = calloc(n + 1, sizeof *seg);
        const struct made_case *mc = &s.cases[c];
        size_t volume = (size_t)(mc->shape[0] * mc->shape[1] * mc->shape[2]), at = 0;
        for (int z = 0; z < box.size[0] + 2 * box.margin[0]; z++) {
            for (int y = 0; y < box.size[1] + 2 * box.margin[1]; y++) {
                for (int x = 0; x < box.size[2] + 2 * box.margin[2]; x++, at++) {
                    int32_t in_patch[3] = {box.lo[0] + z - box.margin[0],
                                           box.lo[1] + y - box.margin[1],
                                           box.lo[2] + x - box.margin[2]};
                    size_t v = 0;
                    bool in =
                        voxel_of(mc, made.place.lo[0] + in_patch[0], made.place.lo[1] + in_patch[1],
                                 made.place.lo[2] + in_patch[2], &v);
                    for (int i = 0; i < 3; i++) {
                        in = in && in_patch[i] >= 0 && in_patch[i] < p->initial[i];
                    }
                    seg[at] = in ? mc->seg[v] : -1;
                    for (uint32_t ch = 0; in && ch < STORE_CHANNELS; ch++) {
                        src[ch * n + at] = mc->image[ch * volume + v];
                    }
                }
            }
        }
        vx_aug_apply(p, &a, &box, src, seg, want, want_label, scratch, NULL);
        cr_assert_eq(memcmp(want, image, sizeof want), 0, "sample %u", q);
        cr_assert_eq(memcmp(want_label, label, sizeof want_label), 0);
        free(src);
        free(seg);
    }
    cr_assert_gt(spatial, 10);
    struct vx_maker_times t;
    vx_maker_times(m, &t);
    cr_assert(t.bytes_read > 0 && t.opens > 0 && t.augment_ns[VX_T_SPATIAL] > 0);
    free(scratch);
    vx_maker_free(m);
    vx_cache_free(cache);
    vx_recipe_free(r);
    made_store_close(&s);
}

/* A 2d configuration: one slice of a volume, drawn like the other axes. */
Test(loader_maker, slices_for_2d) {
    enum { SLICE = 14 * 10 };
    static const char *const names[] = {"case_00", "case_04"};
    static const uint32_t both[] = {0, 1};
    struct vx_recipe_params p = {.dataset = "Dataset999_MadeUp",
                                 .cache_key = "0123",
                                 .seed = 5,
                                 .cases = names,
                                 .n_cases = 2,
                                 .train = both,
                                 .n_train = 2,
                                 .val = both,
                                 .n_val = 2,
                                 .dims = 2,
                                 .channels = STORE_CHANNELS,
                                 .batch = 4,
                                 .patch = {1, 14, 10}};
    struct made_store s;
    struct vx_err err = {0};
    struct vx_cache *cache = NULL;
    struct vx_maker *m = NULL;
    struct vx_recipe *r = NULL;
    static float image[STORE_CHANNELS * SLICE];
    static int16_t label[SLICE];
    made_store_open(&s);
    cr_assert_eq(vx_recipe_create(&p, &r, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_cache_open(s.dir, &cache, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_maker_create(r, cache, &m, &err), VX_OK, "%s", err.text);
    int slices[32] = {0}, seen = 0;
    for (uint64_t k = 0; k < 200; k++) {
        struct vx_made made;
        uint32_t c, stream = k % 2;
        cr_assert_eq(vx_maker_make(m, stream, k, (uint32_t)(k % 4), image, label, &c, &made, NULL,
                                   NULL, &err),
                     VX_OK);
        const struct made_case *mc = &s.cases[c ? 4 : 0];
        int32_t z = made.place.lo[0];
        cr_assert(z >= 0 && z < mc->shape[0] && made.place.size[0] == 1);
        seen += !slices[z]++;
        for (size_t i = 0; stream == VX_STREAM_VAL && i < SLICE; i++) {
            size_t v = 0, n = (size_t)(mc->shape[0] * mc->shape[1] * mc->shape[2]);
            bool in = voxel_of(mc, z, made.place.lo[1] + (int64_t)i / 10,
                               made.place.lo[2] + (int64_t)i % 10, &v);
            cr_assert_eq(image[SLICE + i], in ? mc->image[n + v] : 0.0f);
            cr_assert_eq(label[i], in && mc->seg[v] > 0 ? mc->seg[v] : 0);
        }
    }
    cr_assert_gt(seen, 18);
    vx_maker_free(m);
    vx_cache_free(cache);
    vx_recipe_free(r);
    made_store_close(&s);
}
