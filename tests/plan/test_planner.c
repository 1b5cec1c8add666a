/* The planner against nnU-Net v2: idealised fingerprints of the Medical Segmentation Decathlon. */
#include "plan/planner.h"

#include "base/err.h"
#include "plan/dataset.h"
#include "plan/fingerprint.h"
#include "plan/plans.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

struct golden {
    const char *name;
    double spacing[3];
    int shape[3], cases, labels;
    int patch[3], batch, stages;
    int stride1[3], last_stride[3], kernel0[3];
    int patch_2d[2], batch_2d;
    double lowres_spacing; /* axis 0; 0: no low resolution */
    int lowres_patch[3];
};

static const struct golden goldens[] = {
    {"Hippocampus",
     {1, 1, 1},
     {36, 50, 35},
     260,
     3,
     {40, 56, 40},
     9,
     4,
     {2, 2, 2},
     {2, 2, 2},
     {3, 3, 3},
     {56, 40},
     366,
     0,
     {0}},
    {"Heart",
     {1.37, 1.25, 1.25},
     {115, 320, 232},
     20,
     2,
     {80, 192, 160},
     2,
     6,
     {2, 2, 2},
     {1, 2, 2},
     {3, 3, 3},
     {320, 256},
     40,
     0,
     {0}},
    {"BrainTumour",
     {1, 1, 1},
     {138, 170, 138},
     484,
     4,
     {128, 128, 128},
     2,
     6,
     {2, 2, 2},
     {2, 2, 2},
     {3, 3, 3},
     {192, 160},
     105,
     0,
     {0}},
    {"Liver",
     {1, .7676, .7676},
     {482, 512, 512},
     131,
     3,
     {128, 128, 128},
     2,
     6,
     {2, 2, 2},
     {2, 2, 2},
     {3, 3, 3},
     {512, 512},
     12,
     2.50008,
     {128, 128, 128}},
    {"Prostate",
     {3.6, .625, .625},
     {20, 320, 320},
     32,
     3,
     {20, 320, 256},
     2,
     7,
     {1, 2, 2},
     {1, 2, 2},
     {1, 3, 3},
     {320, 320},
     32,
     0,
     {0}},
    {"Lung",
     {1.24, .785, .785},
     {252, 512, 512},
     63,
     2,
     {80, 192, 160},
     2,
     6,
     {2, 2, 2},
     {1, 2, 2},
     {3, 3, 3},
     {512, 512},
     12,
     2.37597,
     {80, 192, 160}},
    {"Pancreas",
     {2.5, .8027, .8027},
     {96, 512, 512},
     281,
     3,
     {40, 224, 224},
     2,
     6,
     {1, 2, 2},
     {1, 2, 2},
     {1, 3, 3},
     {512, 512},
     12,
     2.65225,
     {64, 192, 192}},
    {"Spleen",
     {1.6, .793, .793},
     {187, 512, 512},
     41,
     2,
     {64, 192, 160},
     2,
     6,
     {1, 2, 2},
     {2, 2, 2},
     {1, 3, 3},
     {512, 512},
     12,
     2.72389,
     {64, 192, 192}},
};

static void fill(const struct golden *g, struct vx_dataset_desc *d, struct vx_fingerprint *fp) {
    struct vx_err err = {0};
    *d = (struct vx_dataset_desc){.n_channels = 1,
                                  .channel_names = {"MRI"},
                                  .n_labels = g->labels,
                                  .n_declared = g->labels,
                                  .ignore_label = -1,
                                  .file_ending = ".nii.gz",
                                  .num_training = g->cases};
    snprintf(d->name, sizeof d->name, "Dataset001_%s", g->name);
    cr_assert_eq(vx_fingerprint_init(fp, 3, 1, &err), VX_OK);
    for (int i = 0; i < 3; i++) {
        memcpy(fp->spacings[i], g->spacing, sizeof g->spacing);
        memcpy(fp->shapes[i], g->shape, sizeof g->shape);
    }
    fp->median_relative_size_after_cropping = 1;
}

Test(plan_planner, decathlon) {
    for (size_t i = 0; i < sizeof goldens / sizeof goldens[0]; i++) {
        const struct golden *g = &goldens[i];
        struct vx_dataset_desc d;
        struct vx_fingerprint fp;
        struct vx_plans plans;
        struct vx_err err = {0};
        fill(g, &d, &fp);
        cr_assert_eq(vx_plan_experiment(&d, &fp, NULL, &plans, &err), VX_OK, "%s: %s", g->name,
                     err.text);
        const struct vx_plan_config *c = vx_plans_config(&plans, "3d_fullres");
        const struct vx_plan_config *flat = vx_plans_config(&plans, "2d");
        const struct vx_plan_config *low = vx_plans_config(&plans, "3d_lowres");
        cr_assert(c && flat);
        for (int a = 0; a < 3; a++) {
            cr_expect_eq(c->patch_size[a], g->patch[a], "%s patch axis %d: %d", g->name, a,
                         c->patch_size[a]);
            cr_expect_eq(c->strides[0][a], 1);
            cr_expect_eq(c->strides[1][a], g->stride1[a], "%s first stride axis %d", g->name, a);
            cr_expect_eq(c->strides[c->n_stages - 1][a], g->last_stride[a],
                         "%s last stride axis %d", g->name, a);
            cr_expect_eq(c->kernels[0][a], g->kernel0[a], "%s kernel axis %d", g->name, a);
            cr_expect_eq(c->kernels[c->n_stages - 1][a], 3);
        }
        cr_expect_eq(c->batch_size, g->batch, "%s batch %d", g->name, c->batch_size);
        cr_expect_eq(c->n_stages, g->stages, "%s stages %d", g->name, c->n_stages);
        cr_expect_eq(c->features[0], 32);
        cr_expect_eq(c->features[c->n_stages - 1], g->stages > 4 ? 320 : 256);
        cr_expect_eq(flat->patch_size[0], 1);
        cr_expect_eq(flat->patch_size[1], g->patch_2d[0], "%s 2d patch %d", g->name,
                     flat->patch_size[1]);
        cr_expect_eq(flat->patch_size[2], g->patch_2d[1], "%s 2d patch %d", g->name,
                     flat->patch_size[2]);
        cr_expect_eq(flat->batch_size, g->batch_2d, "%s 2d batch %d", g->name, flat->batch_size);
        cr_expect(flat->batch_dice);
        cr_expect_eq(c->batch_dice, g->lowres_spacing > 0);
        cr_expect_eq(low != NULL, g->lowres_spacing > 0, "%s low resolution", g->name);
        if (low) {
            cr_expect(fabs(low->spacing[0] - g->lowres_spacing) < 1e-4, "%s lowres spacing %f",
                      g->name, low->spacing[0]);
            for (int a = 0; a < 3; a++) {
                cr_expect_eq(low->patch_size[a], g->lowres_patch[a], "%s lowres patch %d", g->name,
                             low->patch_size[a]);
            }
        }
        vx_fingerprint_release(&fp);
    }
}

