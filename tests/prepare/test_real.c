/* Real volumes against numbers that nnU-Net 2.8.1 with batchgenerators 0.25.3 produced from the
 * same files: its fingerprint, and cases preprocessed with its default and with other target
 * spacings. (batchgenerators 0.25.5 resizes labels by another rule: the largest mask wins
 * everywhere.) */
#include "prepare/case.h"
#include "prepare/extract.h"
#include "prepare/integrity.h"

#include "cache/cache.h"
#include "plan/fingerprint.h"
#include "plan/plans.h"
#include "prepare/fixture.h"
#include "support/skip.h"

/* Of nnU-Net's dataset_fingerprint.json, which sums in float32. */
struct golden_channel {
    double max, mean, median, min, percentile_00_5, percentile_99_5, std;
};

static const struct golden_set {
    const char *name;
    int channels;
    struct golden_channel channel[2];
} sets[] = {
    {"Dataset004_Hippocampus",
     1,
     {{486420.21875, 23098.087890625, 363.7332458496094, 0, 28, 281611.71875, 61870.71484375}}},
    {"Dataset101_SarcomaCT", 1, {{1501, 37.90986251831055, 34, -788, -111, 644, 95.6384048461914}}},
    {"Dataset102_SarcomaCTMR",
     2,
     {{1501, 46.130043029785156, 37, -164, -75, 1052, 107.43580627441406},
      {1160, 337.14337158203125, 314, 1, 95, 783, 103.50726318359375}}},
};

static const struct golden_case {
    int set;
    const char *name;
    double spacing[3]; /* target, after transpose */
    int forward[3];
    int64_t shape[3];
    double mean[2], std[2], sample[2][4]; /* at n/7, n/3, n/2, 5n/6 of a channel */
    int64_t outside, seg_sum;             /* voxels of -1; sum of index * label */
    int64_t voxels[2];                    /* of labels 1 and 2 */
    int32_t location[2][3][3];            /* per label the first, second and last */
} cases[] = {
    {1, /* one axis treated separately */
     "STS_002",
     {2, 1.5, 1.5},
     {0, 1, 2},
     {78, 93, 105},
     {-0.7897842018895457},
     {1.136475777216275},
     {{-0.4343387186527252, -0.5163987278938293, 3.1764285564422607, -0.42042234539985657}},
     97,
     4482683073,
     {11766},
     {{{50, 49, 55}, {44, 40, 62}, {46, 41, 45}}}},
    {1,
     "STS_003",
     {2, 1.5, 1.5},
     {0, 1, 2},
     {83, 103, 100},
     {-0.703977506094314},
     {1.2209666357073454},
     {{-1.5570091009140015, -0.016936471685767174, -0.4290572702884674, 0.15510205924510956}},
     79,
     7394152683,
     {17680},
     {{{37, 64, 56}, {41, 46, 64}, {36, 65, 54}}}},
    {1, /* not resampled */
     "STS_002",
     {3.2699999809265137, 0.9765620231628418, 0.9765620231628418},
     {0, 1, 2},
     {48, 143, 161},
     {-0.7943777349868457},
     {1.1481062714294261},
     {{-1.5570091009140015, -0.5009479522705078, 3.252774238586426, -0.34410718083381653}},
     166,
     9444274056,
     {17090},
     {{{20, 63, 71}, {28, 80, 76}, {24, 69, 93}}}},
    {2, /* CT and MR */
     "STS_002",
     {3.2699599266052246, 0.9765620231628418, 0.9765620231628418},
     {0, 1, 2},
     {35, 90, 115},
     {-0.6907447492575184, 0},
     {0.725548758774753, 1},
     {{-0.010518309660255909, -1.1274644136428833, -1.1274644136428833, 0.1570235937833786},
      {-0.5774076581001282, 0.4010101556777954, 1.1675245761871338, -0.43090659379959106}},
     0,
     3210219144,
     {17090},
     {{{14, 33, 42}, {22, 50, 47}, {18, 39, 64}}}},
    {0, /* transposed, resampled jointly */
     "hippocampus_003",
     {1.3, 1.0, 0.9},
     {2, 0, 1},
     {26, 35, 58},
     {-3.9627883827171435e-05},
     {0.9949753544212407},
     {{1.4067648649215698, 0.6125228404998779, 0.612775444984436, 0.23636406660079956}},
     2,
     100994067,
     {1300, 1527},
     {{{16, 11, 42}, {11, 9, 48}, {14, 9, 41}}, {{11, 19, 13}, {12, 26, 12}, {14, 15, 28}}}},
    {0,
     "hippocampus_017",
     {1.3, 1.0, 0.9},
     {2, 0, 1},
     {27, 32, 53},
     {1.5563562266076604e-05},
     {0.9954296713181876},
     {{-1.0015002489089966, 0.5563042163844877, -0.8509860038757324, -1.141758680343628}},
     5,
     76291284,
     {1791, 1139},
     {{{14, 13, 40}, {11, 13, 32}, {11, 13, 42}}, {{11, 23, 8}, {12, 13, 19}, {9, 20, 8}}}},
};

