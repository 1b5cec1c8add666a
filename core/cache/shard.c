#include "cache/shard.h"
#include "cache/cache.h"
#include "cache/crc32c.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <blosc.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the cache writes native words as little endian"
#endif

/* Lossless, and about as fast to decode as memory is to read; a choice to be measured, not a
 * format. */
enum { CODEC_LEVEL = 5, CRC_BYTES = 4 };
#define CODEC_NAME BLOSC_LZ4_COMPNAME

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
    json_t *fill = s->type == VX_SHARD_FLOAT32 ? json_real(0) : json_integer(s->fill_byte ? -1 : 0);
    json_t *inner =
        json_pack("[{s:s,s:{s:s}},{s:s,s:{s:s,s:i,s:s,s:i,s:i}},{s:s}]", "name", "bytes",
                  "configuration", "endian", "little", "name", "blosc", "configuration", "cname",
                  CODEC_NAME, "clevel", CODEC_LEVEL, "shuffle", "shuffle", "typesize",
                  (int)s->item_bytes, "blocksize", 0, "name", "crc32c");
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

/* Gathers chunk (g0..g3) into out, padded with the fill value beyond the array. */
static void gather_chunk(const struct vx_shard *s, const char *data, const int64_t g[4],
                         char *out) {
    int64_t lo[4], n[4];
    bool whole = true;
    for (int a = 0; a < 4; a++) {
        lo[a] = g[a] * s->chunk[a];
        n[a] = s->shape[a] - lo[a] < s->chunk[a] ? s->shape[a] - lo[a] : s->chunk[a];
        whole = whole && n[a] == s->chunk[a];
    }
    if (!whole) {
        memset(out, s->fill_byte, s->chunk_bytes);
    }
    for (int64_t i = 0; i < n[0]; i++) {
        for (int64_t j = 0; j < n[1]; j++) {
            for (int64_t k = 0; k < n[2]; k++) {
                int64_t from = (((lo[0] + i) * s->shape[1] + lo[1] + j) * s->shape[2] + lo[2] + k) *
                                   s->shape[3] +
                               lo[3];
                int64_t to = ((i * s->chunk[1] + j) * s->chunk[2] + k) * s->chunk[3];
                memcpy(out + (size_t)to * s->item_bytes, data + (size_t)from * s->item_bytes,
                       (size_t)n[3] * s->item_bytes);
            }
        }
    }
}

static bool only_fill(const struct vx_shard *s, const char *chunk) {
    return (uint8_t)chunk[0] == s->fill_byte && memcmp(chunk, chunk + 1, s->chunk_bytes - 1) == 0;
}

struct writer {
    const struct vx_shard *s;
    int fd;
    const char *path;
    char *chunk, *coded;
    struct vx_shard_entry *entries;
    struct vx_shard_file file;
};

/* data ends with a CRC-32C of the rest, which is no payload. */
static int append(struct writer *w, const void *data, size_t len, struct vx_err *err) {
    int rc = vx_write_all(w->fd, data, len, err);
    if (rc != VX_OK) {
        vx_err_at(err, "%s", w->path);
        return rc;
    }
    w->file.crc32c = vx_crc32c(w->file.crc32c, data, len);
    w->file.payload_crc32c = vx_crc32c(w->file.payload_crc32c, data, len - CRC_BYTES);
    w->file.bytes += len;
    return VX_OK;
}

static int write_chunk(struct writer *w, const char *data, size_t index, const int64_t g[4],
                       struct vx_err *err) {
    const struct vx_shard *s = w->s;
    gather_chunk(s, data, g, w->chunk);
    if (only_fill(s, w->chunk)) {
        w->entries[index] = (struct vx_shard_entry){VX_SHARD_MISSING, VX_SHARD_MISSING};
        return VX_OK;
    }
    int n = blosc_compress_ctx(CODEC_LEVEL, BLOSC_SHUFFLE, s->item_bytes, s->chunk_bytes, w->chunk,
                               w->coded, s->chunk_bytes + BLOSC_MAX_OVERHEAD, CODEC_NAME, 0, 1);
    if (n <= 0) {
        return vx_fail(err, VX_E_INTERNAL, "codec", "blosc answered %d for a chunk of %zu bytes", n,
                       s->chunk_bytes);
    }
    uint32_t crc = vx_crc32c(0, w->coded, (size_t)n);
    memcpy(w->coded + n, &crc, CRC_BYTES);
    w->entries[index] = (struct vx_shard_entry){w->file.bytes, (uint64_t)n + CRC_BYTES};
    return append(w, w->coded, (size_t)n + CRC_BYTES, err);
}

static int write_all_chunks(struct writer *w, const void *data, struct vx_err *err) {
    const struct vx_shard *s = w->s;
    size_t index = 0;
    int64_t g[4];
    for (g[0] = 0; g[0] < s->grid[0]; g[0]++) {
        for (g[1] = 0; g[1] < s->grid[1]; g[1]++) {
            for (g[2] = 0; g[2] < s->grid[2]; g[2]++) {
                for (g[3] = 0; g[3] < s->grid[3]; g[3]++) {
                    int rc = write_chunk(w, data, index++, g, err);
                    if (rc != VX_OK) {
                        return rc;
                    }
                }
            }
        }
    }
    size_t index_bytes = s->n_chunks * sizeof *w->entries;
    uint32_t crc = vx_crc32c(0, w->entries, index_bytes);
    memcpy((char *)w->entries + index_bytes, &crc, CRC_BYTES);
    return append(w, w->entries, index_bytes + CRC_BYTES, err);
}

int vx_shard_write(const struct vx_shard *s, const void *data, const char *path,
                   struct vx_shard_file *ret, struct vx_err *err) {
    vx_auto_free char *chunk = malloc(s->chunk_bytes);
    vx_auto_free char *coded = malloc(s->chunk_bytes + BLOSC_MAX_OVERHEAD + CRC_BYTES);
    /* one more for the index's checksum */
    vx_auto_free struct vx_shard_entry *entries = calloc(s->n_chunks + 1, sizeof *entries);
    if (!chunk || !coded || !entries) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to write %s", path);
    }
    vx_auto_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot write %s", path);
    }
    struct writer w = {s, fd, path, chunk, coded, entries, {.has_payload = true}};
    int rc = write_all_chunks(&w, data, err);
    if (rc == VX_OK) {
        *ret = w.file;
    }
    return rc;
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
