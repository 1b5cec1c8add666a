/* One vector of channels: 16 floats with AVX-512, 8 with AVX2, and activations as float or
 * bfloat16 (VX_ACT_BF16). Arithmetic uses the compiler's operators on vectors. */
#ifndef VX_DEVICE_CPU_SIMD_VEC_H
#define VX_DEVICE_CPU_SIMD_VEC_H

#include <immintrin.h>
#include <stdint.h>

#ifdef __AVX512F__
enum { VEC = 16 };
typedef __m512 vec;

static inline vec vec_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void vec_store(float *p, vec v) {
    _mm512_storeu_ps(p, v);
}
static inline vec vec_all(float x) {
    return _mm512_set1_ps(x);
}
/* u > 0 ? a : b */
static inline vec vec_if_positive(vec u, vec a, vec b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(u, _mm512_setzero_ps(), _CMP_GT_OQ), b, a);
}
/* Lanes below n from v, the rest x. */
static inline vec vec_first(int n, vec v, float x) {
    return _mm512_mask_blend_ps((__mmask16)((1u << n) - 1), _mm512_set1_ps(x), v);
}
static inline float vec_max_lane(vec v) {
    return _mm512_reduce_max_ps(v);
}
static inline float vec_sum_lanes(vec v) {
    return _mm512_reduce_add_ps(v);
}
/* Bit i is set where lane i equals x. */
static inline unsigned vec_equal(vec v, float x) {
    return _mm512_cmp_ps_mask(v, _mm512_set1_ps(x), _CMP_EQ_OQ);
}
/* v with lane i taken from w. */
static inline vec vec_with_lane(vec v, int i, vec w) {
    return _mm512_mask_blend_ps((__mmask16)(1u << i), v, w);
}
static inline vec vec_round(vec v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vec vec_clamp(vec v, float lo, float hi) {
    return _mm512_min_ps(_mm512_max_ps(v, vec_all(lo)), vec_all(hi));
}
/* x * 2^n, n integral */
static inline vec vec_scale2(vec x, vec n) {
    return _mm512_scalef_ps(x, n);
}

#else
enum { VEC = 8 };
typedef __m256 vec;

static inline vec vec_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void vec_store(float *p, vec v) {
    _mm256_storeu_ps(p, v);
}
static inline vec vec_all(float x) {
    return _mm256_set1_ps(x);
}
static inline vec vec_if_positive(vec u, vec a, vec b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(u, _mm256_setzero_ps(), _CMP_GT_OQ));
}
static inline vec vec_lane_numbers(void) {
    return _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
}
static inline vec vec_first(int n, vec v, float x) {
    vec below = _mm256_cmp_ps(vec_lane_numbers(), vec_all((float)n), _CMP_LT_OQ);
    return _mm256_blendv_ps(vec_all(x), v, below);
}
static inline float vec_max_lane(vec v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
static inline float vec_sum_lanes(vec v) {
    __m128 m = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_add_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_add_ss(m, _mm_movehdup_ps(m)));
}
static inline unsigned vec_equal(vec v, float x) {
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(v, vec_all(x), _CMP_EQ_OQ));
}
static inline vec vec_with_lane(vec v, int i, vec w) {
    vec here = _mm256_cmp_ps(vec_lane_numbers(), vec_all((float)i), _CMP_EQ_OQ);
    return _mm256_blendv_ps(v, w, here);
}
static inline vec vec_round(vec v) {
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vec vec_clamp(vec v, float lo, float hi) {
    return _mm256_min_ps(_mm256_max_ps(v, vec_all(lo)), vec_all(hi));
}
static inline vec vec_scale2(vec x, vec n) {
    __m256i bits = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return x * _mm256_castsi256_ps(_mm256_slli_epi32(bits, 23));
}
#endif

/* exp(x) to about one unit in the last place for x in [-87, 88]; smaller x give exp(-87). Cody and
 * Waite reduction, then the polynomial of the Cephes library's expf. */
static inline vec vec_exp(vec x) {
    x = vec_clamp(x, -87.0f, 88.0f);
    vec n = vec_round(x * vec_all(1.44269504088896341f));
    vec r = x - n * vec_all(0.693359375f) - n * vec_all(-2.12194440e-4f);
    vec y = vec_all(1.9875691500e-4f);
    y = y * r + vec_all(1.3981999507e-3f);
    y = y * r + vec_all(8.3334519073e-3f);
    y = y * r + vec_all(4.1665795894e-2f);
    y = y * r + vec_all(1.6666665459e-1f);
    y = y * r + vec_all(5.0000001201e-1f);
    return vec_scale2(y * r * r + r + vec_all(1.0f), n);
}

#ifdef VX_ACT_BF16
typedef uint16_t act;
static inline vec act_load(const act *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
static inline void act_store(act *p, vec v) {
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(v));
}
#else
typedef float act;
static inline vec act_load(const act *p) {
    return vec_load(p);
}
static inline void act_store(act *p, vec v) {
    vec_store(p, v);
}
#endif

#endif
