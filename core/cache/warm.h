/* Bringing a store's files nearer, at a pace: into the page cache, or into another folder
 * (stage.h). Thread: one at a time per store. */
#ifndef VX_CACHE_WARM_H
#define VX_CACHE_WARM_H

#include "cache/cache.h"

/* Called after each step of at most VX_WARM_STEP bytes, which took ns; may sleep. False: stop, the
 * call then returns VX_E_CANCELLED. */
typedef bool vx_warm_pace_fn(void *ctx, uint64_t bytes, uint64_t ns);
#define VX_WARM_STEP ((size_t)1 << 20)

/* How long to sleep after ns of reading bytes, so that who reads beside finds the storage free for
 * most of the time: as long again where the bytes came from storage, not at all where they came
 * from memory (faster than VX_WARM_MEMORY_RATE). readers_wait: somebody is held up by reading just
 * now; three times as long then. Pure. */
#define VX_WARM_MEMORY_RATE 2.5e9 /* bytes per second */
uint64_t vx_warm_pause_ns(uint64_t bytes, uint64_t ns, bool readers_wait);

/* Reads the array files of case i from start to end, in the order they are stored. */
int vx_warm_case(struct vx_cache *cache, size_t i, vx_warm_pace_fn *pace, void *ctx,
                 struct vx_err *err);
/* Reads from to its end, and writes what it read to `to` where that is no -1. */
int vx_warm_stream(int from, int to, vx_warm_pace_fn *pace, void *ctx, struct vx_err *err);

#endif
