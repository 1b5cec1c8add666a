/* Trained models: what is opened, what is refused, and the mean over folds. */
#include "checkpoint/pth_write.h"
#include "device/device.h"
#include "infer/ensemble.h"
#include "infer/model.h"
#include "made_model.h"
#include "plan/dataset.h"
#include "ref/ref.h"

#include <math.h>

static char *root, *dir;

static void make(void) {
    root = made_root("model");
    dir = made_model(root);
}

static void clean(void) {
    vx_remove_tree(root, NULL);
    free(root);
    free(dir);
}

TestSuite(infer_model, .init = make, .fini = clean);

static int open_with(const char *const *folds, size_t n, struct vx_model **ret,
                     struct vx_err *err) {
    struct vx_model_options o = {.dir = dir, .folds = folds, .n_folds = n};
    return vx_model_open(&o, ret, err);
}

static struct vx_model *opened(const char *const *folds, size_t n) {
    struct vx_model *m = NULL;
    struct vx_err err = {0};
    made_ok(open_with(folds, n, &m, &err));
    return m;
}

static void refused(const char *const *folds, size_t n, const char *reason, const char *word) {
    struct vx_model *m = NULL;
    struct vx_err err = {0};
    cr_assert(open_with(folds, n, &m, &err) < 0);
    cr_expect_str_eq(err.reason, reason, "%s: %s", err.reason, err.text);
    cr_expect(strstr(err.text, word) || strstr(err.where, word), "%s: %s (%s)", word, err.text,
              err.where);
    cr_expect_null(m);
}

Test(infer_model, all_folds_unless_some_are_asked_for) {
    vx_auto_model struct vx_model *m = opened(NULL, 0);
    cr_assert_eq(m->n_folds, 2);
    cr_expect_str_eq(m->folds[0].name, "0");
    cr_expect_str_eq(m->folds[1].name, "1");
    cr_expect(m->mirror[0] && m->mirror[1] && m->mirror[2]);
    cr_expect_str_eq(m->config->name, "3d_fullres");
    cr_expect_eq(m->dataset->n_labels, 3);
    static const char *const one[] = {"1"};
    vx_auto_model struct vx_model *single = opened(one, 1);
    cr_assert_eq(single->n_folds, 1);
    cr_expect_eq(memcmp(single->folds[0].weights[0], m->folds[1].weights[0],
                        m->net->params[0].count * sizeof(float)),
                 0);
    cr_expect_str_neq(m->digest, single->digest);
    vx_auto_model struct vx_model *again = opened(NULL, 0);
    cr_expect_str_eq(m->digest, again->digest);
}

Test(infer_model, fold_all_where_it_is_the_only_one) {
    struct vx_err err = {0};
    vx_auto_free char *zero = vx_strf("%s/fold_0", dir), *one = vx_strf("%s/fold_1", dir),
                      *all = vx_strf("%s/fold_all", dir);
    made_ok(vx_remove_tree(one, &err));
    cr_assert_eq(rename(zero, all), 0);
    vx_auto_model struct vx_model *m = opened(NULL, 0);
    cr_assert_eq(m->n_folds, 1);
    cr_expect_str_eq(m->folds[0].name, "all");
}

/* fold_NAME/checkpoint_final from .safetensors to .pth. */
static void to_pth(const char *fold) {
    struct vx_err err = {0};
    vx_auto_free char *own = vx_strf("%s/fold_%s/checkpoint_final.safetensors", dir, fold),
                      *torch = vx_strf("%s/fold_%s/checkpoint_final.pth", dir, fold);
    vx_auto_ckpt struct vx_ckpt c;
    made_ok(vx_ckpt_read(own, &c, &err));
    struct vx_plans *plans = made_plans();
    vx_auto_json json_t *json = vx_plans_to_json(plans);
    vx_auto_json json_t *dataset = json_object();
    struct vx_pth_words words = {json, dataset, "3d_fullres", fold, 3};
    made_ok(vx_pth_write(torch, &c, &words, &err));
    cr_assert_eq(unlink(own), 0);
    free(plans);
}

Test(infer_model, the_same_weights_from_a_pth_are_the_same_model) {
    vx_auto_model struct vx_model *own = opened(NULL, 0);
    to_pth("1");
    vx_auto_model struct vx_model *mixed = opened(NULL, 0);
    cr_expect(strstr(mixed->folds[0].path, ".safetensors") && strstr(mixed->folds[1].path, ".pth"));
    cr_expect_str_eq(mixed->digest, own->digest);
    to_pth("0");
    vx_auto_model struct vx_model *torch = opened(NULL, 0);
    cr_expect_str_eq(torch->digest, own->digest);
    cr_expect(torch->mirror[0] && torch->mirror[1] && torch->mirror[2]);
}

