/* The network part of a configuration: PlainConvUNet, in today's form ("architecture") and in that
 * of nnU-Net's first v2 releases ("UNet_class_name", converted as its ConfigurationManager does).
 *
 * Everything that the network here would do otherwise is refused rather than read past. */
#include "plan/plans/reading.h"

#include "base/err.h"
#include "base/own.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PLAIN      "dynamic_network_architectures.architectures.unet.PlainConvUNet"
#define NORM_EPS   1e-5
#define LEAKY_RELU 0.01

/* A list of n ints, or one int for all of them, as nnU-Net also accepts. */
static bool read_counts(const json_t *value, int n, int *out) {
    for (int i = 0; i < n; i++) {
        const json_t *v = json_is_array(value) ? json_array_get(value, (size_t)i) : value;
        if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > 8) {
            return false;
        }
        out[i] = (int)json_integer_value(v);
    }
    return !json_is_array(value) || json_array_size(value) == (size_t)n;
}

/* Whether a class is LAST, by its full name or PyTorch's short one: torch.nn.modules.conv.Conv3d,
 * torch.nn.Conv3d. */
static bool is_torch_class(const json_t *value, const char *last) {
    const char *s = json_string_value(value), *dot = s ? strrchr(s, '.') : NULL;
    return dot && strncmp(s, "torch.nn.", 9) == 0 && strcmp(dot + 1, last) == 0;
}

static bool absent(const json_t *value) {
    return !value || json_is_null(value);
}

static bool number_is(const json_t *value, double wanted) {
    return json_is_number(value) && fabs(json_number_value(value) - wanted) <= 1e-9 * wanted;
}

/* The layers that voxeld's blocks are made of; any other choice is another network. */
static int check_layers(const json_t *args, const struct reading *r, int dims) {
    const json_t *norm = json_object_get(args, "norm_op_kwargs"),
                 *slope = json_object_get(json_object_get(args, "nonlin_kwargs"), "negative_slope");
    char conv[16], instance[24];
    snprintf(conv, sizeof conv, "Conv%dd", dims);
    snprintf(instance, sizeof instance, "InstanceNorm%dd", dims);
    const struct {
        const char *field;
        bool good;
    } table[] = {
        {"conv_op", is_torch_class(json_object_get(args, "conv_op"), conv)},
        {"norm_op", is_torch_class(json_object_get(args, "norm_op"), instance)},
        {"nonlin", is_torch_class(json_object_get(args, "nonlin"), "LeakyReLU")},
        {"dropout_op", absent(json_object_get(args, "dropout_op"))},
    };
    for (size_t i = 0; i < VX_COUNTOF(table); i++) {
        if (!table[i].good) {
            return plans_foreign(r, table[i].field, json_object_get(args, table[i].field));
        }
    }
    if (!json_is_true(json_object_get(args, "conv_bias"))) {
        return plans_foreign(r, "conv_bias", json_object_get(args, "conv_bias"));
    }
    if (!number_is(json_object_get(norm, "eps"), NORM_EPS) ||
        !json_is_true(json_object_get(norm, "affine"))) {
        return plans_foreign(r, "norm_op_kwargs", norm);
    }
    if (slope && !number_is(slope, LEAKY_RELU)) {
        return plans_foreign(r, "nonlin_kwargs", json_object_get(args, "nonlin_kwargs"));
    }
    return VX_OK;
}

static int read_stages(const json_t *args, const struct reading *r, struct vx_plan_config *c) {
    const json_t *features = json_object_get(args, "features_per_stage");
    const json_t *kernels = json_object_get(args, "kernel_sizes"),
                 *strides = json_object_get(args, "strides");
    int64_t n = json_integer_value(json_object_get(args, "n_stages"));
    if (n < 2 || n > VX_MAX_STAGES) {
        return plans_bad(r, "n_stages", "must be from 2 to 9");
    }
    if (json_array_size(features) != (size_t)n || json_array_size(kernels) != (size_t)n ||
        json_array_size(strides) != (size_t)n) {
        return plans_bad(
            r, "n_stages",
            "features_per_stage, kernel_sizes and strides must each have n_stages entries");
    }
    c->n_stages = (int)n;
    for (int s = 0; s < c->n_stages; s++) {
        const json_t *f = json_array_get(features, (size_t)s);
        if (!json_is_integer(f) || json_integer_value(f) < 1 || json_integer_value(f) > 4096) {
            return plans_bad(r, "features_per_stage", "must be integers from 1 to 4096");
        }
        c->features[s] = (int)json_integer_value(f);
        if (!plans_axes_int(json_array_get(kernels, (size_t)s), c->dims, 1, 7, c->kernels[s])) {
            return plans_bad(r, "kernel_sizes", "must be integers from 1 to 7, one per axis");
        }
        if (!plans_axes_int(json_array_get(strides, (size_t)s), c->dims, 1, 4, c->strides[s])) {
            return plans_bad(r, "strides", "must be integers from 1 to 4, one per axis");
        }
    }
    if (!read_counts(json_object_get(args, "n_conv_per_stage"), c->n_stages, c->convs_encoder) ||
        !read_counts(json_object_get(args, "n_conv_per_stage_decoder"), c->n_stages - 1,
                     c->convs_decoder)) {
        return plans_bad(r, "n_conv_per_stage",
                         "must be counts from 1 to 8, one per stage (decoder: one fewer)");
    }
    return VX_OK;
}

