/* A validation from the prepared store to summary.json, with a network that thresholds its input.
 */
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "cache/build.h"
#include "fake_device.h"
#include "infer/validate.h"
#include "volume/nifti.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define KEY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char folder[256];

static void make_folder(void) {
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/vx-validate-XXXXXX", base ? base : "/tmp");
    cr_assert_not_null(mkdtemp(folder));
}

static void remove_folder(void) {
    vx_remove_tree(folder, NULL);
}

TestSuite(infer_validate, .init = make_folder, .fini = remove_folder);

/* Class 0 below 0.5, class 1 up to 1.5, class 2 above. */
static double threshold(const struct fake *f, const float *image, int cls, const int64_t p[3]) {
    double d = (double)image[fake_index(f, 0, p)] - cls;
    return -d * d;
}

static struct vx_geometry geometry(void) {
    struct vx_geometry g;
    vx_geometry_init(&g, (const double[3]){1, 1, 2});
    g.sform_code = 1;
    g.srow[0][0] = g.srow[1][1] = g.srow[2][2] = -1;
    g.srow[1][3] = 12.5f;
    return g;
}

/* File axes z, y, x = 6, 7, 5; transposed (2, 0, 1): array axes 5, 6, 7, of which [1, 5) x all x
 * [0, 6) are kept, and axis 0 has twice the file's resolution: 8 x 6 x 6. The image is the class
 * itself, constant along axis 0, so that resampling is exact. */
static int class_at(int c, int y, int x) {
    return (y * 2 + x + c) % 3;
}

static void write_reference(const char *path, int c, int wrong) {
    struct vx_geometry g = geometry();
    vx_auto_labelmap struct vx_labelmap m = {0};
    cr_assert_eq(vx_labelmap_init(&m, (const int64_t[3]){6, 7, 5}, &g, NULL), VX_OK);
    for (int z = 1; z < 5; z++) { /* z, y, x here: array axes */
        for (int y = 0; y < 6; y++) {
            for (int x = 0; x < 6; x++) {
                m.data[(y * 7 + x) * 5 + z] = (int16_t)class_at(c, y, x);
            }
        }
    }
    for (int i = 0, left = wrong; left > 0; i++) { /* turn some of label 1 into 2 */
        if (m.data[i] == 1) {
            m.data[i] = 2;
            left--;
        }
    }
    cr_assert_eq(vx_nifti_write_labels(path, &m, NULL), VX_OK);
}

static struct vx_cache *make_store(void) {
    struct vx_cache_builder *b = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_cache_build_open(folder, KEY, "{}", &b, &err), VX_OK, "%s", err.text);
    static const char *const names[2] = {"case_a", "case_b"};
    const struct vx_cache_source source = {.path = "x", .size_bytes = 1, .mtime_ns = 1};
    for (int c = 0; c < 2; c++) {
        struct vx_cache_source copy = source;
        struct vx_geometry g = geometry();
        float image[8 * 36];
        for (int i = 0; i < 8 * 36; i++) {
            image[i] = (float)class_at(c, i / 6 % 6, i % 6);
        }
        struct vx_cache_case_data data = {.info = {.n_channels = 1,
                                                   .shape = {8, 6, 6},
                                                   .spacing = {1, 1, 1},
                                                   .shape_raw = {5, 6, 7},
                                                   .spacing_raw = {2, 1, 1},
                                                   .crop_lo = {1, 0, 0},
                                                   .crop_hi = {5, 6, 6},
                                                   .shape_cropped = {4, 6, 6},
                                                   .n_sources = 1,
                                                   .sources = &copy},
                                          .image = image,
                                          .patch = {4, 4, 4}};
        snprintf(data.info.name, sizeof data.info.name, "%s", names[c]);
        vx_auto_json json_t *json = vx_geometry_to_json(&g);
        data.info.geometry = json;
        cr_assert_eq(vx_cache_write_case(vx_cache_build_dir(b), &data, NULL, &err), VX_OK, "%s",
                     err.text);
    }
    const struct vx_cache_member members[2] = {{names[0], &source, 1}, {names[1], &source, 1}};
    cr_assert_eq(vx_cache_build_commit(b, members, 2, &err), VX_OK, "%s", err.text);
    struct vx_cache *cache = NULL;
    cr_assert_eq(vx_cache_open(vx_cache_build_dir(b), &cache, &err), VX_OK, "%s", err.text);
    vx_cache_build_close(b);
    return cache;
}

