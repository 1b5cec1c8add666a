/* From raw files to the prepared store and back: volumes small enough to follow by hand. */
#include "prepare/case.h"

#include "cache/build.h"
#include "cache/cache.h"
#include "plan/plans.h"
#include "prepare/fixture.h"
#include "volume/resample.h"

#define KEY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* A plan for the fixture's two channels: none and CT; axis x first. */
static struct vx_plans made_plan(const double spacing[3], const int forward[3]) {
    struct vx_plans p = {.n_channels = 2, .n_configs = 1};
    struct vx_plan_config *c = &p.configs[0];
    c->dims = 3;
    c->n_channels = 2;
    c->norm[0] = VX_NORM_NONE;
    c->norm[1] = VX_NORM_CT;
    p.intensity[1] = (struct vx_intensity){
        .mean = 100, .std = 50, .percentile_00_5 = 50, .percentile_99_5 = 600};
    for (int a = 0; a < 3; a++) {
        c->spacing[a] = spacing[a];
        c->patch_size[a] = 4;
        p.transpose_forward[a] = forward[a];
        p.transpose_backward[forward[a]] = a;
    }
    return p;
}

struct made {
    char *dir;
    struct vx_volume image;
    struct vx_labelmap label;
    struct vx_dataset_desc dataset;
    struct vx_rawset set;
    struct vx_plans plans;
    struct vx_case_input in;
    struct vx_case_recipe recipe;
};

static void make(struct made *m, const char *name, const double spacing[3], const int forward[3]) {
    const int64_t shape[3] = {6, 7, 8};
    const double raw_spacing[3] = {1, 1.5, 2};
    m->dir = fixture_dir(name);
    m->dataset = fixture_dataset(2, 3, 1);
    m->plans = made_plan(spacing, forward);
    fixture_case(shape, raw_spacing, 2, &m->image, &m->label);
    fixture_write(m->dir, "case one", &m->image, &m->label);
    fixture_list(m->dir, 2, &m->set);
    const struct vx_rawset_case *c = &m->set.cases[0];
    m->in = (struct vx_case_input){c->name, m->dir, (const char *const *)c->images, 2, c->label};
    m->recipe = (struct vx_case_recipe){&m->plans, &m->plans.configs[0], &m->dataset};
}

static void unmake(struct made *m) {
    vx_volume_release(&m->image);
    vx_labelmap_release(&m->label);
    vx_rawset_release(&m->set);
    fixture_remove(m->dir);
}

static void expect_triple(const int64_t got[3], int64_t a, int64_t b, int64_t c) {
    cr_assert(got[0] == a && got[1] == b && got[2] == c, "%ld %ld %ld", (long)got[0], (long)got[1],
              (long)got[2]);
}

Test(prepare_case, crops_transposes_and_normalises) {
    struct made m = {0};
    struct vx_err e = {0};
    vx_auto_prepared struct vx_prepared p = {0};
    make(&m, "plain", (const double[3]){2, 1, 1.5}, (const int[3]){2, 0, 1});
    expect_ok(vx_case_make(&m.in, &m.recipe, &p, &e));
    const struct vx_cache_info *i = p.info;
    cr_assert_str_eq(i->name, "case one");
    expect_triple(i->shape_raw, 8, 6, 7);
    expect_triple(i->crop_lo, 2, 0, 0); /* two zero planes on either side of x */
    expect_triple(i->crop_hi, 6, 6, 7);
    expect_triple(i->shape_cropped, 4, 6, 7);
    expect_triple(i->shape, 4, 6, 7);
    cr_assert_eq(i->spacing[0], 2);
    cr_assert_eq(i->spacing_raw[2], 1.5);
    cr_assert_eq(i->n_channels, 2);
    cr_assert_not_null(i->geometry);
    for (int x = 0; x < 4; x++) {
        for (int z = 0; z < 6; z++) {
            for (int y = 0; y < 7; y++) {
                size_t at = (size_t)((x * 6 + z) * 7 + y);
                float raw = (float)(1 + (x + 2) + 10 * y + 100 * z);
                float ct = fminf(fmaxf(2 * raw, 50), 600);
                cr_assert_eq(p.image[at], raw);
                cr_assert_eq(p.image[4 * 6 * 7 + at], (ct - 100) / 50);
                cr_assert_eq(p.seg[at], y > 3 ? 1 + (z > 3) : 0);
            }
        }
    }
    cr_assert_eq(i->n_classes, 2);
    cr_assert_eq(i->classes[0].n_locations, 4 * 4 * 3);
    cr_assert_eq(i->classes[1].n_voxels, 4 * 2 * 3);
    cr_assert_eq(i->classes[1].first_index, 48);
    for (int64_t k = 0; k < 48; k++) {
        const int32_t *zyx = p.locations[k];
        cr_assert_eq(p.seg[(zyx[0] * 6 + zyx[1]) * 7 + zyx[2]], 1);
    }
    cr_assert_eq(i->n_sources, 3);
    cr_assert_str_eq(i->sources[0].path, "imagesTr/case one_0000.nii.gz");
    cr_assert_str_eq(i->sources[2].path, "labelsTr/case one.nii.gz");
    cr_assert_gt(i->sources[2].size_bytes, 20);
    unmake(&m);
}

