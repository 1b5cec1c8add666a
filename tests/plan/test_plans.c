/* plans.json both ways, and a job's changes to a plan. */
#include "base/err.h"
#include "base/json.h"
#include "base/own.h"
#include "plan/planner.h"
#include "plan/plans.h"

#include <criterion/criterion.h>
#include <string.h>

static void make_plans(struct vx_plans *plans) {
    struct vx_dataset_desc d = {.name = "Dataset004_Hippocampus",
                                .n_channels = 1,
                                .channel_names = {"MRI"},
                                .n_labels = 3,
                                .n_declared = 3,
                                .ignore_label = -1,
                                .file_ending = ".nii.gz",
                                .num_training = 260};
    struct vx_fingerprint fp;
    struct vx_err err = {0};
    cr_assert_eq(vx_fingerprint_init(&fp, 1, 1, &err), VX_OK);
    for (int a = 0; a < 3; a++) {
        fp.spacings[0][a] = 1;
        fp.shapes[0][a] = (int[]){36, 50, 35}[a];
    }
    fp.median_relative_size_after_cropping = 1;
    fp.intensity[0] = (struct vx_intensity){1.5, 1.25, 0.1, -3, 1e6 + 1. / 3, -2, 7};
    cr_assert_eq(vx_plan_experiment(&d, &fp, NULL, plans, &err), VX_OK);
    vx_fingerprint_release(&fp);
}

Test(plan_plans, json_round_trip_is_exact) {
    struct vx_plans plans, again;
    struct vx_err err = {0};
    make_plans(&plans);
    vx_auto_json json_t *json = vx_plans_to_json(&plans);
    cr_assert_not_null(json);
    cr_assert_eq(vx_plans_from_json(json, &again, &err), VX_OK, "%s", err.text);
    vx_auto_json json_t *second = vx_plans_to_json(&again);
    cr_assert(json_equal(json, second));
    const json_t *c = json_object_get(json_object_get(json, "configurations"), "2d");
    cr_expect_eq(json_array_size(json_object_get(c, "patch_size")), 2);
    cr_expect_eq(json_array_size(json_object_get(c, "spacing")), 2);
    const json_t *args = json_object_get(json_object_get(c, "architecture"), "arch_kwargs");
    cr_expect_str_eq(json_string_value(json_object_get(args, "conv_op")),
                     "torch.nn.modules.conv.Conv2d");
    cr_expect_eq(json_array_size(json_array_get(json_object_get(args, "kernel_sizes"), 0)), 2);
}

static int read_changed(void (*change)(json_t *config, json_t *args), struct vx_err *err) {
    struct vx_plans plans, again;
    make_plans(&plans);
    vx_auto_json json_t *json = vx_plans_to_json(&plans);
    json_t *c = json_object_get(json_object_get(json, "configurations"), "3d_fullres");
    change(c, json_object_get(json_object_get(c, "architecture"), "arch_kwargs"));
    return vx_plans_from_json(json, &again, err);
}

static void patch_41(json_t *c, json_t *args) {
    (void)args;
    json_object_set_new(c, "patch_size", json_pack("[i, i, i]", 41, 56, 40));
}
static void five_stages(json_t *c, json_t *args) {
    (void)c;
    json_object_set_new(args, "n_stages", json_integer(5));
}
static void batchnorm_net(json_t *c, json_t *args) {
    (void)args;
    json_object_set_new(json_object_get(c, "architecture"), "network_class_name",
                        json_string("some.other.Net"));
}
static void no_batch(json_t *c, json_t *args) {
    (void)args;
    json_object_del(c, "batch_size");
}
static void other_norm(json_t *c, json_t *args) {
    (void)args;
    json_array_set_new(json_object_get(c, "normalization_schemes"), 0,
                       json_string("MyNormalization"));
}

static void linear_data(json_t *c, json_t *args) {
    (void)args;
    json_object_set_new(json_object_get(c, "resampling_fn_data_kwargs"), "order", json_integer(1));
}

