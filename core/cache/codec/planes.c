#include "cache/codec/planes.h"

#include <blosc.h>
#include <string.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

enum { HEADER = 16, OFFSET = 4, LENGTH = 4, BYTES = 4 };
enum { BLOCK = 8, TOTAL = 12 }; /* where the header has the bytes of a block, and of the buffer */
enum { SHUFFLED = 1, COPIED = 2, BITS_SHUFFLED = 4, NOT_SPLIT = 16 }; /* flags, byte 2 */

static uint32_t word_at(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

size_t vx_planes_room(size_t values) {
    return BYTES * values + HEADER + OFFSET + LENGTH + values;
}

/* stream: the length of the coded plane, then its bytes. c-blosc is given a buffer of one block of
 * single bytes that holds nothing else. */
static int decode_plane(const uint8_t *coded, const uint8_t *stream, size_t bytes, size_t values,
                        uint8_t *buffer, uint8_t *out) {
    const uint32_t header[4] = {word_at(coded), (uint32_t)values, (uint32_t)values,
                                (uint32_t)(HEADER + OFFSET + LENGTH + bytes)};
    const uint32_t offset = HEADER + OFFSET;
    memcpy(buffer, header, HEADER);
    buffer[2] = (uint8_t)((coded[2] & ~(SHUFFLED | BITS_SHUFFLED)) | NOT_SPLIT);
    buffer[3] = 1; /* bytes a value */
    memcpy(buffer + HEADER, &offset, OFFSET);
    memcpy(buffer + HEADER + OFFSET, stream, LENGTH + bytes);
    return blosc_decompress_ctx(buffer, out, values, 1) == (int)values ? 0 : -1;
}

int vx_planes_open(const uint8_t *coded, size_t nbytes, size_t values, uint8_t *room,
                   struct vx_planes *ret) {
    int kind = coded[2] & (SHUFFLED | COPIED | BITS_SHUFFLED | NOT_SPLIT);
    if (nbytes < HEADER + OFFSET || kind != SHUFFLED || coded[3] != BYTES ||
        word_at(coded + BLOCK) != BYTES * values) { /* more than one block */
        return 0;
    }
    size_t at = word_at(coded + HEADER);
    for (size_t i = 0; i < BYTES; i++) {
        size_t bytes = at <= nbytes && nbytes - at >= LENGTH ? word_at(coded + at) : 0;
        if (bytes == 0 || bytes > values || nbytes - at - LENGTH < bytes) {
            return -1;
        }
        ret->plane[i] = coded + at + LENGTH;
        if (bytes < values) {
            uint8_t *out = room + i * values;
            if (decode_plane(coded, coded + at, bytes, values, room + BYTES * values, out) != 0) {
                return -1;
            }
            ret->plane[i] = out;
        }
        at += LENGTH + bytes;
    }
    return 1;
}

/* The plane coded once more, as a stream (its length, then its bytes) inside buffer; NULL: not
 * below `bytes`. */
static const uint8_t *recode_plane(const uint8_t *plane, size_t bytes, size_t values, int level,
                                   uint8_t *buffer) {
    const uint8_t *stream = buffer + HEADER + OFFSET;
    int n = blosc_compress_ctx(level, BLOSC_NOSHUFFLE, 1, values, plane, buffer,
                               HEADER + OFFSET + LENGTH + values, BLOSC_LZ4HC_COMPNAME, values, 1);
    return n > 0 && !(buffer[2] & COPIED) && word_at(stream) < bytes ? stream : NULL;
}

size_t vx_planes_squeeze(uint8_t *coded, size_t nbytes, size_t values, double ratio, int level,
                         uint8_t *room) {
    struct vx_planes p;
    if (vx_planes_open(coded, nbytes, values, room, &p) != 1) {
        return nbytes;
    }
    size_t from = word_at(coded + HEADER), to = from;
    for (size_t i = 0; i < BYTES; i++) {
        size_t bytes = word_at(coded + from);
        const uint8_t *stream = NULL;
        if ((double)values >= ratio * (double)bytes) {
            stream = recode_plane(p.plane[i], bytes, values, level, room + BYTES * values);
        }
        stream = stream ? stream : coded + from;
        from += LENGTH + bytes;
        bytes = LENGTH + word_at(stream);
        memmove(coded + to, stream, bytes);
        to += bytes;
    }
    uint32_t total = (uint32_t)to;
    memcpy(coded + TOTAL, &total, sizeof total);
    return to;
}

#if defined(__x86_64__)
static void weave16(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d,
                    uint8_t *out) {
    __m128i va = _mm_loadu_si128((const __m128i *)a), vb = _mm_loadu_si128((const __m128i *)b);
    __m128i vc = _mm_loadu_si128((const __m128i *)c), vd = _mm_loadu_si128((const __m128i *)d);
    __m128i low = _mm_unpacklo_epi8(va, vb), low_top = _mm_unpacklo_epi8(vc, vd);
    __m128i high = _mm_unpackhi_epi8(va, vb), high_top = _mm_unpackhi_epi8(vc, vd);
    __m128i *to = (__m128i *)out;
    _mm_storeu_si128(to, _mm_unpacklo_epi16(low, low_top));
    _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(low, low_top));
    _mm_storeu_si128(to + 2, _mm_unpacklo_epi16(high, high_top));
    _mm_storeu_si128(to + 3, _mm_unpackhi_epi16(high, high_top));
}
#endif

void vx_planes_row(const struct vx_planes *p, size_t at, size_t n, void *out) {
    const uint8_t *a = p->plane[0] + at, *b = p->plane[1] + at;
    const uint8_t *c = p->plane[2] + at, *d = p->plane[3] + at;
    size_t i = 0;
    uint8_t *to = out;
#if defined(__x86_64__)
    for (; i + 16 <= n; i += 16) {
        weave16(a + i, b + i, c + i, d + i, to + BYTES * i);
    }
    if (n >= 16 && i < n) { /* the last 16, some of them once more */
        i = n - 16;
        weave16(a + i, b + i, c + i, d + i, to + BYTES * i);
        i = n;
    }
#endif
    for (; i < n; i++) {
        uint32_t v =
            (uint32_t)a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16 | (uint32_t)d[i] << 24;
        memcpy(to + BYTES * i, &v, sizeof v);
    }
}
