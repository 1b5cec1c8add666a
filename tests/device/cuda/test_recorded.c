/* The backend on a device that is not there: numbers against the reference, our kernels' own source
 * and naive convolutions in between. bfloat16 rounds to 2^-9, hence the bounds; see test_bf16.c. */
#include "device/net_maker.h"
#include "recorder.h"

#include "base/err.h"
#include "device/cuda/kernels.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct pair {
    struct rig gpu, ref;
    struct samples samples;
    struct vx_run_input in;
};

static void pair_init(struct pair *q, const struct vx_oplist *net) {
    recorder_start(&(struct recorder_options){.execute = true});
    rig_init(&q->gpu, "recorded", 1, net);
    rig_init(&q->ref, "ref", 1, net);
    rig_randomize(&q->gpu, 2);
    rig_randomize(&q->ref, 2);
    samples_init(&q->samples, net, 6);
    q->in = samples_input(&q->samples, 0.01f);
}

static void pair_release(struct pair *q) {
    samples_release(&q->samples);
    rig_release(&q->gpu);
    rig_release(&q->ref);
    cr_assert_eq(recorder_problems(), 0, "%d findings, first: %s", recorder_problems(),
                 recorder_problem());
    cr_assert_eq(recorder_leaks(), 0);
}

static struct vx_program *compile(struct pair *q, enum vx_mode mode) {
    struct vx_program *p = rig_compile(&q->gpu, mode, VX_BF16);
    recorder_watch(p);
    return p;
}

static double part_error(struct pair *q, enum vx_state_part part, double *ret_cosine) {
    double xx = 0, yy = 0, xy = 0, dd = 0;
    for (int i = 0; i < q->gpu.net->n_params; i++) {
        float *g = rig_download(&q->gpu, i, part), *h = rig_download(&q->ref, i, part);
        for (size_t k = 0; k < q->gpu.net->params[i].count; k++) {
            double u = (double)g[k], v = (double)h[k];
            xx += u * u;
            yy += v * v;
            xy += u * v;
            dd += (u - v) * (u - v);
        }
        free(g);
        free(h);
    }
    *ret_cosine = xy / sqrt(xx * yy);
    return sqrt(dd / yy);
}

static void check_gradients(struct maker *m, double tolerance, double cosine_above) {
    struct pair q;
    pair_init(&q, &m->net);
    struct vx_program *a = compile(&q, VX_MODE_GRADIENT);
    struct vx_program *b = rig_compile(&q.ref, VX_MODE_GRADIENT, VX_FP32);
    for (int run = 0; run < 3; run++) { /* eager, captured, launched again */
        struct vx_run_result x = rig_run(a, &q.in), y = rig_run(b, &q.in);
        double cosine, error = part_error(&q, VX_PART_GRADIENT, &cosine);
        cr_assert_lt(fabs(x.loss - y.loss), 1e-2, "loss %g instead of %g", x.loss, y.loss);
        cr_assert_lt(fabs(x.ce - y.ce), 1e-2);
        cr_assert_lt(fabs(x.dice - y.dice), 1e-2);
        cr_assert_lt(fabs(x.grad_norm / y.grad_norm - 1), 3e-2);
        cr_assert_lt(error, tolerance, "run %d: gradients differ by %g", run, error);
        cr_assert_gt(cosine, cosine_above, "run %d: cosine %g", run, cosine);
    }
    vx_program_free(a);
    vx_program_free(b);
    pair_release(&q);
    maker_release(m);
}

Test(cuda_recorded, convolutions) {
    struct maker m;
    maker_init(&m, 2, 5, 6, 9, 7, 2);
    int x = maker_conv(&m, 0, &(struct conv_args){24, {3, 3, 3}, {1, 2, 1}});
    x = maker_conv(&m, x, &(struct conv_args){12, {1, 3, 3}, {2, 1, 2}, .no_bias = true});
    x = maker_conv(&m, x, &(struct conv_args){16, {1, 1, 1}, {1, 1, 1}});
    maker_head(&m, x, 1);
    check_gradients(&m, 2e-2, 0.999);
}

