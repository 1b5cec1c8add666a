/* Arrays into shards: which codec suits an array, and the chunks one after another. */
#include "cache/codec/crc32c.h"
#include "cache/codec/planes.h"
#include "cache/shard/shard.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <blosc.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { CRC_BYTES = 4, AGAIN_LEVEL = 3 };

/* The measurements behind these are in README.md. */
const struct vx_shard_codec vx_shard_codec_smooth = {BLOSC_LZ4_COMPNAME, 5, BLOSC_SHUFFLE, 4.0 / 3};
const struct vx_shard_codec vx_shard_codec_steps = {BLOSC_LZ4HC_COMPNAME, 1, BLOSC_NOSHUFFLE, 0};

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

/* Bytes of the coded chunk, or a negative number. */
static int encode(const struct vx_shard *s, const struct vx_shard_codec *c, const char *chunk,
                  char *coded) {
    size_t block = strcmp(c->name, BLOSC_ZSTD_COMPNAME) == 0 ? s->chunk_bytes : 0;
    return blosc_compress_ctx(c->level, c->shuffle, s->item_bytes, s->chunk_bytes, chunk, coded,
                              s->chunk_bytes + BLOSC_MAX_OVERHEAD, c->name, block, 1);
}

int vx_shard_choose_codec(struct vx_shard *s, const void *data, struct vx_err *err) {
    if (s->n_chunks == 0) {
        return VX_OK;
    }
    vx_auto_free char *chunk = malloc(s->chunk_bytes);
    vx_auto_free char *coded = malloc(s->chunk_bytes + BLOSC_MAX_OVERHEAD);
    if (!chunk || !coded) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a chunk of %zu bytes", s->chunk_bytes);
    }
    int64_t middle[4];
    for (int a = 0; a < 4; a++) {
        middle[a] = s->grid[a] / 2;
    }
    gather_chunk(s, data, middle, chunk);
    struct vx_shard_codec trial = {BLOSC_LZ4_COMPNAME, 5, BLOSC_NOSHUFFLE, 0};
    int plain = encode(s, &trial, chunk, coded);
    trial.shuffle = BLOSC_SHUFFLE;
    int shuffled = encode(s, &trial, chunk, coded);
    s->codec = plain <= shuffled ? vx_shard_codec_steps : vx_shard_codec_smooth;
    return VX_OK;
}

struct writer {
    const struct vx_shard *s;
    int fd;
    const char *path;
    char *chunk, *coded; /* owned by the caller, like room and entries */
    uint8_t *room;       /* for coding again; more than a coded chunk takes */
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

/* w->coded holds n bytes; plane by plane where values have planes, else as a whole: bytes. */
static int code_again(struct writer *w, int n) {
    const struct vx_shard *s = w->s;
    if (s->item_bytes == 4) {
        return (int)vx_planes_squeeze((uint8_t *)w->coded, (size_t)n, s->chunk_bytes / 4,
                                      s->codec.again_from, AGAIN_LEVEL, w->room);
    }
    if ((double)s->chunk_bytes < s->codec.again_from * (double)n) {
        return n;
    }
    struct vx_shard_codec slower = {BLOSC_LZ4HC_COMPNAME, AGAIN_LEVEL, s->codec.shuffle, 0};
    int m = encode(s, &slower, w->chunk, (char *)w->room);
    if (m <= 0 || m >= n) {
        return n;
    }
    memcpy(w->coded, w->room, (size_t)m);
    return m;
}

/* Codes w->chunk into w->coded: bytes, or a negative number. A chunk of one value costs LZ4 a byte
 * for 255 of it, and Zstandard a few dozen. */
static int code_chunk(struct writer *w) {
    static const struct vx_shard_codec constant = {BLOSC_ZSTD_COMPNAME, 1, BLOSC_NOSHUFFLE, 0};
    const struct vx_shard *s = w->s;
    if (memcmp(w->chunk, w->chunk + s->item_bytes, s->chunk_bytes - s->item_bytes) == 0) {
        return encode(s, &constant, w->chunk, w->coded);
    }
    int n = encode(s, &s->codec, w->chunk, w->coded);
    return s->codec.again_from > 0 && n > 0 ? code_again(w, n) : n;
}

static int write_chunk(struct writer *w, const char *data, size_t index, const int64_t g[4],
                       struct vx_err *err) {
    const struct vx_shard *s = w->s;
    gather_chunk(s, data, g, w->chunk);
    if (only_fill(s, w->chunk)) {
        w->entries[index] = (struct vx_shard_entry){VX_SHARD_MISSING, VX_SHARD_MISSING};
        return VX_OK;
    }
    int n = code_chunk(w);
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
    vx_auto_free uint8_t *room = malloc(vx_planes_room(s->chunk_bytes / 4 + 1));
    /* one more for the index's checksum */
    vx_auto_free struct vx_shard_entry *entries = calloc(s->n_chunks + 1, sizeof *entries);
    if (!chunk || !coded || !room || !entries) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to write %s", path);
    }
    vx_auto_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot write %s", path);
    }
    struct writer w = {s, fd, path, chunk, coded, room, entries, {.has_payload = true}};
    int rc = write_all_chunks(&w, data, err);
    if (rc == VX_OK) {
        *ret = w.file;
    }
    return rc;
}
