/* plans.json, written. */
#include "plan/plans.h"

#include <stdio.h>
#include <string.h>

const char *vx_norm_name(enum vx_norm norm) {
    switch (norm) {
    case VX_NORM_CT:
        return "CTNormalization";
    case VX_NORM_NONE:
        return "NoNormalization";
    case VX_NORM_RESCALE_0_1:
        return "RescaleTo01Normalization";
    case VX_NORM_RGB_0_1:
        return "RGBTo01Normalization";
    case VX_NORM_ZSCORE:
        break;
    }
    return "ZScoreNormalization";
}

const struct vx_plan_config *vx_plans_config(const struct vx_plans *plans, const char *name) {
    for (int i = 0; i < plans->n_configs; i++) {
        if (strcmp(plans->configs[i].name, name) == 0) {
            return &plans->configs[i];
        }
    }
    return NULL;
}

void vx_plans_rename(struct vx_plans *plans, const char *name) {
    size_t old = strlen(plans->plans_name);
    for (int i = 0; i < plans->n_configs; i++) {
        char *identifier = plans->configs[i].data_identifier;
        if (strncmp(identifier, plans->plans_name, old) == 0) {
            snprintf(identifier, sizeof plans->configs[i].data_identifier, "%s_%s", name,
                     plans->configs[i].name);
        }
    }
    snprintf(plans->plans_name, sizeof plans->plans_name, "%s", name);
}

/* Lists of `dims` elements: 2d leaves axis 0 out. */
static json_t *axes_int(const int v[3], int dims) {
    json_t *list = json_array();
    for (int a = 3 - dims; a < 3; a++) {
        json_array_append_new(list, json_integer(v[a]));
    }
    return list;
}

static json_t *axes_real(const double v[3], int dims) {
    json_t *list = json_array();
    for (int a = 3 - dims; a < 3; a++) {
        json_array_append_new(list, json_real(v[a]));
    }
    return list;
}

static json_t *ints(const int *v, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(list, json_integer(v[i]));
    }
    return list;
}

static json_t *resampling(bool is_seg, int order, int order_z) {
    return json_pack("{s:b, s:i, s:i, s:n}", "is_seg", is_seg, "order", order, "order_z", order_z,
                     "force_separate_z");
}

static json_t *architecture(const struct vx_plan_config *c) {
    json_t *kernels = json_array(), *strides = json_array();
    for (int s = 0; s < c->n_stages; s++) {
        json_array_append_new(kernels, axes_int(c->kernels[s], c->dims));
        json_array_append_new(strides, axes_int(c->strides[s], c->dims));
    }
    json_t *args = json_pack(
        "{s:i, s:o, s:s, s:o, s:o, s:o, s:o, s:b, s:s, s:{s:f, s:b}, s:n, s:n, s:s, s:{s:b}}",
        "n_stages", c->n_stages, "features_per_stage", ints(c->features, c->n_stages), "conv_op",
        c->dims == 2 ? "torch.nn.modules.conv.Conv2d" : "torch.nn.modules.conv.Conv3d",
        "kernel_sizes", kernels, "strides", strides, "n_conv_per_stage",
        ints(c->convs_encoder, c->n_stages), "n_conv_per_stage_decoder",
        ints(c->convs_decoder, c->n_stages - 1), "conv_bias", 1, "norm_op",
        c->dims == 2 ? "torch.nn.modules.instancenorm.InstanceNorm2d"
                     : "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs", "eps", 1e-5, "affine", 1, "dropout_op", "dropout_op_kwargs", "nonlin",
        "torch.nn.LeakyReLU", "nonlin_kwargs", "inplace", 1);
    return json_pack("{s:s, s:o, s:[s, s, s, s]}", "network_class_name",
                     "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                     "arch_kwargs", args, "_kw_requires_import", "conv_op", "norm_op", "dropout_op",
                     "nonlin");
}

static json_t *config_to_json(const struct vx_plan_config *c) {
    static const char fn[] = "resample_data_or_seg_to_shape";
    json_t *schemes = json_array(), *masks = json_array();
    for (int i = 0; i < c->n_channels; i++) {
        json_array_append_new(schemes, json_string(vx_norm_name(c->norm[i])));
        json_array_append_new(masks, json_boolean(c->use_mask_for_norm[i]));
    }
    return json_pack(
        "{s:s, s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:b}",
        "data_identifier", c->data_identifier, "preprocessor_name", "DefaultPreprocessor",
        "batch_size", c->batch_size, "patch_size", axes_int(c->patch_size, c->dims),
        "median_image_size_in_voxels", axes_real(c->median_shape, c->dims), "spacing",
        axes_real(c->spacing, c->dims), "normalization_schemes", schemes, "use_mask_for_norm",
        masks, "resampling_fn_data", fn, "resampling_fn_seg", fn, "resampling_fn_probabilities", fn,
        "resampling_fn_data_kwargs", resampling(false, c->order_data, c->order_data_z),
        "resampling_fn_seg_kwargs", resampling(true, c->order_seg, c->order_seg_z),
        "resampling_fn_probabilities_kwargs", resampling(false, c->order_prob, c->order_prob_z),
        "architecture", architecture(c), "batch_dice", c->batch_dice);
}

/* With a 3d_lowres stage nnU-Net also lists the cascade that could follow it. */
static void add_cascade(json_t *configs) {
    json_t *lowres = json_object_get(configs, "3d_lowres");
    if (lowres && json_object_get(configs, "3d_fullres")) {
        json_object_set_new(lowres, "next_stage", json_string("3d_cascade_fullres"));
        json_object_set_new(
            configs, "3d_cascade_fullres",
            json_pack("{s:s, s:s}", "inherits_from", "3d_fullres", "previous_stage", "3d_lowres"));
    }
}

json_t *vx_plans_to_json(const struct vx_plans *plans) {
    json_t *configs = json_object();
    for (int i = 0; i < plans->n_configs; i++) {
        json_object_set_new(configs, plans->configs[i].name, config_to_json(&plans->configs[i]));
    }
    add_cascade(configs);
    return json_pack(
        "{s:s, s:s, s:o, s:o, s:s, s:o, s:o, s:o, s:s, s:s, s:o}", "dataset_name",
        plans->dataset_name, "plans_name", plans->plans_name,
        "original_median_spacing_after_transp", axes_real(plans->original_median_spacing, 3),
        "original_median_shape_after_transp", axes_int(plans->original_median_shape, 3),
        "image_reader_writer", plans->image_reader_writer, "transpose_forward",
        axes_int(plans->transpose_forward, 3), "transpose_backward",
        axes_int(plans->transpose_backward, 3), "configurations", configs,
        "experiment_planner_used", "ExperimentPlanner", "label_manager", "LabelManager",
        "foreground_intensity_properties_per_channel",
        vx_intensity_to_json(plans->intensity, plans->n_channels));
}