Test(cuda_recorded, transposed_convolutions) {
    struct maker m;
    maker_init(&m, 2, 2, 3, 2, 4, 3);
    int x = maker_conv(&m, 0, &(struct conv_args){16, {3, 3, 3}, {1, 1, 1}});
    x = maker_transpose(&m, x, 12, 1, 2, 2);
    x = maker_transpose(&m, x, 8, 2, 2, 1);
    maker_head(&m, x, 1);
    check_gradients(&m, 2e-2, 0.999);
}

Test(cuda_recorded, norm_without_activation) {
    struct maker m;
    maker_init(&m, 2, 1, 4, 6, 5, 2);
    int x = maker_conv(&m, 0, &(struct conv_args){11, {3, 3, 3}, {1, 1, 1}});
    x = maker_norm(&m, x, 1);
    maker_head(&m, x, 1);
    check_gradients(&m, 3e-2, 0.999);
}

Test(cuda_recorded, a_concatenation_whose_inputs_have_other_readers) {
    struct maker m;
    maker_init(&m, 1, 1, 4, 4, 6, 2);
    int a = maker_conv(&m, 0, &(struct conv_args){8, {3, 3, 3}, {1, 1, 1}});
    int b = maker_conv(&m, a, &(struct conv_args){16, {3, 3, 3}, {1, 1, 1}});
    int c = maker_concat(&m, a, b);
    int d = maker_conv(&m, b, &(struct conv_args){8, {1, 1, 1}, {1, 1, 1}});
    int e = maker_concat(&m, d, maker_conv(&m, c, &(struct conv_args){5, {1, 3, 1}, {1, 1, 1}}));
    maker_head(&m, maker_conv(&m, e, &(struct conv_args){8, {3, 1, 3}, {1, 1, 1}}), 1);
    check_gradients(&m, 2e-2, 0.999);
}

static void check_classes(int classes) {
    struct maker m;
    maker_init(&m, 2, 1, 4, 5, 6, classes);
    int x = maker_conv(&m, 0, &(struct conv_args){8, {3, 3, 3}, {1, 1, 1}});
    maker_head(&m, x, 1);
    check_gradients(&m, 2e-2, 0.999);
    cr_assert_eq(vx_cuda_logit_channels(classes), (classes + 7) / 8 * 8, "as shape.c pads them");
}

Test(cuda_recorded, many_classes_get_a_gradient_of_their_own) {
    check_classes(8);
    check_classes(11);
    check_classes(33);
    check_classes(64);
}

static const struct unet_args small_unet = {.batch = 2,
                                            .channels = 1,
                                            .size = {8, 8, 8},
                                            .classes = 3,
                                            .stages = 3,
                                            .features = {8, 16, 24}};

Test(cuda_recorded, whole_network) {
    struct maker m;
    maker_unet(&m, &small_unet);
    check_gradients(&m, 0.25, 0.97);
}

Test(cuda_recorded, uneven_strides_and_batch_dice) {
    struct unet_args args = {.batch = 2,
                             .channels = 3,
                             .size = {4, 8, 8},
                             .classes = 2,
                             .stages = 3,
                             .features = {8, 16, 16},
                             .kernel = {{1, 3, 3}},
                             .stride = {{0}, {1, 2, 2}},
                             .batch_dice = true};
    struct maker m;
    maker_unet(&m, &args);
    check_gradients(&m, 0.25, 0.97);
}