Test(infer_model, checkpoints_without_words_take_the_folders_and_the_jobs) {
    struct vx_plans *plans = made_plans();
    made_write_fold(dir, "0", &plans->configs[0], 1, NULL);
    static const char *const zero[] = {"0"};
    vx_auto_model struct vx_model *m = opened(zero, 1);
    cr_expect_str_eq(m->config->name, "3d_fullres");
    cr_expect(m->mirror[0] && m->mirror[1] && m->mirror[2]);
    vx_auto_free char *job = vx_strf("%s/fold_0/voxeld_job.json", dir);
    made_write_json(json_pack("{s:{s:{s:b, s:b}}}", "spec", "augment", "enabled", 1, "mirror", 0),
                    job);
    vx_auto_model struct vx_model *unmirrored = opened(zero, 1);
    cr_expect(!unmirrored->mirror[0] && !unmirrored->mirror[1] && !unmirrored->mirror[2]);
    free(plans);
}

Test(infer_model, names_what_is_not_there) {
    static const char *const two[] = {"2"}, *const bad[] = {"../0"}, *const twice[] = {"0", "0"};
    refused(two, 1, "fold_not_found", "fold_2");
    refused(bad, 1, "bad_fold", "../0");
    refused(twice, 2, "bad_fold", "twice");
    struct vx_model *m = NULL;
    struct vx_err err = {0};
    struct vx_model_options o = {.dir = dir, .checkpoint = "best"};
    cr_expect_eq(vx_model_open(&o, &m, &err), VX_E_NOT_FOUND);
    cr_expect(strstr(err.text, "checkpoint_best"), "%s", err.text);
    o = (struct vx_model_options){.dir = dir, .checkpoint = "latest"};
    cr_expect_eq(vx_model_open(&o, &m, &err), VX_E_INVALID);
    o = (struct vx_model_options){.dir = "/nowhere/at__all__3d"};
    cr_expect_eq(vx_model_open(&o, &m, &err), VX_E_NOT_FOUND);
    cr_expect_str_eq(err.reason, "model_not_found");
    vx_auto_free char *plans = vx_strf("%s/plans.json", dir);
    unlink(plans);
    refused(NULL, 0, "model_not_found", "plans.json");
}

Test(infer_model, weights_that_do_not_fit_the_plan) {
    struct vx_plans *plans = made_plans();
    plans->configs[0].features[1] = 16;
    made_write_plans(dir, plans);
    refused(NULL, 0, "weights_mismatch", "encoder.stages.1.0.convs.0.conv.weight");
    refused(NULL, 0, "weights_mismatch", "8 x 4 x 3 x 3 x 3 in the checkpoint");
    refused(NULL, 0, "weights_mismatch", "16 x 4 x 3 x 3 x 3 by the plan");
    plans->configs[0].features[1] = 8;
    plans->configs[0].convs_encoder[1] = 3; /* more parameters than the checkpoint has */
    made_write_plans(dir, plans);
    refused(NULL, 0, "weights_mismatch", "encoder.stages.1.0.convs.2.conv.weight");
    plans->configs[0].convs_encoder[1] = 1; /* fewer */
    made_write_plans(dir, plans);
    refused(NULL, 0, "weights_mismatch", "encoder.stages.1.0.convs.1.conv.weight");
    free(plans);
}

Test(infer_model, plans_that_contradict_themselves) {
    struct vx_plans *plans = made_plans();
    plans->configs[0].patch_size[1] = 9;
    made_write_plans(dir, plans);
    refused(NULL, 0, "invalid_plans", "patch_size");
    plans->configs[0].patch_size[1] = 8;
    plans->configs[0].n_channels = plans->n_channels = 2;
    plans->intensity[1] = plans->intensity[0];
    made_write_plans(dir, plans);
    refused(NULL, 0, "channel_mismatch", "dataset.json");
    free(plans);
}

Test(infer_model, folds_that_do_not_belong_together) {
    struct vx_plans *plans = made_plans();
    vx_auto_free char *fold = vx_strf("%s/fold_1", dir);
    plans->configs[0].batch_size = 7; /* of no consequence */
    made_write_plans(fold, plans);
    vx_auto_model struct vx_model *m = opened(NULL, 0);
    plans->configs[0].spacing[0] = 2;
    made_write_plans(fold, plans);
    refused(NULL, 0, "folds_differ", "spacing");
    plans->configs[0].spacing[0] = 1;
    plans->intensity[0].mean = 3;
    made_write_plans(fold, plans);
    refused(NULL, 0, "folds_differ", "foreground_intensity_properties_per_channel");
    plans->intensity[0].mean = 1;
    made_write_plans(fold, plans);
    made_write_fold(dir, "1", &plans->configs[0], 2,
                    json_pack("{s:s, s:[i]}", "configuration", "3d_fullres", "mirror_axes", 0));
    refused(NULL, 0, "folds_differ", "mirrored");
    snprintf(plans->configs[0].name, sizeof plans->configs[0].name, "3d_other");
    made_write_plans(fold, plans);
    made_write_fold(
        dir, "1", &plans->configs[0], 2,
        json_pack("{s:s, s:[i,i,i]}", "configuration", "3d_other", "mirror_axes", 0, 1, 2));
    refused(NULL, 0, "folds_differ", "3d_other");
    refused((const char *const[]){"1"}, 0, "folds_differ", "3d_other"); /* n = 0: all */
    free(plans);
}

