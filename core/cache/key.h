/* The name of a prepared store: SHA-256 over canonical JSON of everything in a plan that changes
 * voxels, and nothing else (not batch, patch or network). Pure. Thread: any. */
#ifndef VX_CACHE_KEY_H
#define VX_CACHE_KEY_H

#include "base/hash.h"

struct vx_err;
struct vx_plans;
struct vx_plan_config;
struct vx_dataset_desc;

struct vx_cache_key {
    char hex[VX_SHA256_HEX];
    char *text; /* owned: the canonical JSON that was hashed, kept in the manifest so that people
                   can see why */
};

/* Covers: cache format; target spacing, transpose; per channel the normalisation with its numbers
 * (CT: mean, std and clip bounds of the fingerprint) and whether it is masked; orders of
 * resampling; the values of the labels and the ignore label (not their names). Two configurations
 * with equal answers share one store. On success vx_cache_key_release is due. */
int vx_cache_key(const struct vx_plans *plans, const struct vx_plan_config *config,
                 const struct vx_dataset_desc *dataset, struct vx_cache_key *ret,
                 struct vx_err *err);
void vx_cache_key_release(struct vx_cache_key *key);

#endif
