/* A recipe as JSON and back. Floats of the policy are written as doubles, which hold them exactly.
 */
#include "loader/recipe_json.h"

#include "base/err.h"
#include "base/own.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum kind { UNSIGNED, REAL };

struct field {
    const char *name;
    enum kind kind;
    size_t offset;
};

#define U(name)                                                                                    \
    { #name, UNSIGNED, offsetof(struct vx_aug_policy, name) }
#define R(name)                                                                                    \
    { #name, REAL, offsetof(struct vx_aug_policy, name) }

/* Every member of the policy but the two sizes; a new member must be added here, or recipes lose
 * it. */
static const struct field fields[] = {
    U(version),       U(dims),           U(channels),         U(dummy_2d),      U(mirror_axes),
    U(mask_channels), R(rotation_limit), R(p_rotation),       R(p_scaling),     R(scale_lo),
    R(scale_hi),      R(p_noise),        R(noise_sigma_hi),   R(p_blur),        R(p_blur_channel),
    R(blur_sigma_lo), R(blur_sigma_hi),  R(p_brightness),     R(brightness_lo), R(brightness_hi),
    R(p_contrast),    R(contrast_lo),    R(contrast_hi),      R(p_lowres),      R(p_lowres_channel),
    R(zoom_lo),       R(zoom_hi),        R(p_gamma_inverted), R(p_gamma),       R(gamma_lo),
    R(gamma_hi),      R(p_mirror),
};
_Static_assert(sizeof fields / sizeof *fields * 4 + 2 * 3 * 4 == sizeof(struct vx_aug_policy),
               "every member of the policy is in the table");

static json_t *index_list(const uint32_t *list, size_t n) {
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(a, json_integer(list[i]));
    }
    return a;
}

static json_t *size_list(const int32_t size[3]) {
    return json_pack("[i, i, i]", size[0], size[1], size[2]);
}

static json_t *policy_to_json(const struct vx_aug_policy *p) {
    json_t *o = json_object();
    for (size_t i = 0; i < VX_COUNTOF(fields); i++) {
        const char *at = (const char *)p + fields[i].offset;
        if (fields[i].kind == REAL) {
            float value;
            memcpy(&value, at, sizeof value);
            json_object_set_new(o, fields[i].name, json_real((double)value));
        } else {
            uint32_t value;
            memcpy(&value, at, sizeof value);
            json_object_set_new(o, fields[i].name, json_integer(value));
        }
    }
    json_object_set_new(o, "patch", size_list(p->patch));
    json_object_set_new(o, "initial", size_list(p->initial));
    return o;
}

json_t *vx_recipe_to_json(const struct vx_recipe *r) {
    json_t *cases = json_array(), *quarantines = json_array();
    for (size_t i = 0; i < r->n_cases; i++) {
        json_array_append_new(cases, json_string(r->cases[i]));
    }
    for (size_t i = 0; i < r->n_quarantines; i++) {
        const struct vx_quarantine *q = &r->quarantines[i];
        json_t *row = json_pack("[I, I, I]", (json_int_t)q->case_index, (json_int_t)q->from_k[0],
                                (json_int_t)q->from_k[1]);
        for (int s = 0; s < 2 && (q->from_j[0] || q->from_j[1]); s++) {
            json_array_append_new(row, json_integer(q->from_j[s]));
        }
        json_array_append_new(quarantines, row);
    }
    json_t *o =
        json_pack("{s:i, s:s, s:s, s:I, s:o, s:o, s:o, s:i, s:f, s:b, s:o, s:s, s:o}", "format",
                  VX_RECIPE_FORMAT, "dataset", r->dataset, "cache_key", r->cache_key, "seed",
                  (json_int_t)r->seed, "cases", cases, "train", index_list(r->train, r->n_train),
                  "val", index_list(r->val, r->n_val), "batch", (int)r->batch, "oversample",
                  r->oversample, "has_ignore", (int)r->has_ignore, "augment",
                  policy_to_json(&r->policy), "place", "cpu", "quarantines", quarantines);
    if (o && r->window_cases) { /* recipes without one keep the digest they always had */
        json_object_set_new(o, "window",
                            json_pack("{s:I, s:I}", "cases", (json_int_t)r->window_cases, "batches",
                                      (json_int_t)r->window_batches));
    }
    return o;
}

static bool read_sizes(const json_t *list, int32_t ret[3]) {
    for (size_t i = 0; i < 3; i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t n = json_integer_value(v);
        if (!json_is_integer(v) || n < 1 || n > 65535) {
            return false;
        }
        ret[i] = (int32_t)n;
    }
    return json_array_size(list) == 3;
}

static bool read_policy(const json_t *o, struct vx_aug_policy *ret) {
    memset(ret, 0, sizeof *ret);
    for (size_t i = 0; i < VX_COUNTOF(fields); i++) {
        const json_t *v = json_object_get(o, fields[i].name);
        char *at = (char *)ret + fields[i].offset;
        if (fields[i].kind == REAL) {
            float value = (float)json_number_value(v);
            memcpy(at, &value, sizeof value);
        } else {
            uint32_t value = (uint32_t)json_integer_value(v);
            memcpy(at, &value, sizeof value);
        }
        if (!(fields[i].kind == REAL ? json_is_number(v) : json_is_integer(v))) {
            return false;
        }
    }
    return read_sizes(json_object_get(o, "patch"), ret->patch) &&
           read_sizes(json_object_get(o, "initial"), ret->initial);
}

/* A list of indices; the caller frees. NULL where it is none. */
static uint32_t *read_indices(const json_t *list, size_t *ret_n) {
    size_t n = json_array_size(list);
    uint32_t *out = json_is_array(list) ? calloc(n + 1, sizeof *out) : NULL;
    for (size_t i = 0; out && i < n; i++) {
        json_int_t v = json_integer_value(json_array_get(list, i));
        out[i] = v < 0 || v > UINT32_MAX ? UINT32_MAX : (uint32_t)v; /* refused as out of range */
    }
    *ret_n = n;
    return out;
}

/* [case, from_k of both streams] or [..., from_j of both]; false where it is neither. */
static bool read_quarantine(const json_t *row, struct vx_quarantine *ret) {
    size_t n = json_array_size(row);
    json_int_t v[5] = {0};
    for (size_t i = 0; i < n && i < 5; i++) {
        const json_t *item = json_array_get(row, i);
        v[i] = json_integer_value(item);
        if (!json_is_integer(item) || v[i] < 0 || ((i == 0 || i >= 3) && v[i] > UINT32_MAX)) {
            return false;
        }
    }
    *ret = (struct vx_quarantine){.case_index = (uint32_t)v[0],
                                  .from_j = {(uint32_t)v[3], (uint32_t)v[4]},
                                  .from_k = {(uint64_t)v[1], (uint64_t)v[2]}};
    return n == 3 || n == 5;
}

static struct vx_quarantine *read_quarantines(const json_t *list, size_t *ret_n) {
    size_t n = json_array_size(list);
    struct vx_quarantine *out = json_is_array(list) ? calloc(n + 1, sizeof *out) : NULL;
    for (size_t i = 0; out && i < n; i++) {
        if (!read_quarantine(json_array_get(list, i), &out[i])) {
            free(out);
            return NULL;
        }
    }
    *ret_n = n;
    return out;
}

static const char **read_names(const json_t *list, size_t *ret_n) {
    size_t n = json_array_size(list);
    const char **out = json_is_array(list) ? calloc(n + 1, sizeof *out) : NULL;
    for (size_t i = 0; out && i < n; i++) {
        out[i] = json_string_value(json_array_get(list, i));
        if (!out[i]) {
            free(out);
            return NULL;
        }
    }
    *ret_n = n;
    return out;
}

int vx_recipe_from_json(const json_t *json, struct vx_recipe **ret, struct vx_err *err) {
    struct vx_recipe_params p = {0};
    struct vx_aug_policy policy;
    if (json_integer_value(json_object_get(json, "format")) != VX_RECIPE_FORMAT) {
        return vx_fail(err, VX_E_UNSUPPORTED, "recipe_format",
                       "not a recipe of format %d that this program knows", VX_RECIPE_FORMAT);
    }
    vx_auto_free const char **cases = read_names(json_object_get(json, "cases"), &p.n_cases);
    vx_auto_free uint32_t *train = read_indices(json_object_get(json, "train"), &p.n_train);
    vx_auto_free uint32_t *val = read_indices(json_object_get(json, "val"), &p.n_val);
    vx_auto_free struct vx_quarantine *quarantines =
        read_quarantines(json_object_get(json, "quarantines"), &p.n_quarantines);
    const char *place = json_string_value(json_object_get(json, "place"));
    const json_t *seed = json_object_get(json, "seed");
    if (!cases || !train || !val || !quarantines || !place || strcmp(place, "cpu") != 0 ||
        !json_is_integer(seed) || !read_policy(json_object_get(json, "augment"), &policy)) {
        return vx_fail(err, VX_E_INVALID, "recipe_fields", "a recipe with missing or wrong fields");
    }
    if (policy.version != VX_AUG_VERSION) {
        return vx_fail(
            err, VX_E_UNSUPPORTED, "recipe_version",
            "the samples were made by version %u of the augmentation, this program has "
            "version %u: submit the job again, or finish it with the build it began with",
            policy.version, (unsigned)VX_AUG_VERSION);
    }
    p.dataset = json_string_value(json_object_get(json, "dataset"));
    p.cache_key = json_string_value(json_object_get(json, "cache_key"));
    p.seed = (uint64_t)json_integer_value(seed);
    p.cases = cases;
    p.train = train;
    p.val = val;
    p.quarantines = quarantines;
    json_int_t batch = json_integer_value(json_object_get(json, "batch"));
    p.batch = batch > 0 && batch < 65536 ? (uint32_t)batch : 0;
    double oversample = json_number_value(json_object_get(json, "oversample"));
    p.oversample = oversample > 0 ? oversample : -1; /* a written 0 means none */
    p.has_ignore = json_is_true(json_object_get(json, "has_ignore"));
    p.policy = &policy;
    const json_t *window = json_object_get(json, "window");
    json_int_t window_cases = json_integer_value(json_object_get(window, "cases"));
    json_int_t batches = json_integer_value(json_object_get(window, "batches"));
    if (window &&
        (window_cases < 1 || window_cases > UINT32_MAX || batches < 1 || batches > UINT32_MAX)) {
        return vx_fail(err, VX_E_INVALID, "recipe_window", "a recipe with a window that is none");
    }
    p.window_cases = (uint32_t)window_cases;
    p.window_batches = (uint32_t)batches;
    return vx_recipe_create(&p, ret, err);
}
