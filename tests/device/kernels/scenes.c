#include "device/kernels/scenes.h"
#include "device/kernels/fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t voxels_of(const struct scene *s) {
    return (int64_t)s->size[0] * s->size[1] * s->size[2];
}

static int padded_of(const struct scene *s) {
    return (s->channels + 7) / 8 * 8;
}

static struct vx_cuda_view packed(void *data, const struct scene *s) {
    return (struct vx_cuda_view){.data = data, .pitch = padded_of(s)};
}

/* The second half of a tensor twice as wide. */
static struct vx_cuda_view slice(void *data, const struct scene *s) {
    return (struct vx_cuda_view){.data = (uint16_t *)data + padded_of(s),
                                 .pitch = 2 * padded_of(s)};
}

static const struct vx_cuda_view NONE = {0};

/* --- instance norm: x, out or dx, slice, gradient, moments, gamma, beta, dgamma, dbeta, scratch
 * ---
 */

static struct vx_cuda_norm norm_of(const struct scene *s, void *const *p) {
    return (struct vx_cuda_norm){.n = s->n,
                                 .channels = s->channels,
                                 .padded = padded_of(s),
                                 .voxels = voxels_of(s),
                                 .eps = 1e-5f,
                                 .slope = 0.01f,
                                 .gamma = p[5],
                                 .beta = p[6],
                                 .moments = p[4],
                                 .workspace = p[9]};
}

static int run_norm_forward(const struct scene *s, const struct kernel_table *k, void *const *p) {
    struct vx_cuda_norm norm = norm_of(s, p);
    return k->norm_forward(&norm, packed(p[0], s), packed(p[1], s), NONE, NULL);
}

static int run_norm_forward_copy(const struct scene *s, const struct kernel_table *k,
                                 void *const *p) {
    struct vx_cuda_norm norm = norm_of(s, p);
    return k->norm_forward(&norm, packed(p[0], s), packed(p[1], s), slice(p[2], s), NULL);
}

static int run_norm_backward(const struct scene *s, const struct kernel_table *k, void *const *p) {
    struct vx_cuda_norm norm = norm_of(s, p);
    struct vx_cuda_view grad = packed(p[3], s);
    return k->norm_backward(&norm, packed(p[0], s), &grad, 1, packed(p[1], s), p[7], p[8], NULL);
}

static int run_norm_backward_two(const struct scene *s, const struct kernel_table *k,
                                 void *const *p) {
    struct vx_cuda_norm norm = norm_of(s, p);
    const struct vx_cuda_view grads[2] = {packed(p[3], s), slice(p[2], s)};
    return k->norm_backward(&norm, packed(p[0], s), grads, 2, packed(p[1], s), p[7], p[8], NULL);
}

static void norm_arrays(struct scene *s) {
    size_t c = (size_t)padded_of(s), count = (size_t)(s->n * voxels_of(s)) * c;
    size_t scratch = host_kernels.norm_workspace(s->n, (int)c, voxels_of(s));
    const struct scene_array arrays[] = {
        {SCENE_BF16, count, false},
        {SCENE_BF16, count, true},
        {SCENE_BF16, 2 * count, true},
        {SCENE_BF16, count, false},
        {SCENE_FLOAT, 2 * c * (size_t)s->n, true},
        {SCENE_FLOAT, c, false},
        {SCENE_FLOAT, c, false},
        {SCENE_FLOAT, c, true},
        {SCENE_FLOAT, c, true},
        {SCENE_SCRATCH, scratch, false},
    };
    memcpy(s->arrays, arrays, sizeof arrays);
    s->n_arrays = 10;
}

/* --- moves with a bias: packed, slice, bias, dbias, scratch --- */

static int run_bias_forward(const struct scene *s, const struct kernel_table *k, void *const *p) {
    return k->bias_forward(packed(p[0], s), p[2], s->channels, padded_of(s), s->n * voxels_of(s),
                           slice(p[1], s), NULL);
}

static int run_bias_backward(const struct scene *s, const struct kernel_table *k, void *const *p) {
    struct vx_cuda_view grad = slice(p[1], s);
    return k->bias_backward(&grad, 1, s->channels, padded_of(s), s->n * voxels_of(s),
                            packed(p[0], s), p[3], p[4], NULL);
}

static void bias_arrays(struct scene *s) {
    size_t c = (size_t)padded_of(s), count = (size_t)(s->n * voxels_of(s)) * c;
    size_t scratch = host_kernels.bias_workspace((int)c, s->n * voxels_of(s));
    const struct scene_array arrays[] = {{SCENE_BF16, count, true},
                                         {SCENE_BF16, 2 * count, true},
                                         {SCENE_FLOAT, c, false},
                                         {SCENE_FLOAT, c, true},
                                         {SCENE_SCRATCH, scratch, false}};
    memcpy(s->arrays, arrays, sizeof arrays);
    s->n_arrays = 5;
}