static void close_to(const char *what, double got, double want, double tolerance) {
    cr_assert(fabs(got - want) <= tolerance * fmax(1, fabs(want)), "%s: %.9g, nnU-Net %.9g", what,
              got, want);
}

static void check_set(const char *data, const struct golden_set *g) {
    vx_auto_free char *dir = vx_strf("%s/%s", data, g->name);
    struct vx_err e = {0};
    struct vx_dataset_desc d;
    vx_auto_rawset struct vx_rawset set = {0};
    vx_auto_findings struct vx_findings f = {0};
    expect_ok(vx_dataset_load(dir, &d, &e));
    fixture_list(dir, d.n_channels, &set);
    struct vx_case_print *prints = calloc(set.n_cases, sizeof *prints);
    const struct vx_case_print **list = calloc(set.n_cases, sizeof *list);
    for (size_t i = 0; i < set.n_cases; i++) {
        bool usable;
        expect_ok(vx_integrity_case(&d, &set.cases[i], vx_extract_draws_per_case(set.n_cases), &f,
                                    &prints[i], &usable, &e));
        cr_assert(usable, "%s", f.list ? f.list[f.n - 1].text : "");
        list[i] = &prints[i];
    }
    struct vx_fingerprint fp;
    expect_ok(vx_extract_merge(list, set.n_cases, &fp, &e));
    cr_assert_eq(fp.n_channels, g->channels);
    for (int c = 0; c < g->channels; c++) {
        const struct golden_channel *want = &g->channel[c];
        const struct vx_intensity *got = &fp.intensity[c];
        close_to("max", got->max, want->max, 1e-12);
        close_to("min", got->min, want->min, 1e-12);
        close_to("mean", got->mean, want->mean, 1e-5);
        close_to("std", got->std, want->std, 1e-5);
        close_to("median", got->median, want->median, 1e-6);
        close_to("0.5 %", got->percentile_00_5, want->percentile_00_5, 1e-6);
        close_to("99.5 %", got->percentile_99_5, want->percentile_99_5, 1e-6);
    }
    close_to("relative size", fp.median_relative_size_after_cropping, 1, 1e-12);
    vx_fingerprint_release(&fp);
    for (size_t i = 0; i < set.n_cases; i++) {
        vx_case_print_release(&prints[i]);
    }
    free(prints);
    free(list);
}

Test(prepare_real, fingerprints_are_nnunets) {
    const char *data = vx_test_data();
    if (!data) {
        vx_skip("data", "no real volumes: set VOXELD_TEST_DATA");
    }
    for (size_t s = 0; s < VX_COUNTOF(sets); s++) {
        check_set(data, &sets[s]);
    }
}