Test(cuda_recorded, training_follows_the_reference) {
    struct maker m;
    struct pair q;
    maker_unet(&m, &small_unet);
    pair_init(&q, &m.net);
    struct vx_program *a = compile(&q, VX_MODE_TRAIN);
    struct vx_program *b = rig_compile(&q.ref, VX_MODE_TRAIN, VX_FP32);
    double first = 0, x = 0, y = 0;
    for (int step = 0; step < 12; step++) {
        q.in.learning_rate = 0.01f / (float)(1 + step);
        x = rig_run(a, &q.in).loss;
        y = rig_run(b, &q.in).loss;
        cr_assert_lt(fabs(x - y), 2e-2 * fabs(y) + 1e-2, "step %d: %g instead of %g", step, x, y);
        first = step == 0 ? y : first;
    }
    cr_assert_lt(x, first - 0.1, "the loss falls: %g to %g", first, x);
    cr_assert_eq(recorder_calls("graph_launch"), 11, "all but the first");
    cr_assert_eq(recorder_calls("update"), 12);
    double cosine;
    cr_assert_lt(part_error(&q, VX_PART_WEIGHT, &cosine), 1e-2);
    cr_assert_lt(part_error(&q, VX_PART_MOMENTUM, &cosine), 0.2);
    vx_program_free(a);
    vx_program_free(b);
    pair_release(&q);
    maker_release(&m);
}

Test(cuda_recorded, validation_and_logits_agree) {
    struct maker m;
    struct pair q;
    maker_unet(&m, &small_unet);
    pair_init(&q, &m.net);
    struct vx_program *a = compile(&q, VX_MODE_VALIDATE);
    struct vx_program *b = rig_compile(&q.ref, VX_MODE_VALIDATE, VX_FP32);
    struct vx_run_result x = rig_run(a, &q.in), y = rig_run(b, &q.in);
    cr_assert_lt(fabs(x.loss - y.loss), 1e-2);
    int64_t all = 0, apart = 0;
    for (int c = 0; c < 3; c++) {
        all += x.tp[c] + x.fn[c];
        apart += llabs(x.tp[c] - y.tp[c]) + llabs(x.fp[c] - y.fp[c]);
    }
    cr_assert_eq(all, 2 * 512, "every voxel has one class");
    cr_assert_lt(apart, 2 * 512 / 20, "%d voxels apart", (int)apart);
    vx_program_free(a);
    vx_program_free(b);
    a = compile(&q, VX_MODE_INFER);
    b = rig_compile(&q.ref, VX_MODE_INFER, VX_FP32);
    enum { N = 2 * 3 * 512 };
    static float got[N], want[N];
    for (int run = 0; run < 3; run++) {
        rig_run(a, &q.in);
        rig_run(b, &q.in);
        cr_assert_eq(vx_program_read_logits(a, got, NULL), VX_OK);
        cr_assert_eq(vx_program_read_logits(b, want, NULL), VX_OK);
        double dd = 0, yy = 0;
        for (int i = 0; i < N; i++) {
            dd += pow((double)(got[i] - want[i]), 2);
            yy += pow((double)want[i], 2);
        }
        cr_assert_lt(sqrt(dd / yy), 3e-2, "logits differ by %g", sqrt(dd / yy));
    }
    vx_program_free(a);
    vx_program_free(b);
    pair_release(&q);
    maker_release(&m);
}

Test(cuda_recorded, parameters_come_back_bit_for_bit) {
    struct maker m;
    struct pair q;
    maker_unet(&m, &small_unet);
    pair_init(&q, &m.net);
    for (int i = 0; i < m.net.n_params; i++) {
        for (int part = VX_PART_WEIGHT; part <= VX_PART_MOMENTUM; part++) {
            size_t n = m.net.params[i].count;
            float *sent = malloc(n * sizeof *sent);
            for (size_t k = 0; k < n; k++) {
                sent[k] = (float)(i + part) + (float)k * 0x1.23457p-9f;
            }
            cr_assert_eq(vx_state_upload(q.gpu.state, i, (enum vx_state_part)part, sent, NULL),
                         VX_OK);
            float *got = rig_download(&q.gpu, i, (enum vx_state_part)part);
            cr_assert_arr_eq(sent, got, n * sizeof *sent, "%s", m.net.params[i].name);
            free(sent);
            free(got);
        }
    }
    cr_assert_eq(vx_state_upload(q.gpu.state, 0, VX_PART_GRADIENT, NULL, NULL), VX_E_INVALID);
    cr_assert_eq(vx_state_download(q.gpu.state, m.net.n_params, VX_PART_WEIGHT, NULL, NULL),
                 VX_E_INVALID);
    pair_release(&q);
    maker_release(&m);
}

