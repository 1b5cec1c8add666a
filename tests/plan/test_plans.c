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

static json_t *changed_plans(void (*change)(json_t *config, json_t *args)) {
    static struct vx_plans plans;
    make_plans(&plans);
    json_t *json = vx_plans_to_json(&plans);
    json_t *c = json_object_get(json_object_get(json, "configurations"), "3d_fullres");
    change(c, json_object_get(json_object_get(c, "architecture"), "arch_kwargs"));
    return json;
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
static void no_bias(json_t *c, json_t *args) {
    (void)c;
    json_object_set_new(args, "conv_bias", json_false());
}
static void batch_norm(json_t *c, json_t *args) {
    (void)c;
    json_object_set_new(args, "norm_op", json_string("torch.nn.modules.batchnorm.BatchNorm3d"));
}
static void flat_conv(json_t *c, json_t *args) {
    (void)c;
    json_object_set_new(args, "conv_op", json_string("torch.nn.modules.conv.Conv2d"));
}
static void steep(json_t *c, json_t *args) {
    (void)c;
    json_object_set_new(args, "nonlin_kwargs", json_pack("{s:f}", "negative_slope", 0.2));
}
static void other_eps(json_t *c, json_t *args) {
    (void)c;
    json_object_set_new(json_object_get(args, "norm_op_kwargs"), "eps", json_real(1e-3));
}
static void other_preprocessor(json_t *c, json_t *args) {
    (void)args;
    json_object_set_new(c, "preprocessor_name", json_string("MyPreprocessor"));
}
static void even_kernel(json_t *c, json_t *args) {
    (void)c;
    json_array_set_new(json_object_get(args, "kernel_sizes"), 1, json_pack("[i, i, i]", 3, 2, 3));
}
static void short_strides(json_t *c, json_t *args) {
    (void)c;
    json_array_remove(json_object_get(args, "strides"), 0);
}
static void two_norms(json_t *c, json_t *args) {
    (void)args;
    json_array_append_new(json_object_get(c, "normalization_schemes"),
                          json_string("NoNormalization"));
    json_array_append_new(json_object_get(c, "use_mask_for_norm"), json_false());
}

/* A contradiction is a mistake wherever it stands; what voxeld does not have matters only to who
 * asks for it. */
Test(plan_plans, contradictions_are_refused_by_name) {
    static const struct {
        void (*change)(json_t *, json_t *);
        int code;
        const char *field;
    } table[] = {{patch_41, VX_E_INVALID, "patch_size"},
                 {five_stages, VX_E_INVALID, "n_stages"},
                 {no_batch, VX_E_INVALID, "batch_size"},
                 {even_kernel, VX_E_INVALID, "kernel_sizes"},
                 {short_strides, VX_E_INVALID, "n_stages"},
                 {two_norms, VX_E_INVALID, "normalization_schemes"},
                 {batchnorm_net, VX_E_UNSUPPORTED, "network_class_name"},
                 {other_norm, VX_E_UNSUPPORTED, "normalization_schemes"},
                 {linear_data, VX_E_UNSUPPORTED, "resampling_fn_data_kwargs"},
                 {no_bias, VX_E_UNSUPPORTED, "conv_bias"},
                 {batch_norm, VX_E_UNSUPPORTED, "norm_op"},
                 {flat_conv, VX_E_UNSUPPORTED, "conv_op"},
                 {steep, VX_E_UNSUPPORTED, "nonlin_kwargs"},
                 {other_eps, VX_E_UNSUPPORTED, "norm_op_kwargs"},
                 {other_preprocessor, VX_E_UNSUPPORTED, "preprocessor_name"}};
    static struct vx_plans again;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct vx_err err = {0};
        struct vx_plan_config c;
        vx_auto_json json_t *json = changed_plans(table[i].change);
        char where[96];
        snprintf(where, sizeof where, "/configurations/3d_fullres/%s", table[i].field);
        cr_expect_eq(vx_plans_read_config(json, "3d_fullres", &c, &err), table[i].code,
                     "case %zu: %s", i, err.text);
        cr_expect_str_eq(err.where, where, "case %zu: %s", i, err.where);
        int rc = vx_plans_from_json(json, &again, &err);
        if (table[i].code == VX_E_INVALID) {
            cr_expect_eq(rc, VX_E_INVALID, "case %zu", i);
            cr_expect_str_eq(err.where, where, "case %zu: %s", i, err.where);
        } else {
            cr_expect_eq(rc, VX_OK, "case %zu: %s", i, err.text);
            cr_expect_null(vx_plans_config(&again, "3d_fullres"), "case %zu", i);
            cr_expect_not_null(vx_plans_config(&again, "2d"), "case %zu", i);
        }
    }
}

Test(plan_plans, classes_of_the_whole_plan_are_checked) {
    static struct vx_plans plans, again;
    make_plans(&plans);
    static const char *const table[][2] = {{"image_reader_writer", "NibabelIOWithReorient"},
                                           {"label_manager", "MyLabelManager"}};
    for (size_t i = 0; i < 2; i++) {
        struct vx_err err = {0};
        vx_auto_json json_t *json = vx_plans_to_json(&plans);
        json_object_set_new(json, table[i][0], json_string(table[i][1]));
        cr_expect_eq(vx_plans_from_json(json, &again, &err), VX_E_UNSUPPORTED);
        cr_expect_str_eq(err.where + 1, table[i][0]);
        cr_expect_not_null(strstr(err.text, table[i][1]), "%s", err.text);
    }
}

