/* Philox, sampling and table look-ups with AVX-512. Neighbours along x are fetched as one double:
 * half as many loads as voxel by voxel. Private to this room. */
#include "augment/kernels.h"
#include "augment/voxel.h"

#include <immintrin.h>

/* Philox multiplies 32 by 32 bits, which is one instruction per eight 64-bit lanes; the upper
 * halves of the lanes hold rubbish that no multiplication looks at. */
static inline __attribute__((always_inline)) void philox8(const struct vx_noise_key *key,
                                                          __m512i c3, __m256i out[4]) {
    const __m512i m0 = _mm512_set1_epi64(0xD2511F53), m1 = _mm512_set1_epi64(0xCD9E8D57);
    __m512i c0 = _mm512_set1_epi64(key->stream_purpose), c1 = _mm512_set1_epi64(key->k);
    __m512i c2 = _mm512_set1_epi64(key->j);
    uint32_t k0 = (uint32_t)key->seed, k1 = (uint32_t)(key->seed >> 32);
    for (int round = 0; round < 10; round++) {
        __m512i p0 = _mm512_mul_epu32(m0, c0), p1 = _mm512_mul_epu32(m1, c2);
        c0 = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), c1, _mm512_set1_epi64(k0), 0x96);
        c2 = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), c3, _mm512_set1_epi64(k1), 0x96);
        c1 = p1;
        c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = _mm512_cvtepi64_epi32(c0);
    out[1] = _mm512_cvtepi64_epi32(c1);
    out[2] = _mm512_cvtepi64_epi32(c2);
    out[3] = _mm512_cvtepi64_epi32(c3);
}

static void philox(const struct vx_noise_key *key, uint32_t first, uint32_t out[4][VX_LANES]) {
    const __m512i lanes = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i lo[4], hi[4];
    philox8(key, _mm512_add_epi64(_mm512_set1_epi64(first), lanes), lo);
    philox8(key, _mm512_add_epi64(_mm512_set1_epi64(first + 8u), lanes), hi);
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_si256((__m256i *)out[i], lo[i]);
        _mm256_storeu_si256((__m256i *)(out[i] + 8), hi[i]);
    }
}

static inline __m512 lerp16(__m512 a, __m512 b, __m512 f) {
    return _mm512_fmadd_ps(f, _mm512_sub_ps(b, a), a);
}

/* Between p[i] and p[i + 1] of 16 indices. */
static inline __m512 along_x(const float *p, __m512i at, __m512 f) {
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd =
        _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    __m256i first = _mm512_castsi512_si256(at), last = _mm512_extracti64x4_epi64(at, 1);
    __m512 a = _mm512_castpd_ps(_mm512_i32gather_pd(first, p, 4));
    __m512 b = _mm512_castpd_ps(_mm512_i32gather_pd(last, p, 4));
    return lerp16(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b), f);
}

static inline __mmask16 lanes_of(int32_t left) {
    return left >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1);
}

static void sample3(const struct vx_aug_row *r, const float *src, float *out) {
    const size_t sy = (size_t)r->dim[2], sz = (size_t)r->dim[1] * sy;
    for (int32_t w = 0; w < r->n; w += 16) {
        __mmask16 m = lanes_of(r->n - w);
        __m512i at = _mm512_loadu_si512(r->at + w);
        __m512 fx = _mm512_loadu_ps(r->f[2] + w);
        __m512 fy = _mm512_loadu_ps(r->f[1] + w);
        __m512 a = along_x(src, at, fx), b = along_x(src + sy, at, fx);
        __m512 c = along_x(src + sz, at, fx), d = along_x(src + sz + sy, at, fx);
        __m512 v = lerp16(lerp16(a, b, fy), lerp16(c, d, fy), _mm512_loadu_ps(r->f[0] + w));
        _mm512_mask_storeu_ps(out + w, m, v);
    }
}

static void sample2(const struct vx_aug_row *r, const float *src, float *out) {
    for (int32_t w = 0; w < r->n; w += 16) {
        __mmask16 m = lanes_of(r->n - w);
        __m512i at = _mm512_loadu_si512(r->at + w);
        __m512 fx = _mm512_loadu_ps(r->f[2] + w);
        __m512 v = lerp16(along_x(src, at, fx), along_x(src + r->dim[2], at, fx),
                          _mm512_loadu_ps(r->f[1] + w));
        _mm512_mask_storeu_ps(out + w, m, v);
    }
}

static int32_t label(const struct vx_aug_row *r, const int16_t *src, int16_t *out, int32_t *mixed) {
    const size_t sy = (size_t)r->dim[2], sz = r->axes == 3 ? (size_t)r->dim[1] * sy : 0;
    const __m512i lower = _mm512_set1_epi32(0xffff);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int32_t n = 0;
    for (int32_t w = 0; w < r->n; w += 16) {
        __mmask16 m = lanes_of(r->n - w);
        __m512i at = _mm512_loadu_si512(r->at + w);
        /* each gathers two neighbours along x */
        __m512i a = _mm512_i32gather_epi32(at, src, 2);
        __m512i b = _mm512_i32gather_epi32(at, src + sy, 2);
        __m512i c = _mm512_i32gather_epi32(at, src + sz, 2);
        __m512i d = _mm512_i32gather_epi32(at, src + sz + sy, 2);
        __m512i same = _mm512_and_si512(a, lower);
        same = _mm512_or_si512(same, _mm512_slli_epi32(same, 16));
        __mmask16 other = _mm512_cmpneq_epi32_mask(a, same) | _mm512_cmpneq_epi32_mask(b, same) |
                          _mm512_cmpneq_epi32_mask(c, same) | _mm512_cmpneq_epi32_mask(d, same);
        other &= m;
        _mm256_mask_storeu_epi16(out + w, m, _mm512_cvtepi32_epi16(a));
        if (other) {
            __m512i who = _mm512_add_epi32(lanes, _mm512_set1_epi32(w));
            _mm512_storeu_si512(mixed + n, _mm512_maskz_compress_epi32(other, who));
            n += __builtin_popcount(other);
        }
    }
    return n;
}

static void widen(float *out, const float *in, const int32_t *lo, const int32_t *hi, const float *f,
                  size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = lanes_of((int32_t)(n - i));
        __m512 a = _mm512_i32gather_ps(_mm512_maskz_loadu_epi32(m, lo + i), in, 4);
        __m512 b = _mm512_i32gather_ps(_mm512_maskz_loadu_epi32(m, hi + i), in, 4);
        _mm512_mask_storeu_ps(out + i, m, lerp16(a, b, _mm512_maskz_loadu_ps(m, f + i)));
    }
}
