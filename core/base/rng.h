/* Counter-based random numbers: Philox 4x32 with 10 rounds (Salmon et al., SC 2011).
 *
 * A draw is a pure function of (seed, counter): any process can make any sample again, in any
 * order. The counter of a training draw is (stream, batch k, sample j, transform and index), design
 * section "Determinism". Header only and free of libc so that C and CUDA compile the same source.
 * Thread: any. */
#ifndef VX_BASE_RNG_H
#define VX_BASE_RNG_H

#include <stdint.h>

#ifdef __CUDACC__
#define VX_HD __host__ __device__
#else
#define VX_HD
#endif

struct vx_rng4 {
    uint32_t v[4];
};

static inline VX_HD struct vx_rng4 vx_philox(uint64_t key, const uint32_t counter[4]) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    struct vx_rng4 out = {{c0, c1, c2, c3}};
    return out;
}

/* [0, 1) with 24 bits, exact in float. */
static inline VX_HD float vx_u32_to_unit(uint32_t x) {
    return (float)(x >> 8) * 0x1p-24f;
}

/* A reader of successive draws for one (seed, stream, k, j, purpose). The 32-bit index counts draws
 * of four words. */
struct vx_rng {
    uint64_t key;
    uint32_t stream_purpose; /* stream << 16 | purpose */
    uint32_t k, j, index;
    struct vx_rng4 block;
    uint32_t used; /* words of block already handed out; 4 means empty */
};

/* stream: 0 train, 1 validation, 2 initialisation; purpose: one number per transform
 * (augment/draws.h). */
static inline VX_HD struct vx_rng vx_rng_at(uint64_t seed, uint32_t stream, uint32_t k, uint32_t j,
                                            uint32_t purpose) {
    struct vx_rng r = {seed, stream << 16 | (purpose & 0xffffu), k, j, 0, {{0, 0, 0, 0}}, 4};
    return r;
}

static inline VX_HD uint32_t vx_rng_u32(struct vx_rng *r) {
    if (r->used == 4) {
        uint32_t counter[4] = {r->stream_purpose, r->k, r->j, r->index++};
        r->block = vx_philox(r->key, counter);
        r->used = 0;
    }
    return r->block.v[r->used++];
}

static inline VX_HD float vx_rng_unit(struct vx_rng *r) {
    return vx_u32_to_unit(vx_rng_u32(r));
}

static inline VX_HD float vx_rng_uniform(struct vx_rng *r, float lo, float hi) {
    return lo + (hi - lo) * vx_rng_unit(r);
}

/* Uniform in [0, n), n >= 1, without bias worth speaking of (multiply-shift over 64 bits). */
static inline VX_HD uint32_t vx_rng_below(struct vx_rng *r, uint32_t n) {
    uint64_t x = (uint64_t)vx_rng_u32(r) << 32 | vx_rng_u32(r);
    /* high 64 bits of x * n */
    uint64_t lo = (x & 0xffffffffu) * n, hi = (x >> 32) * n;
    return (uint32_t)((hi + (lo >> 32)) >> 32);
}

/* Standard normal by Box and Muller, one value per call (host only: needs libm). */
double vx_rng_normal(struct vx_rng *r);

#endif
