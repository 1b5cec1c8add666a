/* Instance norm, affine map and leaky ReLU: kernels on the CPU against the definitions in double.
 */
#include "device/kernels/fixture.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct shape {
    int n, channels, size[3];
    double mean, scale; /* of x */
    float slope;
    int n_grads;
};

static const struct shape SHAPES[] = {
    {2, 32, {20, 24, 28}, 0.3, 1, 0.01f, 1},  /* several chunks, one group */
    {1, 8, {5, 7, 3}, 0, 1, 0.01f, 2},        /* less than one full row of threads */
    {3, 5, {1, 9, 11}, -1, 2, 1, 1},          /* padded channels, no activation, 2d */
    {2, 72, {4, 5, 6}, 0.1, 1, 0.01f, 3},     /* two groups of unequal use */
    {2, 320, {4, 4, 4}, 0, 0.5, 0.01f, 2},    /* the coarsest stage */
    {1, 16, {40, 40, 41}, 300, 1, 0.01f, 1},  /* mean far above the deviation */
    {1, 1, {1, 1, 1}, 0, 1, 0.01f, 1},        /* one voxel: variance 0 */
    {9, 32, {10, 14, 10}, 0, 1e-3, 0.01f, 1}, /* small numbers: eps counts */
};

struct norm_case {
    struct shape s;
    int padded;
    int64_t voxels;
    struct host_tensor x, out, copy, dx, grads[VX_CUDA_MAX_GRADS];
    float *gamma, *beta, *moments, *dgamma, *dbeta;
    struct ref_tensor ref_in, ref_out;
    double *ref_dgamma, *ref_dbeta;
    struct vx_op op;
    void *workspace;
};

static void make_tensors(struct norm_case *k) {
    const struct shape *s = &k->s;
    k->x = host_tensor_new(s->n, s->channels, k->padded, k->voxels, k->padded, 0);
    k->out = host_tensor_new(s->n, s->channels, k->padded, k->voxels, k->padded, 0);
    k->copy = host_tensor_new(s->n, s->channels, k->padded, k->voxels, k->padded + 24, 16);
    k->dx = host_tensor_new(s->n, s->channels, k->padded, k->voxels, k->padded, 0);
    host_tensor_fill(&k->x, s->mean, s->scale, 7, k->ref_in.value);
    double *plain = malloc(k->ref_out.count * sizeof *plain);
    for (int i = 0; i < s->n_grads; i++) {
        k->grads[i] =
            host_tensor_new(s->n, s->channels, k->padded, k->voxels, k->padded + 8 * i, 8 * i);
        host_tensor_fill(&k->grads[i], 0.1, 1, 100 + (uint64_t)i, plain);
        for (size_t j = 0; j < k->ref_out.count; j++) {
            k->ref_out.grad[j] += plain[j];
        }
    }
    free(plain);
}

static struct norm_case make_case(const struct shape *s) {
    struct norm_case k = {.s = *s, .padded = (s->channels + 7) / 8 * 8};
    k.voxels = (int64_t)s->size[0] * s->size[1] * s->size[2];
    const int shape[5] = {s->n, s->channels, s->size[0], s->size[1], s->size[2]};
    k.ref_in = host_ref_tensor(shape);
    k.ref_out = host_ref_tensor(shape);
    make_tensors(&k);
    size_t c = (size_t)s->channels;
    k.gamma = malloc(5 * c * sizeof(float) + 2 * (size_t)(s->n * k.padded) * sizeof(float));
    k.beta = k.gamma + c;
    k.dgamma = k.beta + c;
    k.dbeta = k.dgamma + c;
    k.moments = malloc(2 * (size_t)(s->n * k.padded) * sizeof(float));
    k.ref_dgamma = calloc(2 * c, sizeof(double));
    k.ref_dbeta = k.ref_dgamma + c;
    uint64_t seed = 3;
    double *affine = malloc(2 * c * sizeof *affine);
    for (size_t i = 0; i < c; i++) {
        affine[i] = (double)(k.gamma[i] = (float)(1 + 0.2 * host_draw(&seed)));
        affine[c + i] = (double)(k.beta[i] = (float)(0.3 * host_draw(&seed)));
    }
    k.op = (struct vx_op){.kind = VX_OP_NORM_ACT, .slope = s->slope, .eps = 1e-5f};
    ref_norm_act(&k.op, &k.ref_in, affine, affine + c, &k.ref_out);
    ref_norm_act_backward(&k.op, &k.ref_in, affine, affine + c, &k.ref_out, k.ref_dgamma,
                          k.ref_dbeta);
    free(affine);
    k.workspace = host_workspace(vx_cuda_norm_workspace(s->n, k.padded, k.voxels));
    return k;
}

