/* Boxes out of a shard. The chunks of a row of the grid lie next to each other in the file, so
 * neighbours are fetched with one read call and decoded one by one. */
#include "cache/cache.h"
#include "cache/codec/crc32c.h"
#include "cache/codec/planes.h"
#include "cache/shard/shard.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <blosc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

_Static_assert(sizeof(wchar_t) == 4, "wmemset repeats 32-bit values");

enum { CRC_BYTES = 4, MAX_RUN = 256 };
/* Bytes fetched with one read call where several chunks adjoin. */
#define RUN_BYTES ((size_t)1 << 20)

struct box_reader {
    const struct vx_shard *s;
    int fd;
    int64_t lo[4], hi[4]; /* the wanted box; may reach over the array */
    char *dst;
    int64_t stride[4];
    const struct vx_cache_region *region; /* NULL: all of the box */
    struct vx_shard_scratch *scratch;
    struct vx_cache_counters *counters;
    /* chunks that adjoin in the file and wait to be fetched */
    size_t n_run;
    uint64_t run_offset, run_bytes;
    struct {
        int64_t g[4];
        uint64_t nbytes;
    } run[MAX_RUN];
};

static int grow(void **buffer, size_t *size, size_t wanted, struct vx_err *err) {
    if (*size >= wanted) {
        return VX_OK;
    }
    void *p = realloc(*buffer, wanted);
    if (!p) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a read buffer of %zu bytes", wanted);
    }
    *buffer = p;
    *size = wanted;
    return VX_OK;
}

/* Part of chunk g that lies in the box and in the array; false where there is none. */
static bool overlap(const struct box_reader *r, const int64_t g[4], int64_t lo[4], int64_t hi[4]) {
    for (int a = 0; a < 4; a++) {
        int64_t begin = g[a] * r->s->chunk[a], end = begin + r->s->chunk[a];
        end = end < r->s->shape[a] ? end : r->s->shape[a];
        lo[a] = begin > r->lo[a] ? begin : r->lo[a];
        hi[a] = end < r->hi[a] ? end : r->hi[a];
        if (lo[a] >= hi[a]) {
            return false;
        }
    }
    return true;
}

/* n items of the value at out. */
static void repeat(char *out, const uint8_t value[4], size_t item_bytes, size_t n) {
    if (memcmp(value, value + 1, item_bytes - 1) == 0) {
        memset(out, value[0], n * item_bytes);
    } else if (item_bytes == sizeof(wchar_t)) {
        wchar_t v;
        memcpy(&v, value, sizeof v);
        wmemset((wchar_t *)out, v, n);
    } else {
        for (size_t i = 0; i < n; i++) {
            memcpy(out + i * sizeof(uint16_t), value, sizeof(uint16_t));
        }
    }
}

/* Where a chunk's voxels come from: one of these. */
struct chunk_source {
    const char *dense; /* the decoded chunk */
    const struct vx_planes *planes;
    const uint8_t *value; /* all voxels have it */
};

/* Copies what the box wants of chunk g, row by row. */
static void scatter_chunk(struct box_reader *r, const int64_t g[4], struct chunk_source from) {
    const struct vx_shard *s = r->s;
    int64_t lo[4], hi[4];
    if (!overlap(r, g, lo, hi)) {
        return;
    }
    size_t items = (size_t)(hi[3] - lo[3]), row = items * s->item_bytes;
    for (int64_t i = lo[0]; i < hi[0]; i++) {
        for (int64_t j = lo[1]; j < hi[1]; j++) {
            for (int64_t k = lo[2]; k < hi[2]; k++) {
                int64_t to = (i - r->lo[0]) * r->stride[0] + (j - r->lo[1]) * r->stride[1] +
                             (k - r->lo[2]) * r->stride[2] + lo[3] - r->lo[3];
                char *out = r->dst + to * (int64_t)s->item_bytes;
                size_t at =
                    (size_t)((((i - g[0] * s->chunk[0]) * s->chunk[1] + j - g[1] * s->chunk[1]) *
                                  s->chunk[2] +
                              k - g[2] * s->chunk[2]) *
                                 s->chunk[3] +
                             lo[3] - g[3] * s->chunk[3]);
                if (from.value) {
                    repeat(out, from.value, s->item_bytes, items);
                } else if (from.planes) {
                    vx_planes_row(from.planes, at, items, out);
                } else {
                    memcpy(out, from.dense + at * s->item_bytes, row);
                }
            }
        }
    }
}

