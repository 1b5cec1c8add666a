/* Decoded arrays of a store's cases in memory that several processes share: filled by one of them,
 * read by all.
 *
 * The memory is a memfd that a supervisor makes empty (vx_held_create) and hands to its children;
 * the filler lays it out once. It is sparse: every case of the store has its place, and only what
 * is loaded takes memory. Each case has a word, odd while its arrays are whole. A reader looks at
 * the word, copies, and looks again: where it moved, what was copied counts for nothing, and the
 * files are read instead. So the filler may let go of a case at any moment, without asking anybody,
 * and the death of either side leaves nothing behind.
 *
 * Layout: a header with magic, ABI and the digest of the manifest, the table of words and places,
 * the arrays (image, seg, locations; C order; each case at the start of a page). Thread: one per
 * object; one filler at a time. */
#ifndef VX_CACHE_HELD_H
#define VX_CACHE_HELD_H

#include "cache/cache.h"

struct vx_held;

/* An empty memfd, close-on-exec. */
int vx_held_create(int *ret_fd, struct vx_err *err);

/* --- the filler --- */

/* Lays the memory behind fd out for the cases of this store; fd stays the caller's. Where that was
 * done before (by a filler that died) what is whole stays. Reads every case.json. VX_E_STATE
 * "held_other_store" where it holds another manifest. */
int vx_held_fill(int fd, struct vx_cache *cache, struct vx_held **ret, struct vx_err *err);
/* Decoded bytes of case i as they are held. */
uint64_t vx_held_case_bytes(const struct vx_held *h, size_t i);
/* Reads case i from its files into memory. VX_E_NOMEM where the kernel has none. */
int vx_held_load(struct vx_held *h, size_t i, struct vx_err *err);
/* Lets go of it; its memory is free when this returns. */
void vx_held_drop(struct vx_held *h, size_t i);

/* --- readers --- */

/* Maps what a filler laid out, read-only. VX_E_STATE "held_empty" before that, or
 * "held_other_store". */
int vx_held_map(int fd, const struct vx_cache *cache, struct vx_held **ret, struct vx_err *err);
/* True while case i is whole. */
bool vx_held_has(const struct vx_held *h, size_t i);

/* Unmaps; what is held stays held. NULL is fine. Returns NULL. */
struct vx_held *vx_held_close(struct vx_held *h);

static inline void vx_own_held(struct vx_held **h) {
    vx_held_close(*h);
}
#define vx_auto_held __attribute__((cleanup(vx_own_held)))

#endif
