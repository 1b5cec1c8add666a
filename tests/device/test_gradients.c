/* The reference backend's gradients against finite differences of its own loss, for every kind of
 * operation; everything else trusts it from here on. */
#include "net_maker.h"

#include "base/err.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static double loss_with(struct rig *r, struct vx_program *p, const struct vx_run_input *in,
                        int param, float *values, size_t k, float value) {
    float before = values[k];
    values[k] = value;
    vx_state_upload(r->state, param, VX_PART_WEIGHT, values, NULL);
    double loss = rig_run(p, in).loss;
    values[k] = before;
    vx_state_upload(r->state, param, VX_PART_WEIGHT, values, NULL);
    return loss;
}

/* Central differences at a few elements of every parameter. */
static void check_differences(struct maker *m) {
    struct rig r;
    struct samples s;
    rig_init(&r, "ref", 1, &m->net);
    rig_randomize(&r, 11);
    samples_init(&s, &m->net, 5);
    struct vx_run_input in = samples_input(&s, 0);
    struct vx_program *gradient = rig_compile(&r, VX_MODE_GRADIENT, VX_FP32);
    struct vx_program *validate = rig_compile(&r, VX_MODE_VALIDATE, VX_FP32);
    rig_run(gradient, &in);
    for (int i = 0; i < m->net.n_params; i++) {
        float *g = rig_download(&r, i, VX_PART_GRADIENT);
        float *values = rig_download(&r, i, VX_PART_WEIGHT);
        size_t count = m->net.params[i].count, stride = count / 7 + 1;
        for (size_t k = 0; k < count; k += stride) {
            const float h = 0x1p-13f;
            float up = values[k] + h, down = values[k] - h;
            double slope = (loss_with(&r, validate, &in, i, values, k, up) -
                            loss_with(&r, validate, &in, i, values, k, down)) /
                           ((double)up - (double)down);
            double tolerance = 2e-6 + 2e-3 * fabs(slope);
            if (!m->net.params[i].trainable) {
                cr_assert_eq(g[k], 0.0f);
            } else {
                cr_assert_lt(fabs(slope - (double)g[k]), tolerance,
                             "%s[%zu]: differences %.9g, gradient %.9g", m->net.params[i].name, k,
                             slope, (double)g[k]);
            }
        }
        free(g);
        free(values);
    }
    vx_program_free(gradient);
    vx_program_free(validate);
    samples_release(&s);
    rig_release(&r);
    maker_release(m);
}

Test(device_differences, convolution_with_bias) {
    struct maker m;
    maker_init(&m, 2, 2, 5, 6, 7, 3);
    int x = maker_conv(&m, 0, &(struct conv_args){3, {3, 1, 3}, {2, 1, 2}});
    x = maker_conv(&m, x, &(struct conv_args){4, {3, 3, 3}, {1, 2, 1}});
    maker_head(&m, x, 1);
    check_differences(&m);
}

Test(device_differences, norm_and_activation) {
    struct maker m;
    maker_init(&m, 2, 1, 4, 4, 5, 2);
    int x = maker_conv(&m, 0, &(struct conv_args){3, {3, 3, 3}, {1, 1, 1}});
    x = maker_norm(&m, x, 0.01f);
    x = maker_conv(&m, x, &(struct conv_args){2, {1, 3, 3}, {1, 1, 1}});
    x = maker_norm(&m, x, 1);
    maker_head(&m, x, 1);
    check_differences(&m);
}

Test(device_differences, transposed_convolution) {
    struct maker m;
    maker_init(&m, 2, 2, 3, 2, 4, 3);
    int x = maker_conv(&m, 0, &(struct conv_args){3, {3, 3, 3}, {1, 1, 1}});
    x = maker_transpose(&m, x, 4, 1, 2, 2);
    x = maker_transpose(&m, x, 2, 2, 2, 1);
    maker_head(&m, x, 1);
    check_differences(&m);
}

Test(device_differences, whole_unet_with_deep_supervision) {
    struct maker m;
    struct unet_args a = {.batch = 2,
                          .channels = 2,
                          .size = {4, 8, 8},
                          .classes = 3,
                          .stages = 3,
                          .features = {2, 3, 4},
                          .stride = {{0}, {1, 2, 2}, {2, 2, 2}}};
    maker_unet(&m, &a);
    m.net.loss.weight[1] = 0.25f;
    m.net.loss.weight[0] = 0.75f;
    m.net.params[m.net.ops[m.net.n_ops - 1].weight].trainable = true;
    check_differences(&m);
}

Test(device_differences, batch_dice) {
    struct maker m;
    struct unet_args a = {.batch = 3,
                          .channels = 1,
                          .size = {1, 8, 8},
                          .classes = 4,
                          .stages = 2,
                          .features = {2, 3},
                          .kernel = {{1, 3, 3}, {1, 3, 3}},
                          .stride = {{0}, {1, 2, 2}},
                          .batch_dice = true};
    maker_unet(&m, &a);
    check_differences(&m);
}
