/* Blur, low resolution and mirroring against direct sums in double. */
#include "augment/parts.h"
#include "base/own.h"
#include "base/rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static float *noise(const int32_t s[3]) {
    size_t n = (size_t)s[0] * (size_t)s[1] * (size_t)s[2];
    float *x = malloc(n * sizeof *x);
    struct vx_rng r = vx_rng_at(4, 0, 0, 0, 902);
    for (size_t i = 0; i < n; i++) {
        x[i] = vx_rng_uniform(&r, -1, 1);
    }
    return x;
}

static size_t index_of(const int32_t s[3], int32_t z, int32_t y, int32_t x) {
    return ((size_t)z * (size_t)s[1] + (size_t)y) * (size_t)s[2] + (size_t)x;
}

static float *scratch_for(const int32_t s[3]) {
    size_t n = (size_t)s[0] * (size_t)s[1] * (size_t)s[2];
    return malloc((3 * n + 16 * (size_t)(s[0] + s[1] + s[2]) + 64) * sizeof(float));
}

static int32_t mirrored(int32_t i, int32_t n) {
    int32_t period = n > 1 ? 2 * (n - 1) : 1;
    i = ((i % period) + period) % period;
    return i < n ? i : period - i;
}

static int taps_of(double sigma) {
    int taps = (int)lround(6 * sigma + 0.5); /* then to the nearest odd number */
    double exact = 6 * sigma + 0.5;
    return taps % 2 == 1 ? taps : (exact - taps >= 0 ? taps + 1 : taps - 1);
}

static void check_blur(const int32_t s[3], const float sigma[3], uint32_t axes) {
    vx_auto_free float *x = noise(s), *before = noise(s), *scratch = scratch_for(s);
    vx_aug_blur(x, s, sigma, axes, scratch);
    for (int32_t z = 0; z < s[0]; z++) {
        for (int32_t y = 0; y < s[1]; y++) {
            for (int32_t w = 0; w < s[2]; w++) {
                double sum = 0, weights = 0;
                int r[3];
                for (int a = 0; a < 3; a++) {
                    r[a] = axes >> a & 1 ? taps_of((double)sigma[a]) / 2 : 0;
                }
                for (int dz = -r[0]; dz <= r[0]; dz++) {
                    for (int dy = -r[1]; dy <= r[1]; dy++) {
                        for (int dx = -r[2]; dx <= r[2]; dx++) {
                            double q = dz * dz / ((double)sigma[0] * sigma[0]) +
                                       dy * dy / ((double)sigma[1] * sigma[1]) +
                                       dx * dx / ((double)sigma[2] * sigma[2]);
                            double weight = exp(-q / 2);
                            weights += weight;
                            sum += weight *
                                   before[index_of(s, mirrored(z + dz, s[0]),
                                                   mirrored(y + dy, s[1]), mirrored(w + dx, s[2]))];
                        }
                    }
                }
                cr_assert_float_eq(x[index_of(s, z, y, w)], sum / weights, 1e-6);
            }
        }
    }
}

Test(augment_filters, blur_is_a_gaussian_sum) {
    check_blur((int32_t[3]){7, 9, 11}, (float[3]){0.5f, 0.8f, 1.0f}, 7);
    check_blur((int32_t[3]){5, 4, 6}, (float[3]){0.93f, 0.55f, 0.7f}, 7);
    check_blur((int32_t[3]){1, 9, 12}, (float[3]){0.6f, 0.9f, 0.75f}, 6);
    check_blur((int32_t[3]){2, 2, 3}, (float[3]){1.0f, 1.0f, 1.0f},
               7); /* smaller than the kernel */
}

Test(augment_filters, blur_taps_are_the_nearest_odd_number) {
    float w[VX_BLUR_RADIUS_MAX + 1];
    for (double sigma = 0.5; sigma <= 1.0; sigma += 0.01) {
        int radius = vx_aug_blur_kernel((float)sigma, w);
        cr_assert_eq(2 * radius + 1, taps_of((double)(float)sigma), "sigma %g", sigma);
        double sum = w[0];
        for (int i = 1; i <= radius; i++) {
            sum += 2 * w[i];
        }
        cr_assert_float_eq(sum, 1, 1e-6);
    }
}