static void free_case(struct norm_case *k) {
    host_tensor_free(&k->x);
    host_tensor_free(&k->out);
    host_tensor_free(&k->copy);
    host_tensor_free(&k->dx);
    for (int i = 0; i < k->s.n_grads; i++) {
        host_tensor_free(&k->grads[i]);
    }
    host_ref_free(&k->ref_in);
    host_ref_free(&k->ref_out);
    free(k->gamma);
    free(k->moments);
    free(k->ref_dgamma);
    free(k->workspace);
}

static void run(struct norm_case *k, enum host_order order) {
    host_set_order(order);
    struct vx_cuda_norm norm = {.n = k->s.n,
                                .channels = k->s.channels,
                                .padded = k->padded,
                                .voxels = k->voxels,
                                .eps = k->op.eps,
                                .slope = k->op.slope,
                                .gamma = k->gamma,
                                .beta = k->beta,
                                .moments = k->moments,
                                .workspace = k->workspace};
    struct vx_cuda_view grads[VX_CUDA_MAX_GRADS];
    for (int i = 0; i < k->s.n_grads; i++) {
        grads[i] = k->grads[i].view;
    }
    cr_assert_eq(vx_cuda_norm_forward(&norm, k->x.view, k->out.view, k->copy.view, NULL), 0);
    cr_assert_eq(vx_cuda_norm_backward(&norm, k->x.view, grads, k->s.n_grads, k->dx.view, k->dgamma,
                                       k->dbeta, NULL),
                 0);
    host_set_order(HOST_IN_ORDER);
}

Test(kernels_norm, forward_and_gradients_are_the_definitions_rounded_once) {
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) {
        struct norm_case k = make_case(&SHAPES[i]);
        run(&k, HOST_IN_ORDER);
        /* In fp32, scale * x + shift of numbers as large as mean / std keeps this much. */
        double lost = 4 * 0x1p-24 * (1 + fabs(k.s.mean) / k.s.scale);
        double e = host_rounding_error(&k.out, k.ref_out.value, lost * 4);
        cr_assert(e <= 1.01, "shape %zu: forward off by %g roundings", i, e);
        /* dx is a difference of terms of this size. */
        double unit = host_largest(k.ref_out.grad, k.ref_out.count) * (double)k.moments[k.padded];
        e = host_rounding_error(&k.dx, k.ref_in.grad, unit * (lost + 1e-5));
        cr_assert(e <= 1.01, "shape %zu: dx off by %g roundings", i, e);
        for (int c = 0; c < k.s.channels; c++) {
            double slack = 1e-5 * (1 + sqrt((double)k.voxels)) + lost * (double)k.voxels;
            cr_assert_float_eq((double)k.dgamma[c], k.ref_dgamma[c], slack, "shape %zu", i);
            cr_assert_float_eq((double)k.dbeta[c], k.ref_dbeta[c], slack, "shape %zu", i);
        }
        free_case(&k);
    }
}

Test(kernels_norm, copy_is_a_slice_and_nothing_around_it_is_touched) {
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) {
        struct norm_case k = make_case(&SHAPES[i]);
        run(&k, HOST_IN_ORDER);
        cr_assert(host_tensor_intact(&k.out) && host_tensor_intact(&k.copy) &&
                      host_tensor_intact(&k.dx),
                  "shape %zu", i);
        for (int c = 0; c < k.padded; c++) {
            for (int64_t v = 0; v < k.voxels; v++) {
                cr_assert_eq(host_tensor_at(&k.out, 0, c, v), host_tensor_at(&k.copy, 0, c, v));
            }
        }
        cr_assert(host_workspace_clean(k.workspace));
        free_case(&k);
    }
}