Test(plan_plans, contradictions_are_refused_by_name) {
    static const struct {
        void (*change)(json_t *, json_t *);
        int code;
        const char *where;
    } table[] = {
        {patch_41, VX_E_INVALID, "/configurations/3d_fullres/patch_size"},
        {five_stages, VX_E_INVALID, "/configurations/3d_fullres/n_stages"},
        {batchnorm_net, VX_E_UNSUPPORTED, "/configurations/3d_fullres/network_class_name"},
        {no_batch, VX_E_INVALID, "/configurations/3d_fullres/batch_size"},
        {other_norm, VX_E_UNSUPPORTED, "/configurations/3d_fullres/normalization_schemes"},
        {linear_data, VX_E_UNSUPPORTED, "/configurations/3d_fullres/resampling_fn_data_kwargs"}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct vx_err err = {0};
        cr_expect_eq(read_changed(table[i].change, &err), table[i].code, "case %zu: %s", i,
                     err.text);
        cr_expect_str_eq(err.where, table[i].where);
    }
}

/* nnU-Net names the cascade wherever it plans a low resolution; this version reads past it. */
Test(plan_plans, low_resolution_lists_the_cascade) {
    static struct vx_plans plans, again;
    struct vx_err err = {0};
    make_plans(&plans);
    plans.configs[plans.n_configs] = *vx_plans_config(&plans, "3d_fullres");
    snprintf(plans.configs[plans.n_configs++].name, sizeof plans.configs[0].name, "3d_lowres");
    vx_auto_json json_t *json = vx_plans_to_json(&plans);
    const json_t *configs = json_object_get(json, "configurations");
    const json_t *cascade = json_object_get(configs, "3d_cascade_fullres");
    cr_expect_str_eq(json_string_value(json_object_get(cascade, "inherits_from")), "3d_fullres");
    cr_expect_str_eq(json_string_value(json_object_get(cascade, "previous_stage")), "3d_lowres");
    const json_t *low = json_object_get(configs, "3d_lowres");
    cr_expect_str_eq(json_string_value(json_object_get(low, "next_stage")), "3d_cascade_fullres");
    cr_assert_eq(vx_plans_from_json(json, &again, &err), VX_OK, "%s", err.text);
    cr_expect_eq(again.n_configs, plans.n_configs);
    cr_expect_null(vx_plans_config(&again, "3d_cascade_fullres"));
}

Test(plan_override, fewer_stages_keep_the_first_strides) {
    struct vx_plans plans;
    struct vx_err err = {0};
    make_plans(&plans);
    struct vx_plan_config c = *vx_plans_config(&plans, "3d_fullres");
    struct vx_plan_override change = {
        .batch_size = 2, .patch_size = {40, 56, 40}, .n_features = 3, .features = {16, 32, 64}};
    cr_assert_eq(vx_plan_apply(&c, &change, &err), VX_OK, "%s", err.text);
    int divisor[3];
    vx_plan_divisor(&c, divisor);
    cr_expect_eq(c.n_stages, 3);
    cr_expect_eq(c.features[2], 64);
    cr_expect_eq(c.batch_size, 2);
    cr_expect(divisor[0] == 4 && divisor[1] == 4 && divisor[2] == 4);
}

Test(plan_override, what_does_not_fit_is_refused_and_changes_nothing) {
    struct vx_plans plans;
    struct vx_err err = {0};
    make_plans(&plans);
    struct vx_plan_config c = *vx_plans_config(&plans, "3d_fullres"), before = c;
    struct vx_plan_override odd = {.patch_size = {40, 57, 40}};
    cr_expect_eq(vx_plan_apply(&c, &odd, &err), VX_E_INVALID);
    cr_expect_str_eq(err.where, "/plan/patch_size/1");
    cr_expect_not_null(strstr(err.text, "56 or 64"), "%s", err.text);
    struct vx_plan_override deep = {.n_features = 5, .features = {8, 8, 8, 8, 8}};
    cr_expect_eq(vx_plan_apply(&c, &deep, &err), VX_E_INVALID);
    cr_expect_str_eq(err.where, "/plan/features_per_stage");
    struct vx_plan_override tiny = {.patch_size = {8, 8, 8}};
    cr_expect_eq(vx_plan_apply(&c, &tiny, &err), VX_E_INVALID);
    cr_expect_eq(memcmp(&c, &before, sizeof c), 0);
}
