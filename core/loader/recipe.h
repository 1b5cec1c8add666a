/* The recipe: everything, beside the seed's draws, that decides what the samples of a job look
 * like.
 *
 * Sample (stream, k, j) is a function of (seed, stream, k, j, recipe) and of the cached cases,
 * nothing else: not of the number of workers, their deaths, or the pool's history. The digest names
 * a recipe; checkpoints hold it, and a resumed job compares. A recipe travels to the workers as
 * JSON. Thread: a recipe is constant after it was made. */
#ifndef VX_LOADER_RECIPE_H
#define VX_LOADER_RECIPE_H

#include "base/hash.h"
#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_aug_policy;

/* A case that is no longer drawn from sample from_j[stream] of batch from_k[stream] on (counted
 * within the stream); from_j is 0 but where earlier samples of that very batch showed the case. */
struct vx_quarantine {
    uint32_t case_index;
    uint32_t from_j[2];
    uint64_t from_k[2];
};

enum vx_aug_mode { VX_AUG_MODE_DEFAULT = 0 /* nnU-Net's */, VX_AUG_MODE_NONE = 1 };

/* What a recipe is made from; plain values, pointers borrowed. Zero means the default where one is
 * named. */
struct vx_recipe_params {
    const char *dataset;   /* e.g. "Dataset004_Hippocampus" */
    const char *cache_key; /* name of the prepared store */
    uint64_t seed;
    const char *const *cases; /* every case of the split, in the order that gives case indices */
    size_t n_cases;
    const uint32_t *train; /* indices into cases; >= 1 of them */
    size_t n_train;
    const uint32_t *val; /* may be empty only where no validation batches are asked for */
    size_t n_val;
    uint32_t dims; /* 2 or 3 */
    uint32_t channels;
    uint32_t batch;
    int32_t patch[3];       /* D, H, W; D = 1 when dims = 2 */
    double oversample;      /* share of foreground-forced samples; 0: 0.33; negative: none */
    uint32_t mask_channels; /* bit c: use_mask_for_norm of channel c */
    bool has_ignore;        /* the data set has an ignore label */
    enum vx_aug_mode augment;
    const struct vx_aug_policy *policy; /* NULL: made from the values above */
    uint32_t window_cases;   /* sharded epochs (window.h): cases at a time; 0: all always */
    uint32_t window_batches; /* training batches before the next window; >= 1 with window_cases */
    const struct vx_quarantine *quarantines;
    size_t n_quarantines;
};

struct vx_recipe; /* opaque: read through vx_recipe_view */

/* Constant view of a recipe; everything is borrowed from it. */
struct vx_recipe_view {
    const char *dataset, *cache_key;
    uint64_t seed;
    const char *const *cases;
    size_t n_cases;
    const uint32_t *train, *val;
    size_t n_train, n_val;
    uint32_t batch;
    double oversample;
    bool has_ignore;
    const struct vx_aug_policy *policy; /* patch, initial patch, channels, mirror axes, ... */
    uint32_t window_cases, window_batches;
    const struct vx_quarantine *quarantines;
    size_t n_quarantines;
    const char *place;  /* "cpu": where augmentation runs */
    const char *digest; /* 64 hex digits */
};

/* VX_E_INVALID names the value that cannot be. */
int vx_recipe_create(const struct vx_recipe_params *params, struct vx_recipe **ret,
                     struct vx_err *err);
/* NULL is fine. Returns NULL. */
struct vx_recipe *vx_recipe_free(struct vx_recipe *r);
const struct vx_recipe_view *vx_recipe_view(const struct vx_recipe *r);
/* The same recipe with these quarantines in place of its own. */
int vx_recipe_with(const struct vx_recipe *r, const struct vx_quarantine *quarantines, size_t n,
                   struct vx_recipe **ret, struct vx_err *err);

/* New reference; vx_recipe_from_json(vx_recipe_to_json(r)) has the same digest. The digest is the
 * SHA-256 of the canonical text of this object. */
json_t *vx_recipe_to_json(const struct vx_recipe *r);
int vx_recipe_from_json(const json_t *json, struct vx_recipe **ret, struct vx_err *err);

#endif