struct session {
    struct fake fake;
    struct vx_cache *cache;
    struct vx_predictor *predictor;
    char references[2][300], out[300];
    struct vx_validate_case cases[2];
    struct vx_validate_options options;
    size_t stop_after, progressed;
};

static int count_progress(void *context, size_t done, size_t total, const char *name,
                          const double *dice, size_t n_classes) {
    struct session *s = context;
    cr_assert(total == 2 && n_classes == 2 && done == ++s->progressed);
    cr_assert_str_eq(name, s->cases[done - 1].name);
    cr_assert(dice[0] > 0 && dice[1] > 0);
    return done == s->stop_after;
}

static const struct vx_metric_class classes[2] = {{1, {1}}, {1, {2}}};

static void session_init(struct session *s) {
    static const int patch[3] = {4, 4, 4};
    static const struct vx_sliding_options sliding = {.mirror = {true, true, true}};
    memset(s, 0, sizeof *s);
    fake_init(&s->fake, 2, 1, 3, patch, threshold);
    cr_assert_eq(vx_predictor_create(&s->fake.program, &s->fake.net, &sliding, &s->predictor, NULL),
                 VX_OK);
    s->cache = make_store();
    snprintf(s->out, sizeof s->out, "%s/fold/validation", folder);
    for (int c = 0; c < 2; c++) {
        snprintf(s->references[c], sizeof s->references[c], "%s/%d.nii.gz", folder, c);
        write_reference(s->references[c], c, c ? 8 : 0);
        s->cases[c] = (struct vx_validate_case){c ? "case_b" : "case_a", s->references[c]};
    }
    s->options = (struct vx_validate_options){.cache = s->cache,
                                              .predictor = s->predictor,
                                              .transpose_forward = {2, 0, 1},
                                              .cases = s->cases,
                                              .n_cases = 2,
                                              .classes = classes,
                                              .n_classes = 2,
                                              .ignore = VX_METRIC_NO_IGNORE,
                                              .out_dir = s->out,
                                              .file_ending = ".nii.gz",
                                              .stamp = "weights 1",
                                              .progress = count_progress,
                                              .context = s};
}

static void session_release(struct session *s) {
    vx_predictor_free(s->predictor);
    vx_cache_free(s->cache);
}

Test(infer_validate, ends_in_the_dice_of_the_original_grid) {
    struct session s;
    session_init(&s);
    struct vx_validate_result r;
    struct vx_err err = {0};
    cr_assert_eq(vx_validate(&s.options, &r, &err), VX_OK, "%s", err.text);
    /* each class has 48 of the 144 voxels; in case b 8 voxels of label 1 are 2 in the reference */
    double first = 2.0 * 40 / 88, second = 2.0 * 48 / 104;
    cr_assert_float_eq(r.dice[0], (1 + first) / 2, 1e-12, "%g", r.dice[0]);
    cr_assert_float_eq(r.dice[1], (1 + second) / 2, 1e-12, "%g", r.dice[1]);
    cr_assert_float_eq(r.foreground_mean, (2 + first + second) / 4, 1e-12);
    cr_assert(r.n_cases == 2 && r.n_kept == 0 && r.n_classes == 2 && s.progressed == 2);
    char path[400];
    snprintf(path, sizeof path, "%s/case_a.nii.gz", s.out);
    vx_auto_labelmap struct vx_labelmap made = {0}, want = {0};
    cr_assert_eq(vx_nifti_read_labels(path, NULL, &made, NULL), VX_OK);
    cr_assert_eq(vx_nifti_read_labels(s.references[0], NULL, &want, NULL), VX_OK);
    cr_assert_eq(memcmp(made.shape, want.shape, sizeof made.shape), 0);
    cr_assert_eq(memcmp(made.data, want.data, 210 * sizeof(int16_t)), 0);
    cr_assert_eq(memcmp(&made.geo, &want.geo, sizeof made.geo), 0);
    snprintf(path, sizeof path, "%s/summary.json", s.out);
    vx_auto_json json_t *doc = NULL;
    cr_assert_eq(vx_json_load_file(path, 1 << 20, &doc, NULL), VX_OK);
    cr_assert_float_eq(
        json_real_value(json_object_get(json_object_get(doc, "foreground_mean"), "Dice")),
        r.foreground_mean, 1e-15);
    session_release(&s);
}

