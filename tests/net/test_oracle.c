/* nnU-Net's loss without nnU-Net: figures that its own loss gave for made-up logits
 * (tests/oracle/golden/loss.json, written by tests/oracle/run loss --golden). */
#include "base/json.h"
#include "oracle/hashed.h"
#include "oracle/loss_job.h"

#include <criterion/criterion.h>
#include <math.h>

static double real(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

/* The logits of head h are row h of hashed numbers; gradient: as they lie in the job. */
static void make_logits(const struct loss_job *j, float *logits) {
    for (int h = 0; h < j->net.loss.n_heads; h++) {
        size_t count = j->net.params[loss_head_param(h)].count;
        for (size_t i = 0; i < count && j->net.loss.weight[h] != 0; i++) {
            *logits++ = hashed((uint32_t)i, (uint32_t)h);
        }
    }
}

static void check_gradient(const struct loss_job *j, const float *gradient, const json_t *want) {
    for (int h = 0; h < j->net.loss.n_heads; h++) {
        size_t count = j->net.params[loss_head_param(h)].count;
        if (j->net.loss.weight[h] == 0) {
            continue;
        }
        const json_t *head = json_array_get(want, (size_t)h), *at = json_object_get(head, "at");
        double squares = 0, norm = real(head, "norm");
        for (size_t i = 0; i < count; i++) {
            squares += (double)gradient[i] * (double)gradient[i];
        }
        cr_assert_float_eq(sqrt(squares), norm, 1e-5 * norm, "head %d", h);
        for (size_t i = 0; i < json_array_size(at); i++) {
            size_t v =
                (size_t)((double)i * ((double)(count - 1) / (double)(json_array_size(at) - 1)));
            double wanted = json_number_value(json_array_get(at, i));
            cr_assert_float_eq((double)gradient[v], wanted, 1e-5 * norm, "head %d number %zu", h,
                               v);
        }
        gradient += count;
    }
}

static void check_counts(const struct vx_run_result *hard, int classes, const json_t *want) {
    cr_assert_eq((int)json_array_size(want), classes - 1);
    for (int c = 1; c < classes; c++) {
        const json_t *three = json_array_get(want, (size_t)c - 1);
        cr_assert_eq(hard->tp[c], json_integer_value(json_array_get(three, 0)));
        cr_assert_eq(hard->fp[c], json_integer_value(json_array_get(three, 1)));
        cr_assert_eq(hard->fn[c], json_integer_value(json_array_get(three, 2)));
    }
}

static void check(struct vx_device *device, const json_t *figures) {
    struct loss_job j;
    struct vx_run_result gradient = {0}, hard = {0};
    cr_assert_eq(loss_job_open(&j, device, figures), VX_OK, "%s", j.err.text);
    uint32_t classes = (uint32_t)j.net.classes;
    size_t count = loss_job_count(&j), voxels = j.batch * j.voxels;
    vx_auto_free float *logits = malloc(count * sizeof *logits);
    vx_auto_free int16_t *labels = malloc(voxels * sizeof *labels);
    make_logits(&j, logits);
    for (size_t i = 0; i < voxels; i++) { /* -1 among them */
        labels[i] = (int16_t)((int)((hashed_word((uint32_t)i, 9) >> 8) % (classes + 1)) - 1);
    }
    cr_assert_eq(loss_job_upload(&j, logits), VX_OK, "%s", j.err.text);
    cr_assert_eq(loss_job_run(&j, VX_MODE_GRADIENT, labels, &gradient), VX_OK, "%s", j.err.text);
    cr_assert_eq(loss_job_gradient(&j, logits), VX_OK, "%s", j.err.text);
    cr_assert_eq(loss_job_run(&j, VX_MODE_VALIDATE, labels, &hard), VX_OK, "%s", j.err.text);
    const json_t *weights = json_object_get(figures, "weights");
    for (int h = 0; h < j.net.loss.n_heads; h++) {
        double weight = json_number_value(json_array_get(weights, (size_t)h));
        cr_assert_float_eq((double)j.net.loss.weight[h], weight, 1e-7);
    }
    cr_assert_float_eq(gradient.loss, real(figures, "loss"), 1e-5);
    cr_assert_float_eq(gradient.ce, real(figures, "ce"), 1e-5);
    cr_assert_float_eq(gradient.dice, real(figures, "dice"), 1e-5);
    cr_assert_float_eq(hard.loss, real(figures, "validated"), 1e-5);
    check_gradient(&j, logits, json_object_get(figures, "gradients"));
    check_counts(&hard, (int)classes, json_object_get(figures, "counts"));
    loss_job_release(&j);
}

Test(net_oracle, loss_and_gradient_are_nnunets) {
    struct vx_err err = {0};
    struct vx_device *device = NULL;
    struct vx_device_options options = {.threads = 2};
    vx_auto_json json_t *golden = NULL;
    cr_assert_eq(vx_json_load_file("tests/oracle/golden/loss.json", 1 << 20, &golden, &err), VX_OK,
                 "%s", err.text);
    cr_assert_eq(vx_device_open("cpu", &options, &device, &err), VX_OK, "%s", err.text);
    size_t i;
    json_t *figures;
    json_array_foreach(json_object_get(golden, "figures"), i, figures) {
        check(device, figures);
    }
    cr_assert_eq(i, 9);
    vx_device_close(device);
}
