/* Copies of a store's cases in a faster folder, shared by all jobs that read the store.
 *
 *   ROOT/voxeld-stage/DATASET/KEY/cases/NAME~XXXXXXXX/    as in the store, case by case
 *                                 .users                  locked shared by everybody who reads
 *                                 .copying                locked by the one who copies
 *
 * A case is copied under a temporary name, synced, read back and compared with its checksums, then
 * renamed: what is there is whole. Readers find it with vx_cache_read_staged, which goes back to
 * the store where a copy is missing or fails a checksum.
 *
 * What nobody uses is kept, because the next fold of the same data set will want it, until
 * VX_STAGE_KEEP_DAYS after it was used last, or until somebody needs the room: vx_stage_tidy.
 * Thread: one per object; any number of processes. */
#ifndef VX_CACHE_STAGE_H
#define VX_CACHE_STAGE_H

#include "cache/warm.h"

#define VX_STAGE_KEEP_DAYS 7

struct vx_stage;

/* Where a store is staged to below root; caller frees, NULL when out of memory. */
char *vx_stage_path(const char *root, const char *dataset, const char *key_hex);

/* Makes the folder below root (which must be there) and marks it as used until vx_stage_close. */
int vx_stage_open(const char *root, const char *dataset, struct vx_cache *cache,
                  struct vx_stage **ret, struct vx_err *err);
/* NULL is fine. Returns NULL. */
struct vx_stage *vx_stage_close(struct vx_stage *s);
/* For vx_cache_read_staged; borrowed. */
const char *vx_stage_dir(const struct vx_stage *s);

/* Is case i there, whole? (Sizes, case.json and the indices are looked at, not every byte.) */
bool vx_stage_has(struct vx_stage *s, size_t i);
/* Becomes the one who copies; VX_E_BUSY while another process does. */
int vx_stage_own(struct vx_stage *s, struct vx_err *err);
/* Copies case i; vx_stage_own first. VX_E_FULL leaves no part of it behind. VX_E_CORRUPT: what was
 * read or written fails its checksums. */
int vx_stage_copy(struct vx_stage *s, size_t i, vx_warm_pace_fn *pace, void *ctx,
                  struct vx_err *err);

/* Removes sets below root that nobody uses: those unused for VX_STAGE_KEEP_DAYS, and, the longest
 * unused first, as many as it takes until `wanted` bytes are free. *ret_removed (may be NULL): how
 * many. now_s: seconds since the epoch. */
int vx_stage_tidy(const char *root, uint64_t wanted, int64_t now_s, unsigned *ret_removed,
                  struct vx_err *err);

#endif