static struct vx_plans plan_of(const struct golden_case *g) {
    const struct golden_set *s = &sets[g->set];
    struct vx_plans p = {.n_channels = s->channels, .n_configs = 1};
    struct vx_plan_config *c = &p.configs[0];
    c->dims = 3;
    c->n_channels = s->channels;
    for (int k = 0; k < s->channels; k++) {
        const struct golden_channel *i = &s->channel[k];
        c->norm[k] = g->set > 0 && k == 0 ? VX_NORM_CT : VX_NORM_ZSCORE;
        p.intensity[k] = (struct vx_intensity){
            i->mean, i->median, i->std, i->min, i->max, i->percentile_00_5, i->percentile_99_5};
    }
    for (int a = 0; a < 3; a++) {
        c->spacing[a] = g->spacing[a];
        p.transpose_forward[a] = g->forward[a];
    }
    return p;
}

static void check_image(const struct golden_case *g, const struct vx_prepared *p) {
    size_t n = (size_t)(g->shape[0] * g->shape[1] * g->shape[2]);
    const size_t at[4] = {n / 7, n / 3, n / 2, n * 5 / 6};
    for (int c = 0; c < sets[g->set].channels; c++) {
        const float *x = p->image + (size_t)c * n;
        double sum = 0, squares = 0;
        for (size_t i = 0; i < n; i++) {
            sum += x[i];
            squares += (double)x[i] * x[i];
        }
        close_to("mean", sum / (double)n, g->mean[c], 1e-5);
        close_to("std", sqrt(squares / (double)n - sum / (double)n * sum / (double)n), g->std[c],
                 1e-5);
        for (int k = 0; k < 4; k++) {
            close_to("voxel", x[at[k]], g->sample[c][k], 2e-5);
        }
    }
}

static void check_seg(const struct golden_case *g, const struct vx_prepared *p) {
    int64_t n = g->shape[0] * g->shape[1] * g->shape[2], outside = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        outside += p->seg[i] == -1;
        sum += i * p->seg[i];
    }
    cr_assert_eq(outside, g->outside);
    cr_assert_eq(sum, g->seg_sum);
    for (size_t k = 0; k < p->info->n_classes; k++) {
        const struct vx_cache_class *c = &p->info->classes[k];
        const int32_t(*l)[3] = (const int32_t(*)[3])p->locations + c->first_index;
        cr_assert_eq(c->n_voxels, g->voxels[k]);
        cr_assert_eq(c->n_locations, g->voxels[k] < 10000 ? g->voxels[k] : 10000);
        cr_assert_eq(memcmp(l, g->location[k], 2 * sizeof *l), 0);
        cr_assert_eq(memcmp(l[c->n_locations - 1], g->location[k][2], sizeof *l), 0);
    }
}

Test(prepare_real, cases_are_nnunets) {
    const char *data = vx_test_data();
    if (!data) {
        vx_skip("data", "no real volumes: set VOXELD_TEST_DATA");
    }
    for (size_t k = 0; k < VX_COUNTOF(cases); k++) {
        const struct golden_case *g = &cases[k];
        vx_auto_free char *dir = vx_strf("%s/%s", data, sets[g->set].name);
        vx_auto_free char *a = vx_strf("%s/imagesTr/%s_0000.nii.gz", dir, g->name);
        vx_auto_free char *b = vx_strf("%s/imagesTr/%s_0001.nii.gz", dir, g->name);
        vx_auto_free char *label = vx_strf("%s/labelsTr/%s.nii.gz", dir, g->name);
        const char *images[2] = {a, b};
        struct vx_err e = {0};
        struct vx_dataset_desc d;
        struct vx_plans plans = plan_of(g);
        struct vx_case_input in = {g->name, dir, images, sets[g->set].channels, label};
        struct vx_case_recipe recipe = {&plans, &plans.configs[0], &d};
        vx_auto_prepared struct vx_prepared p = {0};
        expect_ok(vx_dataset_load(dir, &d, &e));
        expect_ok(vx_case_make(&in, &recipe, &p, &e));
        cr_assert_eq(memcmp(p.info->shape, g->shape, sizeof g->shape), 0);
        check_image(g, &p);
        check_seg(g, &p);
    }
}
