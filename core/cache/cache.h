/* Reading the prepared store of one data set: cases as sharded Zarr v3 arrays, read patch by patch.
 *
 * A store is the folder DATASET/voxeld/KEY/ (key.h, build.h):
 *
 *   manifest.json          completes the set: the case list, and the SHA-256 of every case.json
 *   zarr.json              the folder as a Zarr group
 *   cases/NAME~XXXXXXXX/   a case; XXXXXXXX: digest of its sources' paths, sizes and times
 *     case.json            struct vx_cache_info; layout, size and CRC-32C of every array's file
 *     image/               Zarr array [C][Z][Y][X] float32
 *     seg/                 Zarr array [Z][Y][X] int16, -1 outside
 *     locations/           Zarr array [N][3] int32: (z, y, x) of foreground voxels, class by class
 *
 * Each array is one shard (Zarr v3 codec sharding_indexed, index at the end with CRC-32C) of chunks
 * coded as little endian bytes, blosc, CRC-32C. Reading a box touches only the chunks that
 * intersect it, and every chunk read is checked: a flipped bit, a truncated file or an index that
 * points elsewhere is VX_E_CORRUPT with the file's name.
 *
 * Axes are those of the plan (transposed, cropped, resampled): z, y, x here means array axes 0,
 * 1, 2. Thread: one vx_cache and its cases belong to one thread of one process. Files are never
 * changed in place, so any number of processes may read one store. Memory: 16 bytes per chunk of
 * the opened cases, plus scratch of a few chunks. */
#ifndef VX_CACHE_CACHE_H
#define VX_CACHE_CACHE_H

#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_cache;      /* one opened store */
struct vx_cache_case; /* one opened case; borrows its store */

#define VX_CACHE_FORMAT      1
#define VX_CACHE_MAX_NAME    200 /* bytes of a case name, without the NUL */
#define VX_CACHE_MAX_CLASSES 1024
#define VX_CACHE_MAX_SOURCES 80
#define VX_CACHE_MAX_EDGE    65535 /* voxels along an axis */

enum vx_cache_role {
    VX_CACHE_IMAGE, /* float, [C][Z][Y][X], 0 outside the array */
    VX_CACHE_SEG,   /* int16_t, [Z][Y][X], -1 outside the array */
};

/* A file a case was made from. */
struct vx_cache_source {
    char path[512]; /* relative to the raw data set's folder */
    int64_t size_bytes;
    int64_t mtime_ns;
};

/* One row of the table of foreground locations: a label, a region, or all annotated voxels. */
struct vx_cache_class {
    /* The label's value in decimal ("1"), "region:I" for the I-th region in declared order, or
     * "annotated" where the data set has an ignore label (nnU-Net's key (-1, all labels)). */
    char key[32];
    int64_t n_voxels;    /* voxels of the class in the resampled seg */
    int64_t first_index; /* its rows in the locations array; filled in by the cache */
    int64_t n_locations; /* at most n_voxels */
};

/* What is known of a case beside its voxels; case.json holds the same fields. */
struct vx_cache_info {
    char name[VX_CACHE_MAX_NAME + 1];
    int n_channels;
    bool has_seg;
    int64_t shape[3];      /* of the stored arrays, array axes */
    double spacing[3];     /* mm of the stored arrays, array axes */
    int64_t shape_raw[3];  /* before cropping, array axes (after transpose_forward) */
    double spacing_raw[3]; /* mm as read, array axes */
    int64_t crop_lo[3];    /* crop box inside shape_raw, half open */
    int64_t crop_hi[3];
    int64_t shape_cropped[3]; /* = crop_hi - crop_lo: after cropping, before resampling */
    int64_t patch[3]; /* that its chunks were shaped for; 0: unknown. Filled in by the cache */
    /* What core/infer needs to write a volume on the original grid (file axes, affine, ...); any
     * JSON object, owned; the cache only carries it. NULL means an empty object. */
    json_t *geometry;
    size_t n_classes;
    struct vx_cache_class *classes; /* owned by the opened case, or by the caller when writing */
    size_t n_sources;
    struct vx_cache_source *sources; /* the same */
};

/* Counted since vx_cache_open; only ever grow. */
struct vx_cache_counters {
    uint64_t open_ns, read_ns,
        decompress_ns;             /* decompress: checksum, blosc and the copy into dst */
    uint64_t opens, reads, chunks; /* files opened, read calls, chunks decoded */
    uint64_t bytes_read;           /* compressed bytes from files */
    uint64_t bytes_decoded;
    uint64_t bytes_held;   /* copied out of memory, instead of read */
    uint64_t stage_faults; /* copies given up because they were damaged */
};

/* Opens the store at dir (.../voxeld/KEY). An incomplete one (no manifest.json) is VX_E_STATE
 * "cache_incomplete", a missing folder VX_E_NOT_FOUND, a damaged manifest VX_E_CORRUPT, a newer
 * format VX_E_UNSUPPORTED. */
int vx_cache_open(const char *dir, struct vx_cache **ret, struct vx_err *err);
/* Free every case first. NULL is fine. Returns NULL. */
struct vx_cache *vx_cache_free(struct vx_cache *cache);

