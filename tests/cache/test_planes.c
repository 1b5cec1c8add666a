/* Chunks as byte planes: the same values as c-blosc gives, row by row, and no trust in lengths. */
#include "base/own.h"
#include "base/rng.h"
#include "cache/codec/planes.h"

#include <blosc.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES = 23 * 19 * 7 };

struct coded {
    float *values;
    uint8_t *bytes, *room;
    size_t n;
};

enum kind { SMOOTH, NOISE, ANY_BYTES };

static struct coded make(int shuffle, enum kind kind) {
    struct coded c = {.values = malloc(VALUES * sizeof(float)),
                      .bytes = malloc(VALUES * 4 + BLOSC_MAX_OVERHEAD),
                      .room = malloc(vx_planes_room(VALUES))};
    struct vx_rng r = vx_rng_at(3, 0, 0, 0, 907);
    for (size_t i = 0; i < VALUES; i++) {
        uint32_t any = vx_rng_u32(&r);
        float v = (float)(i / 400) + vx_rng_unit(&r);
        v = kind != NOISE ? v : any & 1 ? 1 + 3 * vx_rng_unit(&r) : -1 - 3 * vx_rng_unit(&r);
        memcpy(&c.values[i], kind == ANY_BYTES ? (void *)&any : (void *)&v, sizeof v);
    }
    int n = blosc_compress_ctx(5, shuffle, 4, VALUES * 4, c.values, c.bytes,
                               VALUES * 4 + BLOSC_MAX_OVERHEAD, "lz4", 0, 1);
    cr_assert_gt(n, 0);
    c.n = (size_t)n;
    return c;
}

static void drop(struct coded *c) {
    free(c->values);
    free(c->bytes);
    free(c->room);
}

Test(cache_planes, rows_are_the_values) {
    struct coded c = make(BLOSC_SHUFFLE, SMOOTH);
    struct vx_planes p;
    float row[80];
    cr_assert_eq(vx_planes_open(c.bytes, c.n, VALUES, c.room, &p), 1);
    int in_place = 0;
    for (int i = 0; i < 4; i++) {
        in_place += p.plane[i] >= c.bytes && p.plane[i] < c.bytes + c.n;
    }
    cr_assert(in_place >= 1 && in_place <= 3, "mantissas lie where they were read: %d", in_place);
    for (size_t n = 0; n <= 70; n++) {
        for (size_t at = 0; at + n <= VALUES; at += 1 + at % 61) {
            for (size_t i = 0; i < 80; i++) {
                row[i] = -5;
            }
            vx_planes_row(&p, at, n, row);
            cr_assert_eq(memcmp(row, c.values + at, n * sizeof *row), 0);
            cr_assert_eq(row[n], -5.0f, "nothing is written beyond the row");
        }
    }
    drop(&c);
}

/* Planes that lz4hc makes smaller are coded anew: c-blosc reads what comes out. */
Test(cache_planes, squeezed_chunks_hold_the_same_values) {
    struct coded c = make(BLOSC_SHUFFLE, NOISE);
    vx_auto_free float *values = malloc(VALUES * sizeof *values);
    size_t before = c.n, declared = 0;
    c.n = vx_planes_squeeze(c.bytes, c.n, VALUES, 4.0 / 3, 3, c.room);
    cr_assert_lt(c.n * 50, before * 49, "%zu bytes after %zu", c.n, before);
    cr_assert_eq(blosc_cbuffer_validate(c.bytes, c.n, &declared), 0);
    cr_assert_eq(declared, VALUES * sizeof *values);
    cr_assert_eq(blosc_decompress_ctx(c.bytes, values, VALUES * 4, 1), VALUES * 4);
    cr_assert_eq(memcmp(values, c.values, VALUES * 4), 0);
    struct vx_planes p;
    cr_assert_eq(vx_planes_open(c.bytes, c.n, VALUES, c.room, &p), 1);
    vx_planes_row(&p, 0, VALUES, values);
    cr_assert_eq(memcmp(values, c.values, VALUES * 4), 0);
    cr_assert_eq(vx_planes_squeeze(c.bytes, c.n, VALUES, 1e9, 3, c.room), c.n,
                 "none shrank so far");
    drop(&c);
    c = make(BLOSC_NOSHUFFLE, SMOOTH);
    cr_assert_eq(vx_planes_squeeze(c.bytes, c.n, VALUES, 1, 3, c.room), c.n, "no planes");
    drop(&c);
}

Test(cache_planes, other_ways_of_coding_are_left_to_blosc) {
    struct vx_planes p;
    struct coded plain = make(BLOSC_NOSHUFFLE, SMOOTH), bits = make(BLOSC_BITSHUFFLE, SMOOTH);
    struct coded copied = make(BLOSC_SHUFFLE, ANY_BYTES);
    cr_assert_eq(vx_planes_open(plain.bytes, plain.n, VALUES, plain.room, &p), 0);
    cr_assert_eq(vx_planes_open(bits.bytes, bits.n, VALUES, bits.room, &p), 0);
    cr_assert_eq(vx_planes_open(copied.bytes, copied.n, VALUES, copied.room, &p), 0);
    drop(&plain);
    drop(&bits);
    drop(&copied);
}

Test(cache_planes, lengths_that_cannot_be_are_refused) {
    static const uint32_t wrong[] = {0, VALUES + 1, 0x7fffffff, 0xffffffff};
    struct coded c = make(BLOSC_SHUFFLE, SMOOTH);
    struct vx_planes p;
    uint32_t first, at;
    memcpy(&first, c.bytes + 16, 4);
    for (size_t i = 0; i < 4; i++) {
        memcpy(c.bytes + first, &wrong[i], 4);
        cr_assert_eq(vx_planes_open(c.bytes, c.n, VALUES, c.room, &p), -1);
    }
    drop(&c);
    c = make(BLOSC_SHUFFLE, SMOOTH);
    for (at = 0xffffffff; at > 0xfffffff0; at--) { /* an offset that wraps around */
        memcpy(c.bytes + 16, &at, 4);
        cr_assert_eq(vx_planes_open(c.bytes, c.n, VALUES, c.room, &p), -1);
    }
    memcpy(c.bytes + 16, &first, 4);
    for (size_t n = 20; n < c.n; n += 7) { /* cut off */
        vx_auto_free uint8_t *part = malloc(n);
        memcpy(part, c.bytes, n);
        cr_assert_eq(vx_planes_open(part, n, VALUES, c.room, &p), -1);
    }
    drop(&c);
}

/* Whatever the bytes say, nothing outside the buffers is touched (for the sanitizers). */
Test(cache_planes, damaged_bytes_stay_inside_the_buffers) {
    struct coded c = make(BLOSC_SHUFFLE, SMOOTH);
    struct vx_rng r = vx_rng_at(4, 0, 0, 0, 908);
    int refused = 0;
    for (int i = 0; i < 3000; i++) {
        vx_auto_free uint8_t *bytes = malloc(c.n);
        float row[64];
        struct vx_planes p;
        memcpy(bytes, c.bytes, c.n);
        for (uint32_t k = 0; k <= vx_rng_below(&r, 4); k++) {
            bytes[16 + vx_rng_below(&r, (uint32_t)c.n - 16)] ^=
                (uint8_t)(1 + vx_rng_below(&r, 255));
        }
        if (vx_planes_open(bytes, c.n, VALUES, c.room, &p) == 1) {
            vx_planes_row(&p, VALUES - 64, 64, row);
        } else {
            refused++;
        }
    }
    cr_assert_gt(refused, 100);
    drop(&c);
}
