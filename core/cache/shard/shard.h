/* One array in one file: Zarr v3's sharding_indexed codec with a single shard, as this cache uses
 * it.
 *
 * Layout of the file (Zarr v3 specification, "sharding_indexed"): the coded chunks in C order, then
 * the index, two little endian uint64 (offset, nbytes) per chunk of the grid in C order and the
 * CRC-32C of these words. A chunk that holds nothing but the fill value is not stored: both its
 * words are 2^64 - 1. A stored chunk is blosc (vx_shard_choose_codec) of its little endian bytes,
 * followed by the CRC-32C of the blosc buffer. Chunks at the far edges are whole, padded with the
 * fill value, and the shard's shape is the array's rounded up to whole chunks.
 *
 * Arrays have four axes here; one of lower rank has leading axes of length 1 that zarr.json leaves
 * out. Internal to core/cache. Thread: any, one at a time per scratch. */
#ifndef VX_CACHE_SHARD_SHARD_H
#define VX_CACHE_SHARD_SHARD_H

#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_cache_counters;
struct vx_cache_region;

enum vx_shard_type { VX_SHARD_FLOAT32, VX_SHARD_INT16, VX_SHARD_INT32 };

/* How chunks are coded: c-blosc's names and levels. A choice for speed and size, not a part of the
 * format: any reader takes it from the chunk itself. */
struct vx_shard_codec {
    const char *name; /* borrowed, static: "lz4", "lz4hc", "zstd" */
    int level;
    int shuffle; /* BLOSC_NOSHUFFLE, BLOSC_SHUFFLE (bytes), BLOSC_BITSHUFFLE: 0, 1, 2 */
    /* byte planes (codec/planes.h), or chunks of other than 32-bit values, that shrink to
     * 1 / again_from and less are coded a second time with lz4hc, and the smaller result is kept;
     * 0: none are */
    double again_from;
};
/* For values that differ in all their bits (resampled images), and for few values that come again
 * and again (labels; images that were not resampled, whose steps are those of the scanner). */
extern const struct vx_shard_codec vx_shard_codec_smooth, vx_shard_codec_steps;

struct vx_shard {
    enum vx_shard_type type;
    struct vx_shard_codec codec; /* used for writing only; vx_shard_codec_smooth to begin */
    int rank;                    /* axes in zarr.json: the last rank of the four */
    int64_t shape[4];
    int64_t chunk[4];
    /* derived by vx_shard_init */
    int64_t grid[4]; /* chunks along each axis */
    size_t n_chunks;
    size_t item_bytes;
    size_t chunk_bytes; /* decoded */
    uint8_t fill_byte;  /* every byte of the fill value: 0 for 0, 0xff for -1 */
};

struct vx_shard_entry {
    uint64_t offset, nbytes; /* nbytes = VX_SHARD_MISSING: only fill values */
};
#define VX_SHARD_MISSING UINT64_MAX

struct vx_shard_file {
    uint64_t bytes;
    uint32_t crc32c; /* of the whole file; says nothing about what is in it, see payload_crc32c */
    /* Of the blosc buffers and the index, without the CRC-32C that follows each: a CRC over data
     * and its own CRC is the same for all data of that length. 0 with has_payload false in the
     * stores of earlier versions. */
    uint32_t payload_crc32c;
    bool has_payload;
};

/* A coded chunk that is known to hold one value throughout. */
struct vx_shard_constant {
    size_t chunk_bytes, item_bytes; /* of the array it was met in; 0: no entry */
    size_t nbytes;
    uint8_t value[4];
    uint8_t coded[1024];
};

/* Buffers that grow to what the largest chunk needs; zero to begin. */
struct vx_shard_scratch {
    void *coded, *decoded;
    size_t coded_bytes, decoded_bytes;
    /* Air and background make up half of most volumes, and equal chunks are coded equally: what was
     * decoded once is told by comparing a few hundred bytes. The newest take the place of the
     * oldest. */
    struct vx_shard_constant constant[4];
    unsigned next_constant;
};
void vx_shard_scratch_release(struct vx_shard_scratch *s);

/* Checks type, rank, shape and chunk (1 <= chunk; sizes whose products stay far from overflow) and
 * derives the rest. Axes of length 0 are allowed (an array without elements has no file). */
int vx_shard_init(struct vx_shard *s, enum vx_shard_type type, int rank, const int64_t shape[4],
                  const int64_t chunk[4], struct vx_err *err);
/* Sets the codec that suits data (as for vx_shard_write): the one that makes the chunk in the
 * middle smaller. A function of the data alone. */
int vx_shard_choose_codec(struct vx_shard *s, const void *data, struct vx_err *err);
/* The array's zarr.json; new reference, NULL when out of memory. */
json_t *vx_shard_metadata(const struct vx_shard *s);
/* "c/0/0/0/0" with as many zeros as axes, the shard's path below the array's folder. */
const char *vx_shard_path(const struct vx_shard *s);

/* Codes data (dense, C order) into a new file at path; not synced. */
int vx_shard_write(const struct vx_shard *s, const void *data, const char *path,
                   struct vx_shard_file *ret, struct vx_err *err);
/* Reads and checks the index of a file of file_bytes bytes into entries[n_chunks]. */
int vx_shard_read_index(const struct vx_shard *s, int fd, uint64_t file_bytes,
                        struct vx_shard_entry *entries, struct vx_err *err);
/* Reads every byte of the file and compares: all chunks lie one after another, each with its own
 * CRC-32C, and together they are what was written. VX_E_CORRUPT where not. */
int vx_shard_verify(const struct vx_shard *s, const struct vx_shard_entry *entries, int fd,
                    const struct vx_shard_file *file, struct vx_shard_scratch *scratch,
                    struct vx_err *err);
/* Copies the box [lo, hi) into dst with strides (elements) of axes 0 to 2; outside the array: the
 * fill value. Chunks outside the region (NULL: there are none) are left as dst has them. */
int vx_shard_read_box(const struct vx_shard *s, const struct vx_shard_entry *entries, int fd,
                      const int64_t lo[4], const int64_t hi[4],
                      const struct vx_cache_region *region, void *dst, const int64_t stride[3],
                      struct vx_shard_scratch *scratch, struct vx_cache_counters *counters,
                      struct vx_err *err);
/* The same box out of the decoded array (dense, C order), which must have elements. */
void vx_shard_copy_box(const struct vx_shard *s, const void *array, const int64_t lo[4],
                       const int64_t hi[4], void *dst, const int64_t stride[3]);

#endif