Test(kernels_norm, order_of_blocks_and_threads_changes_no_bit) {
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) {
        struct norm_case k = make_case(&SHAPES[i]);
        run(&k, HOST_IN_ORDER);
        size_t c = (size_t)k.s.channels;
        float *affine = malloc(2 * c * sizeof *affine);
        memcpy(affine, k.dgamma, 2 * c * sizeof *affine);
        for (int order = HOST_IN_ORDER + 1; order < HOST_ORDERS; order++) {
            struct norm_case other = make_case(&SHAPES[i]);
            run(&other, (enum host_order)order);
            cr_assert_arr_eq(other.out.all, k.out.all, k.out.count * 2, "shape %zu", i);
            cr_assert_arr_eq(other.dx.all, k.dx.all, k.dx.count * 2, "shape %zu", i);
            cr_assert_arr_eq(other.dgamma, affine, 2 * c * sizeof *affine, "shape %zu", i);
            free_case(&other);
        }
        free(affine);
        free_case(&k);
    }
}

Test(kernels_norm, one_voxel_far_off_does_not_spoil_the_variance) {
    /* A first voxel that is nothing like the others is what a fixed pivot would trip over. */
    struct norm_case k = make_case(&(struct shape){1, 8, {32, 32, 32}, 0, 0.01, 0.01f, 1});
    for (int c = 0; c < 8; c++) {
        k.x.all[c] = host_to_bf16(100);
        k.ref_in.value[(int64_t)c * k.voxels] = 100;
    }
    double affine[16];
    for (int c = 0; c < 8; c++) {
        affine[c] = (double)k.gamma[c];
        affine[8 + c] = (double)k.beta[c];
    }
    ref_norm_act(&k.op, &k.ref_in, affine, affine + 8, &k.ref_out);
    run(&k, HOST_IN_ORDER);
    double e = host_rounding_error(&k.out, k.ref_out.value, 1e-5);
    cr_assert(e <= 1.01, "off by %g roundings", e);
    free_case(&k);
}

Test(kernels_norm, one_block_of_each_group_and_sample_ends_the_sums) {
    for (int order = HOST_IN_ORDER; order < HOST_ORDERS; order++) {
        struct norm_case k = make_case(&SHAPES[3]);
        host_claims();
        run(&k, (enum host_order)order);
        cr_assert_eq(host_claims(), 2 * (2 * 2)); /* forward and backward, 2 samples, 2 groups */
        free_case(&k);
    }
}

Test(kernels_norm, in_place_gives_the_same) {
    struct norm_case k = make_case(&SHAPES[0]), other = make_case(&SHAPES[0]);
    run(&k, HOST_IN_ORDER);
    other.dx.view = other.x.view; /* the last use of x */
    run(&other, HOST_IN_ORDER);
    cr_assert_arr_eq(other.x.all, k.dx.all, k.dx.count * 2);
    host_tensor_free(&other.x);
    other.x = host_tensor_new(2, 32, 32, k.voxels, 32, 0);
    host_tensor_fill(&other.x, 0.3, 1, 7, NULL);
    other.dx.view = other.grads[0].view;
    run(&other, HOST_IN_ORDER);
    cr_assert_arr_eq(other.grads[0].all, k.dx.all, k.dx.count * 2);
    free_case(&k);
    free_case(&other);
}

Test(kernels_norm, what_cannot_be_is_refused) {
    struct vx_cuda_norm norm = {.n = 1, .channels = 9, .padded = 8, .voxels = 4};
    struct vx_cuda_view none = {0};
    cr_assert_neq(vx_cuda_norm_forward(&norm, none, none, none, NULL), 0);
    norm.channels = norm.padded = 12;
    cr_assert_neq(vx_cuda_norm_forward(&norm, none, none, none, NULL), 0);
    /* A slice that does not start at a multiple of eight channels, and a width that is none. */
    struct norm_case k = make_case(&SHAPES[1]);
    norm = (struct vx_cuda_norm){.n = 1, .channels = 8, .padded = 8, .voxels = k.voxels};
    struct vx_cuda_view skewed = {.data = k.x.all + 4, .pitch = 8}, odd = {k.x.all, 12};
    cr_assert_neq(vx_cuda_norm_forward(&norm, skewed, k.out.view, none, NULL), 0);
    cr_assert_neq(vx_cuda_norm_forward(&norm, k.x.view, k.out.view, odd, NULL), 0);
    cr_assert_neq(vx_cuda_norm_backward(&norm, k.x.view, &odd, 1, k.dx.view, NULL, NULL, NULL), 0);
    cr_assert_neq(
        vx_cuda_norm_backward(&norm, k.x.view, &k.out.view, 4, k.dx.view, NULL, NULL, NULL), 0);
    free_case(&k);
}
