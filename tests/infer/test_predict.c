/* Folders in, folders out: the label maps, what is kept, what is made anew, what is left behind. */
#include "cache/cache.h"
#include "device/device.h"
#include "infer/ensemble.h"
#include "infer/export.h"
#include "infer/model.h"
#include "infer/predict.h"
#include "infer/stamp.h"
#include "made_model.h"
#include "plan/dataset.h"
#include "prepare/case.h"
#include "volume/nifti.h"
#include "volume/rawset.h"
#include "volume/volume.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <utime.h>

enum { CASES = 3 };

static const int64_t shapes[CASES][3] = {{9, 10, 12}, {12, 8, 8}, {16, 9, 9}};

/* Everything of one test. */
static struct fixture {
    char *root, *in, *out, *dir;
    struct vx_model *model;
    struct vx_device *device;
    struct vx_ensemble *ensemble;
    struct vx_rawset raw;
    json_t *args;
    size_t told, kept;
    atomic_bool stop;
    size_t stop_after; /* news */
} f;

static void write_case(int c, int seed) {
    struct vx_geometry geo;
    struct vx_err err = {0};
    vx_geometry_init(&geo, (const double[3]){c == 2 ? 0.5 : 1, 1, 1}); /* the last is resampled */
    vx_auto_volume struct vx_volume v = {0};
    made_ok(vx_volume_init(&v, 1, shapes[c], &geo, &err));
    int64_t n = vx_shape_count(shapes[c]), plane = shapes[c][1] * shapes[c][2];
    for (int64_t i = plane; i < n; i++) { /* the first slice is empty: cropped away */
        v.data[i] = (float)((i * 37 + seed * 11) % 101) / 10 + 1;
    }
    vx_auto_free char *path = vx_strf("%s/case_%d_0000.nii.gz", f.in, c);
    made_ok(vx_nifti_write_image(path, &v, &err));
}

static void open_model(const char *fold) {
    struct vx_err err = {0};
    f.ensemble = vx_ensemble_free(f.ensemble);
    f.model = vx_model_free(f.model);
    struct vx_model_options o = {.dir = f.dir, .folds = &fold, .n_folds = fold ? 1 : 0};
    made_ok(vx_model_open(&o, &f.model, &err));
    struct vx_ensemble_options e = {.device = f.device};
    made_ok(vx_ensemble_create(f.model, &e, &f.ensemble, &err));
}

static void make(void) {
    struct vx_err err = {0};
    memset(&f, 0, sizeof f);
    f.root = made_root("predict");
    f.dir = made_model(f.root);
    f.in = vx_strf("%s/in", f.root);
    f.out = vx_strf("%s/results/out", f.root);
    made_ok(vx_mkdirs(f.in, 0755, &err));
    for (int c = 0; c < CASES; c++) {
        write_case(c, 0);
    }
    struct vx_device_options d = {.threads = 1, .deterministic = true};
    made_ok(vx_device_open("cpu", &d, &f.device, &err));
    open_model(NULL);
    struct vx_rawset_options o = {
        .dir = f.in, .file_ending = ".nii.gz", .n_channels = 1, .images = "", .labels = ""};
    made_ok(vx_rawset_list(&o, &f.raw, &err));
    cr_assert(f.raw.n_cases == CASES && f.raw.n_problems == 0);
    f.args = json_pack("{s:s}", "made", "up");
}

static void clean(void) {
    vx_ensemble_free(f.ensemble);
    vx_model_free(f.model);
    vx_device_close(f.device);
    vx_rawset_release(&f.raw);
    json_decref(f.args);
    vx_remove_tree(f.root, NULL);
    free(f.root);
    free(f.dir);
    free(f.in);
    free(f.out);
}

TestSuite(infer_predict, .init = make, .fini = clean);

static void count(void *context, const struct vx_predict_news *n) {
    (void)context;
    cr_assert_eq(n->done, ++f.told);
    cr_assert_eq(n->total, (size_t)CASES);
    f.kept += n->kept;
    if (f.told == f.stop_after) {
        atomic_store(&f.stop, true);
    }
}

static struct vx_predict_options options(bool keep) {
    return (struct vx_predict_options){.model = f.model,
                                       .ensemble = f.ensemble,
                                       .raw = &f.raw,
                                       .out_dir = f.out,
                                       .args = f.args,
                                       .keep = keep,
                                       .news = count,
                                       .stop = &f.stop};
}

