/* Moves with a bias, input images, filters: kernels on the CPU against plain loops. */
#include "device/kernels/fixture.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Test(kernels_moves, bias_goes_into_a_slice_of_the_concatenation) {
    const int64_t voxels = 9 * 10 * 11;
    struct host_tensor in = host_tensor_new(2, 12, 16, voxels, 16, 0);
    struct host_tensor out = host_tensor_new(2, 12, 16, voxels, 48, 32);
    double *plain = malloc(2 * 12 * (size_t)voxels * sizeof *plain);
    host_tensor_fill(&in, 0, 1, 1, plain);
    float bias[12];
    for (int c = 0; c < 12; c++) {
        bias[c] = 0.25f * (float)(c - 5);
        for (int64_t i = 0; i < 2 * voxels; i++) {
            plain[(i / voxels * 12 + c) * voxels + i % voxels] += (double)bias[c];
        }
    }
    cr_assert_eq(vx_cuda_bias_forward(in.view, bias, 12, 16, 2 * voxels, out.view, NULL), 0);
    cr_assert_leq(host_rounding_error(&out, plain, 1e-7), 1);
    cr_assert(host_tensor_intact(&out));
    cr_assert_eq(vx_cuda_bias_forward(in.view, NULL, 12, 16, 2 * voxels, out.view, NULL), 0);
    cr_assert_eq(host_tensor_at(&out, 1, 3, 77), host_tensor_at(&in, 1, 3, 77));
    free(plain);
    host_tensor_free(&in);
    host_tensor_free(&out);
}

struct backward {
    struct host_tensor grads[2], out;
    float dbias[72];
};

static void run_backward(struct backward *b, enum host_order order, bool packed) {
    const int64_t voxels = 20 * 21 * 22;
    memset(b, 0, sizeof *b);
    b->grads[0] = host_tensor_new(2, 72, 72, voxels, 144, 72);
    b->grads[1] = host_tensor_new(2, 72, 72, voxels, 72, 0);
    b->out = host_tensor_new(2, 72, 72, voxels, 72, 0);
    host_tensor_fill(&b->grads[0], 0.1, 1, 21, NULL);
    host_tensor_fill(&b->grads[1], -0.2, 1, 22, NULL);
    struct vx_cuda_view views[2] = {b->grads[0].view, b->grads[1].view};
    struct vx_cuda_view none = {0};
    void *workspace = host_workspace(vx_cuda_bias_workspace(72, 2 * voxels));
    host_set_order(order);
    host_claims();
    cr_assert_eq(vx_cuda_bias_backward(views, 2, 72, 72, 2 * voxels, packed ? b->out.view : none,
                                       b->dbias, workspace, NULL),
                 0);
    host_set_order(HOST_IN_ORDER);
    cr_assert(host_workspace_clean(workspace));
    cr_assert_eq(host_claims(), 2); /* 72 channels are two groups */
    free(workspace);
}

static void free_backward(struct backward *b) {
    host_tensor_free(&b->grads[0]);
    host_tensor_free(&b->grads[1]);
    host_tensor_free(&b->out);
}

Test(kernels_moves, bias_gradient_packs_and_sums) {
    struct backward b, other;
    run_backward(&b, HOST_IN_ORDER, true);
    size_t count = 2 * 72 * (size_t)b.out.voxels;
    double *plain = malloc(count * sizeof *plain), *second = malloc(count * sizeof *second);
    host_tensor_fill(&b.grads[0], 0.1, 1, 21, plain);
    host_tensor_fill(&b.grads[1], -0.2, 1, 22, second);
    double sum[72] = {0};
    for (size_t i = 0; i < count; i++) {
        plain[i] += second[i];
        sum[i / (size_t)b.out.voxels % 72] += plain[i];
    }
    cr_assert_leq(host_rounding_error(&b.out, plain, 1e-6), 1);
    for (int c = 0; c < 72; c++) {
        cr_assert_float_eq((double)b.dbias[c], sum[c], 2e-3, "channel %d", c);
    }
    for (int order = HOST_IN_ORDER; order < HOST_ORDERS; order++) {
        run_backward(&other, (enum host_order)order, order % 2 == 0);
        cr_assert_arr_eq(other.dbias, b.dbias, sizeof b.dbias);
        free_backward(&other);
    }
    free(plain);
    free(second);
    free_backward(&b);
}

Test(kernels_moves, images_become_voxels_with_padded_channels) {
    const int64_t voxels = 1000, stride = 5555;
    for (int channels = 1; channels <= 9; channels += 4) {
        int padded = (channels + 7) / 8 * 8;
        float *slots = malloc(2 * (size_t)(stride + channels * voxels) * sizeof *slots);
        struct host_tensor out = host_tensor_new(2, channels, padded, voxels, padded, 0);
        uint64_t seed = 9;
        for (int64_t i = 0; i < 2 * (stride + channels * voxels); i++) {
            slots[i] = (float)host_draw(&seed);
        }
        int64_t apart = channels == 9 ? 9 * voxels : stride;
        cr_assert_eq(vx_cuda_load_images(slots, apart, 2, channels, padded, voxels, out.view, NULL),
                     0);
        cr_assert(host_tensor_intact(&out));
        for (int n = 0; n < 2; n++) {
            for (int c = 0; c < channels; c++) {
                for (int64_t v = 0; v < voxels; v++) {
                    float want = host_from_bf16(host_to_bf16(slots[n * apart + c * voxels + v]));
                    cr_assert_eq(host_tensor_at(&out, n, c, v), want);
                }
            }
        }
        free(slots);
        host_tensor_free(&out);
    }
}

Test(kernels_moves, filters_cross_exactly) {
    const struct vx_cuda_filter f = {.k = 5, .c = 3, .taps = 27, .k_padded = 8, .c_padded = 8};
    enum { TORCH = 5 * 3 * 27, PADDED = 8 * 27 * 8 };
    float torch[TORCH], padded[PADDED], back[TORCH];
    uint16_t copy[PADDED];
    uint64_t seed = 4;
    for (int i = 0; i < TORCH; i++) {
        torch[i] = (float)host_draw(&seed);
    }
    memset(padded, 0xff, sizeof padded);
    cr_assert_eq(vx_cuda_filter_pack(&f, torch, padded, copy, NULL), 0);
    for (int i = 0; i < PADDED; i++) {
        int k = i / (27 * 8), tap = i / 8 % 27, c = i % 8;
        float want = k < 5 && c < 3 ? torch[(k * 3 + c) * 27 + tap] : 0;
        cr_assert_eq(padded[i], want, "element %d", i);
        cr_assert_eq(copy[i], host_to_bf16(want), "element %d", i);
    }
    cr_assert_eq(vx_cuda_filter_unpack(&f, padded, back, NULL), 0);
    cr_assert_arr_eq(back, torch, sizeof torch);
    cr_assert_eq(vx_cuda_filter_unpack_bf16(&f, copy, back, NULL), 0);
    for (int i = 0; i < TORCH; i++) {
        cr_assert_eq(back[i], host_from_bf16(host_to_bf16(torch[i])));
    }
}