/* Array files kept open between reads, least recently used first to go; 0 (the default) opens per
 * read. May be changed at any time; lowering it closes what is over. */
void vx_cache_keep_open(struct vx_cache *cache, int max_files);
/* Reads cases from their copies below dir (stage.h) where they are there and whole, from the store
 * where not; NULL: from the store. May be changed at any time. */
int vx_cache_read_staged(struct vx_cache *cache, const char *dir, struct vx_err *err);
/* Reads cases out of memory while they are held there; NULL: from files. held is borrowed; it may
 * be changed at any time between reads. */
struct vx_held;
void vx_cache_read_held(struct vx_cache *cache, const struct vx_held *held);
/* Drops each file from the page cache after a read of it, so that the next one comes from the disk
 * again: for measuring. */
void vx_cache_keep_cold(struct vx_cache *cache, bool cold);
const struct vx_cache_counters *vx_cache_counters(const struct vx_cache *cache);
const char *vx_cache_dir(const struct vx_cache *cache);
const char *vx_cache_key_hex(const struct vx_cache *cache);

/* Cases in ascending order of their names (strcmp). */
size_t vx_cache_n_cases(const struct vx_cache *cache);
const char *vx_cache_case_name(const struct vx_cache *cache, size_t i); /* borrowed */
bool vx_cache_has_case(const struct vx_cache *cache, const char *name);

/* Where a case's parts lie, without looking at them; caller frees, NULL for unknown cases. */
enum vx_cache_part {
    VX_CACHE_PART_CASE, /* case.json */
    VX_CACHE_PART_IMAGE,
    VX_CACHE_PART_SEG,
    VX_CACHE_PART_LOCATIONS,
};
char *vx_cache_part_path(const struct vx_cache *cache, const char *name, enum vx_cache_part part);

/* Reads case.json (checked against the manifest) and the shard indices, once; vx_cache_read_box
 * needs neither again. Unknown names are VX_E_NOT_FOUND. */
int vx_cache_case_open(struct vx_cache *cache, const char *name, struct vx_cache_case **ret,
                       struct vx_err *err);
struct vx_cache_case *vx_cache_case_free(struct vx_cache_case *c);
const struct vx_cache_info *vx_cache_case_info(const struct vx_cache_case *c); /* borrowed */
/* The patch that the chunks of a case were shaped for; where it cannot be opened, or is NULL, that
 * of the first case that can: one build writes a store as a rule. 0 where nobody knows. */
void vx_cache_patch(struct vx_cache *cache, const char *name, int64_t ret_patch[3]);
/* What its arrays take in files, and decoded. */
void vx_cache_case_bytes(const struct vx_cache_case *c, uint64_t *ret_files, uint64_t *ret_dense);

/* Copies the box [lo, hi) (array axes; may reach over or lie outside the array) of every channel
 * into dst; what lies outside the array becomes 0 (image) or -1 (seg). dst_stride: elements between
 * channels, z and y neighbours (3 numbers; the first is unused for seg; negative ones run
 * backwards); x neighbours are adjacent. NULL: dense [C][hi-lo]. dst is float (image) or int16_t
 * (seg); its content after an error is unspecified. */
int vx_cache_read_box(struct vx_cache_case *c, enum vx_cache_role role, const int64_t lo[3],
                      const int64_t hi[3], void *dst, const int64_t dst_stride[3],
                      struct vx_err *err);

/* Part of a case that is slanted against its axes: the voxels v (z, y, x) with
 * |row[i] . (v - centre)| <= half[i] for i = 0, 1, 2. */
struct vx_cache_region {
    double row[3][3], centre[3], half[3];
};

/* The same for somebody who looks at the voxels of the region only (NULL: at all): chunks with none
 * of them may be left unread, and dst as it is there. */
int vx_cache_read_region(struct vx_cache_case *c, enum vx_cache_role role, const int64_t lo[3],
                         const int64_t hi[3], const struct vx_cache_region *region, void *dst,
                         const int64_t dst_stride[3], struct vx_err *err);

/* Coordinates of stored location i of class index cls, 0 <= i < classes[cls].n_locations: one small
 * read. Checked to lie inside the array. */
int vx_cache_location(struct vx_cache_case *c, size_t cls, int64_t i, int32_t ret_zyx[3],
                      struct vx_err *err);
/* All of them; *ret holds n_locations triples, caller frees (NULL where there are none). */
int vx_cache_locations(struct vx_cache_case *c, size_t cls, int32_t (**ret)[3], struct vx_err *err);
/* Index of the class with that key, or -1. */
int vx_cache_class_index(const struct vx_cache_case *c, const char *key);

/* Reads every byte of a case and compares sizes and checksums: VX_E_CORRUPT names the first file
 * that differs. */
int vx_cache_verify_case(struct vx_cache *cache, const char *name, struct vx_err *err);

static inline void vx_own_cache(struct vx_cache **c) {
    vx_cache_free(*c);
}
static inline void vx_own_cache_case(struct vx_cache_case **c) {
    vx_cache_case_free(*c);
}
#define vx_auto_cache      __attribute__((cleanup(vx_own_cache)))
#define vx_auto_cache_case __attribute__((cleanup(vx_own_cache_case)))

#endif