Test(prepare_case, resamples_by_the_volume_rooms_rule) {
    struct made m = {0};
    struct vx_err e = {0};
    vx_auto_prepared struct vx_prepared p = {0};
    make(&m, "resample", (const double[3]){0.5, 1, 1}, (const int[3]){0, 1, 2});
    expect_ok(vx_case_make(&m.in, &m.recipe, &p, &e));
    /* cropped 6 x 7 x 4 at 1 x 1.5 x 2 mm; 7 * 1.5 = 10.5 rounds to even */
    expect_triple(p.info->shape, 12, 10, 8);
    const int64_t from[3] = {6, 7, 4}, to[3] = {12, 10, 8};
    float src[6 * 7 * 4], want[12 * 10 * 8];
    int16_t seg[6 * 7 * 4], want_seg[12 * 10 * 8];
    for (int k = 0; k < 6 * 7 * 4; k++) {
        int z = k / 28, y = k / 4 % 7, x = k % 4;
        src[k] = (float)(3 + x + 10 * y + 100 * z);
        seg[k] = (int16_t)(y > 3 ? 1 + (z > 3) : 0);
    }
    expect_ok(vx_resample_image(src, 1, from, VX_RESAMPLE_JOINT, to, want, &e));
    expect_ok(vx_resample_labels(seg, from, VX_RESAMPLE_JOINT, to, want_seg, &e));
    cr_assert_eq(memcmp(want, p.image, sizeof want), 0);
    cr_assert_eq(memcmp(want_seg, p.seg, sizeof want_seg), 0);
    unmake(&m);
}

Test(prepare_case, slices_of_a_2d_configuration_stay) {
    struct made m = {0};
    struct vx_err e = {0};
    vx_auto_prepared struct vx_prepared p = {0};
    make(&m, "flat", (const double[3]){0, 1, 1}, (const int[3]){0, 1, 2});
    m.plans.configs[0].dims = 2;
    expect_ok(vx_case_make(&m.in, &m.recipe, &p, &e));
    expect_triple(p.info->shape, 6, 10, 8);
    cr_assert_eq(p.info->spacing[0], 1);
    unmake(&m);
}

Test(prepare_case, without_a_label_there_are_no_locations) {
    struct made m = {0};
    struct vx_err e = {0};
    vx_auto_prepared struct vx_prepared p = {0};
    make(&m, "unlabelled", (const double[3]){0.5, 1, 1}, (const int[3]){0, 1, 2});
    m.in.label = NULL;
    expect_ok(vx_case_make(&m.in, &m.recipe, &p, &e));
    cr_assert_null(p.seg);
    cr_assert_null(p.locations);
    cr_assert_not(p.info->has_seg);
    cr_assert_eq(p.info->n_classes, 0);
    cr_assert_eq(p.info->n_sources, 2);
    unmake(&m);
}

