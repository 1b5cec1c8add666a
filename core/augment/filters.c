/* What mixes neighbouring voxels: Gaussian blur and simulated low resolution.
 *
 * Blur is separable: along z into scratch, then along y and x plane by plane back. Low resolution
 * goes nearest-exact down, then linearly up axis by axis (x for the small volume, then z and y
 * plane by plane), so that most of the work happens on small arrays. */
#include "augment/clones.h"
#include "augment/parts.h"
#include "augment/voxel.h"

#include <math.h>
#include <string.h>

/* --- blur --- */

int vx_aug_blur_kernel(float sigma, float weight[VX_BLUR_RADIUS_MAX + 1]) {
    /* the odd number of taps nearest to 6 sigma + 0.5, upwards on ties */
    int radius = (int)floor((6.0 * sigma + 0.5) / 2.0);
    radius = radius < 1 ? 1 : radius;
    radius = radius > VX_BLUR_RADIUS_MAX ? VX_BLUR_RADIUS_MAX : radius;
    double w[VX_BLUR_RADIUS_MAX + 1], sum = 0;
    for (int i = 0; i <= radius; i++) {
        w[i] = exp(-0.5 * (i / (double)sigma) * (i / (double)sigma));
        sum += i ? 2 * w[i] : w[i];
    }
    for (int i = 0; i <= radius; i++) {
        weight[i] = (float)(w[i] / sum);
    }
    return radius;
}

/* Index i reflected into [0, n): ... 2 1 0 1 2 ... n-1 n-2 ... */
static int32_t reflect(int32_t i, int32_t n) {
    if (n == 1) {
        return 0;
    }
    while (i < 0 || i >= n) {
        i = i < 0 ? -i : 2 * (n - 1) - i;
    }
    return i;
}

VX_CLONES
static void scale_row(float *restrict out, const float *restrict in, float w, size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = w * in[i];
    }
}

VX_CLONES
static void add_rows(float *restrict out, const float *restrict a, const float *restrict b, float w,
                     size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] += w * (a[i] + b[i]);
    }
}

/* rows of n values at in + stride * row: out row i is the weighted sum of its neighbours. */
static void blur_rows(float *out, const float *in, int32_t rows, size_t n, const float *weight,
                      int radius) {
    for (int32_t i = 0; i < rows; i++) {
        float *to = out + (size_t)i * n;
        scale_row(to, in + (size_t)i * n, weight[0], n);
        for (int r = 1; r <= radius; r++) {
            add_rows(to, in + (size_t)reflect(i - r, rows) * n,
                     in + (size_t)reflect(i + r, rows) * n, weight[r], n);
        }
    }
}

/* Along x: each row is copied with its reflected ends. padded holds n + 2 * VX_BLUR_RADIUS_MAX
 * values. */
static void blur_along_x(float *out, const float *in, int32_t rows, int32_t n, const float *weight,
                         int radius, float *padded) {
    for (int32_t i = 0; i < rows; i++) {
        const float *from = in + (size_t)i * (size_t)n;
        float *to = out + (size_t)i * (size_t)n;
        memcpy(padded + radius, from, (size_t)n * sizeof *from);
        for (int r = 1; r <= radius; r++) {
            padded[radius - r] = from[reflect(-r, n)];
            padded[radius + n - 1 + r] = from[reflect(n - 1 + r, n)];
        }
        scale_row(to, padded + radius, weight[0], (size_t)n);
        for (int r = 1; r <= radius; r++) {
            add_rows(to, padded + radius - r, padded + radius + r, weight[r], (size_t)n);
        }
    }
}