/* The blosc buffer is as it was written, and declares what belongs. */
static int check(const struct vx_shard *s, const char *coded, size_t nbytes, struct vx_err *err) {
    size_t blosc_bytes = nbytes - CRC_BYTES, declared = 0;
    uint32_t stored;
    memcpy(&stored, coded + blosc_bytes, CRC_BYTES);
    if (vx_crc32c(0, coded, blosc_bytes) != stored) {
        return vx_fail(err, VX_E_CORRUPT, "chunk_checksum", "a chunk fails its checksum");
    }
    if (blosc_cbuffer_validate(coded, blosc_bytes, &declared) < 0 || declared != s->chunk_bytes) {
        return vx_fail(err, VX_E_CORRUPT, "chunk_size",
                       "a chunk declares %zu decoded bytes where %zu belong", declared,
                       s->chunk_bytes);
    }
    return VX_OK;
}

static int decode(const struct vx_shard *s, const char *coded, void *out, struct vx_err *err) {
    int n = blosc_decompress_ctx(coded, out, s->chunk_bytes, 1);
    if (n < 0 || (size_t)n != s->chunk_bytes) {
        return vx_fail(err, VX_E_CORRUPT, "chunk_codec", "blosc cannot decode a chunk (%d)", n);
    }
    return VX_OK;
}

/* The value of a chunk that was met before and holds nothing else; NULL: not known. The bytes
 * compared include the chunk's CRC-32C, so nothing is left to check. */
static const uint8_t *known_constant(const struct vx_shard *s,
                                     const struct vx_shard_scratch *scratch, const char *coded,
                                     size_t nbytes) {
    for (size_t i = 0; i < VX_COUNTOF(scratch->constant); i++) {
        const struct vx_shard_constant *c = &scratch->constant[i];
        if (c->nbytes == nbytes && c->chunk_bytes == s->chunk_bytes &&
            c->item_bytes == s->item_bytes && memcmp(c->coded, coded, nbytes) == 0) {
            return c->value;
        }
    }
    return NULL;
}

static void learn_constant(const struct vx_shard *s, struct vx_shard_scratch *scratch,
                           const char *coded, size_t nbytes) {
    const char *chunk = scratch->decoded;
    if (nbytes > sizeof scratch->constant->coded ||
        memcmp(chunk, chunk + s->item_bytes, s->chunk_bytes - s->item_bytes) != 0) {
        return;
    }
    struct vx_shard_constant *c =
        &scratch->constant[scratch->next_constant++ % VX_COUNTOF(scratch->constant)];
    c->chunk_bytes = s->chunk_bytes;
    c->item_bytes = s->item_bytes;
    c->nbytes = nbytes;
    memcpy(c->value, chunk, s->item_bytes);
    memcpy(c->coded, coded, nbytes);
}

/* One chunk that was read, into the box. */
static int deliver(struct box_reader *r, const int64_t g[4], const char *coded, size_t nbytes,
                   struct vx_err *err) {
    struct vx_shard_scratch *scratch = r->scratch;
    const uint8_t *value = known_constant(r->s, scratch, coded, nbytes);
    if (value) {
        scatter_chunk(r, g, (struct chunk_source){.value = value});
        return VX_OK;
    }
    int rc = check(r->s, coded, nbytes, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_planes planes;
    int opened = r->s->item_bytes == 4
                     ? vx_planes_open((const uint8_t *)coded, nbytes - CRC_BYTES,
                                      r->s->chunk_bytes / 4, scratch->decoded, &planes)
                     : 0;
    if (opened > 0) {
        scatter_chunk(r, g, (struct chunk_source){.planes = &planes});
        return VX_OK;
    }
    rc = opened < 0 ? vx_fail(err, VX_E_CORRUPT, "chunk_codec", "a chunk's bytes do not fit")
                    : decode(r->s, coded, scratch->decoded, err);
    if (rc == VX_OK) {
        learn_constant(r->s, scratch, coded, nbytes);
        scatter_chunk(r, g, (struct chunk_source){.dense = scratch->decoded});
    }
    return rc;
}

static int flush_run(struct box_reader *r, struct vx_err *err) {
    if (r->n_run == 0) {
        return VX_OK;
    }
    struct vx_shard_scratch *scratch = r->scratch;
    int rc = grow(&scratch->coded, &scratch->coded_bytes, (size_t)r->run_bytes, err);
    if (rc != VX_OK) {
        return rc;
    }
    uint64_t t0 = vx_now_ns();
    rc = vx_pread_all(r->fd, scratch->coded, (size_t)r->run_bytes, (off_t)r->run_offset, err);
    uint64_t t1 = vx_now_ns();
    const char *coded = scratch->coded;
    for (size_t i = 0; i < r->n_run && rc == VX_OK; i++) {
        rc = deliver(r, r->run[i].g, coded, (size_t)r->run[i].nbytes, err);
        coded += r->run[i].nbytes;
    }
    struct vx_cache_counters *c = r->counters;
    c->read_ns += t1 - t0;
    c->decompress_ns += vx_now_ns() - t1;
    c->reads++;
    c->chunks += r->n_run;
    c->bytes_read += r->run_bytes;
    c->bytes_decoded += r->n_run * r->s->chunk_bytes;
    r->n_run = 0;
    r->run_bytes = 0;
    return rc;
}

/* Whether nobody looks at chunk g: along one direction of the region all of it lies beyond. */
static bool unwanted(const struct box_reader *r, const int64_t g[4]) {
    int64_t lo[4], hi[4];
    if (!r->region || !overlap(r, g, lo, hi)) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        const double *row = r->region->row[i];
        double middle = 0, reach = r->region->half[i];
        for (int a = 0; a < 3; a++) {
            middle += row[a] * ((double)(lo[a + 1] + hi[a + 1] - 1) / 2 - r->region->centre[a]);
            reach += fabs(row[a]) * (double)(hi[a + 1] - 1 - lo[a + 1]) / 2;
        }
        if (fabs(middle) > reach) {
            return true;
        }
    }
    return false;
}

