/* See live.h. */
#include "daemon/session/live.h"

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "loader/recipe.h"

#include <stddef.h>
#include <string.h>

#define MAX_BYTES ((size_t)4 << 20)

const char *const vx_live_knobs[] = {"workers", "window", "keep_files_open", "cache_mode", NULL};

uint32_t *vx_live_knob(struct vx_knobs *k, const char *name) {
    uint32_t *const members[] = {&k->workers_wanted, &k->window, &k->keep_files_open,
                                 &k->cache_mode};
    for (size_t i = 0; vx_live_knobs[i]; i++) {
        if (strcmp(name, vx_live_knobs[i]) == 0) {
            return members[i];
        }
    }
    return NULL;
}

static char *path_of(const char *dir) {
    return vx_strf("%s/session_live.json", dir);
}

int vx_live_read(const char *dir, struct vx_live *ret, struct vx_err *err) {
    vx_auto_free char *path = path_of(dir);
    vx_auto_json json_t *doc = NULL;
    *ret = (struct vx_live){json_object(), json_array()};
    if (!path || !ret->knobs || !ret->quarantines) {
        return vx_fail(err, VX_E_NOMEM, NULL, "reading what the session changed");
    }
    if (!vx_path_exists(path)) {
        return VX_OK;
    }
    int rc = vx_json_load_file(path, MAX_BYTES, &doc, err);
    json_t *knobs = json_object_get(doc, "knobs"), *rows = json_object_get(doc, "quarantines");
    if (rc == VX_OK && (json_integer_value(json_object_get(doc, "format")) != VX_LIVE_FORMAT ||
                        !json_is_object(knobs) || !json_is_array(rows))) {
        rc = vx_fail(err, VX_E_CORRUPT, "session_live", "not what a session changed");
    }
    if (rc != VX_OK) {
        return vx_err_at(err, "%s", path);
    }
    json_decref(ret->knobs);
    json_decref(ret->quarantines);
    *ret = (struct vx_live){json_incref(knobs), json_incref(rows)};
    return VX_OK;
}

int vx_live_write(const char *dir, const struct vx_live *live, struct vx_err *err) {
    vx_auto_free char *path = path_of(dir);
    vx_auto_json json_t *doc = json_pack("{s:i, s:O, s:O}", "format", VX_LIVE_FORMAT, "knobs",
                                         live->knobs, "quarantines", live->quarantines);
    if (!path || !doc) {
        return vx_fail(err, VX_E_NOMEM, NULL, "writing what the session changed");
    }
    return vx_json_write_file(path, doc, err);
}

void vx_live_release(struct vx_live *live) {
    json_decref(live->knobs);
    json_decref(live->quarantines);
    *live = (struct vx_live){NULL, NULL};
}

/* --- rows --- */

static const struct {
    const char *k, *j;
} row_keys[2] = {{"from_k", "from_j"}, {"val_from_k", "val_from_j"}};

bool vx_live_exclusion(const json_t *row, const struct vx_recipe_view *recipe,
                       struct vx_exclusion *ret) {
    const char *name = json_string_value(json_object_get(row, "case"));
    struct vx_exclusion x = {.case_index = UINT32_MAX};
    for (size_t i = 0; name && i < recipe->n_cases; i++) {
        if (strcmp(recipe->cases[i], name) == 0) {
            x.case_index = (uint32_t)i;
        }
    }
    for (int s = 0; s < 2; s++) {
        json_int_t k = json_integer_value(json_object_get(row, row_keys[s].k));
        json_int_t j = json_integer_value(json_object_get(row, row_keys[s].j));
        if (k < 0 || j < 0 || j > UINT32_MAX) {
            return false;
        }
        x.from_k[s] = (uint64_t)k;
        x.from_j[s] = (uint32_t)j;
    }
    if (x.case_index != UINT32_MAX) {
        *ret = x;
    }
    return x.case_index != UINT32_MAX;
}

json_t *vx_live_row(const struct vx_exclusion *x, const struct vx_recipe_view *recipe) {
    json_t *row = json_pack("{s:s}", "case", recipe->cases[x->case_index]);
    for (int s = 0; row && s < 2; s++) {
        json_object_set_new(row, row_keys[s].k, json_integer((json_int_t)x->from_k[s]));
        json_object_set_new(row, row_keys[s].j, json_integer(x->from_j[s]));
    }
    return row;
}

void vx_live_merge(json_t *rows, const json_t *more) {
    for (size_t i = 0; i < json_array_size(more); i++) {
        json_t *row = json_array_get(more, i);
        bool known = false;
        for (size_t n = 0; n < json_array_size(rows); n++) {
            known |= json_equal(json_object_get(json_array_get(rows, n), "case"),
                                json_object_get(row, "case"));
        }
        if (!known) {
            json_array_append(rows, row);
        }
    }
}

void vx_live_exclusions(const json_t *rows, const struct vx_recipe_view *recipe,
                        struct vx_exclusions *ret) {
    *ret = (struct vx_exclusions){0};
    for (size_t i = 0; i < json_array_size(rows) && ret->n < VX_EXCLUSIONS_MAX; i++) {
        ret->n += vx_live_exclusion(json_array_get(rows, i), recipe, &ret->list[ret->n]);
    }
}
