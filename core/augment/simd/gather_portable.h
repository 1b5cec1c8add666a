/* Philox, sampling and table look-ups in plain C. Private to this room. */
#include "augment/kernels.h"
#include "augment/voxel.h"

#include <string.h>

/* Blocks first .. first + 15; word i of block l at out[i][l]. */
static void philox(const struct vx_noise_key *key, uint32_t first, uint32_t out[4][VX_LANES]) {
    for (uint32_t l = 0; l < VX_LANES; l++) {
        const uint32_t counter[4] = {key->stream_purpose, key->k, key->j, first + l};
        struct vx_rng4 r = vx_philox(key->seed, counter);
        for (int i = 0; i < 4; i++) {
            out[i][l] = r.v[i];
        }
    }
}

static void sample3(const struct vx_aug_row *r, const float *restrict src, float *restrict out) {
    const size_t sy = (size_t)r->dim[2], sz = (size_t)r->dim[1] * sy;
    const float *p00 = src, *p01 = src + sy, *p10 = src + sz, *p11 = src + sz + sy;
    for (int32_t w = 0; w < r->n; w++) {
        int32_t i = r->at[w];
        float fz = r->f[0][w], fy = r->f[1][w], fx = r->f[2][w];
        float a = vx_lerp(p00[i], p00[i + 1], fx), b = vx_lerp(p01[i], p01[i + 1], fx);
        float c = vx_lerp(p10[i], p10[i + 1], fx), d = vx_lerp(p11[i], p11[i + 1], fx);
        out[w] = vx_lerp(vx_lerp(a, b, fy), vx_lerp(c, d, fy), fz);
    }
}

static void sample2(const struct vx_aug_row *r, const float *restrict src, float *restrict out) {
    const float *p0 = src, *p1 = src + r->dim[2];
    for (int32_t w = 0; w < r->n; w++) {
        int32_t i = r->at[w];
        float fy = r->f[1][w], fx = r->f[2][w];
        out[w] = vx_lerp(vx_lerp(p0[i], p0[i + 1], fx), vx_lerp(p1[i], p1[i + 1], fx), fy);
    }
}

/* Two neighbouring labels along x as one word. */
static inline uint32_t label_pair(const int16_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static int32_t label(const struct vx_aug_row *r, const int16_t *src, int16_t *out, int32_t *mixed) {
    const size_t sy = (size_t)r->dim[2], sz = r->axes == 3 ? (size_t)r->dim[1] * sy : 0;
    int32_t n = 0;
    for (int32_t w = 0; w < r->n; w++) {
        const int16_t *p = src + r->at[w];
        uint32_t same = (uint16_t)*p * 0x10001u;
        uint32_t other = (label_pair(p) ^ same) | (label_pair(p + sy) ^ same) |
                         (label_pair(p + sz) ^ same) | (label_pair(p + sz + sy) ^ same);
        out[w] = *p;
        if (other) {
            mixed[n++] = w;
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
