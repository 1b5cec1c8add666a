/* The name of a prepared store: SHA-256 over canonical JSON of everything in a plan that changes
 * voxels, and nothing else (not batch, patch or network). Pure. Thread: any. */
#ifndef VX_CACHE_KEY_H
#define VX_CACHE_KEY_H

#include "base/hash.h"

struct vx_err;
struct vx_plans;
struct vx_plan_config;

struct vx_cache_key {
    char hex[VX_SHA256_HEX];
    char *text; /* owned: the canonical JSON that was hashed, kept in the manifest so that people
                   can see why */
};

/* Covers: cache format, spacing, transpose, normalisation schemes with their numbers, masks,
 * resampling functions and arguments, label table. */
int vx_cache_key(const struct vx_plans *plans, const struct vx_plan_config *config,
                 struct vx_cache_key *ret, struct vx_err *err);
void vx_cache_key_release(struct vx_cache_key *key);

#endif
