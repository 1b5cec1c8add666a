/* Building a prepared store (layout: cache.h): one owner, any number of case writers, resumable.
 *
 *   vx_cache_build_open      takes the lock (one owner however many jobs want the store)
 *   vx_cache_build_has_case  what an earlier, interrupted or older build left complete is kept
 *   vx_cache_write_case      from any process, one case each; temporary folder, fsync, rename
 *   vx_cache_build_commit    manifest.json renamed into place: now vx_cache_open accepts the set
 *
 * A case's folder name contains a digest of its sources' paths, sizes and times, so that a changed
 * source makes a new folder: a reader of the old one gets an error, never a mixture. A full disk is
 * VX_E_FULL and leaves no case behind. Thread: a builder belongs to one thread; vx_cache_write_case
 * may run in any thread or process, one per case. */
#ifndef VX_CACHE_BUILD_H
#define VX_CACHE_BUILD_H

#include "cache/cache.h"

struct vx_cache_builder;

/* One case to be written; all pointers borrowed. */
struct vx_cache_case_data {
    struct vx_cache_info info; /* first_index of the classes is ignored */
    const float *image;        /* [C][Z][Y][X] of info.shape */
    const int16_t *seg;        /* [Z][Y][X]; NULL exactly where info.has_seg is false */
    /* sum of n_locations triples (z, y, x), class after class in the order of info.classes; NULL
     * where there are none */
    const int32_t (*locations)[3];
    int64_t patch[3]; /* the plan's patch size: a hint for the shape of the chunks; 0 = unknown */
};

/* A case that belongs to the set, by its name and what it is made from; pointers borrowed. */
struct vx_cache_member {
    const char *name;
    const struct vx_cache_source *sources;
    size_t n_sources;
};

/* Makes DATASET_DIR/voxeld/KEY and locks it for building until close (or death). dataset_dir: the
 * data set's folder in the preprocessed root. key_hex and key_text: from vx_cache_key. Where
 * another process builds: VX_E_BUSY with its pid in the text. Temporary folders of dead builds are
 * removed. Children that are forked without exec share the lock until they end. */
int vx_cache_build_open(const char *dataset_dir, const char *key_hex, const char *key_text,
                        struct vx_cache_builder **ret, struct vx_err *err);
/* The store's folder, for vx_cache_write_case and vx_cache_open; borrowed. */
const char *vx_cache_build_dir(const struct vx_cache_builder *b);
/* True where the case lies complete with exactly these sources and all files have their sizes. */
bool vx_cache_build_has_case(const struct vx_cache_builder *b, const struct vx_cache_member *m);
/* Publishes the set of exactly these cases; each must have been written from these sources. Folders
 * of other cases and of older sources are removed. Refuses VX_E_STATE "case_missing" where one is
 * missing or damaged. All writers must have ended. */
int vx_cache_build_commit(struct vx_cache_builder *b, const struct vx_cache_member *members,
                          size_t n_members, struct vx_err *err);
/* Unlocks. NULL is fine. Returns NULL. */
struct vx_cache_builder *vx_cache_build_close(struct vx_cache_builder *b);

typedef int vx_cache_make_fn(void *ctx, const char *dir, const int64_t patch[3],
                             struct vx_err *err);

/* Makes one damaged case of a complete store again, in place; the others are not touched and the
 * manifest stays. Where every byte of the case is as it was written nothing is done and *ret_made
 * is false. make(ctx, dir, patch) writes the case below dir with vx_cache_write_case, from the
 * sources of m; patch is the hint the case was written with (0: not known). Refused, with the store
 * as it was: VX_E_NOT_FOUND "unknown_case"; VX_E_STATE "source_changed" where the set was made from
 * other files; VX_E_STATE "repair_differs" where what was made is not, byte for byte, what the
 * manifest lists (another version prepared it). */
int vx_cache_build_repair(struct vx_cache_builder *b, const struct vx_cache_member *m,
                          vx_cache_make_fn *make, void *ctx, bool *ret_made, struct vx_err *err);

/* Writes one case below store_dir (vx_cache_build_dir). Existing folders of the same sources are
 * replaced. ret_bytes (may be NULL): bytes on disk. Errors: VX_E_FULL, VX_E_INVALID (names the
 * field), VX_E_IO. */
int vx_cache_write_case(const char *store_dir, const struct vx_cache_case_data *data,
                        uint64_t *ret_bytes, struct vx_err *err);

/* VX_E_FULL where the file system of dir has fewer than bytes free for this user. */
int vx_cache_check_space(const char *dir, uint64_t bytes, struct vx_err *err);

/* Edges of the chunks of an array of this shape that is read in patches: about 32 voxels where a
 * patch covers a part of the axis (20 along z and y where the values are smooth, which larger
 * chunks would not make smaller), up to 64 where it covers all of it, split evenly so that little
 * padding is stored; 1 for a patch of 1. */
void vx_cache_chunk_shape(const int64_t shape[3], const int64_t patch[3], bool smooth,
                          int64_t ret_chunk[3]);

/* The store's folder for a data set and key: DATASET_DIR/voxeld/KEY. Caller frees; NULL when out of
 * memory. */
char *vx_cache_store_dir(const char *dataset_dir, const char *key_hex);

#endif
