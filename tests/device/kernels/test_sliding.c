/* Tiles cut, added and divided: kernels on the CPU by the rules of infer/sliding.h, with a
 * network that gives its input back. */
#include "device/kernels/fixture.h"
#include "infer/sliding.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct scene {
    int64_t volume[3];
    int patch[3], channels, padded;
    float *image, *importance, *weights;
    int64_t voxels, tile;
};

static struct scene make_scene(const int64_t volume[3], const int patch[3], int channels) {
    struct scene s = {.channels = channels,
                      .padded = (channels + 7) / 8 * 8,
                      .voxels = volume[0] * volume[1] * volume[2],
                      .tile = (int64_t)patch[0] * patch[1] * patch[2]};
    memcpy(s.volume, volume, sizeof s.volume);
    memcpy(s.patch, patch, sizeof s.patch);
    s.image = malloc((size_t)(channels * s.voxels) * sizeof *s.image);
    uint64_t seed = 8;
    for (int64_t i = 0; i < channels * s.voxels; i++) {
        s.image[i] = host_from_bf16(host_to_bf16((float)host_draw(&seed)));
    }
    s.importance = malloc((size_t)(patch[0] + patch[1] + patch[2]) * sizeof(float));
    s.weights = calloc((size_t)(volume[0] + volume[1] + volume[2]), sizeof(float));
    float *importance = s.importance, *weights = s.weights;
    for (int a = 0; a < 3; a++) {
        vx_sliding_importance(patch[a], importance);
        for (int64_t k = 0; k < vx_sliding_count(volume[a], patch[a], 0.5); k++) {
            int64_t start = vx_sliding_start(volume[a], patch[a], 0.5, k);
            for (int i = 0; i < patch[a]; i++) {
                if (start + i >= 0 && start + i < volume[a]) {
                    weights[start + i] += importance[i];
                }
            }
        }
        importance += patch[a];
        weights += volume[a];
    }
    return s;
}

static void free_scene(struct scene *s) {
    free(s->image);
    free(s->importance);
    free(s->weights);
}

/* All tiles in all mirrorings through a network that gives its input back, plus a bias. */
static void slide(const struct scene *s, const float *bias, float *sums, int32_t *not_finite) {
    uint16_t *out = malloc((size_t)(s->tile * s->padded) * sizeof *out);
    memset(sums, 0, (size_t)(s->channels * s->voxels) * sizeof *sums);
    int64_t n[3];
    for (int a = 0; a < 3; a++) {
        n[a] = vx_sliding_count(s->volume[a], s->patch[a], 0.5);
    }
    for (int64_t i = 0; i < n[0] * n[1] * n[2] * 8; i++) {
        const int64_t at[3] = {i / 8 / (n[1] * n[2]), i / 8 / n[2] % n[1], i / 8 % n[2]};
        struct vx_cuda_tile tile;
        for (int a = 0; a < 3; a++) {
            tile.volume[a] = s->volume[a];
            tile.patch[a] = s->patch[a];
            tile.start[a] = vx_sliding_start(s->volume[a], s->patch[a], 0.5, at[a]);
            tile.flip[a] = i >> a & 1;
        }
        memset(out, 0xff, (size_t)(s->tile * s->padded) * sizeof *out);
        cr_assert_eq(vx_cuda_cut_tile(&tile, s->image, s->channels, s->padded, out, NULL), 0);
        cr_assert_eq(
            vx_cuda_add_tile(&tile, out, bias, s->channels, s->padded, s->importance, sums, NULL),
            0);
    }
    cr_assert_eq(
        vx_cuda_divide_tiles(s->volume, s->channels, s->weights, 8, sums, not_finite, NULL), 0);
    free(out);
}

static void check_identity(const int64_t volume[3], const int patch[3], int channels) {
    struct scene s = make_scene(volume, patch, channels);
    float *sums = malloc((size_t)(channels * s.voxels) * sizeof *sums), bias[16];
    for (int c = 0; c < 16; c++) {
        bias[c] = 0.5f * (float)c;
    }
    int32_t not_finite = 0;
    slide(&s, bias, sums, &not_finite);
    cr_assert_eq(not_finite, 0);
    for (int64_t i = 0; i < channels * s.voxels; i++) {
        double want = (double)s.image[i] + (double)bias[i / s.voxels];
        cr_assert_float_eq((double)sums[i], want, 2e-5, "value %lld", (long long)i);
    }
    free(sums);
    free_scene(&s);
}

Test(kernels_sliding, a_network_that_gives_its_input_back_gives_the_volume_back) {
    check_identity((const int64_t[]){20, 17, 23}, (const int[]){8, 12, 16}, 2);
    check_identity((const int64_t[]){5, 9, 40}, (const int[]){8, 8, 16}, 11);  /* smaller axes */
    check_identity((const int64_t[]){3, 20, 20}, (const int[]){1, 12, 16}, 1); /* 2d */
}

Test(kernels_sliding, a_mirrored_tile_is_the_tile_backwards) {
    struct scene s = make_scene((const int64_t[]){6, 7, 9}, (const int[]){4, 4, 8}, 1);
    struct vx_cuda_tile tile = {.volume = {6, 7, 9}, .start = {2, -1, 3}, .patch = {4, 4, 8}};
    uint16_t straight[4 * 4 * 8 * 8], flipped[4 * 4 * 8 * 8];
    cr_assert_eq(vx_cuda_cut_tile(&tile, s.image, 1, 8, straight, NULL), 0);
    tile.flip[0] = tile.flip[2] = true;
    cr_assert_eq(vx_cuda_cut_tile(&tile, s.image, 1, 8, flipped, NULL), 0);
    for (int v = 0; v < 4 * 4 * 8; v++) {
        int z = v / 32, y = v / 8 % 4, x = v % 8;
        int other = ((3 - z) * 4 + y) * 8 + 7 - x;
        cr_assert_eq(straight[v * 8], flipped[other * 8]);
        bool inside = y >= 1 && x < 6;
        float want = inside ? s.image[((2 + z) * 7 + y - 1) * 9 + 3 + x] : 0;
        cr_assert_eq(host_from_bf16(straight[v * 8]), want, "voxel %d", v);
    }
    free_scene(&s);
}

Test(kernels_sliding, what_is_not_finite_is_told) {
    struct scene s = make_scene((const int64_t[]){8, 8, 8}, (const int[]){8, 8, 8}, 1);
    float sums[512];
    int32_t not_finite = 0;
    s.image[77] = INFINITY;
    slide(&s, NULL, sums, &not_finite);
    cr_assert_eq(not_finite, 1);
    free_scene(&s);
}

Test(kernels_sliding, logits_are_read_as_planes) {
    uint16_t logits[2 * 5 * 8];
    float bias[3] = {1, 2, 3}, dst[2 * 3 * 5];
    for (int i = 0; i < 80; i++) {
        logits[i] = host_to_bf16((float)i);
    }
    cr_assert_eq(vx_cuda_read_logits(logits, bias, 2, 3, 8, 5, dst, NULL), 0);
    for (int i = 0; i < 30; i++) {
        int n = i / 15, c = i / 5 % 3, v = i % 5;
        cr_assert_eq(dst[i], (float)((n * 5 + v) * 8 + c + c + 1));
    }
}
