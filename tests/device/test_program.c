/* What device.h promises beyond numbers: exact transfers, equal bits from run to run, nothing
 * allocated while running, modes that agree, clear refusals. */
#include "net_maker.h"

#include "base/err.h"
#include "device/cpu/backend.h"
#include "device/netlist.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static void small_unet(struct maker *m) {
    struct unet_args a = {.batch = 2,
                          .channels = 1,
                          .size = {8, 12, 16},
                          .classes = 3,
                          .stages = 3,
                          .features = {16, 24, 32}};
    maker_unet(m, &a);
}

Test(device_program, parameters_cross_exactly) {
    struct maker m;
    struct rig r;
    small_unet(&m);
    rig_init(&r, "cpu", 1, &m.net);
    for (int i = 0; i < m.net.n_params; i++) {
        size_t count = m.net.params[i].count;
        uint32_t *bits = malloc(count * sizeof *bits);
        for (size_t k = 0; k < count; k++) {
            bits[k] = (uint32_t)(k * 2654435761u + (uint32_t)i);
        }
        for (int part = VX_PART_WEIGHT; part <= VX_PART_MOMENTUM; part++) {
            cr_assert_eq(vx_state_upload(r.state, i, (enum vx_state_part)part, (float *)bits, NULL),
                         VX_OK);
            float *back = rig_download(&r, i, (enum vx_state_part)part);
            cr_assert_eq(memcmp(back, bits, count * sizeof *bits), 0);
            free(back);
        }
        free(bits);
    }
    rig_release(&r);
    maker_release(&m);
}

/* Weights after some steps. */
static float *train(const struct maker *m, const struct samples *s, int threads, int steps,
                    enum vx_precision precision, int param, double *ret_loss) {
    struct rig r;
    rig_init(&r, "cpu", threads, &m->net);
    rig_randomize(&r, 5);
    struct vx_run_input in = samples_input(s, 0.01f);
    struct vx_program *p = rig_compile(&r, VX_MODE_TRAIN, precision);
    for (int i = 0; i < steps; i++) {
        *ret_loss = rig_run(p, &in).loss;
    }
    float *weights = rig_download(&r, param, VX_PART_WEIGHT);
    vx_program_free(p);
    rig_release(&r);
    return weights;
}

Test(device_program, runs_are_bit_identical) {
    struct maker m;
    struct samples s;
    small_unet(&m);
    samples_init(&s, &m.net, 3);
    for (int threads = 1; threads <= 3; threads++) {
        for (int i = 0; i < m.net.n_params; i += 7) {
            double x, y;
            float *a = train(&m, &s, threads, 4, VX_FP32, i, &x);
            float *b = train(&m, &s, threads, 4, VX_FP32, i, &y);
            cr_assert_eq(memcmp(a, b, m.net.params[i].count * sizeof *a), 0, "%s",
                         m.net.params[i].name);
            cr_assert_eq(memcmp(&x, &y, sizeof x), 0);
            free(a);
            free(b);
        }
    }
    samples_release(&s);
    maker_release(&m);
}

Test(device_program, own_kernels_do_not_depend_on_the_number_of_threads) {
    /* oneDNN splits the gradient of weights by threads, so only the forward pass is the same. */
    struct maker m;
    struct samples s;
    small_unet(&m);
    samples_init(&s, &m.net, 3);
    double first = 0;
    for (int threads = 1; threads <= 4; threads++) {
        double loss;
        free(train(&m, &s, threads, 1, VX_FP32, 0, &loss));
        first = threads == 1 ? loss : first;
        cr_assert_eq(memcmp(&first, &loss, sizeof loss), 0, "%.17g, %.17g", first, loss);
    }
    samples_release(&s);
    maker_release(&m);
}

Test(device_program, nothing_is_allocated_while_running) {
    struct maker m;
    struct samples s;
    struct rig r;
    small_unet(&m);
    samples_init(&s, &m.net, 3);
    rig_init(&r, "cpu", 2, &m.net);
    rig_randomize(&r, 1);
    struct vx_run_input in = samples_input(&s, 0.01f);
    struct vx_program *p = rig_compile(&r, VX_MODE_TRAIN, VX_FP32);
    rig_run(p, &in);
    struct mallinfo2 before = mallinfo2();
    for (int i = 0; i < 20; i++) {
        rig_run(p, &in);
    }
    struct mallinfo2 after = mallinfo2();
    cr_assert_eq(after.uordblks, before.uordblks);
    cr_assert_eq(after.hblkhd, before.hblkhd);
    cr_assert_eq(after.arena, before.arena);
    vx_program_free(p);
    samples_release(&s);
    rig_release(&r);
    maker_release(&m);
}