Test(plan_planner, worst_axis_goes_first_and_takes_the_tenth_percentile) {
    struct vx_err err = {0};
    struct vx_dataset_desc d;
    struct vx_fingerprint fp;
    struct vx_plans plans;
    struct golden g = {
        "Slices", {0.5, 0.5, 4}, {400, 400, 30}, 10, 2, {0}, 0, 0, {0}, {0}, {0}, {0}, 0, 0, {0}};
    fill(&g, &d, &fp);
    fp.spacings[0][2] = 3; /* 10th percentile of 3, 4, 4 = 3.2 */
    cr_assert_eq(vx_plan_experiment(&d, &fp, NULL, &plans, &err), VX_OK, "%s", err.text);
    const int forward[3] = {2, 0, 1}, backward[3] = {1, 2, 0};
    const struct vx_plan_config *c = vx_plans_config(&plans, "3d_fullres");
    for (int a = 0; a < 3; a++) {
        cr_expect_eq(plans.transpose_forward[a], forward[a]);
        cr_expect_eq(plans.transpose_backward[a], backward[a]);
    }
    cr_expect_float_eq(c->spacing[0], 3.2, 1e-9, "%f", c->spacing[0]);
    cr_expect_float_eq(c->spacing[1], 0.5, 1e-12);
    cr_expect_float_eq(plans.original_median_spacing[0], 4, 1e-12);
    cr_expect_eq(plans.original_median_shape[0], 30);
    cr_expect_float_eq(c->median_shape[0], 38, 1e-12, "%f",
                       c->median_shape[0]); /* round(4 / 3.2 * 30) = 37.5 to even */
    vx_fingerprint_release(&fp);
}

Test(plan_planner, normalisation_follows_the_channel_names) {
    struct vx_err err = {0};
    struct vx_dataset_desc d;
    struct vx_fingerprint fp, two;
    struct vx_plans plans;
    fill(&goldens[0], &d, &fp);
    d.n_channels = 2;
    strcpy(d.channel_names[0], "CT");
    strcpy(d.channel_names[1], "T1");
    cr_assert_eq(vx_plan_experiment(&d, &fp, NULL, &plans, &err), VX_E_INVALID);
    cr_assert_str_eq(err.reason, "channel_mismatch");
    two = fp;
    two.n_channels = 2;
    two.median_relative_size_after_cropping = 0.7;
    cr_assert_eq(vx_plan_experiment(&d, &two, NULL, &plans, &err), VX_OK);
    const struct vx_plan_config *c = vx_plans_config(&plans, "3d_fullres");
    cr_expect_eq(c->norm[0], VX_NORM_CT);
    cr_expect_eq(c->norm[1], VX_NORM_ZSCORE);
    cr_expect_not(c->use_mask_for_norm[0]);
    cr_expect(c->use_mask_for_norm[1]);
    vx_fingerprint_release(&fp);
}

Test(plan_planner, memory_of_one_more_sample) {
    /* two stages: 2 x 4 x 512 and 3 x 4 x 512 elements, 3 x 512 of the head, 2 x 8 x 64 below */
    struct vx_plan_config c = {.dims = 3,
                               .n_stages = 2,
                               .patch_size = {8, 8, 8},
                               .features = {4, 8},
                               .strides = {{1, 1, 1}, {2, 2, 2}}};
    double of_3d = 12800 / 560e6 / 2 * 8 * 1073741824.0;
    cr_expect_float_eq(vx_plan_sample_bytes(&c, 3), of_3d, 1e-6);
    c.patch_size[2] = 16;
    cr_expect_float_eq(vx_plan_sample_bytes(&c, 3), 2 * of_3d, 1e-6);
    c = (struct vx_plan_config){.dims = 2,
                                .n_stages = 2,
                                .patch_size = {1, 16, 32},
                                .features = {4, 8},
                                .strides = {{1, 1, 1}, {1, 2, 2}}};
    double elements = (2 * 4 + 3 * 4 + 3) * 512 + 2 * 8 * 128;
    cr_expect_float_eq(vx_plan_sample_bytes(&c, 3), elements / 85e6 / 12 * 8 * 1073741824.0, 1e-6);
}
