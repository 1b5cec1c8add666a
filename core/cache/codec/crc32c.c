#include "cache/codec/crc32c.h"

#include <string.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#endif

/* Two table look-ups a byte would be faster with more tables; this path only serves CPUs without
 * SSE 4.2. */
static const uint32_t nibble_table[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t vx_crc32c_table(uint32_t crc, const void *data, size_t len) {
    const uint8_t *p = data;
    uint32_t c = ~crc;
    for (size_t i = 0; i < len; i++) {
        c ^= p[i];
        c = c >> 4 ^ nibble_table[c & 15];
        c = c >> 4 ^ nibble_table[c & 15];
    }
    return ~c;
}

#if defined(__x86_64__)
/* The instruction takes three cycles for eight bytes, but three may be under way at a time: three
 * neighbouring lanes are summed side by side. Joining them needs a sum moved over LANE bytes of
 * zeros, a multiplication by x^(8 LANE) modulo the polynomial: the carry-less product with
 * x^(8 LANE - 33), and x^33 comes from the places of bits and the instruction itself (Gopal et al.,
 * Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction, Intel 2011). */
enum { LANE = 1024 };
#define LANE_SHIFT 0x170076fau

__attribute__((target("sse4.2,pclmul"))) static uint64_t over_lane(uint64_t c) {
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)c),
                                           _mm_cvtsi32_si128((int)LANE_SHIFT), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

static uint64_t word_at(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t
crc32c_sse42(uint32_t crc, const void *data, size_t len) {
    const uint8_t *p = data;
    uint64_t a = (uint32_t)~crc;
    for (; len >= 3 * LANE; len -= 3 * LANE, p += 3 * LANE) {
        uint64_t b = 0, c = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            a = _mm_crc32_u64(a, word_at(p + i));
            b = _mm_crc32_u64(b, word_at(p + LANE + i));
            c = _mm_crc32_u64(c, word_at(p + 2 * LANE + i));
        }
        a = over_lane(over_lane(a) ^ b) ^ c;
    }
    for (; len >= 8; len -= 8, p += 8) {
        a = _mm_crc32_u64(a, word_at(p));
    }
    for (; len > 0; len--, p++) {
        a = _mm_crc32_u8((uint32_t)a, *p);
    }
    return ~(uint32_t)a;
}
#endif

uint32_t vx_crc32c(uint32_t crc, const void *data, size_t len) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul")) {
        return crc32c_sse42(crc, data, len);
    }
#endif
    return vx_crc32c_table(crc, data, len);
}