/* The value of the shrunken axis-wise grid at output o, as pairs of source indices and weights. */
static void ladder(int32_t o, int32_t size, int32_t small, int32_t at[2], double weight[2]) {
    double pos = fmax((o + 0.5) * small / size - 0.5, 0);
    int32_t lo = (int32_t)fmin(floor(pos), small - 1);
    int32_t hi = lo + 1 < small ? lo + 1 : lo;
    double f = pos - lo;
    /* in floats, as PyTorch has it */
    float step = (float)size / (float)small;
    at[0] = (int32_t)floorf(((float)lo + 0.5f) * step);
    at[1] = (int32_t)floorf(((float)hi + 0.5f) * step);
    weight[0] = 1 - f;
    weight[1] = f;
}

static void check_lowres(const int32_t s[3], float zoom, uint32_t axes) {
    vx_auto_free float *x = noise(s), *before = noise(s), *scratch = scratch_for(s);
    vx_aug_lowres(x, s, zoom, axes, scratch);
    for (int32_t z = 0; z < s[0]; z++) {
        for (int32_t y = 0; y < s[1]; y++) {
            for (int32_t w = 0; w < s[2]; w++) {
                const int32_t o[3] = {z, y, w};
                int32_t at[3][2];
                double weight[3][2];
                for (int a = 0; a < 3; a++) {
                    int32_t small = axes >> a & 1 ? (int32_t)rint(s[a] * (double)zoom) : s[a];
                    ladder(o[a], s[a], small, at[a], weight[a]);
                }
                double want = 0;
                for (int c = 0; c < 8; c++) {
                    want += weight[0][c & 1] * weight[1][c >> 1 & 1] * weight[2][c >> 2] *
                            before[index_of(s, at[0][c & 1], at[1][c >> 1 & 1], at[2][c >> 2])];
                }
                cr_assert_float_eq(x[index_of(s, z, y, w)], want, 1e-5, "%d %d %d", z, y, w);
            }
        }
    }
}

Test(augment_filters, low_resolution_is_nearest_down_and_linear_up) {
    check_lowres((int32_t[3]){10, 13, 17}, 0.5f, 7);
    check_lowres((int32_t[3]){10, 13, 17}, 0.73f, 7);
    check_lowres((int32_t[3]){10, 13, 17}, 1.0f, 7);
    check_lowres((int32_t[3]){4, 13, 17}, 0.61f, 6);
    check_lowres((int32_t[3]){1, 13, 17}, 0.55f, 6);
    check_lowres((int32_t[3]){3, 28, 56}, 0.8215f, 6); /* 28 to 23 and 56 to 46 */
}

Test(augment_filters, mirror_moves_voxels) {
    const int32_t s[3] = {3, 4, 5};
    for (uint32_t axes = 0; axes < 8; axes++) {
        vx_auto_free float *x = noise(s), *before = noise(s);
        int16_t label[60];
        for (int i = 0; i < 60; i++) {
            label[i] = (int16_t)(i - 1);
        }
        vx_aug_mirror_image(x, s, axes);
        vx_aug_mirror_label(label, s, axes);
        for (int32_t z = 0; z < 3; z++) {
            for (int32_t y = 0; y < 4; y++) {
                for (int32_t w = 0; w < 5; w++) {
                    size_t from = index_of(s, axes & 1 ? 2 - z : z, axes & 2 ? 3 - y : y,
                                           axes & 4 ? 4 - w : w);
                    cr_assert_eq(x[index_of(s, z, y, w)], before[from]);
                    cr_assert_eq(label[index_of(s, z, y, w)], (int16_t)((int)from - 1));
                }
            }
        }
    }
}

Test(augment_filters, labels_mask_channels_and_lose_minus_one) {
    float image[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    int16_t label[4] = {-1, 0, 2, -1};
    vx_aug_labels(image, label, 4, 2, 2); /* the second channel is masked */
    const float want[8] = {1, 2, 3, 4, 0, 6, 7, 0};
    cr_assert_eq(memcmp(image, want, sizeof want), 0);
    cr_assert(label[0] == 0 && label[1] == 0 && label[2] == 2 && label[3] == 0);
}
