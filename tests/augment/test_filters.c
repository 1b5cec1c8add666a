/* Blur, low resolution, mirroring and masking against direct sums in double. */
#include "alone.h"

#include <math.h>

/* The place of voxel (z, y, x) before it was mirrored. */
static size_t unmirrored(const int32_t s[3], uint32_t mirror, int32_t z, int32_t y, int32_t x) {
    return alone_index(s, mirror & 1 ? s[0] - 1 - z : z, mirror & 2 ? s[1] - 1 - y : y,
                       mirror & 4 ? s[2] - 1 - x : x);
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

static double blurred(const float *x, const int32_t s[3], const float sigma[3], const int r[3],
                      int32_t z, int32_t y, int32_t w) {
    double sum = 0, weights = 0;
    for (int dz = -r[0]; dz <= r[0]; dz++) {
        for (int dy = -r[1]; dy <= r[1]; dy++) {
            for (int dx = -r[2]; dx <= r[2]; dx++) {
                double q = dz * dz / ((double)sigma[0] * sigma[0]) +
                           dy * dy / ((double)sigma[1] * sigma[1]) +
                           dx * dx / ((double)sigma[2] * sigma[2]);
                double weight = exp(-q / 2);
                weights += weight;
                sum += weight * x[alone_index(s, mirrored(z + dz, s[0]), mirrored(y + dy, s[1]),
                                              mirrored(w + dx, s[2]))];
            }
        }
    }
    return sum / weights;
}

static void check_blur(const int32_t s[3], const float sigma[3], uint32_t axes, uint32_t mirror) {
    EACH_KERNELS(k) {
        vx_auto_free float *before = alone_image(alone_voxels(s), -1, 1);
        vx_auto_free float *x = alone_image(alone_voxels(s), -1, 1);
        struct vx_aug_params a;
        vx_aug_identity(&a);
        a.blur = 1;
        a.mirror = mirror;
        memcpy(a.blur_sigma[0], sigma, sizeof a.blur_sigma[0]);
        alone_apply(k, s, 1, 0, &a, x, NULL);
        int r[3];
        for (int i = 0; i < 3; i++) {
            r[i] = axes >> i & 1 ? taps_of((double)sigma[i]) / 2 : 0;
        }
        for (int32_t z = 0; z < s[0]; z++) {
            for (int32_t y = 0; y < s[1]; y++) {
                for (int32_t w = 0; w < s[2]; w++) {
                    double want = blurred(before, s, sigma, r, z, y, w);
                    cr_assert_float_eq(x[unmirrored(s, mirror, z, y, w)], want, 1e-6, "%s",
                                       k->name);
                }
            }
        }
    }
}

Test(augment_filters, blur_is_a_gaussian_sum) {
    check_blur((int32_t[3]){7, 9, 11}, (float[3]){0.5f, 0.8f, 1.0f}, 7, 0);
    check_blur((int32_t[3]){5, 4, 6}, (float[3]){0.93f, 0.55f, 0.7f}, 7, 7);
    check_blur((int32_t[3]){1, 9, 12}, (float[3]){0.6f, 0.9f, 0.75f}, 6, 4);
    check_blur((int32_t[3]){2, 2, 3}, (float[3]){1.0f, 1.0f, 1.0f}, 7, 1);  /* less than the taps */
    check_blur((int32_t[3]){4, 3, 19}, (float[3]){3.0f, 2.1f, 2.6f}, 7, 2); /* far beyond nnU-Net */
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

static double shrunken(const float *x, const int32_t s[3], float zoom, uint32_t axes, int32_t z,
                       int32_t y, int32_t w) {
    const int32_t o[3] = {z, y, w};
    int32_t at[3][2];
    double weight[3][2], sum = 0;
    for (int a = 0; a < 3; a++) {
        int32_t small = axes >> a & 1 ? (int32_t)rint(s[a] * (double)zoom) : s[a];
        ladder(o[a], s[a], small, at[a], weight[a]);
    }
    for (int c = 0; c < 8; c++) {
        sum += weight[0][c & 1] * weight[1][c >> 1 & 1] * weight[2][c >> 2] *
               x[alone_index(s, at[0][c & 1], at[1][c >> 1 & 1], at[2][c >> 2])];
    }
    return sum;
}

static void check_lowres(const int32_t s[3], float zoom, uint32_t axes, uint32_t mirror) {
    EACH_KERNELS(k) {
        vx_auto_free float *before = alone_image(alone_voxels(s), -1, 1);
        vx_auto_free float *x = alone_image(alone_voxels(s), -1, 1);
        struct vx_aug_params a;
        vx_aug_identity(&a);
        a.lowres = 1;
        a.zoom[0] = zoom;
        a.mirror = mirror;
        alone_apply(k, s, 1, 0, &a, x, NULL);
        for (int32_t z = 0; z < s[0]; z++) {
            for (int32_t y = 0; y < s[1]; y++) {
                for (int32_t w = 0; w < s[2]; w++) {
                    double want = shrunken(before, s, zoom, axes, z, y, w);
                    cr_assert_float_eq(x[unmirrored(s, mirror, z, y, w)], want, 1e-5, "%s %d %d %d",
                                       k->name, z, y, w);
                }
            }
        }
    }
}

Test(augment_filters, low_resolution_is_nearest_down_and_linear_up) {
    check_lowres((int32_t[3]){10, 13, 17}, 0.5f, 7, 0);
    check_lowres((int32_t[3]){10, 13, 17}, 0.73f, 7, 5);
    check_lowres((int32_t[3]){10, 14, 18}, 0.5f, 7, 7); /* picks the upper of two: not symmetric */
    check_lowres((int32_t[3]){10, 13, 17}, 1.0f, 7, 2);
    check_lowres((int32_t[3]){4, 13, 17}, 0.61f, 6, 0);
    check_lowres((int32_t[3]){1, 13, 17}, 0.55f, 6, 6);
    check_lowres((int32_t[3]){3, 28, 56}, 0.8215f, 6, 0); /* 28 to 23 and 56 to 46 */
}

Test(augment_filters, mirror_moves_voxels) {
    const int32_t s[3] = {3, 4, 21};
    size_t n = alone_voxels(s);
    EACH_KERNELS(k) {
        for (uint32_t axes = 0; axes < 8; axes++) {
            vx_auto_free float *x = alone_image(n, -1, 1), *before = alone_image(n, -1, 1);
            int16_t label[3 * 4 * 21];
            struct vx_aug_params a;
            for (size_t i = 0; i < n; i++) {
                label[i] = (int16_t)i;
            }
            vx_aug_identity(&a);
            a.mirror = axes;
            alone_apply(k, s, 1, 0, &a, x, label);
            for (int32_t z = 0; z < s[0]; z++) {
                for (int32_t y = 0; y < s[1]; y++) {
                    for (int32_t w = 0; w < s[2]; w++) {
                        size_t at = alone_index(s, z, y, w), from = unmirrored(s, axes, z, y, w);
                        cr_assert_eq(x[at], before[from]);
                        cr_assert_eq(label[at], (int16_t)from);
                    }
                }
            }
        }
    }
}

Test(augment_filters, labels_mask_channels_and_lose_minus_one) {
    EACH_KERNELS(k) {
        const int32_t s[3] = {1, 1, 4};
        float image[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        int16_t label[4] = {-1, 0, 2, -1};
        struct vx_aug_params a;
        vx_aug_identity(&a);
        alone_apply(k, s, 2, 2, &a, image, label); /* the second channel is masked */
        const float want[8] = {1, 2, 3, 4, 0, 6, 7, 0};
        cr_assert_eq(memcmp(image, want, sizeof want), 0);
        cr_assert(label[0] == 0 && label[1] == 0 && label[2] == 2 && label[3] == 0);
    }
}