/* Plans as people edit them: a variant that repeats only what it changes. */
Test(plan_plans, configurations_inherit) {
    static struct vx_plans plans, again;
    struct vx_err err = {0};
    make_plans(&plans);
    vx_auto_json json_t *json = vx_plans_to_json(&plans);
    json_t *configs = json_object_get(json, "configurations");
    json_object_set_new(configs, "bs4",
                        json_pack("{s:s, s:i}", "inherits_from", "3d_fullres", "batch_size", 4));
    json_object_set_new(
        configs, "bs4_small",
        json_pack("{s:s, s:[i, i, i]}", "inherits_from", "bs4", "patch_size", 32, 40, 32));
    cr_assert_eq(vx_plans_from_json(json, &again, &err), VX_OK, "%s", err.text);
    const struct vx_plan_config *base = vx_plans_config(&again, "3d_fullres");
    const struct vx_plan_config *grandchild = vx_plans_config(&again, "bs4_small");
    cr_assert_not_null(grandchild);
    cr_expect_eq(grandchild->batch_size, 4);
    cr_expect_eq(grandchild->patch_size[1], 40);
    cr_expect_eq(vx_plans_config(&again, "bs4")->patch_size[1], base->patch_size[1]);
    cr_expect_eq(grandchild->n_stages, base->n_stages);
    cr_expect_eq(grandchild->spacing[2], base->spacing[2]);
}

Test(plan_plans, inheritance_that_leads_nowhere_is_refused) {
    static struct vx_plans plans;
    static const char *const parents[][2] = {{"a", "a"}, {"a", "b"}, {"a", "gone"}};
    make_plans(&plans);
    for (size_t i = 0; i < 3; i++) {
        static struct vx_plans again;
        struct vx_err err = {0};
        struct vx_plan_config c;
        vx_auto_json json_t *json = vx_plans_to_json(&plans);
        json_t *configs = json_object_get(json, "configurations");
        json_object_set_new(configs, "a", json_pack("{s:s}", "inherits_from", parents[i][1]));
        json_object_set_new(configs, "b", json_pack("{s:s}", "inherits_from", "a"));
        cr_expect_eq(vx_plans_read_config(json, "a", &c, &err), VX_E_INVALID, "%s", err.text);
        cr_expect_not_null(strstr(err.where, "/inherits_from"), "%s", err.where);
        cr_expect_eq(vx_plans_from_json(json, &again, &err), VX_E_INVALID);
    }
    struct vx_err err = {0};
    struct vx_plan_config c;
    vx_auto_json json_t *json = vx_plans_to_json(&plans);
    cr_expect_eq(vx_plans_read_config(json, "3d_fullers", &c, &err), VX_E_NOT_FOUND);
    cr_expect_not_null(strstr(err.text, "2d, 3d_fullres"), "%s", err.text);
}

/* nnU-Net's first v2 releases wrote the network as flat keys of the configuration. */
Test(plan_plans, the_old_form_of_a_network_reads_the_same) {
    static struct vx_plans plans, again;
    struct vx_err err = {0};
    make_plans(&plans);
    vx_auto_json json_t *json = vx_plans_to_json(&plans);
    json_t *c = json_object_get(json_object_get(json, "configurations"), "3d_fullres");
    vx_auto_json json_t *args =
        json_incref(json_object_get(json_object_get(c, "architecture"), "arch_kwargs"));
    static const char *const moved[][2] = {{"n_conv_per_stage_encoder", "n_conv_per_stage"},
                                           {"n_conv_per_stage_decoder", "n_conv_per_stage_decoder"},
                                           {"conv_kernel_sizes", "kernel_sizes"},
                                           {"pool_op_kernel_sizes", "strides"}};
    for (size_t i = 0; i < 4; i++) {
        json_object_set(c, moved[i][0], json_object_get(args, moved[i][1]));
    }
    json_object_set_new(c, "UNet_class_name", json_string("PlainConvUNet"));
    json_object_set_new(c, "UNet_base_num_features", json_integer(32));
    json_object_set_new(c, "unet_max_num_features", json_integer(320));
    json_object_del(c, "architecture");
    cr_assert_eq(vx_plans_from_json(json, &again, &err), VX_OK, "%s", err.text);
    cr_assert_eq(again.n_configs, plans.n_configs);
    vx_auto_json json_t *before = vx_plans_to_json(&plans), *after = vx_plans_to_json(&again);
    cr_expect(json_equal(before, after));
    json_object_del(c, "UNet_base_num_features");
    struct vx_plan_config config;
    cr_expect_eq(vx_plans_read_config(json, "3d_fullres", &config, &err), VX_E_INVALID);
    json_object_set_new(c, "UNet_class_name", json_string("ResidualEncoderUNet"));
    cr_expect_eq(vx_plans_read_config(json, "3d_fullres", &config, &err), VX_E_UNSUPPORTED);
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