/* Hard statistics of logits against labels at full resolution. */
static void count_hits(const struct maker *m, const float *logits, const struct samples *s,
                       int64_t *tp) {
    const int *shape = m->net.tensors[m->net.output].shape;
    size_t voxels = (size_t)shape[2] * shape[3] * shape[4];
    for (size_t n = 0; n < (size_t)shape[0]; n++) {
        for (size_t v = 0; v < voxels; v++) {
            const float *z = logits + n * shape[1] * voxels + v;
            int best = 0, label = s->labels[n][v] < 0 ? 0 : s->labels[n][v];
            for (int c = 1; c < shape[1]; c++) {
                best = z[(size_t)c * voxels] > z[(size_t)best * voxels] ? c : best;
            }
            tp[best] += best == label;
        }
    }
}

Test(device_program, inference_sees_what_training_updated_and_validation_agrees) {
    struct maker m;
    struct samples s;
    struct rig r;
    small_unet(&m);
    samples_init(&s, &m.net, 3);
    rig_init(&r, "cpu", 2, &m.net);
    rig_randomize(&r, 1);
    struct vx_run_input in = samples_input(&s, 0.05f);
    struct vx_program *train_program = rig_compile(&r, VX_MODE_TRAIN, VX_FP32);
    struct vx_program *validate = rig_compile(&r, VX_MODE_VALIDATE, VX_FP32);
    struct vx_program *infer = rig_compile(&r, VX_MODE_INFER, VX_FP32);
    const int *shape = m.net.tensors[m.net.output].shape;
    size_t count = (size_t)shape[0] * shape[1] * shape[2] * shape[3] * shape[4];
    float *logits = malloc(2 * count * sizeof *logits);
    double loss = 0;
    for (int round = 0; round < 2; round++) {
        struct vx_run_result v = rig_run(validate, &in);
        rig_run(infer, &in);
        cr_assert_eq(vx_program_read_logits(infer, logits + (size_t)round * count, NULL), VX_OK);
        int64_t tp[64] = {0};
        count_hits(&m, logits + (size_t)round * count, &s, tp);
        cr_assert_eq(memcmp(tp, v.tp, sizeof tp), 0);
        cr_assert(round == 0 || v.loss < loss, "training did not lower the loss");
        /* The training program's forward pass is the same. */
        loss = rig_run(train_program, &in).loss;
        cr_assert_eq(memcmp(&loss, &v.loss, sizeof loss), 0);
        for (int i = 0; i < 5; i++) {
            rig_run(train_program, &in);
        }
    }
    cr_assert_neq(memcmp(logits, logits + count, count * sizeof *logits), 0);
    cr_assert_lt(vx_program_memory(infer), vx_program_memory(train_program));
    free(logits);
    vx_program_free(train_program);
    vx_program_free(validate);
    vx_program_free(infer);
    samples_release(&s);
    rig_release(&r);
    maker_release(&m);
}

Test(device_program, tickets) {
    struct maker m;
    struct samples s;
    struct rig r;
    small_unet(&m);
    samples_init(&s, &m.net, 3);
    rig_init(&r, "cpu", 2, &m.net);
    rig_randomize(&r, 1);
    struct vx_run_input in = samples_input(&s, 0.1f);
    struct vx_program *p = rig_compile(&r, VX_MODE_TRAIN, VX_FP32);
    struct vx_run_result first, second, again;
    uint64_t ticket;
    cr_assert_eq(vx_program_run(p, &in, &ticket, NULL), VX_OK);
    cr_assert_eq(ticket, 1u);
    cr_assert_eq(vx_program_wait(p, 1, &first, NULL), VX_OK);
    cr_assert_eq(vx_program_run(p, &in, &ticket, NULL), VX_OK);
    cr_assert_eq(vx_program_wait(p, 2, &second, NULL), VX_OK);
    cr_assert_eq(vx_program_wait(p, 1, &again, NULL), VX_OK);
    cr_assert_eq(memcmp(&first, &again, sizeof first), 0);
    cr_assert_neq(first.loss, second.loss);
    cr_assert_eq(vx_program_wait(p, 3, &again, NULL), VX_E_INVALID);
    cr_assert_eq(vx_program_wait(p, 0, &again, NULL), VX_E_INVALID);
    vx_program_free(p);
    samples_release(&s);
    rig_release(&r);
    maker_release(&m);
}