static int add_chunk(struct box_reader *r, const struct vx_shard_entry *e, const int64_t g[4],
                     struct vx_err *err) {
    if (unwanted(r, g)) {
        return VX_OK;
    }
    if (e->nbytes == VX_SHARD_MISSING) {
        const uint8_t fill = r->s->fill_byte, value[4] = {fill, fill, fill, fill};
        scatter_chunk(r, g, (struct chunk_source){.value = value});
        return VX_OK;
    }
    if (r->n_run > 0 && (r->n_run == MAX_RUN || r->run_offset + r->run_bytes != e->offset ||
                         r->run_bytes + e->nbytes > RUN_BYTES)) {
        int rc = flush_run(r, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    if (r->n_run == 0) {
        r->run_offset = e->offset;
    }
    memcpy(r->run[r->n_run].g, g, sizeof r->run[0].g);
    r->run[r->n_run++].nbytes = e->nbytes;
    r->run_bytes += e->nbytes;
    return VX_OK;
}

/* The fill value where the box lies outside the array; the rest is left to the chunks. */
static void fill_outside(struct box_reader *r) {
    const size_t item = r->s->item_bytes;
    int64_t n[4], from[4], to[4]; /* of the box, and its part inside the array */
    for (int a = 0; a < 4; a++) {
        n[a] = r->hi[a] - r->lo[a];
        from[a] = r->lo[a] < 0 ? -r->lo[a] : 0;
        to[a] = r->s->shape[a] < r->hi[a] ? r->s->shape[a] - r->lo[a] : n[a];
        from[a] = from[a] < n[a] ? from[a] : n[a];
        to[a] = to[a] > from[a] ? to[a] : from[a];
    }
    for (int64_t i = 0; i < n[0]; i++) {
        for (int64_t j = 0; j < n[1]; j++) {
            for (int64_t k = 0; k < n[2]; k++) {
                char *row = r->dst + (i * r->stride[0] + j * r->stride[1] + k * r->stride[2]) *
                                         (int64_t)item;
                bool crosses = i >= from[0] && i < to[0] && j >= from[1] && j < to[1] &&
                               k >= from[2] && k < to[2];
                int64_t left = crosses ? from[3] : n[3], right = crosses ? to[3] : n[3];
                memset(row, r->s->fill_byte, (size_t)left * item);
                memset(row + right * (int64_t)item, r->s->fill_byte, (size_t)(n[3] - right) * item);
            }
        }
    }
}

static int read_chunks(struct box_reader *r, const struct vx_shard_entry *entries,
                       const int64_t first[4], const int64_t last[4], struct vx_err *err) {
    const struct vx_shard *s = r->s;
    int64_t g[4];
    for (g[0] = first[0]; g[0] < last[0]; g[0]++) {
        for (g[1] = first[1]; g[1] < last[1]; g[1]++) {
            for (g[2] = first[2]; g[2] < last[2]; g[2]++) {
                for (g[3] = first[3]; g[3] < last[3]; g[3]++) {
                    int64_t i =
                        ((g[0] * s->grid[1] + g[1]) * s->grid[2] + g[2]) * s->grid[3] + g[3];
                    int rc = add_chunk(r, &entries[i], g, err);
                    if (rc != VX_OK) {
                        return rc;
                    }
                }
            }
        }
    }
    return flush_run(r, err);
}

/* Where the box lies in the array. False where it touches none of it; what lies outside is filled
 * either way. */
static bool set_box(struct box_reader *r, const int64_t lo[4], const int64_t hi[4],
                    const int64_t stride[3], int64_t first[4], int64_t last[4]) {
    const struct vx_shard *s = r->s;
    bool inside = true, touches = true;
    for (int a = 0; a < 4; a++) {
        int64_t from = lo[a] > 0 ? lo[a] : 0, to = hi[a] < s->shape[a] ? hi[a] : s->shape[a];
        inside = inside && from == lo[a] && to == hi[a];
        touches = touches && from < to;
        first[a] = from / s->chunk[a];
        last[a] = (to + s->chunk[a] - 1) / s->chunk[a];
        r->lo[a] = lo[a];
        r->hi[a] = hi[a];
        r->stride[a] = a < 3 ? stride[a] : 1;
    }
    if (!inside) {
        fill_outside(r);
    }
    return touches;
}

int vx_shard_read_box(const struct vx_shard *s, const struct vx_shard_entry *entries, int fd,
                      const int64_t lo[4], const int64_t hi[4],
                      const struct vx_cache_region *region, void *dst, const int64_t stride[3],
                      struct vx_shard_scratch *scratch, struct vx_cache_counters *counters,
                      struct vx_err *err) {
    struct box_reader r = {
        .s = s, .fd = fd, .dst = dst, .region = region, .scratch = scratch, .counters = counters};
    int64_t first[4], last[4];
    if (!set_box(&r, lo, hi, stride, first, last)) {
        return VX_OK;
    }
    int rc = grow(&scratch->decoded, &scratch->decoded_bytes,
                  vx_planes_room(s->chunk_bytes / 4 + 1), err);
    return rc == VX_OK ? read_chunks(&r, entries, first, last, err) : rc;
}

void vx_shard_copy_box(const struct vx_shard *s, const void *array, const int64_t lo[4],
                       const int64_t hi[4], void *dst, const int64_t stride[3]) {
    struct vx_shard whole = *s; /* the array as one chunk of its own shape */
    memcpy(whole.chunk, s->shape, sizeof whole.chunk);
    struct box_reader r = {.s = &whole, .dst = dst};
    const int64_t only[4] = {0, 0, 0, 0};
    int64_t first[4], last[4];
    if (set_box(&r, lo, hi, stride, first, last)) {
        scatter_chunk(&r, only, (struct chunk_source){.dense = array});
    }
}

/* One stored chunk: where the one before ended, with a checksum that fits. */
static int verify_chunk(const struct vx_shard_entry *e, int fd, uint64_t at, uint32_t *payload,
                        struct vx_shard_scratch *scratch, struct vx_err *err) {
    if (e->offset != at) {
        return vx_fail(err, VX_E_CORRUPT, "file_checksum", "the chunks do not follow each other");
    }
    int rc = grow(&scratch->coded, &scratch->coded_bytes, (size_t)e->nbytes, err);
    if (rc == VX_OK) {
        rc = vx_pread_all(fd, scratch->coded, (size_t)e->nbytes, (off_t)at, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    size_t bytes = (size_t)e->nbytes - CRC_BYTES;
    uint32_t stored;
    memcpy(&stored, (const char *)scratch->coded + bytes, CRC_BYTES);
    if (vx_crc32c(0, scratch->coded, bytes) != stored) {
        return vx_fail(err, VX_E_CORRUPT, "chunk_checksum", "a chunk fails its checksum");
    }
    *payload = vx_crc32c(*payload, scratch->coded, bytes);
    return VX_OK;
}

int vx_shard_verify(const struct vx_shard *s, const struct vx_shard_entry *entries, int fd,
                    const struct vx_shard_file *file, struct vx_shard_scratch *scratch,
                    struct vx_err *err) {
    uint64_t at = 0;
    uint32_t payload = 0;
    int rc = VX_OK;
    for (size_t i = 0; rc == VX_OK && i < s->n_chunks; i++) {
        if (entries[i].nbytes != VX_SHARD_MISSING) {
            rc = verify_chunk(&entries[i], fd, at, &payload, scratch, err);
            at += entries[i].nbytes;
        }
    }
    size_t index_bytes = s->n_chunks * sizeof *entries;
    payload = vx_crc32c(payload, entries, index_bytes);
    if (rc == VX_OK && (at + index_bytes + CRC_BYTES != file->bytes ||
                        (file->has_payload && payload != file->payload_crc32c))) {
        rc = vx_fail(err, VX_E_CORRUPT, "file_checksum", "the file fails its checksum");
    }
    return rc;
}
