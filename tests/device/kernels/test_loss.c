/* Targets and loss of all heads: kernels on the CPU against the definitions in double. */
#include "device/kernels/fixture.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADS = 3 };

struct setup {
    int n, classes, size[3], n_heads;
    bool batch_dice, with_bias;
    double scale; /* of logits */
    int padded;   /* 0: as little as can be */
};

static const struct setup SETUPS[] = {
    {2, 3, {24, 20, 28}, 3, false, true, 2},
    {2, 3, {24, 20, 28}, 3, true, true, 2},
    {3, 2, {1, 9, 13}, 1, false, false, 0.05}, /* 2d; most logits tie in bfloat16 */
    {1, 8, {8, 8, 8}, 2, true, false, 30},     /* saturated softmax */
    {2, 9, {10, 9, 8}, 2, false, true, 2},     /* two lanes for a voxel */
    {1, 61, {6, 7, 5}, 1, true, true, 3},
    {2, 6, {9, 8, 11}, 1, false, true, 2, 32}, /* lanes with no class of their own */
    {2, 17, {9, 8, 11}, 1, false, true, 2},    /* three lanes: rows that do not fill the block */
};

/* Foreground weights as nnU-Net has them, the finest largest. */
static const float WEIGHTS[MAX_HEADS] = {4.f / 7, 2.f / 7, 1.f / 7};

struct loss_case {
    struct setup s;
    int padded, shape[MAX_HEADS][3];
    int16_t *labels;
    uint8_t *targets[MAX_HEADS];
    struct host_tensor logits[MAX_HEADS], dlogits[MAX_HEADS];
    float *bias[MAX_HEADS], *dbias[MAX_HEADS];
    struct ref_tensor ref[MAX_HEADS];
    struct vx_run_result want;
    struct vx_cuda_result got;
    struct vx_cuda_loss loss;
};

static void make_labels(struct loss_case *k) {
    size_t count = (size_t)k->s.n * k->s.size[0] * k->s.size[1] * k->s.size[2];
    k->labels = malloc(count * sizeof *k->labels);
    uint64_t seed = 5;
    for (size_t i = 0; i < count; i++) {
        /* -1 lies outside the image; the second sample has no class above 1 */
        int label = (int)lrint(fabs(host_draw(&seed)) * k->s.classes / 2) - 1;
        int top = i < count / 2 ? k->s.classes - 1 : 1;
        k->labels[i] = (int16_t)(label > top ? top : label);
    }
}

static void make_head(struct loss_case *k, int h) {
    const struct setup *s = &k->s;
    int64_t voxels = 1;
    for (int a = 0; a < 3; a++) {
        k->shape[h][a] = (s->size[a] + (1 << h) - 1) >> h;
        voxels *= k->shape[h][a];
    }
    k->targets[h] = malloc((size_t)(s->n * voxels));
    k->logits[h] = host_tensor_new(s->n, s->classes, k->padded, voxels, k->padded, 0);
    k->dlogits[h] = host_tensor_new(s->n, s->classes, k->padded, voxels, k->padded, 0);
    k->bias[h] = malloc(2 * (size_t)s->classes * sizeof(float));
    k->dbias[h] = k->bias[h] + s->classes;
    const int shape[5] = {s->n, s->classes, k->shape[h][0], k->shape[h][1], k->shape[h][2]};
    k->ref[h] = host_ref_tensor(shape);
    host_tensor_fill(&k->logits[h], 0, s->scale, 11 + (uint64_t)h, k->ref[h].value);
    uint64_t seed = 77 + (uint64_t)h;
    for (int c = 0; c < s->classes; c++) {
        k->bias[h][c] = s->with_bias ? (float)host_draw(&seed) : 0;
        for (int64_t v = 0; v < s->n * voxels; v++) {
            double *z = &k->ref[h].value[(v / voxels * s->classes + c) * voxels + v % voxels];
            *z = (double)((float)*z + k->bias[h][c]);
        }
    }
    k->loss.heads[h] = (struct vx_cuda_head){.logits = k->logits[h].view.data,
                                             .dlogits = k->dlogits[h].view.data,
                                             .bias = s->with_bias ? k->bias[h] : NULL,
                                             .dbias = k->dbias[h],
                                             .targets = k->targets[h],
                                             .voxels = voxels,
                                             .weight = WEIGHTS[h]};
}

