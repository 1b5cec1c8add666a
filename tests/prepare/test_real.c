/* Real volumes against what nnU-Net 2.8.1 made of the same files, written down in
 * tests/oracle/golden by tests/oracle/run: fingerprints, and cases prepared with its own and with
 * other target spacings. */
#include "prepare/case.h"
#include "prepare/extract.h"
#include "prepare/integrity.h"

#include "base/hash.h"
#include "base/json.h"
#include "cache/cache.h"
#include "plan/fingerprint.h"
#include "plan/plans.h"
#include "prepare/fixture.h"
#include "support/skip.h"

static json_t *golden(const char *name) {
    vx_auto_free char *path = vx_strf("tests/oracle/golden/%s.json", name);
    json_t *json = NULL;
    struct vx_err e = {0};
    expect_ok(vx_json_load_file(path, 64u << 20, &json, &e));
    return json;
}

static double number(const json_t *obj, const char *key) {
    const json_t *v = json_object_get(obj, key);
    cr_assert(json_is_number(v), "the golden file has no number %s", key);
    return json_number_value(v);
}

static void close_to(const char *what, double got, double want, double tolerance) {
    cr_assert(fabs(got - want) <= tolerance * fmax(1, fabs(want)), "%s: %.9g, nnU-Net %.9g", what,
              got, want);
}

/* --- fingerprints --- */

static void check_intensity(const struct vx_intensity *got, const json_t *want) {
    cr_assert_eq(got->min, number(want, "min"));
    cr_assert_eq(got->max, number(want, "max"));
    cr_assert_eq(got->median, number(want, "median"));
    cr_assert_eq(got->percentile_00_5, number(want, "percentile_00_5"));
    cr_assert_eq(got->percentile_99_5, number(want, "percentile_99_5"));
    /* nnU-Net sums in float32 */
    cr_assert_lt(fabs(got->mean / number(want, "mean") - 1), 1e-6);
    cr_assert_lt(fabs(got->std / number(want, "std") - 1), 1e-6);
}

static void check_fingerprint(const struct vx_fingerprint *got, const json_t *want) {
    const json_t *channels = json_object_get(want, "foreground_intensity_properties_per_channel");
    const json_t *shapes = json_object_get(want, "shapes_after_crop");
    const json_t *spacings = json_object_get(want, "spacings");
    cr_assert_eq((size_t)got->n_channels, json_object_size(channels));
    for (int c = 0; c < got->n_channels; c++) {
        char key[8];
        snprintf(key, sizeof key, "%d", c);
        check_intensity(&got->intensity[c], json_object_get(channels, key));
    }
    cr_assert_eq((size_t)got->n_cases, json_array_size(shapes));
    for (int i = 0; i < got->n_cases; i++) {
        const json_t *shape = json_array_get(shapes, (size_t)i);
        const json_t *spacing = json_array_get(spacings, (size_t)i);
        for (int a = 0; a < 3; a++) {
            cr_assert_eq(got->shapes[i][a], json_integer_value(json_array_get(shape, (size_t)a)));
            cr_assert_eq(got->spacings[i][a],
                         json_number_value(json_array_get(spacing, (size_t)a)));
        }
    }
    cr_assert_eq(got->median_relative_size_after_cropping,
                 number(want, "median_relative_size_after_cropping"));
}

static void check_set(const char *data, const char *name) {
    vx_auto_json json_t *want = golden(name);
    vx_auto_free char *dir = vx_strf("%s/%s", data, name);
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
    check_fingerprint(&fp, json_object_get(want, "fingerprint"));
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
    check_set(data, "Dataset004_Hippocampus");
    check_set(data, "Dataset101_SarcomaCT");
    check_set(data, "Dataset102_SarcomaCTMR");
}

/* --- cases --- */

static void check_image(const struct vx_prepared *p, const json_t *want) {
    size_t n = (size_t)vx_shape_count(p->info->shape), c;
    const size_t at[4] = {n / 7, n / 3, n / 2, n * 5 / 6};
    json_t *channel;
    json_array_foreach(json_object_get(want, "channels"), c, channel) {
        const float *x = p->image + c * n;
        const json_t *sample = json_object_get(channel, "sample");
        double sum = 0, squares = 0;
        for (size_t i = 0; i < n; i++) {
            sum += x[i];
            squares += (double)x[i] * x[i];
        }
        double mean = sum / (double)n;
        close_to("mean", mean, number(channel, "mean"), 1e-5);
        close_to("std", sqrt(squares / (double)n - mean * mean), number(channel, "std"), 1e-5);
        for (size_t k = 0; k < 4; k++) {
            close_to("voxel", x[at[k]], json_number_value(json_array_get(sample, k)), 2e-5);
        }
    }
}