Test(device_program, clipping_and_decay_follow_the_formula) {
    struct maker m;
    struct samples s;
    struct rig r;
    small_unet(&m);
    m.net.optimizer = (struct vx_optimizer){0.9f, 0.01f, 0.05f};
    samples_init(&s, &m.net, 3);
    rig_init(&r, "cpu", 2, &m.net);
    rig_randomize(&r, 1);
    struct vx_run_input in = samples_input(&s, 0.1f);
    struct vx_program *gradient = rig_compile(&r, VX_MODE_GRADIENT, VX_FP32);
    struct vx_program *p = rig_compile(&r, VX_MODE_TRAIN, VX_FP32);
    double norm = rig_run(gradient, &in).grad_norm, squares = 0;
    cr_assert_gt(norm, 0.05);
    float **g = calloc((size_t)m.net.n_params, sizeof *g),
          **w = calloc((size_t)m.net.n_params, sizeof *w);
    for (int i = 0; i < m.net.n_params; i++) {
        g[i] = rig_download(&r, i, VX_PART_GRADIENT);
        w[i] = rig_download(&r, i, VX_PART_WEIGHT);
        for (size_t k = 0; k < m.net.params[i].count; k++) {
            squares += (double)g[i][k] * (double)g[i][k];
        }
    }
    cr_assert_lt(fabs(norm - sqrt(squares)), 1e-6 * norm);
    rig_run(p, &in);
    for (int i = 0; i < m.net.n_params; i++) {
        float *after = rig_download(&r, i, VX_PART_WEIGHT);
        float *v = rig_download(&r, i, VX_PART_MOMENTUM);
        for (size_t k = 0; k < m.net.params[i].count; k++) {
            double want_v = 0, want = (double)w[i][k];
            if (m.net.params[i].trainable) {
                want_v = (double)g[i][k] * 0.05 / (norm + 1e-6) + 0.01 * (double)w[i][k];
                want -= 0.1 * (want_v + 0.9 * want_v);
            }
            cr_assert_lt(fabs((double)v[k] - want_v), 1e-7);
            cr_assert_lt(fabs((double)after[k] - want), 1e-6);
        }
        free(after);
        free(v);
        free(g[i]);
        free(w[i]);
    }
    free(g);
    free(w);
    vx_program_free(gradient);
    vx_program_free(p);
    samples_release(&s);
    rig_release(&r);
    maker_release(&m);
}

Test(device_program, refuses_what_it_cannot_do) {
    struct maker m;
    struct samples s;
    struct rig r;
    struct vx_err err = {0};
    uint64_t ticket;
    small_unet(&m);
    samples_init(&s, &m.net, 3);
    rig_init(&r, "cpu", 2, &m.net);
    struct vx_run_input in = samples_input(&s, 0.1f);
    struct vx_program *p = rig_compile(&r, VX_MODE_TRAIN, VX_FP32);
    s.labels[1][77] = 3;
    cr_assert_eq(vx_program_run(p, &in, &ticket, &err), VX_E_INVALID);
    cr_assert_str_eq(err.reason, "label_out_of_range");
    cr_assert_eq(vx_program_read_logits(p, NULL, &err), VX_E_STATE);
    cr_assert_eq(vx_state_upload(r.state, m.net.n_params, VX_PART_WEIGHT, NULL, &err),
                 VX_E_INVALID);
    struct vx_program *q = NULL;
    m.net.tensors[3].shape[4] += 1;
    cr_assert_eq(vx_program_compile(r.state, &m.net, VX_MODE_TRAIN, VX_FP32, &q, &err),
                 VX_E_INVALID);
    cr_assert_str_eq(err.reason, "bad_network");
    cr_assert_null(q);
    vx_program_free(p);
    samples_release(&s);
    rig_release(&r);
    maker_release(&m);
}

