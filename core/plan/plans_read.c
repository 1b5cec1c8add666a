/* plans.json, read and checked. Plans may come from people or from nnU-Net: nothing in them is
 * trusted. */
#include "plan/plans.h"

#include "base/err.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* One configuration while it is read: where it is, for messages. */
struct reading {
    const char *name;
    struct vx_err *err;
};

static int bad(const struct reading *r, const char *field, const char *why) {
    vx_fail(r->err, VX_E_INVALID, "invalid_plans", "plans: configuration %s, %s: %s", r->name,
            field, why);
    vx_err_at(r->err, "/configurations/%s/%s", r->name, field);
    return VX_E_INVALID;
}

static int foreign(const struct reading *r, const char *field, const json_t *value) {
    vx_fail(r->err, VX_E_UNSUPPORTED, "unsupported_plans",
            "plans: configuration %s uses %s = %s, which voxeld does not have", r->name, field,
            json_is_string(value) ? json_string_value(value) : "(none)");
    vx_err_at(r->err, "/configurations/%s/%s", r->name, field);
    return VX_E_UNSUPPORTED;
}

static bool is_string(const json_t *obj, const char *key, const char *wanted) {
    const char *s = json_string_value(json_object_get(obj, key));
    return s && strcmp(s, wanted) == 0;
}

/* `dims` numbers into axes 3 - dims .. 2; the axis that 2d leaves out gets `rest`. */
static bool read_axes(const json_t *list, int dims, double lo, double hi, double rest,
                      double out[3]) {
    if (json_array_size(list) != (size_t)dims) {
        return false;
    }
    out[0] = rest;
    for (int a = 0; a < dims; a++) {
        const json_t *v = json_array_get(list, (size_t)a);
        double x = json_number_value(v);
        if (!json_is_number(v) || !(x >= lo) || !(x <= hi)) {
            return false;
        }
        out[3 - dims + a] = x;
    }
    return true;
}

static bool read_axes_int(const json_t *list, int dims, int lo, int hi, int out[3]) {
    double x[3];
    if (!read_axes(list, dims, lo, hi, 1, x)) {
        return false;
    }
    for (int a = 0; a < 3; a++) {
        if (x[a] != floor(x[a])) {
            return false;
        }
        out[a] = (int)x[a];
    }
    return true;
}

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

static int read_architecture(const json_t *json, const struct reading *r,
                             struct vx_plan_config *c) {
    const json_t *arch = json_object_get(json, "architecture");
    const json_t *args = json_object_get(arch, "arch_kwargs");
    const json_t *class = json_object_get(arch, "network_class_name");
    if (!json_is_object(args)) {
        return bad(r, "architecture", "must be an object with arch_kwargs");
    }
    if (!is_string(arch, "network_class_name",
                   "dynamic_network_architectures.architectures.unet.PlainConvUNet")) {
        return foreign(r, "network_class_name", class);
    }
    if (!json_is_null(json_object_get(args, "dropout_op")) && json_object_get(args, "dropout_op")) {
        return foreign(r, "dropout_op", json_object_get(args, "dropout_op"));
    }
    int64_t n = json_integer_value(json_object_get(args, "n_stages"));
    const json_t *features = json_object_get(args, "features_per_stage");
    const json_t *kernels = json_object_get(args, "kernel_sizes"),
                 *strides = json_object_get(args, "strides");
    if (n < 2 || n > VX_MAX_STAGES) {
        return bad(r, "n_stages", "must be from 2 to 9");
    }
    if (json_array_size(features) != (size_t)n || json_array_size(kernels) != (size_t)n ||
        json_array_size(strides) != (size_t)n) {
        return bad(r, "n_stages",
                   "features_per_stage, kernel_sizes and strides must each have n_stages entries");
    }
    c->n_stages = (int)n;
    for (int s = 0; s < c->n_stages; s++) {
        const json_t *f = json_array_get(features, (size_t)s);
        if (!json_is_integer(f) || json_integer_value(f) < 1 || json_integer_value(f) > 4096) {
            return bad(r, "features_per_stage", "must be integers from 1 to 4096");
        }
        c->features[s] = (int)json_integer_value(f);
        if (!read_axes_int(json_array_get(kernels, (size_t)s), c->dims, 1, 7, c->kernels[s])) {
            return bad(r, "kernel_sizes", "must be integers from 1 to 7, one per axis");
        }
        if (!read_axes_int(json_array_get(strides, (size_t)s), c->dims, 1, 4, c->strides[s])) {
            return bad(r, "strides", "must be integers from 1 to 4, one per axis");
        }
    }
    if (!read_counts(json_object_get(args, "n_conv_per_stage"), c->n_stages, c->convs_encoder) ||
        !read_counts(json_object_get(args, "n_conv_per_stage_decoder"), c->n_stages - 1,
                     c->convs_decoder)) {
        return bad(r, "n_conv_per_stage",
                   "must be counts from 1 to 8, one per stage (decoder: one fewer)");
    }
    return VX_OK;
}

