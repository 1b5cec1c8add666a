/* case.json: what is known of a case, to JSON and back. Internal to core/cache. Thread: any. */
#ifndef VX_CACHE_META_H
#define VX_CACHE_META_H

#include "cache/cache.h"
#include "cache/shard/shard.h"

#include "base/hash.h"

enum vx_cache_array {
    VX_CACHE_ARRAY_IMAGE,
    VX_CACHE_ARRAY_SEG,
    VX_CACHE_ARRAY_LOCATIONS,
    VX_CACHE_N_ARRAYS
};

struct vx_cache_layout {
    bool present; /* false: the case has no such array */
    struct vx_shard shard;
    struct vx_shard_file file; /* zero where the array has no elements */
};

struct vx_cache_meta {
    struct vx_cache_info info;
    char key[VX_SHA256_HEX]; /* of the store it was made for; "" in the cases of earlier versions */
    struct vx_cache_layout arrays[VX_CACHE_N_ARRAYS];
};

/* "image", "seg", "locations": the array's folder below the case's. */
const char *vx_cache_array_name(enum vx_cache_array a);
/* Derives the three layouts from info (shape, channels, classes) and the chunk edges of the
 * volumes. */
int vx_cache_meta_layout(struct vx_cache_meta *m, const int64_t chunk[3], struct vx_err *err);

/* New reference, NULL when out of memory. */
json_t *vx_cache_meta_to_json(const struct vx_cache_meta *m);
/* Checks every field; VX_E_CORRUPT names the first wrong one. On success vx_cache_meta_release is
 * due. */
int vx_cache_meta_from_json(const json_t *doc, struct vx_cache_meta *ret, struct vx_err *err);
void vx_cache_meta_release(struct vx_cache_meta *m);

/* Folder of a case below cases/: "NAME~XXXXXXXX". Refuses names that are no single path component
 * (VX_E_INVALID). Caller frees *ret. */
int vx_cache_case_folder(const char *name, const struct vx_cache_source *sources, size_t n_sources,
                         char **ret, struct vx_err *err);

#endif
