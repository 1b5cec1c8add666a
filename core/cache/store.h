/* What cache.c and case.c share. Internal to core/cache. */
#ifndef VX_CACHE_STORE_H
#define VX_CACHE_STORE_H

#include "cache/cache.h"
#include "cache/meta.h"

#include "base/hash.h"

/* One array of an opened case. Its descriptor, while open, is in the store's list of open files. */
struct vx_cache_file {
    struct vx_cache_layout layout;
    struct vx_shard_entry *entries; /* owned; NULL where the array has no file */
    char *path;                     /* owned */
    int fd;                         /* -1 while closed */
    struct vx_cache_file *newer, *older;
};

struct vx_cache_entry {  /* a row of the manifest */
    char *name, *folder; /* owned */
    char sha256[VX_SHA256_HEX];
};

struct vx_cache {
    char *dir; /* owned */
    char key[VX_SHA256_HEX];
    size_t n_cases;
    struct vx_cache_entry *cases; /* owned, ascending by name */
    struct vx_cache_counters counters;
    struct vx_shard_scratch scratch;
    int max_open, n_open;
    bool cold;
    struct vx_cache_file *newest, *oldest; /* open files by last use */
};

struct vx_cache_case {
    struct vx_cache *store; /* borrowed, outlives the case */
    struct vx_cache_info info;
    struct vx_cache_file files[VX_CACHE_N_ARRAYS];
};

/* Borrowed; NULL where the store has no such case. */
const struct vx_cache_entry *vx_cache_find(const struct vx_cache *cache, const char *name);
/* Opens f where it is closed (checking that the file still has its size), marks it as used just
 * now. */
int vx_cache_file_acquire(struct vx_cache *cache, struct vx_cache_file *f, struct vx_err *err);
/* Ends a use of the newest file: closes files over the limit. */
void vx_cache_file_settle(struct vx_cache *cache);
void vx_cache_file_close(struct vx_cache *cache, struct vx_cache_file *f);

/* Moves the complete, synced case folder tmp to final (both below cases/), in place of what lies
 * there. */
int vx_cache_publish(const char *cases, const char *tmp, const char *final, struct vx_err *err);

#endif