static int read_normalisation(const json_t *json, const struct reading *r,
                              struct vx_plan_config *c) {
    const json_t *schemes = json_object_get(json, "normalization_schemes");
    const json_t *masks = json_object_get(json, "use_mask_for_norm");
    size_t n = json_array_size(schemes);
    if (n < 1 || n > VX_MAX_CHANNELS || json_array_size(masks) != n) {
        return bad(r, "normalization_schemes",
                   "and use_mask_for_norm must have one entry per channel");
    }
    c->n_channels = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *scheme = json_array_get(schemes, i);
        const char *name = json_string_value(scheme);
        int found = -1;
        for (int norm = VX_NORM_ZSCORE; norm <= VX_NORM_RGB_0_1; norm++) {
            if (name && strcmp(name, vx_norm_name((enum vx_norm)norm)) == 0) {
                found = norm;
            }
        }
        if (found < 0) {
            return foreign(r, "normalization_schemes", scheme);
        }
        c->norm[i] = (enum vx_norm)found;
        c->use_mask_for_norm[i] = json_is_true(json_array_get(masks, i));
    }
    return VX_OK;
}

static int read_resampling(const json_t *json, const struct reading *r, const char *what, int only,
                           int *order, int *order_z) {
    char fn[64], kwargs[64];
    snprintf(fn, sizeof fn, "resampling_fn_%s", what);
    snprintf(kwargs, sizeof kwargs, "resampling_fn_%s_kwargs", what);
    if (!is_string(json, fn, "resample_data_or_seg_to_shape")) {
        return foreign(r, fn, json_object_get(json, fn));
    }
    const json_t *args = json_object_get(json, kwargs);
    const json_t *o = json_object_get(args, "order"), *z = json_object_get(args, "order_z");
    const json_t *force = json_object_get(args, "force_separate_z");
    if (!json_is_integer(o) || !json_is_integer(z) || (force && !json_is_null(force))) {
        return bad(r, kwargs, "must have order, order_z and force_separate_z null");
    }
    *order = (int)json_integer_value(o);
    *order_z = (int)json_integer_value(z);
    if (*order != only || *order_z != 0) {
        vx_fail(r->err, VX_E_UNSUPPORTED, "unsupported_plans",
                "plans: configuration %s, %s: only order %d within slices and 0 across them is "
                "supported, not %d and %d",
                r->name, kwargs, only, *order, *order_z);
        vx_err_at(r->err, "/configurations/%s/%s", r->name, kwargs);
        return VX_E_UNSUPPORTED;
    }
    return VX_OK;
}

static int check_config(const struct reading *r, const struct vx_plan_config *c) {
    int divisor[3];
    vx_plan_divisor(c, divisor);
    for (int a = 0; a < 3; a++) {
        if (c->strides[0][a] != 1) {
            return bad(r, "strides", "the first stage must have stride 1");
        }
        if (c->patch_size[a] % divisor[a] != 0) {
            return bad(r, "patch_size",
                       "must be divisible by the product of the strides on every axis");
        }
        for (int s = 0; s < c->n_stages; s++) {
            if (c->kernels[s][a] % 2 == 0) {
                return bad(r, "kernel_sizes", "must be odd");
            }
        }
    }
    return VX_OK;
}