static void make_want(struct loss_case *k) {
    struct vx_loss loss = {.n_heads = k->s.n_heads, .batch_dice = k->s.batch_dice, .smooth = 1e-5f};
    for (int h = 0; h < k->s.n_heads; h++) {
        loss.logits[h] = h;
        loss.weight[h] = WEIGHTS[h];
    }
    const int shape[4] = {k->s.n, k->s.size[0], k->s.size[1], k->s.size[2]};
    ref_loss(&loss, k->s.classes, k->ref, k->labels, shape, true, &k->want);
    ref_hard_statistics(&k->ref[0], k->labels, shape, &k->want);
}

static struct loss_case *make_case(const struct setup *s) {
    struct loss_case *k = calloc(1, sizeof *k);
    k->s = *s;
    k->padded = s->padded ? s->padded : vx_cuda_logit_channels(s->classes);
    make_labels(k);
    k->loss = (struct vx_cuda_loss){.n = s->n,
                                    .classes = s->classes,
                                    .padded = k->padded,
                                    .batch_dice = s->batch_dice,
                                    .hard = true,
                                    .smooth = 1e-5f,
                                    .n_heads = s->n_heads,
                                    .result = &k->got};
    for (int h = 0; h < s->n_heads; h++) {
        make_head(k, h);
    }
    make_want(k);
    k->loss.workspace = host_workspace(vx_cuda_loss_workspace(&k->loss));
    return k;
}

static void free_case(struct loss_case *k) {
    for (int h = 0; h < k->s.n_heads; h++) {
        free(k->targets[h]);
        free(k->bias[h]);
        host_tensor_free(&k->logits[h]);
        host_tensor_free(&k->dlogits[h]);
        host_ref_free(&k->ref[h]);
    }
    free(k->labels);
    free(k->loss.workspace);
    free(k);
}

static void load_targets(struct loss_case *k, int ignore) {
    struct vx_cuda_targets t = {.labels = k->labels,
                                .sample_stride =
                                    (int64_t)k->s.size[0] * k->s.size[1] * k->s.size[2],
                                .n = k->s.n,
                                .ignore = ignore,
                                .n_heads = k->s.n_heads,
                                .result = &k->got};
    memcpy(t.shape, k->s.size, sizeof t.shape);
    memcpy(t.head_shape, k->shape, sizeof k->shape);
    memcpy(t.targets, k->targets, sizeof k->targets);
    cr_assert_eq(vx_cuda_load_targets(&t, NULL), 0);
}

static void run(struct loss_case *k, enum host_order order) {
    host_set_order(order);
    load_targets(k, VX_CUDA_NO_IGNORE);
    cr_assert_eq(vx_cuda_loss_forward(&k->loss, NULL), 0);
    cr_assert_eq(vx_cuda_loss_backward(&k->loss, NULL), 0);
    host_set_order(HOST_IN_ORDER);
}

Test(kernels_loss, values_are_the_definitions) {
    for (size_t i = 0; i < sizeof SETUPS / sizeof *SETUPS; i++) {
        struct loss_case *k = make_case(&SETUPS[i]);
        run(k, HOST_IN_ORDER);
        cr_assert_float_eq(k->got.ce, k->want.ce, 3e-6 * (1 + k->want.ce), "setup %zu: %.9g %.9g",
                           i, k->got.ce, k->want.ce);
        cr_assert_float_eq(k->got.dice, k->want.dice, 1e-6, "setup %zu: %.9g %.9g", i, k->got.dice,
                           k->want.dice);
        cr_assert_float_eq(k->got.loss, k->want.loss, 3e-6 * (1 + k->want.ce),
                           "setup %zu: %.9g %.9g", i, k->got.loss, k->want.loss);
        cr_assert(k->want.dice > 0 && k->want.dice < 1);
        free_case(k);
    }
}