/* arch_kwargs of a configuration in the old form; new reference, NULL where a number is missing. */
static json_t *args_of_old_form(const json_t *config, int dims) {
    const json_t *convs = json_object_get(config, "n_conv_per_stage_encoder");
    const json_t *base = json_object_get(config, "UNet_base_num_features"),
                 *most = json_object_get(config, "unet_max_num_features");
    if (!json_is_array(convs) || !json_is_integer(base) || !json_is_integer(most) ||
        json_integer_value(base) < 1 || json_integer_value(base) > 4096) {
        return NULL;
    }
    size_t n = json_array_size(convs);
    json_t *features = json_array();
    for (size_t s = 0; s < n && s < VX_MAX_STAGES; s++) {
        json_int_t wide = json_integer_value(base) << s, cap = json_integer_value(most);
        json_array_append_new(features, json_integer(wide < cap ? wide : cap));
    }
    const char *conv = dims == 2 ? "torch.nn.Conv2d" : "torch.nn.Conv3d";
    const char *norm = dims == 2 ? "torch.nn.InstanceNorm2d" : "torch.nn.InstanceNorm3d";
    return json_pack("{s:I, s:o, s:O*, s:O*, s:O, s:O*, s:s, s:s, s:s, s:b, s:{s:f, s:b}}",
                     "n_stages", (json_int_t)n, "features_per_stage", features, "kernel_sizes",
                     json_object_get(config, "conv_kernel_sizes"), "strides",
                     json_object_get(config, "pool_op_kernel_sizes"), "n_conv_per_stage", convs,
                     "n_conv_per_stage_decoder",
                     json_object_get(config, "n_conv_per_stage_decoder"), "conv_op", conv,
                     "norm_op", norm, "nonlin", "torch.nn.LeakyReLU", "conv_bias", 1,
                     "norm_op_kwargs", "eps", NORM_EPS, "affine", 1);
}

static int read_old_form(const json_t *config, const struct reading *r, struct vx_plan_config *c) {
    const json_t *class = json_object_get(config, "UNet_class_name");
    const char *name = json_string_value(class);
    if (!name || strcmp(name, "PlainConvUNet") != 0) {
        return name ? plans_foreign(r, "UNet_class_name", class)
                    : plans_bad(r, "architecture", "must be an object with arch_kwargs");
    }
    vx_auto_json json_t *args = args_of_old_form(config, c->dims);
    return args ? read_stages(args, r, c)
                : plans_bad(r, "UNet_class_name",
                            "the old form needs n_conv_per_stage_encoder, UNet_base_num_features "
                            "(1 to 4096) and unet_max_num_features");
}

int plans_read_architecture(const json_t *config, const struct reading *r,
                            struct vx_plan_config *c) {
    const json_t *arch = json_object_get(config, "architecture");
    if (!arch) {
        return read_old_form(config, r, c);
    }
    const json_t *args = json_object_get(arch, "arch_kwargs");
    const json_t *class = json_object_get(arch, "network_class_name");
    if (!json_is_object(args)) {
        return plans_bad(r, "architecture", "must be an object with arch_kwargs");
    }
    if (!json_is_string(class) || strcmp(json_string_value(class), PLAIN) != 0) {
        return plans_foreign(r, "network_class_name", class);
    }
    int rc = check_layers(args, r, c->dims);
    return rc == VX_OK ? read_stages(args, r, c) : rc;
}
