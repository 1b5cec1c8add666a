#include "augment/clones.h"
#include "augment/parts.h"
#include "augment/voxel.h"

enum { LANES = 16 };

/* Philox of 16 consecutive blocks at once; base/rng.h's vx_philox lane by lane. */
VX_CLONES
static void philox_lanes(uint64_t key, uint32_t stream_purpose, uint32_t k, uint32_t j,
                         uint32_t first, uint32_t out[4][LANES]) {
    uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES];
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (uint32_t l = 0; l < LANES; l++) {
        c0[l] = stream_purpose;
        c1[l] = k;
        c2[l] = j;
        c3[l] = first + l;
    }
    for (int round = 0; round < 10; round++) {
        for (int l = 0; l < LANES; l++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[l];
            uint64_t p1 = (uint64_t)0xCD9E8D57u * c2[l];
            c0[l] = (uint32_t)(p1 >> 32) ^ c1[l] ^ k0;
            c2[l] = (uint32_t)(p0 >> 32) ^ c3[l] ^ k1;
            c1[l] = (uint32_t)p1;
            c3[l] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int l = 0; l < LANES; l++) {
        out[0][l] = c0[l];
        out[1][l] = c1[l];
        out[2][l] = c2[l];
        out[3][l] = c3[l];
    }
}

VX_CLONES
static void normals(uint32_t words[4][LANES], float out[4][LANES]) {
    for (int l = 0; l < LANES; l++) {
        float a, b;
        vx_normal_pair(words[0][l], words[1][l], &a, &b);
        out[0][l] = a;
        out[1][l] = b;
    }
    for (int l = 0; l < LANES; l++) {
        float a, b;
        vx_normal_pair(words[2][l], words[3][l], &a, &b);
        out[2][l] = a;
        out[3][l] = b;
    }
}

void vx_aug_noise(const struct vx_aug_params *a, float *x, size_t n) {
    uint32_t words[4][LANES];
    float values[4][LANES];
    uint32_t stream_purpose = a->stream << 16 | VX_PURPOSE_NOISE_VOXELS;
    for (size_t at = 0; at < n; at += VX_NOISE_GROUP) {
        philox_lanes(a->seed, stream_purpose, a->k, a->j, (uint32_t)(at / VX_NOISE_GROUP * LANES),
                     words);
        normals(words, values);
        size_t m = n - at < VX_NOISE_GROUP ? n - at : VX_NOISE_GROUP;
        for (size_t i = 0; i < m; i++) {
            x[at + i] += a->noise_sigma * values[i / LANES][i % LANES];
        }
    }
}