/* Two runs under way, each with its own samples, results asked for one step late. */
Test(cuda_recorded, runs_overlap_and_keep_their_inputs_apart) {
    struct maker m;
    struct pair q;
    struct samples other;
    maker_unet(&m, &small_unet);
    pair_init(&q, &m.net);
    samples_init(&other, &m.net, 77);
    struct vx_run_input inputs[2] = {q.in, samples_input(&other, 0)};
    struct vx_program *p = compile(&q, VX_MODE_VALIDATE);
    struct vx_run_result alone[2], result;
    for (int i = 0; i < 2; i++) {
        alone[i] = rig_run(p, &inputs[i]);
    }
    cr_assert_neq(alone[0].loss, alone[1].loss);
    uint64_t ticket[2] = {0};
    cr_assert_eq(vx_program_run(p, &inputs[0], &ticket[0], NULL), VX_OK);
    for (int step = 1; step < 6; step++) {
        int now = step % 2;
        cr_assert_eq(vx_program_run(p, &inputs[now], &ticket[now], NULL), VX_OK);
        cr_assert_eq(vx_program_wait(p, ticket[!now], &result, NULL), VX_OK);
        cr_assert_eq(result.loss, alone[!now].loss, "step %d", step);
        cr_assert_gt(result.ended_ns, 0u);
    }
    cr_assert_eq(vx_program_wait(p, ticket[1] - 2, NULL, NULL), VX_E_INVALID);
    vx_program_free(p);
    samples_release(&other);
    pair_release(&q);
    maker_release(&m);
}

struct elsewhere {
    struct pair *q;
    struct vx_program *p;
    float *weight;
};

static void *run_elsewhere(void *arg) {
    struct elsewhere *e = arg;
    rig_run(e->p, &e->q->in);
    e->weight = rig_download(&e->q->gpu, 0, VX_PART_WEIGHT);
    return NULL;
}

Test(cuda_recorded, the_calling_thread_may_change) {
    struct maker m;
    struct pair q;
    pthread_t thread;
    maker_unet(&m, &small_unet);
    pair_init(&q, &m.net);
    struct elsewhere e = {.q = &q, .p = compile(&q, VX_MODE_TRAIN)};
    cr_assert_eq(pthread_create(&thread, NULL, run_elsewhere, &e), 0);
    pthread_join(thread, NULL);
    float *here = rig_download(&q.gpu, 0, VX_PART_WEIGHT);
    cr_assert_arr_eq(here, e.weight, m.net.params[0].count * sizeof *here);
    free(here);
    free(e.weight);
    vx_program_free(e.p);
    pair_release(&q);
    maker_release(&m);
}

Test(cuda_recorded, labels_out_of_range_are_told) {
    struct maker m;
    struct pair q;
    struct vx_err err = {0};
    uint64_t ticket = 0;
    maker_unet(&m, &small_unet);
    pair_init(&q, &m.net);
    q.samples.labels[1][100] = 3;
    struct vx_program *p = compile(&q, VX_MODE_VALIDATE);
    cr_assert_eq(vx_program_run(p, &q.in, &ticket, &err), VX_OK);
    cr_assert_eq(vx_program_wait(p, ticket, NULL, &err), VX_E_INVALID);
    cr_assert_str_eq(err.reason, "label_out_of_range");
    cr_assert(strstr(err.text, "label 3"), "%s", err.text);
    vx_program_free(p);
    pair_release(&q);
    maker_release(&m);
}