/* A job's folder is published elsewhere: the summary names the files where they will be. */
Test(infer_validate, summary_names_the_final_folder) {
    struct session s;
    session_init(&s);
    struct vx_validate_result r;
    s.options.final_dir = "/results/fold_0/validation";
    cr_assert_eq(vx_validate(&s.options, &r, NULL), VX_OK);
    vx_auto_free char *path = vx_strf("%s/summary.json", s.out);
    vx_auto_json json_t *doc = NULL;
    cr_assert_eq(vx_json_load_file(path, 1 << 20, &doc, NULL), VX_OK);
    const json_t *first = json_array_get(json_object_get(doc, "metric_per_case"), 0);
    cr_assert_str_eq(json_string_value(json_object_get(first, "prediction_file")),
                     "/results/fold_0/validation/case_a.nii.gz");
    session_release(&s);
}

Test(infer_validate, restart_keeps_what_is_done) {
    struct session s;
    session_init(&s);
    struct vx_validate_result r, again;
    struct vx_err err = {0};
    s.stop_after = 1;
    cr_assert_eq(vx_validate(&s.options, &r, &err), VX_E_CANCELLED);
    uint64_t half = s.fake.runs;
    s.stop_after = 0;
    s.progressed = 0;
    cr_assert_eq(vx_validate(&s.options, &r, &err), VX_OK, "%s", err.text);
    cr_assert_eq(s.fake.runs, 2 * half);
    cr_assert_eq(r.n_kept, 1);
    char path[400]; /* a damaged prediction is made again */
    snprintf(path, sizeof path, "%s/case_b.nii.gz", s.out);
    cr_assert_eq(vx_write_file_atomic(path, "junk", 4, 0600, NULL), VX_OK);
    s.progressed = 0;
    cr_assert_eq(vx_validate(&s.options, &again, &err), VX_OK);
    cr_assert(again.n_kept == 1 && s.fake.runs == 3 * half);
    cr_assert(again.foreground_mean == r.foreground_mean && again.dice[0] == r.dice[0]);
    s.options.stamp = "weights 2"; /* other weights: nothing is kept */
    s.progressed = 0;
    cr_assert_eq(vx_validate(&s.options, &again, &err), VX_OK);
    cr_assert(again.n_kept == 0 && s.fake.runs == 5 * half);
    session_release(&s);
}

Test(infer_validate, errors_name_the_case) {
    struct session s;
    session_init(&s);
    struct vx_validate_result r;
    struct vx_err err = {0};
    s.options.max_logit_bytes = 3 * 8 * 36 * 4 - 1;
    cr_assert_eq(vx_validate(&s.options, &r, &err), VX_E_LIMIT);
    cr_assert_str_eq(err.reason, "logits_too_large");
    cr_assert_not_null(strstr(err.text, "case_a"), "%s", err.text);
    s.options.max_logit_bytes = 0;
    cr_assert_eq(unlink(s.references[1]), 0);
    cr_assert_eq(vx_validate(&s.options, &r, &err), VX_E_NOT_FOUND);
    cr_assert_not_null(strstr(err.text, "case_b"), "%s", err.text);
    s.cases[0].name = "absent";
    cr_assert_eq(vx_validate(&s.options, &r, &err), VX_E_NOT_FOUND);
    s.options.n_cases = 0;
    cr_assert_eq(vx_validate(&s.options, &r, &err), VX_E_INVALID);
    session_release(&s);
}