static int predict(const struct vx_predict_options *o, struct vx_err *err) {
    struct vx_predict_result result = {0};
    f.told = f.kept = 0;
    int rc = vx_predict(o, &result, err);
    cr_assert(rc != VX_OK || (result.n_cases == CASES && result.n_kept == f.kept));
    return rc;
}

static void predict_all(bool keep, size_t kept) {
    struct vx_predict_options o = options(keep);
    struct vx_err err = {0};
    made_ok(predict(&o, &err));
    cr_assert_eq(f.told, CASES);
    cr_assert_eq(f.kept, kept, "%zu kept, not %zu", f.kept, kept);
}

static char *output(int c, const char *ending) {
    return vx_strf("%s/case_%d%s", f.out, c, ending);
}

static bool exists(int c, const char *ending) {
    vx_auto_free char *path = output(c, ending);
    return vx_path_exists(path);
}

/* The same case by the parts. */
static void slow_labels(int c, struct vx_labelmap *ret) {
    struct vx_err err = {0};
    const struct vx_rawset_case *raw = &f.raw.cases[c];
    struct vx_case_input in = {
        .name = raw->name, .images = (const char *const *)raw->images, .n_images = 1};
    struct vx_case_recipe recipe = {f.model->plans, f.model->config, f.model->dataset};
    vx_auto_prepared struct vx_prepared p = {0};
    made_ok(vx_case_make(&in, &recipe, &p, &err));
    size_t n = (size_t)vx_shape_count(p.info->shape);
    vx_auto_free float *logits = malloc(3 * n * sizeof *logits);
    made_ok(vx_ensemble_run(f.ensemble, p.image, p.info->shape, logits, NULL, NULL, &err));
    struct vx_export_grid grid;
    struct vx_geometry geo;
    vx_export_grid_of_case(p.info, f.model->plans->transpose_forward, &grid);
    made_ok(vx_geometry_from_json(p.info->geometry, &geo, &err));
    made_ok(vx_export_labels(logits, 3, p.info->shape, &grid, &geo, ret, &err));
}

static void same_labels(int c) {
    struct vx_err err = {0};
    vx_auto_labelmap struct vx_labelmap want = {0}, got = {0};
    vx_auto_free char *path = output(c, ".nii.gz");
    slow_labels(c, &want);
    made_ok(vx_nifti_read_labels(path, NULL, &got, &err));
    cr_assert_eq(memcmp(want.shape, got.shape, sizeof got.shape), 0);
    size_t n = (size_t)vx_shape_count(got.shape), seen = 0;
    cr_assert_eq(memcmp(want.data, got.data, n * sizeof *got.data), 0, "case %d", c);
    for (size_t i = 0; i < n; i++) {
        seen |= (size_t)1 << got.data[i];
    }
    cr_expect_gt(seen & 6, 0, "case %d is background only", c);
}

Test(infer_predict, every_case_comes_out_on_its_grid) {
    predict_all(false, 0);
    for (int c = 0; c < CASES; c++) {
        same_labels(c);
        cr_expect(!exists(c, ".npz") && !exists(c, ".pkl"));
    }
    static const char *const files[] = {"dataset.json", "plans.json", "predict_args.json"};
    for (int i = 0; i < 3; i++) {
        vx_auto_free char *path = vx_strf("%s/%s", f.out, files[i]);
        vx_auto_json json_t *json = NULL;
        struct vx_err err = {0};
        made_ok(vx_json_load_file(path, 1 << 20, &json, &err));
        cr_expect(i < 2 || json_equal(json, f.args));
    }
}

Test(infer_predict, an_interrupted_run_goes_on) {
    struct vx_predict_options o = options(true);
    struct vx_err err = {0};
    f.stop_after = 2;
    cr_assert_eq(predict(&o, &err), VX_E_CANCELLED);
    cr_assert(exists(0, ".nii.gz") && exists(1, ".nii.gz") && !exists(2, ".nii.gz"));
    vx_auto_free char *leftover = vx_strf("%s/case_2.nii.gz.tmp.123", f.out);
    vx_auto_free char *foreign = vx_strf("%s/notes.tmp.1", f.out);
    made_ok(vx_write_file_atomic(leftover, "x", 1, 0644, &err));
    made_ok(vx_write_file_atomic(foreign, "x", 1, 0644, &err));
    atomic_store(&f.stop, false);
    f.stop_after = 0;
    predict_all(true, 2);
    cr_expect(!vx_path_exists(leftover), "an unfinished file is left");
    cr_expect(vx_path_exists(foreign), "a file of somebody else is gone");
    for (int c = 0; c < CASES; c++) {
        same_labels(c);
    }
    predict_all(true, 3);
    predict_all(false, 0);
}