Test(kernels_loss, gradients_are_the_definitions_rounded_once) {
    for (size_t i = 0; i < sizeof SETUPS / sizeof *SETUPS; i++) {
        struct loss_case *k = make_case(&SETUPS[i]);
        run(k, HOST_IN_ORDER);
        for (int h = 0; h < k->s.n_heads; h++) {
            double unit = host_largest(k->ref[h].grad, k->ref[h].count);
            double e = host_rounding_error(&k->dlogits[h], k->ref[h].grad, 1e-5 * unit);
            cr_assert(e <= 1.01, "setup %zu head %d: off by %g roundings", i, h, e);
            cr_assert(host_tensor_intact(&k->dlogits[h]));
            int64_t voxels = k->loss.heads[h].voxels;
            for (int c = 0; c < k->s.classes; c++) {
                double sum = 0;
                for (int64_t v = 0; v < k->s.n * voxels; v++) {
                    sum += k->ref[h].grad[(v / voxels * k->s.classes + c) * voxels + v % voxels];
                }
                cr_assert_float_eq((double)k->dbias[h][c], sum, 3e-6, "setup %zu head %d", i, h);
            }
        }
        free_case(k);
    }
}

Test(kernels_loss, hard_statistics_count_every_voxel) {
    for (size_t i = 0; i < sizeof SETUPS / sizeof *SETUPS; i++) {
        struct loss_case *k = make_case(&SETUPS[i]);
        run(k, HOST_IN_ORDER);
        for (int c = 0; c < k->s.classes; c++) {
            cr_assert_eq(k->got.tp[c], k->want.tp[c], "setup %zu class %d", i, c);
            cr_assert_eq(k->got.fp[c], k->want.fp[c], "setup %zu class %d", i, c);
            cr_assert_eq(k->got.fn[c], k->want.fn[c], "setup %zu class %d", i, c);
        }
        cr_assert_gt(k->got.tp[0], 0);
        free_case(k);
    }
}

Test(kernels_loss, order_of_blocks_and_threads_changes_no_bit) {
    for (size_t i = 0; i < sizeof SETUPS / sizeof *SETUPS; i++) {
        struct loss_case *k = make_case(&SETUPS[i]);
        run(k, HOST_IN_ORDER);
        for (int order = HOST_IN_ORDER + 1; order < HOST_ORDERS; order++) {
            struct loss_case *other = make_case(&SETUPS[i]);
            run(other, (enum host_order)order);
            cr_assert_arr_eq(&other->got, &k->got, sizeof k->got, "setup %zu", i);
            for (int h = 0; h < k->s.n_heads; h++) {
                cr_assert_arr_eq(other->dlogits[h].all, k->dlogits[h].all, k->dlogits[h].count * 2);
                cr_assert_arr_eq(other->dbias[h], k->dbias[h],
                                 (size_t)k->s.classes * sizeof(float));
            }
            free_case(other);
        }
        cr_assert(host_workspace_clean(k->loss.workspace));
        free_case(k);
    }
}

Test(kernels_loss, training_counts_no_hard_statistics_and_agrees) {
    for (int i = 0; i <= 4; i += 4) { /* few classes, many */
        struct loss_case *k = make_case(&SETUPS[i]), *soft = make_case(&SETUPS[i]);
        run(k, HOST_IN_ORDER);
        soft->loss.hard = false;
        run(soft, HOST_IN_ORDER);
        cr_assert_eq(soft->got.loss, k->got.loss);
        cr_assert_eq(soft->got.tp[0], 0);
        cr_assert_arr_eq(soft->dlogits[0].all, k->dlogits[0].all, k->dlogits[0].count * 2);
        free_case(k);
        free_case(soft);
    }
}

