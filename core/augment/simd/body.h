/* The kernels of one instruction set. Included once by each of simd/portable.c, avx2.c and avx512.c
 * after a header that brings philox, sample3, sample2, label and widen, and with VX_TABLE and
 * VX_NAME defined. Compiled without contraction of a * b + c: where a formula rounds once it says
 * so with vx_fma. Private to this room. */
#include "augment/kernels.h"
#include "augment/voxel.h"

#include <string.h>

/* --- voxel by voxel --- */

static void reverse(float *x, size_t n) {
    for (size_t i = 0; i < n / 2; i++) {
        float t = x[i];
        x[i] = x[n - 1 - i];
        x[n - 1 - i] = t;
    }
}

static void reverse_labels(int16_t *x, size_t n) {
    for (size_t i = 0; i < n / 2; i++) {
        int16_t t = x[i];
        x[i] = x[n - 1 - i];
        x[n - 1 - i] = t;
    }
}

static void scale(float *x, size_t n, float factor) {
    for (size_t i = 0; i < n; i++) {
        x[i] *= factor;
    }
}

static void stretch(float *x, size_t n, float mean, float factor, float lo, float hi) {
    for (size_t i = 0; i < n; i++) {
        float v = (x[i] - mean) * factor + mean;
        v = v < lo ? lo : v;
        x[i] = v > hi ? hi : v;
    }
}

static void power(float *x, size_t n, float sign, float min, float range, float exponent) {
    float inverse = 1.0f / (range > 1e-7f ? range : 1e-7f);
    for (size_t i = 0; i < n; i++) {
        x[i] = vx_fma(vx_unit_powf((sign * x[i] - min) * inverse, exponent), range, min);
    }
}

static void restore(float *x, size_t n, float sign, float mean, float factor, float new_mean) {
    for (size_t i = 0; i < n; i++) {
        x[i] = sign * ((x[i] - mean) * factor + new_mean);
    }
}

static void normals(uint32_t words[4][VX_LANES], float out[4][VX_LANES]) {
    for (int pair = 0; pair < 4; pair += 2) {
        for (int l = 0; l < VX_LANES; l++) {
            float a, b;
            vx_normal_pair(words[pair][l], words[pair + 1][l], &a, &b);
            out[pair][l] = a;
            out[pair + 1][l] = b;
        }
    }
}

static void noise(float *x, size_t n, const struct vx_noise_key *key, uint64_t at, float sigma) {
    uint32_t words[4][VX_LANES];
    float values[4][VX_LANES];
    for (size_t done = 0; done < n;) {
        size_t from = (size_t)((at + done) % VX_NOISE_GROUP), m = VX_NOISE_GROUP - from;
        m = m < n - done ? m : n - done;
        philox(key, (uint32_t)((at + done) / VX_NOISE_GROUP * VX_LANES), words);
        normals(words, values);
        const float *v = values[0] + from;
        for (size_t i = 0; i < m; i++) {
            x[done + i] += sigma * v[i];
        }
        done += m;
    }
}

static void sum(const float *restrict x, size_t n, struct vx_aug_sums *restrict s) {
    struct vx_aug_sums a = *s;
    size_t whole = n / VX_LANES * VX_LANES;
    for (size_t i = 0; i < whole; i += VX_LANES) {
        for (int l = 0; l < VX_LANES; l++) {
            float v = x[i + (size_t)l];
            a.min[l] = v < a.min[l] ? v : a.min[l];
            a.max[l] = v > a.max[l] ? v : a.max[l];
            double d = (double)v - a.shift;
            a.sum[l] += d;
            a.squares[l] += d * d;
        }
    }
    for (size_t i = whole; i < n; i++) {
        size_t l = i - whole;
        double d = (double)x[i] - a.shift;
        a.min[l] = x[i] < a.min[l] ? x[i] : a.min[l];
        a.max[l] = x[i] > a.max[l] ? x[i] : a.max[l];
        a.sum[l] += d;
        a.squares[l] += d * d;
    }
    *s = a;
}

static void mask(float *restrict x, const int16_t *restrict label, size_t n) {
    for (size_t i = 0; i < n; i++) {
        x[i] = label[i] < 0 ? 0.0f : x[i];
    }
}

static void background(int16_t *label, size_t n) {
    for (size_t i = 0; i < n; i++) {
        label[i] = label[i] < 0 ? 0 : label[i];
    }
}

/* --- neighbours --- */

/* With the radius known when compiling, the sum of a voxel stays in a register. */
static inline __attribute__((always_inline)) void
taps_of(float *restrict out, const float *const *rows, const float *weight, int radius, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float s = weight[0] * rows[0][i];
        for (int r = 1; r <= radius; r++) {
            s += weight[r] * (rows[2 * r - 1][i] + rows[2 * r][i]);
        }
        out[i] = s;
    }
}

static void taps(float *out, const float *const *rows, const float *weight, int radius, size_t n) {
    switch (radius) {
    case 1:
        taps_of(out, rows, weight, 1, n);
        break;
    case 2:
        taps_of(out, rows, weight, 2, n);
        break;
    case 3:
        taps_of(out, rows, weight, 3, n);
        break;
    default:
        taps_of(out, rows, weight, radius, n);
    }
}

static void mix(float *restrict out, const float *restrict a, const float *restrict b, float f,
                size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = vx_lerp(a[i], b[i], f);
    }
}

/* --- sampling --- */