/* --- input: slots, images, labels, targets, targets of half the size, result --- */

static int run_input(const struct scene *s, const struct kernel_table *k, void *const *p) {
    struct vx_cuda_targets t = {.labels = p[2],
                                .sample_stride = voxels_of(s),
                                .n = s->n,
                                .shape = {s->size[0], s->size[1], s->size[2]},
                                .ignore = 1,
                                .n_heads = 2,
                                .head_shape = {{s->size[0], s->size[1], s->size[2]},
                                               {s->size[0] / 2, s->size[1] / 2, s->size[2] / 2}},
                                .targets = {p[3], p[4]},
                                .result = p[5]};
    int rc = k->load_images(p[0], s->channels * voxels_of(s), s->n, s->channels, padded_of(s),
                            voxels_of(s), packed(p[1], s), NULL);
    return rc != 0 ? rc : k->load_targets(&t, NULL);
}

static void input_arrays(struct scene *s) {
    size_t count = (size_t)(s->n * voxels_of(s));
    size_t half = (size_t)s->n * (size_t)(s->size[0] / 2) * (size_t)(s->size[1] / 2) *
                  (size_t)(s->size[2] / 2);
    const struct scene_array arrays[] = {{SCENE_FLOAT, count * (size_t)s->channels, false},
                                         {SCENE_BF16, count * (size_t)padded_of(s), true},
                                         {SCENE_LABELS, count, false},
                                         {SCENE_TARGETS, count, true},
                                         {SCENE_TARGETS, half, true},
                                         {SCENE_RESULT, 1, true}};
    memcpy(s->arrays, arrays, sizeof arrays);
    s->n_arrays = 6;
}

/* --- loss: logits, dlogits, targets, bias, dbias, result, scratch; channels are those of logits
 * ---
 */

static struct vx_cuda_loss loss_of(const struct scene *s, void *const *p) {
    return (struct vx_cuda_loss){.n = s->n,
                                 .classes = s->classes,
                                 .padded = s->channels,
                                 .hard = s->classes % 2 == 0,
                                 .smooth = 1e-5f,
                                 .n_heads = 1,
                                 .heads = {{.logits = p ? p[0] : NULL,
                                            .dlogits = p ? p[1] : NULL,
                                            .targets = p ? p[2] : NULL,
                                            .bias = p ? p[3] : NULL,
                                            .dbias = p ? p[4] : NULL,
                                            .voxels = voxels_of(s),
                                            .weight = 1}},
                                 .result = p ? p[5] : NULL,
                                 .workspace = p ? p[6] : NULL};
}

static int run_loss(const struct scene *s, const struct kernel_table *k, void *const *p) {
    struct vx_cuda_loss loss = loss_of(s, p);
    int rc = k->loss_forward(&loss, NULL);
    return rc != 0 ? rc : k->loss_backward(&loss, NULL);
}

static void loss_arrays(struct scene *s) {
    size_t voxels = (size_t)(s->n * voxels_of(s)), count = voxels * (size_t)s->channels;
    struct vx_cuda_loss loss = loss_of(s, NULL);
    const struct scene_array arrays[] = {
        {SCENE_BF16, count, false},
        {SCENE_BF16, count, true},
        {SCENE_TARGETS, voxels, false},
        {SCENE_FLOAT, (size_t)s->classes, false},
        {SCENE_FLOAT, (size_t)s->classes, true},
        {SCENE_RESULT, 1, true},
        {SCENE_SCRATCH, host_kernels.loss_workspace(&loss), false}};
    memcpy(s->arrays, arrays, sizeof arrays);
    s->n_arrays = 7;
}

/* --- optimizer: gradients of filters and vectors, weights, momenta, copies, rate, result, scratch;
 * channels filters and vectors of size voxels --- */

static int run_optimizer(const struct scene *s, const struct kernel_table *k, void *const *p) {
    struct vx_cuda_optimizer o = {.n_filters = s->n * voxels_of(s),
                                  .n_vectors = voxels_of(s),
                                  .filter_grads = p[0],
                                  .vector_grads = p[1],
                                  .weights = p[2],
                                  .momenta = p[3],
                                  .copies = p[4],
                                  .momentum = 0.99f,
                                  .weight_decay = 3e-5f,
                                  .clip_norm = 12,
                                  .learning_rate = p[5],
                                  .result = p[6],
                                  .workspace = p[7]};
    int rc = k->gradient_norm(&o, NULL);
    return rc != 0 ? rc : k->update(&o, NULL);
}

