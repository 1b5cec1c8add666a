#include "loader/cases.h"

#include "augment/policy.h"
#include "base/err.h"
#include "cache/cache.h"

#include <stdlib.h>
#include <string.h>

int vx_cases_init(struct vx_cases *c, struct vx_cache *cache, const struct vx_recipe_view *recipe,
                  size_t limit, struct vx_err *err) {
    *c = (struct vx_cases){cache, recipe, NULL, 0, limit ? limit : 1, 0};
    c->entry = calloc(recipe->n_cases, sizeof *c->entry);
    return c->entry ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "out of memory for the case table");
}

static void close_entry(struct vx_cases *c, struct vx_open_case *e) {
    if (e->handle) {
        vx_cache_case_free(e->handle);
        free(e->n_locations);
        *e = (struct vx_open_case){0};
        c->open--;
    }
}

void vx_cases_release(struct vx_cases *c) {
    for (size_t i = 0; c->entry && i < c->recipe->n_cases; i++) {
        close_entry(c, &c->entry[i]);
    }
    free(c->entry);
    c->entry = NULL;
}

static int read_location(void *ctx, uint32_t cls, int64_t i, int32_t ret_zyx[3],
                         struct vx_err *err) {
    return vx_cache_location(ctx, cls, i, ret_zyx, err);
}

static void close_oldest(struct vx_cases *c) {
    struct vx_open_case *oldest = NULL;
    for (size_t i = 0; i < c->recipe->n_cases; i++) {
        struct vx_open_case *e = &c->entry[i];
        if (e->handle && (!oldest || e->used < oldest->used)) {
            oldest = e;
        }
    }
    if (oldest) {
        close_entry(c, oldest);
    }
}

static int open_entry(struct vx_cases *c, uint32_t i, struct vx_open_case *e, struct vx_err *err) {
    const char *name = c->recipe->cases[i];
    struct vx_cache_case *handle = NULL;
    int rc = vx_cache_case_open(c->cache, name, &handle, err);
    if (rc != VX_OK) {
        return rc;
    }
    const struct vx_cache_info *info = vx_cache_case_info(handle);
    if (!info->has_seg || info->n_channels != (int)c->recipe->policy->channels) {
        rc = vx_fail(err, VX_E_INVALID, "case_mismatch",
                     "case %s has %d channels and %s labels; the recipe asks for %u and labels",
                     name, info->n_channels, info->has_seg ? "its" : "no",
                     c->recipe->policy->channels);
        vx_cache_case_free(handle);
        return rc;
    }
    int64_t *n_locations = calloc(info->n_classes + 1, sizeof *n_locations);
    if (!n_locations) {
        vx_cache_case_free(handle);
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory for case %s", name);
    }
    for (size_t k = 0; k < info->n_classes; k++) {
        n_locations[k] = info->classes[k].n_locations;
    }
    *e = (struct vx_open_case){.handle = handle, .n_locations = n_locations};
    memcpy(e->source.shape, info->shape, sizeof e->source.shape);
    e->source.n_classes = (uint32_t)info->n_classes;
    e->source.n_locations = n_locations;
    e->source.annotated = vx_cache_class_index(handle, "annotated");
    e->source.location = read_location;
    e->source.ctx = handle;
    c->open++;
    return VX_OK;
}

int vx_cases_get(struct vx_cases *c, uint32_t i, struct vx_open_case **ret, struct vx_err *err) {
    struct vx_open_case *e = &c->entry[i];
    if (!e->handle) {
        if (c->open >= c->limit) {
            close_oldest(c);
        }
        int rc = open_entry(c, i, e, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    e->used = ++c->calls;
    *ret = e;
    return VX_OK;
}

void vx_cases_forget(struct vx_cases *c, uint32_t i) {
    close_entry(c, &c->entry[i]);
}
