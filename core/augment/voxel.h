/* Formulas of one voxel, compiled by C and by CUDA: elementary functions as polynomials (the same
 * bits from every compiler that keeps IEEE rules), interpolation, label votes, noise. No libc.
 * Polynomials were fitted for this project by Chebyshev interpolation; their errors stand beside
 * them. Thread: any. */
#ifndef VX_AUGMENT_VOXEL_H
#define VX_AUGMENT_VOXEL_H

#include "base/rng.h"

#include <stdbool.h>
#include <stdint.h>

static inline VX_HD uint32_t vx_float_bits(float x) {
    union {
        float f;
        uint32_t u;
    } v;
    v.f = x;
    return v.u;
}

static inline VX_HD float vx_bits_float(uint32_t u) {
    union {
        float f;
        uint32_t u;
    } v;
    v.u = u;
    return v.f;
}

/* a * b + c, rounded once; the same on every CPU (one instruction on those of this decade). */
static inline VX_HD float vx_fma(float a, float b, float c) {
#ifdef __CUDACC__
    return fmaf(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
}

/* log2 of a positive normal number; absolute error below 5e-8 in [sqrt(1/2), sqrt(2)), elsewhere
 * and the rounding of the sum with the exponent. */
static inline VX_HD float vx_log2f(float x) {
    uint32_t u = vx_float_bits(x);
    /* exponent such that the mantissa lies in [sqrt(1/2), sqrt(2)) */
    int32_t e = (int32_t)(u - 0x3f3504f3u) >> 23;
    float t = vx_bits_float(u - ((uint32_t)e << 23)) - 1.0f;
    float p = -0.10749788582324982f;
    p = vx_fma(p, t, 0.18476033210754395f);
    p = vx_fma(p, t, -0.19138838350772858f);
    p = vx_fma(p, t, 0.20485764741897583f);
    p = vx_fma(p, t, -0.23960812389850616f);
    p = vx_fma(p, t, 0.28855255246162415f);
    p = vx_fma(p, t, -0.36069655418395996f);
    p = vx_fma(p, t, 0.48089852929115295f);
    p = vx_fma(p, t, -0.7213473320007324f);
    p = vx_fma(p, t, 1.4426950216293335f);
    return vx_fma(t, p, (float)e);
}

/* 2^x for -125 <= x <= 125; relative error below 1e-7. */
static inline VX_HD float vx_exp2f(float x) {
    /* adding and subtracting 1.5 * 2^23 rounds to the nearest integer */
    float n = (x + 12582912.0f) - 12582912.0f;
    float f = x - n;
    float p = 0.00015461444854736328f;
    p = vx_fma(p, f, 0.0013400427997112274f);
    p = vx_fma(p, f, 0.009618056938052177f);
    p = vx_fma(p, f, 0.05550327152013779f);
    p = vx_fma(p, f, 0.24022650718688965f);
    p = vx_fma(p, f, 0.6931471824645996f);
    p = vx_fma(p, f, 1.0f);
    return p * vx_bits_float((uint32_t)((int32_t)n + 127) << 23);
}

/* x^g for 0 <= x <= 1 and 0 < g <= 4, absolute error below 1e-7, relative 3e-6 for x > 2e-7; 0
 * below the smallest normal number. */
static inline VX_HD float vx_unit_powf(float x, float g) {
    const float tiny = 1.17549435e-38f;
    float safe = x > tiny ? x : 1.0f;
    float l = g * vx_log2f(safe);
    l = l < -125.0f ? -125.0f : l;
    float r = vx_exp2f(l);
    return x > tiny ? r : 0.0f;
}

/* Two standard normal values from two random words (Box and Muller); absolute error below 1e-6. */
static inline VX_HD void vx_normal_pair(uint32_t a, uint32_t b, float *ret_first,
                                        float *ret_second) {
    /* (0, 1] with 24 bits */
    float u = ((float)(int32_t)(a >> 8) + 1.0f) * 0x1p-24f;
    float radius = __builtin_sqrtf(-1.3862943611198906f * vx_log2f(u)); /* -2 ln u */
    /* two bits choose the quarter, 24 bits an eighth of a turn to either side */
    float r = (float)(int32_t)((b & 0x3fffffffu) >> 6) * 0x1p-26f - 0.125f;
    float s2 = r * r;
    float s = 41.47282791137695f;
    s = vx_fma(s, s2, -76.69786834716797f);
    s = vx_fma(s, s2, 81.6052017211914f);
    s = vx_fma(s, s2, -41.34170150756836f);
    s = vx_fma(s, s2, 6.2831854820251465f);
    s = s * r;
    float c = 59.22016906738281f;
    c = vx_fma(c, s2, -85.4428482055664f);
    c = vx_fma(c, s2, 64.93931579589844f);
    c = vx_fma(c, s2, -19.739208221435547f);
    c = vx_fma(c, s2, 1.0f);
    uint32_t quarter = b >> 30;
    float sine = quarter & 1u ? c : s, cosine = quarter & 1u ? s : c;
    /* signs by setting the sign bit */
    sine = vx_bits_float(vx_float_bits(sine) ^ (quarter & 2u) << 30);
    cosine = vx_bits_float(vx_float_bits(cosine) ^ ((quarter + 1u) & 2u) << 30);
    *ret_first = radius * cosine;
    *ret_second = radius * sine;
}

/* Noise is numbered in groups of 64 consecutive values of [C][D][H][W]: value 16 * i + b of group g
 * is word i of the normal values made from Philox block 16 * g + b. */
#define VX_NOISE_GROUP 64

static inline VX_HD float vx_lerp(float a, float b, float f) {
    return vx_fma(f, b - a, a);
}

/* A vote as nnU-Net compares it: weight times 1000, rounded to half precision (11 significant bits,
 * ties to even). */
static inline VX_HD float vx_vote(float weight) {
    uint32_t u = vx_float_bits(weight * 1000.0f);
    u += 0xfffu + (u >> 13 & 1u);
    return vx_bits_float(u & ~0x1fffu);
}

/* The label with the largest vote among n corners with these labels and weights. Ties go to the
 * label of the nearest corner where that is among the first, else to the smallest. */
static inline VX_HD int16_t vx_label_vote(const int16_t *label, const float *weight, int n,
                                          int nearest) {
    int16_t best = 0;
    float best_vote = -1.0f, nearest_vote = -1.0f;
    for (int i = 0; i < n; i++) {
        float sum = 0.0f;
        for (int j = 0; j < n; j++) {
            sum += label[j] == label[i] ? weight[j] : 0.0f;
        }
        float vote = vx_vote(sum);
        if (vote > best_vote || (vote == best_vote && label[i] < best)) {
            best = label[i];
            best_vote = vote;
        }
        nearest_vote = i == nearest ? vote : nearest_vote;
    }
    return nearest_vote == best_vote ? label[nearest] : best;
}

/* Index of the voxel that nearest-exact resizing picks: floor((o + 0.5) * in / out) in PyTorch's
 * float arithmetic, whose rounding decides where that is an integer: 11.5 * 56 / 46 gives 13. */
static inline VX_HD int32_t vx_nearest_exact(int32_t o, int32_t in, int32_t out) {
    int32_t i = (int32_t)(((float)o + 0.5f) * ((float)in / (float)out));
    return i < in - 1 ? i : in - 1;
}

/* Where output voxel o lies between the input voxels of linear resizing (half-pixel centres, edges
 * repeated). */
static inline VX_HD void vx_linear_source(int32_t o, int32_t in, int32_t out, int32_t *ret_lo,
                                          int32_t *ret_hi, float *ret_fraction) {
    float x = ((float)o + 0.5f) * ((float)in / (float)out) - 0.5f;
    x = x > 0.0f ? x : 0.0f;
    int32_t lo = (int32_t)x;
    lo = lo < in - 1 ? lo : in - 1;
    *ret_lo = lo;
    *ret_hi = lo < in - 1 ? lo + 1 : lo;
    *ret_fraction = x - (float)lo;
}

#endif