static void optimizer_arrays(struct scene *s) {
    size_t vectors = (size_t)voxels_of(s), filters = (size_t)s->n * vectors;
    const struct scene_array arrays[] = {
        {SCENE_BF16, filters, false},
        {SCENE_FLOAT, vectors, false},
        {SCENE_FLOAT, filters + vectors, true},
        {SCENE_FLOAT, filters + vectors, true},
        {SCENE_BF16, filters, true},
        {SCENE_FLOAT, 1, false},
        {SCENE_RESULT, 1, true},
        {SCENE_SCRATCH, host_kernels.optimizer_workspace(), false}};
    memcpy(s->arrays, arrays, sizeof arrays);
    s->n_arrays = 8;
}

/* --- filters: PyTorch's, padded, copy, back; n x channels x taps --- */

static int run_filter(const struct scene *s, const struct kernel_table *k, void *const *p) {
    struct vx_cuda_filter f = {.k = s->n,
                               .c = s->channels,
                               .taps = (int)voxels_of(s),
                               .k_padded = (s->n + 7) / 8 * 8,
                               .c_padded = padded_of(s)};
    int rc = k->filter_pack(&f, p[0], p[1], p[2], NULL);
    return rc != 0 ? rc : k->filter_unpack(&f, p[1], p[3], NULL);
}

static void filter_arrays(struct scene *s) {
    size_t torch = (size_t)(s->n * s->channels * voxels_of(s));
    size_t padded = (size_t)((s->n + 7) / 8 * 8 * padded_of(s) * voxels_of(s));
    const struct scene_array arrays[] = {{SCENE_FLOAT, torch, false},
                                         {SCENE_FLOAT, padded, true},
                                         {SCENE_BF16, padded, true},
                                         {SCENE_FLOAT, torch, true}};
    memcpy(s->arrays, arrays, sizeof arrays);
    s->n_arrays = 4;
}

/* --- sliding window: image, tile, bias, importance, sums, weights, flag, planes --- */

static int run_sliding(const struct scene *s, const struct kernel_table *k, void *const *p) {
    const int64_t volume[3] = {s->size[0], s->size[1], s->size[2]};
    struct vx_cuda_tile tile = {.volume = {volume[0], volume[1], volume[2]},
                                .start = {-3, 5, 2},
                                .patch = {s->size[0], s->size[1], s->size[2]},
                                .flip = {true, false, true}};
    int rc = k->cut_tile(&tile, p[0], s->channels, padded_of(s), p[1], NULL);
    rc = rc != 0 ? rc : k->add_tile(&tile, p[1], p[2], s->channels, padded_of(s), p[3], p[4], NULL);
    rc = rc != 0
             ? rc
             : k->read_logits(p[1], p[2], 1, s->channels, padded_of(s), voxels_of(s), p[7], NULL);
    return rc != 0 ? rc : k->divide_tiles(volume, s->channels, p[5], 8, p[4], p[6], NULL);
}

static void sliding_arrays(struct scene *s) {
    size_t count = (size_t)voxels_of(s), axes = (size_t)(s->size[0] + s->size[1] + s->size[2]);
    size_t planes = count * (size_t)s->channels;
    const struct scene_array arrays[] = {{SCENE_FLOAT, planes, false},
                                         {SCENE_BF16, count * (size_t)padded_of(s), true},
                                         {SCENE_FLOAT, (size_t)s->channels, false},
                                         {SCENE_FLOAT, axes, false},
                                         {SCENE_FLOAT, planes, true},
                                         {SCENE_FLOAT, axes, false},
                                         {SCENE_FLOAT, 1, true},
                                         {SCENE_FLOAT, planes, true}};
    memcpy(s->arrays, arrays, sizeof arrays);
    s->n_arrays = 8;
}

/* --- all of them --- */

/* passes: times that one bfloat16 tensor of n x channels x size crosses the memory. */
struct row {
    struct scene scene;
    void (*arrays)(struct scene *s);
    double passes;
};

static const struct row SMALL[] = {
    {{"norm forward", 2, 32, {20, 28, 20}, .run = run_norm_forward}, norm_arrays, 3},
    {{"norm forward, copy", 2, 320, {4, 4, 4}, .run = run_norm_forward_copy}, norm_arrays, 4},
    {{"norm forward, odd", 3, 13, {1, 31, 17}, .run = run_norm_forward_copy}, norm_arrays, 4},
    {{"norm backward", 2, 32, {20, 28, 20}, .run = run_norm_backward}, norm_arrays, 5},
    {{"norm backward, two", 2, 72, {9, 8, 7}, .run = run_norm_backward_two}, norm_arrays, 7},
    {{"bias forward", 2, 40, {9, 10, 11}, .run = run_bias_forward}, bias_arrays, 2},
    {{"bias backward", 2, 40, {9, 10, 11}, .run = run_bias_backward}, bias_arrays, 2},
    {{"input", 2, 4, {20, 28, 20}, 5, .run = run_input}, input_arrays, 1},
    {{"loss", 2, 8, {20, 28, 20}, 3, .run = run_loss}, loss_arrays, 3},
    {{"loss, hard", 2, 8, {20, 28, 20}, 4, .run = run_loss}, loss_arrays, 3},
    {{"loss, 61 classes", 2, 64, {10, 8, 6}, 61, .run = run_loss}, loss_arrays, 3},
    {{"optimizer", 9, 8, {32, 32, 32}, .run = run_optimizer}, optimizer_arrays, 1},
    {{"filters", 20, 13, {3, 3, 3}, .run = run_filter}, filter_arrays, 1},
    {{"sliding window", 1, 3, {20, 28, 20}, .run = run_sliding}, sliding_arrays, 1},
};