Test(kernels_loss, one_block_ends_each_sample_and_one_all) {
    for (int order = HOST_IN_ORDER; order < HOST_ORDERS; order++) {
        struct loss_case *k = make_case(&SETUPS[0]);
        host_claims();
        run(k, (enum host_order)order);
        cr_assert_eq(host_claims(), 3 * 2 + 1 + 3); /* heads x samples, all; bias of each head */
        free_case(k);
    }
}

/* One logit, of a class that the voxel is not: no comparison may swallow it. */
Test(kernels_loss, what_is_no_number_is_not_hidden) {
    static const uint16_t values[] = {0x7fc0, 0xffc0, 0x7f80}; /* NaN, -NaN, infinity */
    for (int i = 0; i < 6; i++) {
        struct loss_case *k = make_case(&SETUPS[i % 2 ? 4 : 0]); /* few classes, many */
        load_targets(k, VX_CUDA_NO_IGNORE);
        int cls = (k->targets[0][7] + 1) % k->s.classes;
        ((uint16_t *)k->logits[0].view.data)[7 * k->padded + cls] = values[i / 2];
        cr_assert_eq(vx_cuda_loss_forward(&k->loss, NULL), 0);
        cr_assert_eq(vx_cuda_loss_backward(&k->loss, NULL), 0);
        cr_assert_eq(isfinite(k->got.loss), 0, "loss %g", k->got.loss);
        cr_assert_eq(isfinite(k->got.ce), 0);
        const uint16_t *dz = (const uint16_t *)k->dlogits[0].view.data + 7 * k->padded;
        for (int c = 0; c < k->s.classes; c++) {
            cr_assert_eq(dz[c] & 0x7f80, 0x7f80, "gradient of class %d: %04x", c, dz[c]);
        }
        free_case(k);
    }
}

Test(kernels_loss, in_place_where_it_can_be) {
    struct loss_case *k = make_case(&SETUPS[0]), *other = make_case(&SETUPS[0]);
    run(k, HOST_IN_ORDER);
    other->loss.heads[0].dlogits = other->loss.heads[0].logits;
    run(other, HOST_THREADS_BACKWARDS);
    cr_assert_arr_eq(other->logits[0].all, k->dlogits[0].all, k->dlogits[0].count * 2);
    free_case(k);
    free_case(other);
    k = make_case(&SETUPS[4]);
    k->loss.heads[1].dlogits = k->loss.heads[1].logits;
    cr_assert_neq(vx_cuda_loss_backward(&k->loss, NULL), 0);
    free_case(k);
}