/* Labels and drawn locations are equal to the last byte. */
static void check_labels(const struct vx_prepared *p, const json_t *want) {
    char hex[VX_SHA256_HEX];
    vx_sha256_hex(p->seg, (size_t)vx_shape_count(p->info->shape) * sizeof *p->seg, hex);
    cr_assert_str_eq(hex, json_string_value(json_object_get(want, "seg_sha256")));
    const json_t *locations = json_object_get(want, "locations");
    cr_assert_eq(p->info->n_classes, json_object_size(locations));
    for (size_t k = 0; k < p->info->n_classes; k++) {
        const struct vx_cache_class *c = &p->info->classes[k];
        const json_t *l = json_object_get(locations, c->key);
        cr_assert_eq(c->n_locations, json_integer_value(json_array_get(l, 0)));
        vx_sha256_hex(p->locations + c->first_index, (size_t)c->n_locations * sizeof *p->locations,
                      hex);
        cr_assert_str_eq(hex, json_string_value(json_array_get(l, 1)));
    }
}

static void check_case(const char *dir, const struct vx_case_recipe *recipe, const char *name,
                       const json_t *want) {
    vx_auto_free char *a = vx_strf("%s/imagesTr/%s_0000.nii.gz", dir, name);
    vx_auto_free char *b = vx_strf("%s/imagesTr/%s_0001.nii.gz", dir, name);
    vx_auto_free char *label = vx_strf("%s/labelsTr/%s.nii.gz", dir, name);
    const char *images[2] = {a, b};
    struct vx_case_input in = {name, dir, images, recipe->dataset->n_channels, label};
    vx_auto_prepared struct vx_prepared p = {0};
    struct vx_err e = {0};
    expect_ok(vx_case_make(&in, recipe, &p, &e));
    const json_t *shape = json_object_get(want, "shape"), *crop = json_object_get(want, "crop");
    for (size_t i = 0; i < 3; i++) {
        const json_t *range = json_array_get(crop, i);
        cr_assert_eq(p.info->shape[i], json_integer_value(json_array_get(shape, i + 1)));
        cr_assert_eq(p.info->crop_lo[i], json_integer_value(json_array_get(range, 0)));
        cr_assert_eq(p.info->crop_hi[i], json_integer_value(json_array_get(range, 1)));
    }
    check_image(&p, want);
    check_labels(&p, want);
}

/* nnU-Net's plans with the job's target spacing and transposition. */
static void plans_of(const json_t *set, const json_t *job, const char *configuration,
                     struct vx_plans *ret) {
    vx_auto_json json_t *plans = json_deep_copy(json_object_get(set, "plans"));
    json_t *config = json_object_get(json_object_get(plans, "configurations"), configuration);
    json_t *spacing = json_object_get(job, "spacing");
    json_t *forward = json_object_get(job, "transpose_forward");
    struct vx_err e = {0};
    if (json_is_array(spacing)) {
        json_object_set(config, "spacing", spacing);
    }
    if (json_is_array(forward)) {
        vx_auto_json json_t *backward = json_pack("[i, i, i]", 0, 0, 0);
        for (size_t i = 0; i < 3; i++) {
            size_t to = (size_t)json_integer_value(json_array_get(forward, i));
            json_array_set_new(backward, to, json_integer((json_int_t)i));
        }
        json_object_set(plans, "transpose_forward", forward);
        json_object_set(plans, "transpose_backward", backward);
    }
    expect_ok(vx_plans_from_json(plans, ret, &e));
}

Test(prepare_real, cases_are_nnunets) {
    const char *data = vx_test_data();
    if (!data) {
        vx_skip("data", "no real volumes: set VOXELD_TEST_DATA");
    }
    vx_auto_json json_t *prepared = golden("prepared");
    json_t *job, *want;
    size_t i, n = 0;
    json_array_foreach(json_object_get(prepared, "jobs"), i, job) {
        const char *name = json_string_value(json_object_get(job, "dataset")), *case_name;
        const char *configuration = json_string_value(json_object_get(job, "configuration"));
        vx_auto_json json_t *set = golden(name);
        vx_auto_free char *dir = vx_strf("%s/%s", data, name);
        struct vx_err e = {0};
        struct vx_dataset_desc d;
        struct vx_plans plans;
        expect_ok(vx_dataset_load(dir, &d, &e));
        plans_of(set, job, configuration, &plans);
        struct vx_case_recipe recipe = {&plans, vx_plans_config(&plans, configuration), &d};
        json_object_foreach(json_object_get(job, "cases"), case_name, want) {
            check_case(dir, &recipe, case_name, want);
            n++;
        }
    }
    cr_assert_eq(n, 15);
}