Test(prepare_case, goes_through_the_store) {
    struct made m = {0};
    struct vx_err e = {0};
    vx_auto_prepared struct vx_prepared p = {0};
    make(&m, "store", (const double[3]){2, 1, 1.5}, (const int[3]){2, 0, 1});
    expect_ok(vx_case_make(&m.in, &m.recipe, &p, &e));
    struct vx_cache_builder *b = NULL;
    uint64_t bytes = 0;
    expect_ok(vx_cache_build_open(m.dir, KEY, "{}", &b, &e));
    expect_ok(vx_case_store(vx_cache_build_dir(b), &p, m.recipe.config, &bytes, &e));
    struct vx_cache_source *sources = NULL;
    struct vx_cache_member member = {.name = m.in.name};
    expect_ok(vx_case_sources(&m.in, &sources, &member.n_sources, &e));
    member.sources = sources;
    cr_assert(vx_cache_build_has_case(b, &member));
    expect_ok(vx_cache_build_commit(b, &member, 1, &e));
    vx_auto_cache struct vx_cache *cache = NULL;
    vx_auto_cache_case struct vx_cache_case *c = NULL;
    expect_ok(vx_cache_open(vx_cache_build_dir(b), &cache, &e));
    expect_ok(vx_cache_case_open(cache, "case one", &c, &e));
    const int64_t lo[3] = {0, 0, 0}, hi[3] = {4, 6, 7};
    float image[2 * 4 * 6 * 7];
    int16_t seg[4 * 6 * 7];
    int32_t zyx[3];
    expect_ok(vx_cache_read_box(c, VX_CACHE_IMAGE, lo, hi, image, NULL, &e));
    expect_ok(vx_cache_read_box(c, VX_CACHE_SEG, lo, hi, seg, NULL, &e));
    expect_ok(vx_cache_location(c, 1, 3, zyx, &e));
    cr_assert_eq(memcmp(image, p.image, sizeof image), 0);
    cr_assert_eq(memcmp(seg, p.seg, sizeof seg), 0);
    cr_assert_eq(memcmp(zyx, p.locations[48 + 3], sizeof zyx), 0);
    cr_assert_gt(bytes, 500);
    free(sources);
    vx_cache_build_close(b);
    unmake(&m);
}

/* What the case says after one change to its volumes. */
static struct vx_err refusal(void (*damage)(struct made *), const char *name) {
    struct made m = {0};
    struct vx_err e = {0};
    struct vx_prepared p = {0};
    make(&m, name, (const double[3]){0.5, 1, 1}, (const int[3]){0, 1, 2});
    damage(&m);
    fixture_write(m.dir, "case one", &m.image, &m.label);
    cr_assert_lt(vx_case_make(&m.in, &m.recipe, &p, &e), 0);
    cr_assert_null(p.info);
    struct vx_err checked = {0}; /* the check alone says the same */
    cr_assert_eq(vx_case_check(&m.in, &m.recipe, &checked), e.code, "%s", checked.text);
    cr_assert_str_eq(checked.reason, e.reason);
    cr_assert_str_eq(checked.where, e.where);
    unmake(&m);
    return e;
}

static void infinite(struct made *m) {
    m->image.data[100] = INFINITY;
}
static void foreign_label(struct made *m) {
    m->label.data[100] = 3;
}
static void short_label(struct made *m) {
    m->label.shape[2] = 7;
}
static void one_channel_more(struct made *m) {
    m->plans.configs[0].n_channels = 3;
}
static void missing_file(struct made *m) {
    static const char *const gone[2] = {"/nonexistent/a_0000.nii.gz", "/nonexistent/b.nii.gz"};
    m->in.images = gone;
}

Test(prepare_case, refusals_name_reason_and_file) {
    static const struct {
        void (*damage)(struct made *);
        const char *reason, *where;
    } kinds[] = {
        {infinite, "not_finite", "case one_0000.nii.gz"},
        {foreign_label, "unexpected_label", "labelsTr/case one.nii.gz"},
        {short_label, "shape_mismatch", "labelsTr/case one.nii.gz"},
        {one_channel_more, "channel_mismatch", "case one_0000.nii.gz"},
        {missing_file, "not_found", "/nonexistent/a_0000.nii.gz"},
    };
    for (size_t k = 0; k < VX_COUNTOF(kinds); k++) {
        struct vx_err e = refusal(kinds[k].damage, "refused");
        cr_assert_str_eq(e.reason, kinds[k].reason);
        cr_assert(strstr(e.where, kinds[k].where), "%s", e.where);
    }
}

Test(prepare_case, a_good_case_passes_its_check) {
    struct made m = {0};
    struct vx_err e = {0};
    make(&m, "checked", (const double[3]){0.5, 1, 1}, (const int[3]){0, 1, 2});
    expect_ok(vx_case_check(&m.in, &m.recipe, &e));
    m.in.label = NULL;
    expect_ok(vx_case_check(&m.in, &m.recipe, &e));
    unmake(&m);
}

Test(prepare_case, estimate_covers_the_arrays) {
    struct made m = {0};
    struct vx_err e = {0};
    uint64_t memory = 0, voxels = 0;
    make(&m, "estimate", (const double[3]){0.5, 1, 1}, (const int[3]){0, 1, 2});
    expect_ok(vx_case_estimate(&m.in, &m.recipe, &memory, &voxels, &e));
    cr_assert_eq(voxels, 12 * 10 * 16); /* as if nothing were cropped */
    cr_assert_geq(memory, voxels * 10 + 6 * 7 * 8 * 10);
    unmake(&m);
}
