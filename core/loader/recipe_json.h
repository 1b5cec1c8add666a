/* The inside of a recipe. Private to this room. */
#ifndef VX_LOADER_RECIPE_JSON_H
#define VX_LOADER_RECIPE_JSON_H

#include "augment/policy.h"
#include "loader/recipe.h"

#define VX_RECIPE_FORMAT 1

struct vx_recipe {
    char *dataset, *cache_key; /* owned, as all pointers here */
    char **cases;
    uint32_t *train, *val;
    struct vx_quarantine *quarantines;
    size_t n_cases, n_train, n_val, n_quarantines;
    uint64_t seed;
    uint32_t batch;
    double oversample; /* final value: 0 means none */
    bool has_ignore;
    uint32_t window_cases, window_batches; /* both 0: no window */
    struct vx_aug_policy policy;
    char digest[VX_SHA256_HEX];
    struct vx_recipe_view view;
};

#endif