void vx_aug_blur(float *x, const int32_t size[3], const float sigma[3], uint32_t axes,
                 float *scratch) {
    size_t plane = (size_t)size[1] * (size_t)size[2], volume = plane * (size_t)size[0];
    float *whole = scratch, *half = scratch + volume, *padded = half + plane;
    float weight[VX_BLUR_RADIUS_MAX + 1];
    const float *from = x;
    if (axes & 1u) {
        int radius = vx_aug_blur_kernel(sigma[0], weight);
        blur_rows(whole, x, size[0], plane, weight, radius);
        from = whole;
    }
    float weight_x[VX_BLUR_RADIUS_MAX + 1];
    int radius_y = vx_aug_blur_kernel(sigma[1], weight);
    int radius_x = vx_aug_blur_kernel(sigma[2], weight_x);
    for (int32_t z = 0; z < size[0]; z++) {
        size_t at = (size_t)z * plane;
        blur_rows(half, from + at, size[1], (size_t)size[2], weight, radius_y);
        blur_along_x(x + at, half, size[1], size[2], weight_x, radius_x, padded);
    }
}

/* --- low resolution --- */

/* For each output index of an axis: two input indices and the fraction between them. */
struct ladder {
    int32_t *lo, *hi;
    float *f;
};

static void make_ladder(struct ladder *l, int32_t in, int32_t out) {
    for (int32_t o = 0; o < out; o++) {
        vx_linear_source(o, in, out, &l->lo[o], &l->hi[o], &l->f[o]);
    }
}

static void shrink(const float *x, const int32_t size[3], const int32_t small[3], float *out) {
    for (int32_t z = 0; z < small[0]; z++) {
        int32_t iz = vx_nearest_exact(z, size[0], small[0]);
        for (int32_t y = 0; y < small[1]; y++) {
            int32_t iy = vx_nearest_exact(y, size[1], small[1]);
            const float *from = x + ((size_t)iz * (size_t)size[1] + (size_t)iy) * (size_t)size[2];
            for (int32_t i = 0; i < small[2]; i++) {
                *out++ = from[vx_nearest_exact(i, size[2], small[2])];
            }
        }
    }
}

VX_CLONES
static void widen_row(float *restrict out, const float *restrict in, const struct ladder *l,
                      int32_t n) {
    const int32_t *restrict lo = l->lo, *restrict hi = l->hi;
    const float *restrict f = l->f;
    for (int32_t i = 0; i < n; i++) {
        out[i] = vx_lerp(in[lo[i]], in[hi[i]], f[i]);
    }
}

VX_CLONES
static void mix_rows(float *restrict out, const float *restrict a, const float *restrict b, float f,
                     size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = vx_lerp(a[i], b[i], f);
    }
}

void vx_aug_lowres(float *x, const int32_t size[3], float zoom, uint32_t axes, float *scratch) {
    int32_t small[3];
    for (int i = 0; i < 3; i++) {
        small[i] = axes >> i & 1u ? (int32_t)rint((double)size[i] * (double)zoom) : size[i];
        small[i] = small[i] < 1 ? 1 : small[i];
    }
    size_t plane = (size_t)size[1] * (size_t)size[2], volume = plane * (size_t)size[0];
    float *down = scratch, *wide = scratch + volume, *slab = wide + volume;
    int32_t *index = (int32_t *)(slab + plane);
    struct ladder l[3];
    for (int i = 0; i < 3; i++) {
        l[i] = (struct ladder){index, index + size[i], (float *)(index + 2 * size[i])};
        make_ladder(&l[i], small[i], size[i]);
        index += 3 * size[i];
    }
    shrink(x, size, small, down);
    size_t rows = (size_t)small[0] * (size_t)small[1], width = (size_t)size[2];
    for (size_t r = 0; r < rows; r++) {
        widen_row(wide + r * width, down + r * (size_t)small[2], &l[2], size[2]);
    }
    size_t slab_values = (size_t)small[1] * width;
    for (int32_t z = 0; z < size[0]; z++) {
        mix_rows(slab, wide + (size_t)l[0].lo[z] * slab_values,
                 wide + (size_t)l[0].hi[z] * slab_values, l[0].f[z], slab_values);
        for (int32_t y = 0; y < size[1]; y++) {
            mix_rows(x + (size_t)z * plane + (size_t)y * width, slab + (size_t)l[1].lo[y] * width,
                     slab + (size_t)l[1].hi[y] * width, l[1].f[y], width);
        }
    }
}