Test(infer_predict, damaged_stale_and_foreign_outputs_are_made_anew) {
    predict_all(true, 0);
    vx_auto_free char *path = output(1, ".nii.gz");
    cr_assert_eq(truncate(path, 60), 0);
    predict_all(true, 2);
    same_labels(1);
    write_case(0, 5); /* the images are newer than what was made of them */
    struct stat st;
    vx_auto_free char *image = vx_strf("%s/case_0_0000.nii.gz", f.in);
    cr_assert_eq(stat(image, &st), 0);
    struct utimbuf later = {st.st_atime, st.st_mtime + 10};
    cr_assert_eq(utime(image, &later), 0);
    predict_all(true, 2);
    same_labels(0);
    struct utimbuf sooner = {st.st_atime, st.st_mtime - 10};
    cr_assert_eq(utime(image, &sooner), 0);
    open_model("0"); /* other weights: nothing of the two folds' counts */
    predict_all(true, 0);
    same_labels(2);
    predict_all(true, 3);
}

Test(infer_predict, probabilities_belong_to_what_must_be_whole) {
    struct vx_err err = {0};
    predict_all(true, 0);
    struct vx_predict_options o = options(true);
    o.probabilities = true;
    made_ok(predict(&o, &err));
    cr_expect_eq(f.kept, 0);
    cr_expect(exists(0, ".npz") && exists(0, ".pkl"));
    vx_auto_free char *npz = output(1, ".npz");
    unlink(npz);
    made_ok(predict(&o, &err));
    cr_expect_eq(f.kept, 2);
    cr_expect(vx_path_exists(npz));
    predict_all(true, 3);
}

Test(infer_predict, labels_of_somebody_else_are_not_overwritten) {
    struct vx_err err = {0};
    made_ok(vx_mkdirs(f.out, 0755, &err));
    vx_auto_free char *label = output(2, ".nii.gz"), *lock = vx_strf("%s/.lock", f.out);
    made_ok(vx_write_file_atomic(label, "truth", 5, 0644, &err));
    for (int keep = 0; keep < 2; keep++) {
        struct vx_predict_options o = options(keep);
        cr_expect_eq(predict(&o, &err), VX_E_EXISTS);
        cr_expect_str_eq(err.reason, "output_exists");
        cr_expect(strstr(err.text, label), "%s", err.text);
        cr_expect(!exists(0, ".nii.gz") && !vx_path_exists(lock), "something was written");
    }
    vx_auto_free char *text = NULL;
    made_ok(vx_read_file(label, 100, &text, NULL, &err));
    cr_expect_str_eq(text, "truth");
    unlink(label);
    predict_all(false, 0);
}

Test(infer_predict, one_process_writes_into_a_folder) {
    struct vx_err err = {0};
    int fd = -1;
    made_ok(vx_mkdirs(f.out, 0755, &err));
    made_ok(vx_stamp_hold(f.out, &fd, &err));
    struct vx_predict_options o = options(true);
    cr_expect_eq(predict(&o, &err), VX_E_BUSY);
    cr_expect_str_eq(err.reason, "output_in_use");
    cr_expect(!exists(0, ".nii.gz"));
    close(fd);
    predict_all(true, 0);
}

Test(infer_predict, says_which_case_is_too_large_and_what_the_limit_is) {
    struct vx_err err = {0};
    struct vx_predict_options o = options(false);
    o.max_logit_bytes = 3 * 11 * 8 * 8 * 4; /* the second case's crop */
    cr_expect_eq(predict(&o, &err), VX_E_LIMIT);
    cr_expect_str_eq(err.reason, "logits_too_large");
    cr_expect(strstr(err.text, "case_0") && strstr(err.text, "the limit is 8448"), "%s", err.text);
}

Test(infer_predict, a_small_budget_only_takes_longer) {
    struct vx_err err = {0};
    struct vx_predict_options o = options(false);
    o.memory_bytes = 1;
    made_ok(predict(&o, &err));
    same_labels(0);
}
