/* Philox, sampling and table look-ups with AVX2. Neighbours along x are fetched as one double: half
 * as many loads as voxel by voxel. Rows are readable up to a multiple of 16, so that the last eight
 * need no mask until they are stored. Private to this room. */
#include "augment/kernels.h"
#include "augment/voxel.h"

#include <immintrin.h>
#include <string.h>

/* Philox multiplies 32 by 32 bits, which is one instruction per four 64-bit lanes; the upper halves
 * of the lanes hold rubbish that no multiplication looks at. */
static inline __attribute__((always_inline)) void philox4(const struct vx_noise_key *key,
                                                          uint32_t first, __m256i out[4]) {
    const __m256i m0 = _mm256_set1_epi64x(0xD2511F53), m1 = _mm256_set1_epi64x(0xCD9E8D57);
    __m256i c0 = _mm256_set1_epi64x(key->stream_purpose), c1 = _mm256_set1_epi64x(key->k);
    __m256i c2 = _mm256_set1_epi64x(key->j);
    __m256i c3 = _mm256_add_epi64(_mm256_set1_epi64x(first), _mm256_setr_epi64x(0, 1, 2, 3));
    uint32_t k0 = (uint32_t)key->seed, k1 = (uint32_t)(key->seed >> 32);
    for (int round = 0; round < 10; round++) {
        __m256i p0 = _mm256_mul_epu32(m0, c0), p1 = _mm256_mul_epu32(m1, c2);
        __m256i n0 = _mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1);
        __m256i n2 = _mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3);
        c0 = _mm256_xor_si256(n0, _mm256_set1_epi64x(k0));
        c2 = _mm256_xor_si256(n2, _mm256_set1_epi64x(k1));
        c1 = p1;
        c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

static void philox(const struct vx_noise_key *key, uint32_t first, uint32_t out[4][VX_LANES]) {
    const __m256i lower = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    for (uint32_t l = 0; l < VX_LANES; l += 4) {
        __m256i c[4];
        philox4(key, first + l, c);
        for (int i = 0; i < 4; i++) {
            _mm_storeu_si128((__m128i *)(out[i] + l),
                             _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(c[i], lower)));
        }
    }
}

static inline __m256 lerp8(__m256 a, __m256 b, __m256 f) {
    return _mm256_fmadd_ps(f, _mm256_sub_ps(b, a), a);
}

/* Between p[i] and p[i + 1] of 8 indices. */
static inline __m256 along_x(const float *p, __m256i at, __m256 f) {
    __m128i first = _mm256_castsi256_si128(at), last = _mm256_extracti128_si256(at, 1);
    __m256 a = _mm256_castpd_ps(_mm256_i32gather_pd((const double *)p, first, 4));
    __m256 b = _mm256_castpd_ps(_mm256_i32gather_pd((const double *)p, last, 4));
    /* 0 1 4 5 | 2 3 6 7, put right once for both */
    __m256d x0 = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88));
    __m256d x1 = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xdd));
    return lerp8(_mm256_castpd_ps(_mm256_permute4x64_pd(x0, 0xd8)),
                 _mm256_castpd_ps(_mm256_permute4x64_pd(x1, 0xd8)), f);
}

static inline void store(float *out, int32_t left, __m256 v) {
    if (left >= 8) {
        _mm256_storeu_ps(out, v);
    } else {
        float all[8];
        _mm256_storeu_ps(all, v);
        memcpy(out, all, (size_t)left * sizeof *out);
    }
}

static void sample3(const struct vx_aug_row *r, const float *src, float *out) {
    const size_t sy = (size_t)r->dim[2], sz = (size_t)r->dim[1] * sy;
    for (int32_t w = 0; w < r->n; w += 8) {
        __m256i at = _mm256_loadu_si256((const __m256i *)(r->at + w));
        __m256 fx = _mm256_loadu_ps(r->f[2] + w), fy = _mm256_loadu_ps(r->f[1] + w);
        __m256 a = along_x(src, at, fx), b = along_x(src + sy, at, fx);
        __m256 c = along_x(src + sz, at, fx), d = along_x(src + sz + sy, at, fx);
        store(out + w, r->n - w,
              lerp8(lerp8(a, b, fy), lerp8(c, d, fy), _mm256_loadu_ps(r->f[0] + w)));
    }
}

static void sample2(const struct vx_aug_row *r, const float *src, float *out) {
    for (int32_t w = 0; w < r->n; w += 8) {
        __m256i at = _mm256_loadu_si256((const __m256i *)(r->at + w));
        __m256 fx = _mm256_loadu_ps(r->f[2] + w);
        store(out + w, r->n - w,
              lerp8(along_x(src, at, fx), along_x(src + r->dim[2], at, fx),
                    _mm256_loadu_ps(r->f[1] + w)));
    }
}

static int32_t label(const struct vx_aug_row *r, const int16_t *src, int16_t *out, int32_t *mixed) {
    const size_t sy = (size_t)r->dim[2], sz = r->axes == 3 ? (size_t)r->dim[1] * sy : 0;
    const __m256i lower = _mm256_set1_epi32(0xffff);
    int32_t n = 0;
    for (int32_t w = 0; w < r->n; w += 8) {
        int32_t m = r->n - w < 8 ? r->n - w : 8;
        __m256i at = _mm256_loadu_si256((const __m256i *)(r->at + w));
        /* each gathers two neighbours along x */
        __m256i a = _mm256_i32gather_epi32((const int *)src, at, 2);
        __m256i b = _mm256_i32gather_epi32((const int *)(src + sy), at, 2);
        __m256i c = _mm256_i32gather_epi32((const int *)(src + sz), at, 2);
        __m256i d = _mm256_i32gather_epi32((const int *)(src + sz + sy), at, 2);
        __m256i first = _mm256_and_si256(a, lower);
        __m256i same = _mm256_or_si256(first, _mm256_slli_epi32(first, 16));
        __m256i agree = _mm256_and_si256(
            _mm256_and_si256(_mm256_cmpeq_epi32(a, same), _mm256_cmpeq_epi32(b, same)),
            _mm256_and_si256(_mm256_cmpeq_epi32(c, same), _mm256_cmpeq_epi32(d, same)));
        /* 16 bits of each, the two halves put together */
        __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(first, first), 0x08);
        int16_t eight[8];
        _mm_storeu_si128((__m128i *)eight, _mm256_castsi256_si128(packed));
        memcpy(out + w, eight, (size_t)m * sizeof *out);
        uint32_t other = ~(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(agree));
        other &= (1u << m) - 1;
        for (; other; other &= other - 1) {
            mixed[n++] = w + __builtin_ctz(other);
        }
    }
    return n;
}

static void widen(float *restrict out, const float *restrict in, const int32_t *restrict lo,
                  const int32_t *restrict hi, const float *restrict f, size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = vx_lerp(in[lo[i]], in[hi[i]], f[i]);
    }
}
