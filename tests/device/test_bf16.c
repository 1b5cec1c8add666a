/* The CPU backend in bfloat16 against the reference in double. Without activations errors stay at
 * the size of bfloat16's rounding; with them, values near zero fall on either side, so whole
 * networks are held to direction and loss instead. */
#include "net_maker.h"

#include "base/err.h"
#include "support/skip.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

struct pair {
    struct rig fast, ref;
    struct samples samples;
    struct vx_run_input in;
};

/* Skips the test where the processor has no bfloat16. */
static void pair_init(struct pair *q, const struct vx_oplist *net) {
    struct vx_device_info info;
    rig_init(&q->fast, "cpu", 2, net);
    vx_device_describe(q->fast.device, &info);
    if (!info.bf16) {
        vx_skip("bf16", "this processor has no bfloat16 instructions");
    }
    rig_init(&q->ref, "ref", 1, net);
    rig_randomize(&q->fast, 2);
    rig_randomize(&q->ref, 2);
    samples_init(&q->samples, net, 6);
    q->in = samples_input(&q->samples, 0.01f);
}

static void pair_release(struct pair *q) {
    samples_release(&q->samples);
    rig_release(&q->fast);
    rig_release(&q->ref);
}

/* L2 norm of the difference relative to the reference's; *ret_cosine over all parameters. */
static double gradient_error(struct pair *q, double *ret_cosine) {
    struct vx_program *a = rig_compile(&q->fast, VX_MODE_GRADIENT, VX_BF16);
    struct vx_program *b = rig_compile(&q->ref, VX_MODE_GRADIENT, VX_FP32);
    struct vx_run_result x = rig_run(a, &q->in), y = rig_run(b, &q->in);
    cr_assert_lt(fabs(x.loss - y.loss), 2e-2, "loss %g instead of %g", x.loss, y.loss);
    cr_assert_lt(fabs(x.dice - y.dice), 2e-2);
    double xx = 0, yy = 0, xy = 0, dd = 0;
    for (int i = 0; i < q->fast.net->n_params; i++) {
        float *g = rig_download(&q->fast, i, VX_PART_GRADIENT);
        float *h = rig_download(&q->ref, i, VX_PART_GRADIENT);
        for (size_t k = 0; k < q->fast.net->params[i].count; k++) {
            double u = (double)g[k], v = (double)h[k];
            xx += u * u;
            yy += v * v;
            xy += u * v;
            dd += (u - v) * (u - v);
        }
        free(g);
        free(h);
    }
    vx_program_free(a);
    vx_program_free(b);
    *ret_cosine = xy / sqrt(xx * yy);
    return sqrt(dd / yy);
}

static void check_linear(struct maker *m) {
    struct pair q;
    double cosine;
    pair_init(&q, &m->net);
    double error = gradient_error(&q, &cosine);
    cr_assert_lt(error, 2e-2, "gradients differ by %g", error);
    pair_release(&q);
    maker_release(m);
}

Test(device_bf16, convolutions) {
    struct maker m;
    maker_init(&m, 2, 5, 6, 9, 7, 2);
    int x = maker_conv(&m, 0, &(struct conv_args){24, {3, 3, 3}, {1, 2, 1}});
    x = maker_conv(&m, x, &(struct conv_args){7, {1, 3, 3}, {1, 1, 2}});
    maker_head(&m, x, 1);
    check_linear(&m);
}

Test(device_bf16, plain_input_of_one_channel) {
    struct maker m;
    maker_init(&m, 2, 1, 6, 8, 7, 3);
    int x = maker_conv(&m, 0, &(struct conv_args){16, {3, 3, 3}, {1, 1, 1}});
    maker_head(&m, x, 1);
    check_linear(&m);
}

Test(device_bf16, norm) {
    struct maker m;
    maker_init(&m, 2, 2, 6, 8, 7, 3);
    int x = maker_conv(&m, 0, &(struct conv_args){20, {3, 3, 3}, {1, 1, 1}});
    x = maker_norm(&m, x, 1);
    maker_head(&m, x, 1);
    check_linear(&m);
}

Test(device_bf16, transposed_convolution) {
    struct maker m;
    maker_init(&m, 2, 2, 3, 4, 5, 3);
    int x = maker_conv(&m, 0, &(struct conv_args){20, {3, 3, 3}, {1, 1, 1}});
    x = maker_transpose(&m, x, 24, 2, 2, 2);
    x = maker_transpose(&m, x, 16, 1, 2, 2);
    maker_head(&m, x, 1);
    check_linear(&m);
}

Test(device_bf16, unet_points_the_same_way_and_learns_alike) {
    struct maker m;
    struct pair q;
    double cosine;
    struct unet_args args = {.batch = 2,
                             .channels = 1,
                             .size = {8, 12, 16},
                             .classes = 3,
                             .stages = 3,
                             .features = {16, 32, 48}};
    maker_unet(&m, &args);
    pair_init(&q, &m.net);
    gradient_error(&q, &cosine);
    cr_assert_gt(cosine, 0.98, "cosine of the gradients is %g", cosine);
    struct vx_program *a = rig_compile(&q.fast, VX_MODE_TRAIN, VX_BF16);
    struct vx_program *b = rig_compile(&q.ref, VX_MODE_TRAIN, VX_FP32);
    struct vx_run_result x = {0}, y = {0};
    for (int step = 0; step < 12; step++) {
        x = rig_run(a, &q.in);
        y = rig_run(b, &q.in);
    }
    cr_assert_lt(fabs(x.loss - y.loss), 4e-2, "loss %g instead of %g", x.loss, y.loss);
    vx_program_free(a);
    vx_program_free(b);
    pair_release(&q);
    maker_release(&m);
}
