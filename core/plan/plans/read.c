/* plans.json, read and checked. Plans may come from people or from nnU-Net: nothing in them is
 * trusted. */
#include "plan/plans/reading.h"

#include "base/err.h"
#include "base/own.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int plans_bad(const struct reading *r, const char *field, const char *why) {
    vx_fail(r->err, VX_E_INVALID, "invalid_plans", "plans: configuration %s, %s: %s", r->name,
            field, why);
    vx_err_at(r->err, "/configurations/%s/%s", r->name, field);
    return VX_E_INVALID;
}

int plans_foreign(const struct reading *r, const char *field, const json_t *value) {
    vx_auto_free char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    vx_fail(r->err, VX_E_UNSUPPORTED, "unsupported_plans",
            "plans: configuration %s uses %s = %.100s, which voxeld does not have", r->name, field,
            text ? text : "(none)");
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

bool plans_axes_int(const json_t *list, int dims, int lo, int hi, int out[3]) {
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

static int read_normalisation(const json_t *json, const struct reading *r,
                              struct vx_plan_config *c) {
    const json_t *schemes = json_object_get(json, "normalization_schemes");
    const json_t *masks = json_object_get(json, "use_mask_for_norm");
    size_t n = json_array_size(schemes);
    if (n < 1 || n > VX_MAX_CHANNELS || json_array_size(masks) != n) {
        return plans_bad(r, "normalization_schemes",
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
            return plans_foreign(r, "normalization_schemes", scheme);
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
        return plans_foreign(r, fn, json_object_get(json, fn));
    }
    const json_t *args = json_object_get(json, kwargs);
    const json_t *o = json_object_get(args, "order"), *z = json_object_get(args, "order_z");
    const json_t *force = json_object_get(args, "force_separate_z");
    if (!json_is_integer(o) || !json_is_integer(z) || (force && !json_is_null(force))) {
        return plans_bad(r, kwargs, "must have order, order_z and force_separate_z null");
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
            return plans_bad(r, "strides", "the first stage must have stride 1");
        }
        if (c->patch_size[a] % divisor[a] != 0) {
            return plans_bad(r, "patch_size",
                             "must be divisible by the product of the strides on every axis");
        }
        for (int s = 0; s < c->n_stages; s++) {
            if (c->kernels[s][a] % 2 == 0) {
                return plans_bad(r, "kernel_sizes", "must be odd");
            }
        }
    }
    return VX_OK;
}

static int config_from_json(const json_t *json, const struct reading *r, struct vx_plan_config *c) {
    size_t dims = json_array_size(json_object_get(json, "patch_size"));
    if (dims != 2 && dims != 3) {
        return plans_bad(r, "patch_size", "must have two or three numbers");
    }
    c->dims = (int)dims;
    snprintf(c->name, sizeof c->name, "%s", r->name);
    const char *identifier = json_string_value(json_object_get(json, "data_identifier"));
    snprintf(c->data_identifier, sizeof c->data_identifier, "%s", identifier ? identifier : "");
    const json_t *batch = json_object_get(json, "batch_size"),
                 *dice = json_object_get(json, "batch_dice");
    if (!json_is_integer(batch) || json_integer_value(batch) < 1 ||
        json_integer_value(batch) > 100000) {
        return plans_bad(r, "batch_size", "must be a positive integer");
    }
    if (!json_is_boolean(dice)) {
        return plans_bad(r, "batch_dice", "must be true or false");
    }
    c->batch_size = (int)json_integer_value(batch);
    c->batch_dice = json_is_true(dice);
    if (!plans_axes_int(json_object_get(json, "patch_size"), c->dims, 1, 4096, c->patch_size)) {
        return plans_bad(r, "patch_size", "must be integers from 1 to 4096");
    }
    if (!read_axes(json_object_get(json, "spacing"), c->dims, 1e-6, 1e6, 0, c->spacing)) {
        return plans_bad(r, "spacing", "must be positive numbers, one per axis of the patch");
    }
    if (!read_axes(json_object_get(json, "median_image_size_in_voxels"), c->dims, 1, 1e6, 1,
                   c->median_shape)) {
        return plans_bad(r, "median_image_size_in_voxels",
                         "must be positive numbers, one per axis of the patch");
    }
    if (!is_string(json, "preprocessor_name", "DefaultPreprocessor")) {
        return plans_foreign(r, "preprocessor_name", json_object_get(json, "preprocessor_name"));
    }
    int rc = read_normalisation(json, r, c);
    rc = rc == VX_OK ? plans_read_architecture(json, r, c) : rc;
    rc = rc == VX_OK ? read_resampling(json, r, "data", 3, &c->order_data, &c->order_data_z) : rc;
    rc = rc == VX_OK ? read_resampling(json, r, "seg", 1, &c->order_seg, &c->order_seg_z) : rc;
    rc = rc == VX_OK
             ? read_resampling(json, r, "probabilities", 1, &c->order_prob, &c->order_prob_z)
             : rc;
    return rc == VX_OK ? check_config(r, c) : rc;
}

static int read_transpose(const json_t *json, struct vx_plans *p, struct vx_err *err) {
    bool good =
        plans_axes_int(json_object_get(json, "transpose_forward"), 3, 0, 2, p->transpose_forward) &&
        plans_axes_int(json_object_get(json, "transpose_backward"), 3, 0, 2, p->transpose_backward);
    for (int a = 0; good && a < 3; a++) {
        good = p->transpose_backward[p->transpose_forward[a]] == a;
    }
    return good ? VX_OK
                : vx_fail(err, VX_E_INVALID, "invalid_plans",
                          "plans: transpose_forward and transpose_backward must be inverse "
                          "permutations of 0, 1, 2");
}

/* How the files are read and labels understood, for all configurations. */
static int check_classes(const json_t *json, struct vx_err *err) {
    static const struct {
        const char *field, *known[3];
    } table[] = {{"image_reader_writer", {"SimpleITKIO", "NibabelIO", NULL}},
                 {"label_manager", {"LabelManager", NULL}}};
    for (size_t i = 0; i < VX_COUNTOF(table); i++) {
        bool good = false;
        for (const char *const *k = table[i].known; *k; k++) {
            good = good || is_string(json, table[i].field, *k);
        }
        if (!good) {
            const char *s = json_string_value(json_object_get(json, table[i].field));
            vx_fail(err, VX_E_UNSUPPORTED, "unsupported_plans",
                    "plans: %s is %.60s, which voxeld does not have", table[i].field,
                    s ? s : "(none)");
            return vx_err_at(err, "/%s", table[i].field), VX_E_UNSUPPORTED;
        }
    }
    return VX_OK;
}

static int read_config(const json_t *configs, const char *name, int channels,
                       struct vx_plan_config *ret, struct vx_err *err) {
    struct reading r = {name, err};
    struct vx_plan_config c = {0};
    vx_auto_json json_t *json = NULL;
    int rc = plans_inherit(configs, name, &json, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (json_object_get(json, "previous_stage")) {
        return plans_foreign(&r, "previous_stage", json_object_get(json, "previous_stage"));
    }
    if (strlen(name) >= sizeof c.name) {
        return plans_bad(&r, "name", "is longer than 31 characters");
    }
    rc = config_from_json(json, &r, &c);
    if (rc == VX_OK && c.n_channels != channels) {
        rc = plans_bad(&r, "normalization_schemes",
                       "has another number of channels than the intensity properties");
    }
    if (rc == VX_OK) {
        *ret = c;
    }
    return rc;
}

int vx_plans_read_config(const json_t *json, const char *name, struct vx_plan_config *ret,
                         struct vx_err *err) {
    const json_t *channels = json_object_get(json, "foreground_intensity_properties_per_channel");
    return read_config(json_object_get(json, "configurations"), name,
                       (int)json_object_size(channels), ret, err);
}

/* All but those that ask for what voxeld does not have: they stand in nobody's way. */
static int read_configs(const json_t *configs, struct vx_plans *p, struct vx_err *err) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)configs, name, value) {
        struct vx_err why = {0};
        struct vx_plan_config c;
        int rc = read_config(configs, name, p->n_channels, &c, &why);
        if (rc == VX_E_UNSUPPORTED) {
            continue;
        }
        if (rc == VX_OK && p->n_configs == VX_MAX_CONFIGS) {
            rc = vx_fail(&why, VX_E_LIMIT, "invalid_plans", "plans: more than %d configurations",
                         VX_MAX_CONFIGS);
        }
        if (rc != VX_OK) {
            if (err) {
                *err = why;
            }
            return rc;
        }
        p->configs[p->n_configs++] = c;
    }
    return VX_OK;
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
    rc = rc == VX_OK ? check_classes(json, err) : rc;
    rc = rc == VX_OK ? read_configs(configs, &p, err) : rc;
    if (rc == VX_OK) {
        *ret = p;
    }
    return rc;
}
