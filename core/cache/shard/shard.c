#include "cache/shard/shard.h"
#include "cache/cache.h"
#include "cache/codec/crc32c.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <blosc.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the cache writes native words as little endian"
#endif

enum { CRC_BYTES = 4 };

/* A decoded chunk is one scratch buffer of each reader, and c-blosc takes buffers below 2 GiB. */
#define MAX_CHUNK_BYTES ((size_t)64 << 20)
#define MAX_CHUNKS      ((size_t)1 << 24)
#define MAX_LENGTH                                                                                 \
    ((int64_t)1 << 32) /* along one axis; the products stay below 2^63 by MAX_ITEMS */
#define MAX_ITEMS ((double)((int64_t)1 << 50))

void vx_shard_scratch_release(struct vx_shard_scratch *s) {
    free(s->coded);
    free(s->decoded);
    memset(s, 0, sizeof *s);
}

int vx_shard_init(struct vx_shard *s, enum vx_shard_type type, int rank, const int64_t shape[4],
                  const int64_t chunk[4], struct vx_err *err) {
    static const size_t item_bytes[] = {
        [VX_SHARD_FLOAT32] = 4, [VX_SHARD_INT16] = 2, [VX_SHARD_INT32] = 4};
    memset(s, 0, sizeof *s);
    s->type = type;
    s->codec = vx_shard_codec_smooth;
    s->rank = rank;
    s->item_bytes = item_bytes[type];
    s->fill_byte = type == VX_SHARD_INT16 ? 0xff : 0;
    double items = 1, chunk_bytes = (double)s->item_bytes, n_chunks = 1;
    for (int a = 0; a < 4; a++) {
        if (shape[a] < 0 || shape[a] > MAX_LENGTH || chunk[a] < 1 || chunk[a] > MAX_LENGTH) {
            return vx_fail(err, VX_E_INVALID, "bad_array_shape",
                           "axis %d has %lld elements in chunks of %lld", a, (long long)shape[a],
                           (long long)chunk[a]);
        }
        s->shape[a] = shape[a];
        s->chunk[a] = chunk[a];
        s->grid[a] = (shape[a] + chunk[a] - 1) / chunk[a];
        items *= (double)shape[a];
        chunk_bytes *= (double)chunk[a];
        n_chunks *= (double)s->grid[a];
    }
    if (items > MAX_ITEMS || chunk_bytes > (double)MAX_CHUNK_BYTES ||
        n_chunks > (double)MAX_CHUNKS) {
        return vx_fail(err, VX_E_LIMIT, "bad_array_shape",
                       "an array of %.0f elements in %.0f chunks of %.0f bytes is too large", items,
                       n_chunks, chunk_bytes);
    }
    s->n_chunks = (size_t)n_chunks;
    s->chunk_bytes = (size_t)chunk_bytes;
    return VX_OK;
}

static json_t *axes_json(const struct vx_shard *s, const int64_t *lengths, bool round_up) {
    json_t *list = json_array();
    for (int a = 4 - s->rank; a < 4; a++) {
        int64_t n = lengths[a];
        if (round_up) {
            n = (s->grid[a] > 0 ? s->grid[a] : 1) * s->chunk[a];
        }
        json_array_append_new(list, json_integer(n));
    }
    return list;
}

json_t *vx_shard_metadata(const struct vx_shard *s) {
    static const char *const type_names[] = {
        [VX_SHARD_FLOAT32] = "float32", [VX_SHARD_INT16] = "int16", [VX_SHARD_INT32] = "int32"};
    static const char *const shuffles[] = {"noshuffle", "shuffle", "bitshuffle"};
    json_t *fill = s->type == VX_SHARD_FLOAT32 ? json_real(0) : json_integer(s->fill_byte ? -1 : 0);
    json_t *inner =
        json_pack("[{s:s,s:{s:s}},{s:s,s:{s:s,s:i,s:s,s:i,s:i}},{s:s}]", "name", "bytes",
                  "configuration", "endian", "little", "name", "blosc", "configuration", "cname",
                  s->codec.name, "clevel", s->codec.level, "shuffle", shuffles[s->codec.shuffle],
                  "typesize", (int)s->item_bytes, "blocksize", 0, "name", "crc32c");
    json_t *index = json_pack("[{s:s,s:{s:s}},{s:s}]", "name", "bytes", "configuration", "endian",
                              "little", "name", "crc32c");
    return json_pack(
        "{s:i,s:s,s:o,s:s,s:{s:s,s:{s:o}},s:{s:s,s:{s:s}},s:o,s:[{s:s,s:{s:o,s:o,s:o,s:s}}],s:{}}",
        "zarr_format", 3, "node_type", "array", "shape", axes_json(s, s->shape, false), "data_type",
        type_names[s->type], "chunk_grid", "name", "regular", "configuration", "chunk_shape",
        axes_json(s, s->shape, true), "chunk_key_encoding", "name", "default", "configuration",
        "separator", "/", "fill_value", fill, "codecs", "name", "sharding_indexed", "configuration",
        "chunk_shape", axes_json(s, s->chunk, false), "codecs", inner, "index_codecs", index,
        "index_location", "end", "attributes");
}

const char *vx_shard_path(const struct vx_shard *s) {
    static const char zeros[] = "c/0/0/0/0";
    static const char *const paths[] = {"c", "c/0", "c/0/0", "c/0/0/0", zeros};
    return paths[s->rank];
}

int vx_shard_read_index(const struct vx_shard *s, int fd, uint64_t file_bytes,
                        struct vx_shard_entry *entries, struct vx_err *err) {
    size_t index_bytes = s->n_chunks * sizeof *entries;
    if (file_bytes < index_bytes + CRC_BYTES) {
        return vx_fail(err, VX_E_CORRUPT, "truncated_file",
                       "the file has %llu bytes, its index alone needs %zu",
                       (unsigned long long)file_bytes, index_bytes + CRC_BYTES);
    }
    uint64_t data_end = file_bytes - index_bytes - CRC_BYTES;
    uint32_t stored = 0;
    int rc = vx_pread_all(fd, entries, index_bytes, (off_t)data_end, err);
    if (rc == VX_OK) {
        rc = vx_pread_all(fd, &stored, CRC_BYTES, (off_t)(file_bytes - CRC_BYTES), err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    if (vx_crc32c(0, entries, index_bytes) != stored) {
        return vx_fail(err, VX_E_CORRUPT, "index_checksum", "the shard's index fails its checksum");
    }
    for (size_t i = 0; i < s->n_chunks; i++) {
        const struct vx_shard_entry *e = &entries[i];
        if (e->offset == VX_SHARD_MISSING && e->nbytes == VX_SHARD_MISSING) {
            continue;
        }
        if (e->offset > data_end || e->nbytes > data_end - e->offset ||
            e->nbytes < BLOSC_MIN_HEADER_LENGTH + CRC_BYTES ||
            e->nbytes > s->chunk_bytes + BLOSC_MAX_OVERHEAD + CRC_BYTES) {
            return vx_fail(err, VX_E_CORRUPT, "index_out_of_bounds",
                           "chunk %zu is said to be %llu bytes at %llu of %llu", i,
                           (unsigned long long)e->nbytes, (unsigned long long)e->offset,
                           (unsigned long long)data_end);
        }
    }
    return VX_OK;
}
