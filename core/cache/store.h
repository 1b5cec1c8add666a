/* What the files of this room share of an opened store. Internal to core/cache. */
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
    bool staged;                    /* fd is of the copy in the stage folder */
    bool stage_bad;                 /* the copy is damaged: never looked at again */
    struct vx_cache_file *newer, *older;
};

struct vx_cache_entry {  /* a row of the manifest */
    char *name, *folder; /* owned */
    char sha256[VX_SHA256_HEX];
};

struct vx_held;

struct vx_cache {
    char *dir; /* owned */
    char key[VX_SHA256_HEX];
    char digest[VX_SHA256_HEX]; /* of the list of cases: names, folders, digests of case.json */
    size_t n_cases;
    struct vx_cache_entry *cases; /* owned, ascending by name */
    struct vx_cache_counters counters;
    struct vx_shard_scratch scratch;
    int max_open, n_open;
    bool cold;
    char *stage;                           /* owned: folder of copies; NULL: none */
    const struct vx_held *held;            /* borrowed; NULL: none */
    struct vx_cache_file *newest, *oldest; /* open files by last use */
};

struct vx_cache_case {
    struct vx_cache *store; /* borrowed, outlives the case */
    size_t index;           /* among the store's cases */
    struct vx_cache_info info;
    struct vx_cache_file files[VX_CACHE_N_ARRAYS];
};

/* Borrowed; NULL where the store has no such case. */
const struct vx_cache_entry *vx_cache_find(const struct vx_cache *cache, const char *name);
/* Opens f where it is closed, or where it is not open from where it should be read now (checking
 * that the file still has its size), and marks it as used just now. */
int vx_cache_file_acquire(struct vx_cache *cache, struct vx_cache_file *f, struct vx_err *err);
/* Ends a use of the newest file: closes files over the limit. */
void vx_cache_file_settle(struct vx_cache *cache);
void vx_cache_file_close(struct vx_cache *cache, struct vx_cache_file *f);
/* After a read of f that failed: true where the same bytes may lie elsewhere, so that acquiring it
 * once more is worth it. A copy is given up for the original; a file that was replaced while it was
 * open (a case made again, a server that forgot the handle) is opened anew. */
bool vx_cache_file_retry(struct vx_cache *cache, struct vx_cache_file *f, int rc);

/* The case of entry as it lies in folder, which is not the store's own; and every byte of it. */
int vx_cache_folder_open(struct vx_cache *cache, const char *folder,
                         const struct vx_cache_entry *entry, struct vx_cache_case **ret,
                         struct vx_err *err);
int vx_cache_folder_verify(struct vx_cache *cache, const char *folder,
                           const struct vx_cache_entry *entry, struct vx_err *err);
/* A box of one array, from its file; axes of the shard (four). */
int vx_cache_read_array(struct vx_cache_case *c, enum vx_cache_array which, const int64_t lo[4],
                        const int64_t hi[4], const struct vx_cache_region *region, void *dst,
                        const int64_t stride[3], struct vx_err *err);
/* near/held.c: the same out of memory; false where the case is not there, or left while it was read
 * (dst is then unspecified). */
bool vx_held_read(const struct vx_held *h, const struct vx_cache_case *c, enum vx_cache_array which,
                  const int64_t lo[4], const int64_t hi[4], void *dst, const int64_t stride[3]);

/* Syncs every file and folder below dir, folders after what they hold; drop: and lets the page
 * cache forget the files. */
int vx_cache_sync_tree(const char *dir, bool drop, struct vx_err *err);
/* Moves the complete, synced case folder tmp to final (both below cases/), in place of what lies
 * there. */
int vx_cache_publish(const char *cases, const char *tmp, const char *final, struct vx_err *err);

#endif
