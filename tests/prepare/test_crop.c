/* Crop to nonzero against the obvious version of hole filling. */
#include "prepare/crop.h"

#include "base/err.h"
#include "base/rng.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Background grows from the edge until nothing changes. */
static void fill_slowly(const float *image, int channels, const int64_t n[3], uint8_t *mask) {
    int64_t voxels = n[0] * n[1] * n[2], step[3] = {n[1] * n[2], n[2], 1};
    memset(mask, 1, (size_t)voxels);
    for (bool changed = true; changed;) {
        changed = false;
        for (int64_t i = 0; i < voxels; i++) {
            int64_t at[3] = {i / step[0], i / n[2] % n[1], i % n[2]};
            bool zero = true, outside = false;
            for (int c = 0; c < channels; c++) {
                zero = zero && image[c * voxels + i] == 0;
            }
            for (int a = 0; a < 3; a++) {
                outside = outside || at[a] == 0 || at[a] == n[a] - 1 || !mask[i - step[a]] ||
                          !mask[i + step[a]];
            }
            if (mask[i] && zero && outside) {
                mask[i] = 0;
                changed = true;
            }
        }
    }
}

Test(prepare_crop, fills_holes_like_the_obvious_version) {
    const int64_t shapes[][3] = {{9, 8, 7}, {1, 12, 11}, {12, 1, 9}, {3, 3, 3}, {10, 10, 1}};
    for (uint32_t trial = 0; trial < 200; trial++) {
        const int64_t *n = shapes[trial % 5];
        int64_t voxels = n[0] * n[1] * n[2];
        int channels = 1 + (int)(trial % 2);
        float *image = calloc((size_t)(voxels * channels), sizeof *image);
        uint8_t *mask = malloc((size_t)voxels), *truth = malloc((size_t)voxels);
        struct vx_rng r = vx_rng_at(trial, 0, 0, 0, 1);
        uint32_t share = 1 + trial % 9; /* of ten voxels */
        for (int64_t i = 0; i < voxels * channels; i++) {
            image[i] = vx_rng_below(&r, 10) < share ? -1.5f : 0.0f;
        }
        struct vx_crop_box box;
        cr_assert_eq(vx_crop_find(image, channels, n, mask, &box, NULL), VX_OK);
        fill_slowly(image, channels, n, truth);
        cr_assert_eq(memcmp(mask, truth, (size_t)voxels), 0, "trial %u", trial);
        for (int64_t i = 0; i < voxels; i++) {
            int64_t at[3] = {i / n[2] / n[1], i / n[2] % n[1], i % n[2]};
            for (int a = 0; a < 3 && mask[i]; a++) {
                cr_assert(at[a] >= box.lo[a] && at[a] < box.hi[a]);
            }
        }
        free(image);
        free(mask);
        free(truth);
    }
}

Test(prepare_crop, shell_with_a_hole) {
    /* A hollow cube of edge 5 at (2, 1, 3): its inside is filled, and stays filled until a face has
     * a hole. */
    const int64_t n[3] = {9, 8, 10};
    static float image[9 * 8 * 10];
    uint8_t mask[9 * 8 * 10];
    for (int z = 2; z < 7; z++) {
        for (int y = 1; y < 6; y++) {
            for (int x = 3; x < 8; x++) {
                bool face = z == 2 || z == 6 || y == 1 || y == 5 || x == 3 || x == 7;
                image[(z * 8 + y) * 10 + x] = face ? 7.0f : 0.0f;
            }
        }
    }
    struct vx_crop_box box;
    cr_assert_eq(vx_crop_find(image, 1, n, mask, &box, NULL), VX_OK);
    const struct vx_crop_box want = {{2, 1, 3}, {7, 6, 8}};
    cr_assert_eq(memcmp(&box, &want, sizeof box), 0);
    cr_assert_eq(mask[(4 * 8 + 3) * 10 + 5], 1);
    image[(2 * 8 + 3) * 10 + 5] = 0;
    cr_assert_eq(vx_crop_find(image, 1, n, mask, &box, NULL), VX_OK);
    cr_assert_eq(mask[(4 * 8 + 3) * 10 + 5], 0);
    cr_assert_eq(memcmp(&box, &want, sizeof box), 0);
}

Test(prepare_crop, nothing_but_zeros_keeps_the_whole) {
    const int64_t n[3] = {2, 3, 4};
    float image[24] = {0};
    uint8_t mask[24];
    struct vx_crop_box box;
    cr_assert_eq(vx_crop_find(image, 1, n, mask, &box, NULL), VX_OK);
    const struct vx_crop_box want = {{0, 0, 0}, {2, 3, 4}};
    cr_assert_eq(memcmp(&box, &want, sizeof box), 0);
}

Test(prepare_crop, cuts_channels_and_marks_the_outside) {
    const int64_t n[3] = {1, 3, 4};
    const float image[24] = {0, 0, 0, 0, 0, 5, 0, 6, 0, 0, 0, 0, /* channel 0 */
                             0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0};
    const int16_t labels[12] = {9, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0};
    uint8_t mask[12];
    struct vx_crop_box box;
    int64_t shape[3];
    float cut[12];
    int16_t seg[6];
    cr_assert_eq(vx_crop_find(image, 2, n, mask, &box, NULL), VX_OK);
    vx_crop_box_shape(&box, shape);
    cr_assert_eq(shape[0], 1);
    cr_assert_eq(shape[1], 2);
    cr_assert_eq(shape[2], 3);
    vx_crop_image(image, 2, n, &box, cut);
    const float want[12] = {5, 0, 6, 0, 0, 0, 0, 0, 0, 0, 8, 0};
    cr_assert_eq(memcmp(cut, want, sizeof want), 0);
    vx_crop_labels(labels, mask, n, &box, seg);
    const int16_t want_seg[6] = {0, 2, 0, -1, 0, -1}; /* 2 stays although the image is 0 there */
    cr_assert_eq(memcmp(seg, want_seg, sizeof want_seg), 0);
    vx_crop_labels(NULL, mask, n, &box, seg);
    const int16_t want_none[6] = {0, -1, 0, -1, 0, -1};
    cr_assert_eq(memcmp(seg, want_none, sizeof want_none), 0);
}
