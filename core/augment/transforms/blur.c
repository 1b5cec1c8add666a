/* Gaussian blur, separable, a plane at a time: along z from the channel itself, with the planes
 * already overwritten kept aside, then along y and x within the plane. */
#include "augment/transforms/parts.h"

#include <math.h>
#include <string.h>

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

size_t vx_aug_blur_scratch(const int32_t size[3]) {
    size_t plane = (size_t)size[1] * (size_t)size[2];
    return (VX_BLUR_RADIUS_MAX + 1) * plane + (size_t)size[2] + 2 * VX_BLUR_RADIUS_MAX;
}

void vx_aug_blur_begin(struct vx_blur *b, const struct vx_aug_kernels *k, float *x,
                       const int32_t size[3], const float sigma[3], uint32_t axes, float *scratch) {
    size_t plane = (size_t)size[1] * (size_t)size[2];
    *b = (struct vx_blur){.kernels = k, .x = x, .half = scratch};
    memcpy(b->size, size, sizeof b->size);
    for (int i = 0; i < 3; i++) {
        b->radius[i] = axes >> i & 1u ? vx_aug_blur_kernel(sigma[i], b->weight[i]) : 0;
    }
    b->padded = b->half + plane;
    b->kept = b->padded + (size_t)size[2] + 2 * VX_BLUR_RADIUS_MAX;
}

/* Plane z as it was before it was blurred; done: the planes below this one are overwritten. */
static const float *original(const struct vx_blur *b, int32_t z, int32_t done) {
    size_t plane = (size_t)b->size[1] * (size_t)b->size[2];
    return z < done ? b->kept + (size_t)(z % b->radius[0]) * plane : b->x + (size_t)z * plane;
}

static void along_z(const struct vx_blur *b, int32_t z) {
    size_t plane = (size_t)b->size[1] * (size_t)b->size[2];
    float *x = b->x + (size_t)z * plane;
    if (!b->radius[0]) {
        memcpy(b->half, x, plane * sizeof *x);
        return;
    }
    const float *rows[2 * VX_BLUR_RADIUS_MAX + 1] = {x};
    for (int32_t r = 1; r <= b->radius[0]; r++) {
        rows[2 * r - 1] = original(b, reflect(z - r, b->size[0]), z);
        rows[2 * r] = original(b, reflect(z + r, b->size[0]), z);
    }
    b->kernels->taps(b->half, rows, b->weight[0], b->radius[0], plane);
    memcpy(b->kept + (size_t)(z % b->radius[0]) * plane, x, plane * sizeof *x);
}

/* One row along x, through a copy with reflected ends. */
static void along_x(const struct vx_blur *b, float *row) {
    const float *rows[2 * VX_BLUR_RADIUS_MAX + 1];
    int32_t n = b->size[2], radius = b->radius[2];
    float *middle = b->padded + radius;
    memcpy(middle, row, (size_t)n * sizeof *row);
    rows[0] = middle;
    for (int32_t r = 1; r <= radius; r++) {
        middle[-r] = row[reflect(-r, n)];
        middle[n - 1 + r] = row[reflect(n - 1 + r, n)];
        rows[2 * r - 1] = middle - r;
        rows[2 * r] = middle + r;
    }
    b->kernels->taps(row, rows, b->weight[2], radius, (size_t)n);
}

void vx_aug_blur_plane(void *blur, int32_t z) {
    const struct vx_blur *b = blur;
    const float *rows[2 * VX_BLUR_RADIUS_MAX + 1];
    size_t width = (size_t)b->size[2];
    along_z(b, z);
    for (int32_t y = 0; y < b->size[1]; y++) {
        float *row = b->x + ((size_t)z * (size_t)b->size[1] + (size_t)y) * width;
        rows[0] = b->half + (size_t)y * width;
        for (int32_t r = 1; r <= b->radius[1]; r++) {
            rows[2 * r - 1] = b->half + (size_t)reflect(y - r, b->size[1]) * width;
            rows[2 * r] = b->half + (size_t)reflect(y + r, b->size[1]) * width;
        }
        b->kernels->taps(row, rows, b->weight[1], b->radius[1], width);
        along_x(b, row);
    }
}