static int config_from_json(const json_t *json, const struct reading *r, struct vx_plan_config *c) {
    size_t dims = json_array_size(json_object_get(json, "patch_size"));
    if (dims != 2 && dims != 3) {
        return bad(r, "patch_size", "must have two or three numbers");
    }
    c->dims = (int)dims;
    snprintf(c->name, sizeof c->name, "%s", r->name);
    const char *identifier = json_string_value(json_object_get(json, "data_identifier"));
    snprintf(c->data_identifier, sizeof c->data_identifier, "%s", identifier ? identifier : "");
    const json_t *batch = json_object_get(json, "batch_size"),
                 *dice = json_object_get(json, "batch_dice");
    if (!json_is_integer(batch) || json_integer_value(batch) < 1 ||
        json_integer_value(batch) > 100000) {
        return bad(r, "batch_size", "must be a positive integer");
    }
    if (!json_is_boolean(dice)) {
        return bad(r, "batch_dice", "must be true or false");
    }
    c->batch_size = (int)json_integer_value(batch);
    c->batch_dice = json_is_true(dice);
    if (!read_axes_int(json_object_get(json, "patch_size"), c->dims, 1, 4096, c->patch_size)) {
        return bad(r, "patch_size", "must be integers from 1 to 4096");
    }
    if (!read_axes(json_object_get(json, "spacing"), c->dims, 1e-6, 1e6, 0, c->spacing)) {
        return bad(r, "spacing", "must be positive numbers, one per axis of the patch");
    }
    if (!read_axes(json_object_get(json, "median_image_size_in_voxels"), c->dims, 1, 1e6, 1,
                   c->median_shape)) {
        return bad(r, "median_image_size_in_voxels",
                   "must be positive numbers, one per axis of the patch");
    }
    int rc = read_normalisation(json, r, c);
    rc = rc == VX_OK ? read_architecture(json, r, c) : rc;
    rc = rc == VX_OK ? read_resampling(json, r, "data", 3, &c->order_data, &c->order_data_z) : rc;
    rc = rc == VX_OK ? read_resampling(json, r, "seg", 1, &c->order_seg, &c->order_seg_z) : rc;
    rc = rc == VX_OK
             ? read_resampling(json, r, "probabilities", 1, &c->order_prob, &c->order_prob_z)
             : rc;
    return rc == VX_OK ? check_config(r, c) : rc;
}

static int read_transpose(const json_t *json, struct vx_plans *p, struct vx_err *err) {
    bool good =
        read_axes_int(json_object_get(json, "transpose_forward"), 3, 0, 2, p->transpose_forward) &&
        read_axes_int(json_object_get(json, "transpose_backward"), 3, 0, 2, p->transpose_backward);
    for (int a = 0; good && a < 3; a++) {
        good = p->transpose_backward[p->transpose_forward[a]] == a;
    }
    return good ? VX_OK
                : vx_fail(err, VX_E_INVALID, "invalid_plans",
                          "plans: transpose_forward and transpose_backward must be inverse "
                          "permutations of 0, 1, 2");
}

int vx_plans_from_json(const json_t *json, struct vx_plans *ret, struct vx_err *err) {
    struct vx_plans p = {0};
    const char *dataset = json_string_value(json_object_get(json, "dataset_name"));
    const char *name = json_string_value(json_object_get(json, "plans_name"));
    const char *reader = json_string_value(json_object_get(json, "image_reader_writer"));
    const json_t *configs = json_object_get(json, "configurations");
    if (!dataset || !name || !reader || !json_is_object(configs) ||
        strlen(dataset) >= sizeof p.dataset_name) {
        return vx_fail(
            err, VX_E_INVALID, "invalid_plans",
            "plans: dataset_name, plans_name, image_reader_writer and configurations are required");
    }
    snprintf(p.dataset_name, sizeof p.dataset_name, "%s", dataset);
    snprintf(p.plans_name, sizeof p.plans_name, "%s", name);
    snprintf(p.image_reader_writer, sizeof p.image_reader_writer, "%s", reader);
    double shape[3];
    int rc = read_transpose(json, &p, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (!read_axes(json_object_get(json, "original_median_spacing_after_transp"), 3, 1e-6, 1e6, 0,
                   p.original_median_spacing) ||
        !read_axes(json_object_get(json, "original_median_shape_after_transp"), 3, 1, 1e6, 1,
                   shape)) {
        return vx_fail(err, VX_E_INVALID, "invalid_plans",
                       "plans: the original medians must be three positive numbers each");
    }
    for (int a = 0; a < 3; a++) {
        p.original_median_shape[a] = (int)shape[a];
    }
    rc =
        vx_intensity_from_json(json_object_get(json, "foreground_intensity_properties_per_channel"),
                               p.intensity, &p.n_channels, err);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)configs, key, value) {
        struct reading r = {key, err};
        if (rc != VX_OK || json_object_get(value, "inherits_from") ||
            strlen(key) >= sizeof p.configs[0].name) {
            continue; /* cascade stages and people's own variants: not run by this version */
        }
        if (p.n_configs == VX_MAX_CONFIGS) {
            return vx_fail(err, VX_E_LIMIT, "invalid_plans", "plans: more than %d configurations",
                           VX_MAX_CONFIGS);
        }
        rc = config_from_json(value, &r, &p.configs[p.n_configs]);
        if (rc == VX_OK && p.configs[p.n_configs].n_channels != p.n_channels) {
            rc = bad(&r, "normalization_schemes",
                     "has another number of channels than the intensity properties");
        }
        p.n_configs++;
    }
    if (rc == VX_OK) {
        *ret = p;
    }
    return rc;
}