/* The finest level of the 128^3 plan, batch 2, whose tensors do not fit the second-level cache. */
static const struct row LARGE[] = {
    {{"norm forward", 2, 32, {128, 128, 128}, .run = run_norm_forward}, norm_arrays, 3},
    {{"norm forward, copy", 2, 32, {128, 128, 128}, .run = run_norm_forward_copy}, norm_arrays, 4},
    {{"norm backward", 2, 32, {128, 128, 128}, .run = run_norm_backward}, norm_arrays, 5},
    {{"norm backward, two", 2, 32, {128, 128, 128}, .run = run_norm_backward_two}, norm_arrays, 7},
    {{"bias forward", 2, 32, {128, 128, 128}, .run = run_bias_forward}, bias_arrays, 2},
    {{"bias backward", 2, 32, {128, 128, 128}, .run = run_bias_backward}, bias_arrays, 2},
    /* slot 4 bytes, image 16, label 2, targets 1.125 + its labels: against 16 of the image */
    {{"input", 2, 1, {128, 128, 128}, 4, .run = run_input}, input_arrays, 23.375 / 16},
    {{"loss", 2, 8, {128, 128, 128}, 3, .run = run_loss}, loss_arrays, 50.0 / 16},
    {{"loss, 32 classes", 2, 32, {128, 128, 128}, 31, .run = run_loss}, loss_arrays, 194.0 / 64},
    /* 31 M parameters of 22 bytes */
    {{"optimizer", 29, 8, {100, 100, 104}, .run = run_optimizer}, optimizer_arrays, 22.0 / 16},
    {{"norm forward, 8^3", 2, 320, {8, 8, 8}, .run = run_norm_forward}, norm_arrays, 3},
    {{"norm backward, 8^3", 2, 320, {8, 8, 8}, .run = run_norm_backward}, norm_arrays, 5},
};

int scenes_make(bool large, struct scene *ret, int most) {
    const struct row *rows = large ? LARGE : SMALL;
    int n = (int)(large ? sizeof LARGE / sizeof *LARGE : sizeof SMALL / sizeof *SMALL);
    n = n < most ? n : most;
    for (int i = 0; i < n; i++) {
        ret[i] = rows[i].scene;
        rows[i].arrays(&ret[i]);
        ret[i].bytes =
            rows[i].passes * 2 * (double)ret[i].n * padded_of(&ret[i]) * (double)voxels_of(&ret[i]);
    }
    return n;
}

size_t scene_array_bytes(const struct scene_array *a) {
    static const size_t SIZE[] = {[SCENE_BF16] = 2,
                                  [SCENE_FLOAT] = 4,
                                  [SCENE_LABELS] = 2,
                                  [SCENE_TARGETS] = 1,
                                  [SCENE_RESULT] = sizeof(struct vx_cuda_result),
                                  [SCENE_SCRATCH] = 1};
    return a->count * SIZE[a->type];
}

void scene_array_fill(const struct scene_array *a, int classes, uint64_t seed, void *ret) {
    memset(ret, 0, scene_array_bytes(a));
    if (a->type == SCENE_SCRATCH) {
        memset((char *)ret + VX_CUDA_WORKSPACE_HEAD, 0xff, a->count - VX_CUDA_WORKSPACE_HEAD);
    }
    bool numbers = a->type == SCENE_BF16 || a->type == SCENE_FLOAT;
    for (size_t i = 0; i < a->count && a->type != SCENE_SCRATCH && a->type != SCENE_RESULT; i++) {
        double x = numbers || classes > 0 ? host_draw(&seed) : 0;
        if (a->type == SCENE_BF16) {
            ((uint16_t *)ret)[i] = host_to_bf16((float)x);
        } else if (a->type == SCENE_FLOAT) {
            ((float *)ret)[i] = (float)(1 + 0.2 * x);
        } else {
            int label = (int)(fabs(x) * classes / 2) % classes;
            if (a->type == SCENE_LABELS) {
                ((int16_t *)ret)[i] = (int16_t)(label - 1);
            } else {
                ((uint8_t *)ret)[i] = (uint8_t)label;
            }
        }
    }
}
