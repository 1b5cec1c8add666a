/* The opened cases of a store, by the recipe's case index; the least recently used are closed
 * beyond a limit. Private to this room. Thread: one. */
#ifndef VX_LOADER_CASES_H
#define VX_LOADER_CASES_H

#include "loader/recipe.h"
#include "loader/sampler.h"

struct vx_cache;
struct vx_cache_case;

/* An opened case with what the sampler asks. */
struct vx_open_case {
    struct vx_cache_case *handle; /* owned; NULL: not opened */
    struct vx_sample_source source;
    int64_t *n_locations; /* owned; source.n_locations */
    uint64_t used;        /* when, in calls */
};

struct vx_cases {
    struct vx_cache *cache;              /* borrowed */
    const struct vx_recipe_view *recipe; /* borrowed */
    struct vx_open_case *entry;          /* owned, [recipe->n_cases] */
    size_t open, limit;
    uint64_t calls;
};

int vx_cases_init(struct vx_cases *c, struct vx_cache *cache, const struct vx_recipe_view *recipe,
                  size_t limit, struct vx_err *err);
void vx_cases_release(struct vx_cases *c);
/* Opens case i where needed. The entry stays valid until the next call. A case without labels or
 * with other channels than the recipe's is VX_E_INVALID. */
int vx_cases_get(struct vx_cases *c, uint32_t i, struct vx_open_case **ret, struct vx_err *err);
/* Closes case i where it is open: its files may have been replaced. */
void vx_cases_forget(struct vx_cases *c, uint32_t i);

#endif