/* Rows are placed up to a whole vector: what lies beyond n is a valid place too. */
static inline int32_t whole_vectors(int32_t n) {
    return (n + VX_LANES - 1) / VX_LANES * VX_LANES;
}

static inline float clampf(float x, float lo, float hi) {
    x = x < lo ? lo : x;
    return x > hi ? hi : x;
}

static void place3(struct vx_aug_row *r, const float start[3], const float step[3]) {
    const float z0 = start[0], y0 = start[1], x0 = start[2];
    const float dz = step[0], dy = step[1], dx = step[2];
    const int32_t n = whole_vectors(r->n), nz = r->size[0], ny = r->size[1], nx = r->size[2];
    const int32_t sy = r->dim[2], sz = r->dim[1] * r->dim[2];
    int32_t *restrict at = r->at;
    float *restrict fz = r->f[0], *restrict fy = r->f[1], *restrict fx = r->f[2];
    for (int32_t w = 0; w < n; w++) {
        float z = vx_fma(dz, (float)w, z0), y = vx_fma(dy, (float)w, y0);
        float x = vx_fma(dx, (float)w, x0);
        z = clampf(z, 0.0f, (float)(nz + 1));
        y = clampf(y, 0.0f, (float)(ny + 1));
        x = clampf(x, 0.0f, (float)(nx + 1));
        int32_t iz = (int32_t)z, iy = (int32_t)y, ix = (int32_t)x;
        iz = iz > nz ? nz : iz;
        iy = iy > ny ? ny : iy;
        ix = ix > nx ? nx : ix;
        fz[w] = z - (float)iz;
        fy[w] = y - (float)iy;
        fx[w] = x - (float)ix;
        at[w] = iz * sz + iy * sy + ix;
    }
}

static void place2(struct vx_aug_row *r, const float start[3], const float step[3]) {
    const float y0 = start[1], x0 = start[2], dy = step[1], dx = step[2];
    const int32_t n = whole_vectors(r->n), ny = r->size[1], nx = r->size[2], sy = r->dim[2];
    const int32_t base = r->z * r->dim[1] * r->dim[2];
    int32_t *restrict at = r->at;
    float *restrict fy = r->f[1], *restrict fx = r->f[2];
    for (int32_t w = 0; w < n; w++) {
        float y = vx_fma(dy, (float)w, y0), x = vx_fma(dx, (float)w, x0);
        y = clampf(y, 0.0f, (float)(ny + 1));
        x = clampf(x, 0.0f, (float)(nx + 1));
        int32_t iy = (int32_t)y, ix = (int32_t)x;
        iy = iy > ny ? ny : iy;
        ix = ix > nx ? nx : ix;
        fy[w] = y - (float)iy;
        fx[w] = x - (float)ix;
        at[w] = base + iy * sy + ix;
    }
}

static void place(struct vx_aug_row *r, const float start[3], const float step[3]) {
    if (r->axes == 3) {
        place3(r, start, step);
    } else {
        place2(r, start, step);
    }
}

static void sample(const struct vx_aug_row *r, const float *src, float *out) {
    if (r->axes == 3) {
        sample3(r, src, out);
    } else {
        sample2(r, src, out);
    }
}

static void count(struct vx_aug_ballots *restrict b) {
    for (int l = 0; l < VX_BALLOTS; l++) {
        float z1 = b->f[0][l], y1 = b->f[1][l], x1 = b->f[2][l];
        float z0 = 1.0f - z1, y0 = 1.0f - y1, x0 = 1.0f - x1;
        const float w[8] = {z0 * y0 * x0, z0 * y0 * x1, z0 * y1 * x0, z0 * y1 * x1,
                            z1 * y0 * x0, z1 * y0 * x1, z1 * y1 * x0, z1 * y1 * x1};
        int32_t lo = b->label[0][l], hi = lo, others = 0;
        for (int c = 1; c < 8; c++) {
            int32_t v = b->label[c][l];
            lo = v < lo ? v : lo;
            hi = v > hi ? v : hi;
        }
        float lo_sum = 0.0f, hi_sum = 0.0f;
        for (int c = 0; c < 8; c++) {
            int32_t v = b->label[c][l];
            others |= (v != lo) & (v != hi);
            lo_sum += v == lo ? w[c] : 0.0f;
            hi_sum += v == hi ? w[c] : 0.0f;
            b->weight[c][l] = w[c];
        }
        float lo_vote = vx_vote(lo_sum), hi_vote = vx_vote(hi_sum);
        b->best[l] = hi_vote > lo_vote ? hi : lo;
        b->several[l] = others | (hi_vote == lo_vote);
    }
}

static void range(int16_t *restrict lo, int16_t *restrict hi, const int16_t *restrict label,
                  size_t n) {
    for (size_t i = 0; i < n; i++) {
        lo[i] = label[i] < lo[i] ? label[i] : lo[i];
        hi[i] = label[i] > hi[i] ? label[i] : hi[i];
    }
}

const struct vx_aug_kernels VX_TABLE = {
    .name = VX_NAME,
    .reverse = reverse,
    .scale = scale,
    .stretch = stretch,
    .power = power,
    .restore = restore,
    .noise = noise,
    .sum = sum,
    .mask = mask,
    .background = background,
    .reverse_labels = reverse_labels,
    .taps = taps,
    .widen = widen,
    .mix = mix,
    .place = place,
    .sample = sample,
    .label = label,
    .count = count,
    .range = range,
};