/* --- the mean over folds --- */

static const int64_t shape[3] = {9, 8, 13};

static float *image_of(void) {
    float *image = malloc(9 * 8 * 13 * sizeof *image);
    for (int i = 0; i < 9 * 8 * 13; i++) {
        image[i] = (float)(i * 37 % 101) / 50 - 1;
    }
    return image;
}

static float *predicted(struct vx_device *device, const struct vx_model *m, bool no_mirroring) {
    struct vx_err err = {0};
    vx_auto_ensemble struct vx_ensemble *e = NULL;
    struct vx_ensemble_options o = {.device = device, .tiles = 3, .no_mirroring = no_mirroring};
    made_ok(vx_ensemble_create(m, &o, &e, &err));
    cr_assert_eq(vx_ensemble_classes(e), 3);
    vx_auto_free float *image = image_of();
    float *logits = malloc(3 * 9 * 8 * 13 * sizeof *logits);
    for (int twice = 0; twice < 2;
         twice++) { /* the second time the last fold's weights lie there */
        made_ok(vx_ensemble_run(e, image, shape, logits, NULL, NULL, &err));
    }
    return logits;
}

static struct vx_device *device_of(const char *name) {
    struct vx_device *device = NULL;
    struct vx_err err = {0};
    made_ok(vx_ref_register(&err));
    struct vx_device_options o = {.threads = 1, .deterministic = true};
    made_ok(vx_device_open(name, &o, &device, &err));
    return device;
}

static const char *const zero[] = {"0"}, *const one[] = {"1"};

Test(infer_model, two_folds_give_the_mean_of_their_logits) {
    vx_auto_model struct vx_model *both = opened(NULL, 0), *first = opened(zero, 1),
                                  *second = opened(one, 1);
    struct vx_device *ref = device_of("ref"), *cpu = device_of("cpu");
    vx_auto_free float *a = predicted(ref, first, false), *b = predicted(ref, second, false),
                       *mean = predicted(ref, both, false), *fast = predicted(cpu, both, false);
    double apart = 0;
    for (int i = 0; i < 3 * 9 * 8 * 13; i++) {
        double want = ((double)a[i] + (double)b[i]) / 2;
        apart = fmax(apart, fabs((double)a[i] - (double)b[i]));
        cr_assert_float_eq(mean[i], want, 2e-6, "%d: %g, not %g", i, (double)mean[i], want);
        cr_assert_float_eq(fast[i], want, 2e-4, "%d: %g, not %g", i, (double)fast[i], want);
    }
    cr_expect_gt(apart, 0.1, "the folds hardly differ");
    vx_device_close(ref);
    vx_device_close(cpu);
}

Test(infer_model, mirroring_can_be_switched_off) {
    vx_auto_model struct vx_model *m = opened(zero, 1);
    struct vx_device *cpu = device_of("cpu");
    vx_auto_free float *with = predicted(cpu, m, false), *without = predicted(cpu, m, true);
    memset(m->mirror, 0, sizeof m->mirror);
    vx_auto_free float *untrained = predicted(cpu, m, false);
    double apart = 0;
    for (int i = 0; i < 3 * 9 * 8 * 13; i++) {
        cr_assert_eq(without[i], untrained[i]);
        apart = fmax(apart, fabs((double)with[i] - (double)without[i]));
    }
    cr_expect_gt(apart, 0.01);
    vx_device_close(cpu);
}

static int64_t last_done;

static int rising(void *context, int64_t done, int64_t total) {
    cr_assert(done > last_done && done <= total);
    cr_assert_eq(total, *(int64_t *)context);
    last_done = done;
    return done > total / 2;
}

Test(infer_model, ticks_count_over_all_folds) {
    vx_auto_model struct vx_model *m = opened(NULL, 0);
    struct vx_device *cpu = device_of("cpu");
    struct vx_err err = {0};
    vx_auto_ensemble struct vx_ensemble *e = NULL;
    struct vx_ensemble_options o = {.device = cpu};
    made_ok(vx_ensemble_create(m, &o, &e, &err));
    vx_auto_free float *image = image_of(), *logits = malloc(3 * 9 * 8 * 13 * sizeof *logits);
    int64_t total =
        2 * 8 * 2 * 1 * 3; /* folds, mirrorings, tiles: 9 and 13 voxels by patches of 8 */
    last_done = 0;
    cr_expect_eq(vx_ensemble_run(e, image, shape, logits, rising, &total, &err), VX_E_CANCELLED);
    cr_expect_eq(last_done, total / 2 + 4);
    e = vx_ensemble_free(e);
    vx_device_close(cpu);
}