/* The valid voxels alone, as one long row, are what an ignore label leaves. */
Test(kernels_loss, ignored_voxels_count_nowhere) {
    struct setup s = {1, 3, {10, 9, 8}, 1, true, false, 2};
    struct loss_case *k = make_case(&s);
    int64_t voxels = k->loss.heads[0].voxels, valid = 0;
    for (int64_t v = 0; v < voxels; v++) {
        k->labels[v] = v % 3 == 1 ? 3 : k->labels[v] == 3 ? 2 : k->labels[v];
        valid += k->labels[v] != 3;
    }
    struct ref_tensor few = host_ref_tensor((const int[]){1, 3, 1, 1, (int)valid});
    int16_t *labels = malloc((size_t)valid * sizeof *labels);
    for (int64_t v = 0, at = 0; v < voxels; v++) {
        if (k->labels[v] != 3) {
            labels[at] = k->labels[v];
            for (int c = 0; c < 3; c++) {
                few.value[c * valid + at] = k->ref[0].value[c * voxels + v];
            }
            at++;
        }
    }
    struct vx_loss loss = {
        .n_heads = 1, .weight = {WEIGHTS[0]}, .batch_dice = true, .smooth = 1e-5f};
    struct vx_run_result want = {0};
    const int shape[4] = {1, 1, 1, (int)valid};
    ref_loss(&loss, 3, &few, labels, shape, true, &want);
    load_targets(k, 3);
    cr_assert_eq(vx_cuda_loss_forward(&k->loss, NULL), 0);
    cr_assert_eq(vx_cuda_loss_backward(&k->loss, NULL), 0);
    cr_assert_float_eq(k->got.loss, want.loss, 3e-6);
    cr_assert_float_eq(k->got.dice, want.dice, 1e-6);
    cr_assert_eq(k->got.top_label, 2);
    for (int64_t v = 0, at = 0; v < voxels; v++) {
        for (int c = 0; c < 3; c++) {
            double g = k->labels[v] != 3 ? few.grad[c * valid + at] : 0;
            cr_assert_float_eq((double)host_tensor_at(&k->dlogits[0], 0, c, v), g,
                               fabs(g) * 0x1p-8 + 1e-8);
        }
        at += k->labels[v] != 3;
    }
    free(labels);
    host_ref_free(&few);
    free_case(k);
}

Test(kernels_loss, nothing_valid_gives_no_gradient_and_no_nan) {
    struct loss_case *k = make_case(&(struct setup){1, 3, {4, 4, 4}, 1, true, false, 2});
    for (int v = 0; v < 64; v++) {
        k->labels[v] = 3;
    }
    load_targets(k, 3);
    cr_assert_eq(vx_cuda_loss_forward(&k->loss, NULL), 0);
    cr_assert_eq(vx_cuda_loss_backward(&k->loss, NULL), 0);
    cr_assert_eq(k->got.ce, 0);
    cr_assert_float_eq(k->got.dice, 1, 1e-9); /* smooth / smooth, as nnU-Net */
    for (int v = 0; v < 64; v++) {
        cr_assert_eq(host_tensor_at(&k->dlogits[0], 0, 1, v), 0);
    }
    free_case(k);
}

Test(kernels_loss, targets_are_nearest_exact_and_the_largest_label_is_known) {
    /* 7 -> 4: 0.875, 2.625, 4.375, 6.125; 5 -> 3: 0.83, 2.5, 4.17; 3 -> 2: 0.75, 2.25 */
    int16_t labels[7 * 5 * 3];
    for (int i = 0; i < 7 * 5 * 3; i++) {
        labels[i] = (int16_t)i;
    }
    uint8_t targets[4 * 3 * 2];
    struct vx_cuda_result result = {.top_label = 12345};
    struct vx_cuda_targets t = {.labels = labels,
                                .sample_stride = 7 * 5 * 3,
                                .n = 1,
                                .shape = {7, 5, 3},
                                .ignore = VX_CUDA_NO_IGNORE,
                                .n_heads = 1,
                                .head_shape = {{4, 3, 2}},
                                .targets = {targets},
                                .result = &result};
    cr_assert_eq(vx_cuda_load_targets(&t, NULL), 0);
    const int z[] = {0, 2, 4, 6}, y[] = {0, 2, 4}, x[] = {0, 2};
    for (int i = 0; i < 24; i++) {
        cr_assert_eq(targets[i], (z[i / 6] * 5 + y[i / 2 % 3]) * 3 + x[i % 2], "voxel %d", i);
    }
    cr_assert_eq(result.top_label, 104);
}

Test(kernels_loss, channels_of_logits) {
    cr_assert_eq(vx_cuda_logit_channels(2), 8);
    cr_assert_eq(vx_cuda_logit_channels(8), 8);
    cr_assert_eq(vx_cuda_logit_channels(9), 16);
    cr_assert_eq(vx_cuda_logit_channels(33), 40);
    cr_assert_eq(vx_cuda_logit_channels(65), 0);
}