Test(device_program, a_batch_of_another_size_shares_the_state) {
    struct maker m, one;
    struct samples s;
    struct rig r;
    small_unet(&m);
    struct unet_args a = {.batch = 1,
                          .channels = 1,
                          .size = {8, 12, 16},
                          .classes = 3,
                          .stages = 3,
                          .features = {16, 24, 32}};
    maker_unet(&one, &a);
    samples_init(&s, &m.net, 3);
    rig_init(&r, "cpu", 2, &m.net);
    rig_randomize(&r, 1);
    struct vx_run_input in = samples_input(&s, 0);
    struct vx_program *both = rig_compile(&r, VX_MODE_INFER, VX_FP32), *single = NULL;
    cr_assert_eq(vx_program_compile(r.state, &one.net, VX_MODE_INFER, VX_FP32, &single, NULL),
                 VX_OK);
    rig_run(both, &in);
    rig_run(single, &in);
    size_t count = 3u * 8 * 12 * 16;
    float *x = malloc(2 * count * sizeof *x), *y = malloc(count * sizeof *y);
    cr_assert_eq(vx_program_read_logits(both, x, NULL), VX_OK);
    cr_assert_eq(vx_program_read_logits(single, y, NULL), VX_OK);
    for (size_t i = 0; i < count; i++) {
        cr_assert_lt(fabs((double)x[i] - (double)y[i]), 1e-4);
    }
    free(x);
    free(y);
    vx_program_free(both);
    vx_program_free(single);
    samples_release(&s);
    rig_release(&r);
    maker_release(&m);
    maker_release(&one);
}

/* The sanitizer maps memory of its own as it goes and dies without it. */
#ifndef __SANITIZE_ADDRESS__
Test(device_program, says_how_much_memory_is_missing) {
    struct maker m;
    struct rig r;
    struct vx_err err = {0};
    struct vx_program *p = NULL;
    maker_init(&m, 1, 1, 160, 160, 160, 2);
    int x = maker_block(&m, 0, 64, (int[3]){3, 3, 3}, (int[3]){1, 1, 1});
    x = maker_block(&m, x, 64, (int[3]){3, 3, 3}, (int[3]){1, 1, 1});
    maker_head(&m, x, 1);
    rig_init(&r, "cpu", 2, &m.net);
    struct rlimit limit = {(rlim_t)2 << 30, (rlim_t)2 << 30};
    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
    cr_assert_eq(vx_program_compile(r.state, &m.net, VX_MODE_TRAIN, VX_FP32, &p, &err), VX_E_NOMEM);
    cr_assert_null(p);
    cr_assert(strstr(err.text, "MiB"), "%s", err.text);
    rig_release(&r);
    maker_release(&m);
}
#endif

Test(device_program, an_op_list_is_copied_whole) {
    struct maker m;
    struct vx_oplist copy;
    struct vx_err err = {0};
    small_unet(&m);
    cr_assert_eq(vx_netlist_copy(&m.net, &copy, &err), VX_OK);
    cr_assert(copy.tensors != m.net.tensors && copy.ops != m.net.ops);
    cr_assert_arr_eq(copy.tensors, m.net.tensors, (size_t)m.net.n_tensors * sizeof *copy.tensors);
    cr_assert_arr_eq(copy.params, m.net.params, (size_t)m.net.n_params * sizeof *copy.params);
    cr_assert_arr_eq(copy.ops, m.net.ops, (size_t)m.net.n_ops * sizeof *copy.ops);
    cr_assert_eq(vx_netlist_check_params(&copy, m.net.params, m.net.n_params, &err), VX_OK);
    copy.params[3].count++;
    cr_assert_eq(vx_netlist_check_params(&copy, m.net.params, m.net.n_params, &err), VX_E_INVALID);
    cr_assert_eq(vx_netlist_check(&copy, &err), VX_OK);
    copy.loss.n_heads = VX_MAX_HEADS + 1;
    cr_assert_eq(vx_netlist_check(&copy, &err), VX_E_INVALID);
    cr_assert_str_eq(err.reason, "bad_network");
    free(copy.tensors);
    maker_release(&m);
}
