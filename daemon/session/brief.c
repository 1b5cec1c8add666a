/* See brief.h. One table of fields serves reading, writing and freeing. */
#include "daemon/session/brief.h"

#include "base/err.h"
#include "base/json.h"
#include "base/own.h"
#include "cache/policy.h"
#include "daemon/results/publish.h"
#include "session/control.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum kind { TEXT, INT, U32, I64, U64, REAL, BOOLEAN, JSON, TEXT_OR_NOTHING, JSON_OR_NOTHING };

static const struct {
    const char *name;
    enum kind kind;
    size_t offset;
} fields[] = {
#define F(name, kind)                                                                              \
    { #name, kind, offsetof(struct vx_brief, name) }
    F(job_id, I64),
    F(dir, TEXT),
    F(dataset, TEXT),
    F(configuration, TEXT),
    F(fold, TEXT),
    F(name, TEXT),
    F(raw_dir, TEXT),
    F(cache_dir, TEXT),
    F(results_root, TEXT),
    F(device, TEXT),
    F(precision, TEXT),
    F(replace, BOOLEAN),
    F(channels, U32),
    F(classes, U32),
    F(seed, U64),
    F(learning_rate, REAL),
    F(momentum, REAL),
    F(weight_decay, REAL),
    F(threads, INT),
    F(checkpoint_seconds, REAL),
    F(nice, INT),
    F(workers, U32),
    F(workers_max, U32),
    F(slots, U32),
    F(window, U32),
    F(keep_files_open, U32),
    F(spec, JSON),
    F(recipe, JSON),
    F(plans, JSON),
    F(dataset_json, JSON),
    F(pretrained, TEXT_OR_NOTHING),
    F(cache, TEXT_OR_NOTHING),
    F(stage_dir, TEXT_OR_NOTHING),
    F(bench, JSON_OR_NOTHING),
    {"patch_d", U32, offsetof(struct vx_brief, patch[0])},
    {"patch_h", U32, offsetof(struct vx_brief, patch[1])},
    {"patch_w", U32, offsetof(struct vx_brief, patch[2])},
    {"batch", U32, offsetof(struct vx_brief, schedule.batch)},
    {"train_iterations", U32, offsetof(struct vx_brief, schedule.train_iterations)},
    {"val_iterations", U32, offsetof(struct vx_brief, schedule.val_iterations)},
    {"epochs", U32, offsetof(struct vx_brief, schedule.epochs)},
#undef F
};

static bool optional(enum kind kind) {
    return kind == TEXT_OR_NOTHING || kind == JSON_OR_NOTHING;
}

static json_t *to_json(const void *field, enum kind kind) {
    switch (kind) {
    case TEXT:
    case TEXT_OR_NOTHING:
        return *(char *const *)field ? json_string(*(char *const *)field) : NULL;
    case INT:
        return json_integer(*(const int *)field);
    case U32:
        return json_integer(*(const uint32_t *)field);
    case I64:
        return json_integer(*(const int64_t *)field);
    case U64:
        return json_integer((json_int_t) * (const uint64_t *)field);
    case REAL:
        return json_real(*(const double *)field);
    case BOOLEAN:
        return json_boolean(*(const bool *)field);
    case JSON:
    case JSON_OR_NOTHING:
        return json_incref(*(json_t *const *)field);
    }
    return NULL;
}

/* False where the value has the wrong type. */
static bool from_json(const json_t *value, void *field, enum kind kind) {
    switch (kind) {
    case TEXT:
    case TEXT_OR_NOTHING:
        *(char **)field = json_is_string(value) ? strdup(json_string_value(value)) : NULL;
        return *(char **)field != NULL;
    case INT:
        *(int *)field = (int)json_integer_value(value);
        return json_is_integer(value);
    case U32:
        *(uint32_t *)field = (uint32_t)json_integer_value(value);
        return json_is_integer(value);
    case I64:
        *(int64_t *)field = json_integer_value(value);
        return json_is_integer(value);
    case U64:
        *(uint64_t *)field = (uint64_t)json_integer_value(value);
        return json_is_integer(value);
    case REAL:
        *(double *)field = json_number_value(value);
        return json_is_number(value);
    case BOOLEAN:
        *(bool *)field = json_is_true(value);
        return json_is_boolean(value);
    case JSON:
    case JSON_OR_NOTHING:
        *(json_t **)field = json_incref((json_t *)value);
        return json_is_object(value);
    }
    return false;
}

int vx_brief_write(const char *path, const struct vx_brief *b, struct vx_err *err) {
    vx_auto_json json_t *o = json_pack("{s:i}", "format", VX_BRIEF_FORMAT);
    for (size_t i = 0; o && i < VX_COUNTOF(fields); i++) {
        json_t *value = to_json((const char *)b + fields[i].offset, fields[i].kind);
        if (!value && optional(fields[i].kind)) {
            continue;
        }
        if (!value || json_object_set_new(o, fields[i].name, value) != 0) {
            return vx_fail(err, VX_E_INTERNAL, NULL, "the session's brief lacks %s",
                           fields[i].name);
        }
    }
    return o ? vx_json_write_file(path, o, err) : vx_fail(err, VX_E_NOMEM, NULL, "%s", path);
}

int vx_brief_read(const char *path, struct vx_brief **ret, struct vx_err *err) {
    vx_auto_json json_t *o = NULL;
    int rc = vx_json_load_file(path, 256u << 20, &o, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_brief *b = calloc(1, sizeof *b);
    if (!b) {
        return vx_fail(err, VX_E_NOMEM, NULL, "%s", path);
    }
    json_int_t format = json_integer_value(json_object_get(o, "format"));
    if (format != VX_BRIEF_FORMAT) {
        rc = vx_fail(err, VX_E_UNSUPPORTED, "brief_format",
                     "%s has format %lld, this voxeld reads %d", path, (long long)format,
                     VX_BRIEF_FORMAT);
    }
    for (size_t i = 0; rc == VX_OK && i < VX_COUNTOF(fields); i++) {
        const json_t *value = json_object_get(o, fields[i].name);
        if (!value && optional(fields[i].kind)) {
            continue;
        }
        if (!value || !from_json(value, (char *)b + fields[i].offset, fields[i].kind)) {
            rc = vx_fail(err, VX_E_CORRUPT, "brief_invalid",
                         "%s: %s is missing or has the wrong type", path, fields[i].name);
        }
    }
    if (rc != VX_OK) {
        vx_brief_free(b);
        return rc;
    }
    *ret = b;
    return VX_OK;
}

void vx_brief_place(const struct vx_brief *b, struct vx_result_place *ret) {
    const char *plans = json_string_value(json_object_get(b->plans, "plans_name"));
    *ret = (struct vx_result_place){b->results_root,        b->dataset,       b->name,
                                    plans ? plans : "none", b->configuration, b->fold};
}

void vx_brief_release(struct vx_brief *b) {
    for (size_t i = 0; i < VX_COUNTOF(fields); i++) {
        void *field = (char *)b + fields[i].offset;
        if (fields[i].kind == TEXT || fields[i].kind == TEXT_OR_NOTHING) {
            free(*(char **)field);
        } else if (fields[i].kind == JSON || fields[i].kind == JSON_OR_NOTHING) {
            json_decref(*(json_t **)field);
        }
    }
    memset(b, 0, sizeof *b);
}

uint32_t vx_brief_cache_mode(const struct vx_brief *b) {
    int mode = b->cache ? vx_reading_of_word(b->cache) : VX_READ_AUTO;
    return mode < 0 ? VX_CACHE_AUTO : (uint32_t)mode;
}

int vx_brief_threads(const struct vx_brief *b, const char *device) {
    return strncmp(device ? device : b->device, "cuda", 4) == 0 ? 1 : b->threads;
}

void vx_brief_free(struct vx_brief *b) {
    if (b) {
        vx_brief_release(b);
        free(b);
    }
}
