/* Which plan is taken: fitness, the heuristics' order, and by trial only with a second opinion. */
#include "base/err.h"
#include "device/cuda/dnn/dnn.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static const struct dnn_conv conv = {.n = 2,
                                     .in_channels = 32,
                                     .out_channels = 16,
                                     .in = {8, 8, 8},
                                     .kernel = {3, 3, 3},
                                     .stride = {2, 2, 2},
                                     .pad = {1, 1, 1}};
enum { LIMIT = 1 << 20 };
static const struct dnn_rules RULES = {.workspace = LIMIT};
static const struct dnn_rules FAST = {.workspace = LIMIT, .varying = true};

Test(cuda_choose, sizes_of_a_convolution) {
    cr_assert_eq(dnn_out_size(&conv, 0), 4);
    cr_assert_eq(dnn_x_elements(&conv), 2 * 32 * 512);
    cr_assert_eq(dnn_w_elements(&conv), 16 * 32 * 27);
    cr_assert_eq(dnn_y_elements(&conv), 2 * 16 * 64);
}

Test(cuda_choose, numbers_of_both_types) {
    static const struct {
        float value;
        uint16_t bf16, fp16;
    } cases[] = {{0, 0, 0},
                 {1, 0x3f80, 0x3c00},
                 {-2, 0xc000, 0xc000},
                 {127.0f / 128, 0x3f7e, 0x3bf0},
                 {-1.0f / 1024, 0xba80, 0x9400}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_assert_eq(dnn_number(DNN_BF16, cases[i].value), cases[i].bf16, "case %zu", i);
        cr_assert_eq(dnn_number(DNN_FP16, cases[i].value), cases[i].fp16, "case %zu", i);
        cr_assert_eq(dnn_value(DNN_BF16, cases[i].bf16), (double)cases[i].value);
        cr_assert_eq(dnn_value(DNN_FP16, cases[i].fp16), (double)cases[i].value);
    }
    cr_assert_eq(dnn_value(DNN_FP16, 0x7bff), 65504.0, "the largest");
    cr_assert_eq(dnn_value(DNN_FP16, 0x8001), -ldexp(1, -24), "the smallest");
    cr_assert_eq(dnn_value(DNN_FP16, 0xfc00), -INFINITY);
    cr_assert_eq(isnan(dnn_value(DNN_FP16, 0xffff)), 1, "what outputs are filled with");
    cr_assert_eq(isnan(dnn_value(DNN_BF16, 0xffff)), 1);
}

Test(cuda_choose, workspace_that_could_hold_a_tensor_is_a_hidden_copy) {
    size_t y = 2 * 2 * 16 * 64; /* bytes of the smaller tensor */
    struct dnn_plan plan = {.tensor_core = true, .workspace = y - 1};
    cr_assert_eq(dnn_fitness(&plan, &conv, &RULES), DNN_FIT);
    plan.workspace = y;
    cr_assert_eq(dnn_fitness(&plan, &conv, &RULES), DNN_HIDDEN_COPY);
    plan.workspace = 10 * y;
    plan.split = 9 * y + 1;
    cr_assert_eq(dnn_fitness(&plan, &conv, &RULES), DNN_FIT, "partial sums are no copy");
    plan.workspace = plan.split = LIMIT + 1;
    cr_assert_eq(dnn_fitness(&plan, &conv, &RULES), DNN_WORKSPACE_TOO_LARGE);
    plan.workspace = 0;
    plan.tensor_core = false;
    cr_assert_eq(dnn_fitness(&plan, &conv, &RULES), DNN_NO_TENSOR_CORES);
    plan.varying = true;
    cr_assert_eq(dnn_fitness(&plan, &conv, &RULES), DNN_VARYING);
    cr_assert_eq(dnn_fitness(&plan, &conv, &FAST), DNN_NO_TENSOR_CORES);
}

Test(cuda_choose, without_a_trial_the_first_that_is_fit) {
    struct dnn_plan list[] = {{.rank = 0, .engine = 1},
                              {.rank = 1, .engine = 2, .tensor_core = true, .workspace = LIMIT + 1},
                              {.rank = 2, .engine = 3, .tensor_core = true},
                              {.rank = 3, .engine = 4, .tensor_core = true}};
    cr_assert_eq(dnn_choose(list, 4, &conv, DNN_FORWARD, &RULES, NULL, 0, NULL), VX_OK);
    int engines[] = {list[0].engine, list[1].engine, list[2].engine, list[3].engine};
    cr_assert(engines[0] == 3 && engines[1] == 1 && engines[2] == 2 && engines[3] == 4);
}

Test(cuda_choose, says_why_none_can_be_taken) {
    struct dnn_plan list[] = {{.engine = 1, .varying = true},
                              {.engine = 2, .tensor_core = true, .workspace = LIMIT + 1}};
    struct vx_err err = {0};
    cr_assert_eq(dnn_choose(list, 2, &conv, DNN_DATA, &RULES, NULL, 0, &err), VX_E_UNSUPPORTED);
    cr_assert_str_eq(err.reason, "no_plan");
    cr_assert(strstr(err.text, "none of cuDNN's 2 plans for the data direction"), "%s", err.text);
    cr_assert(strstr(err.text, "1 ask for more than 1048576 bytes"), "%s", err.text);
    cr_assert(strstr(err.text, "1 are not repeatable"), "%s", err.text);
    cr_assert_eq(dnn_choose(list, 2, &conv, DNN_DATA, &FAST, NULL, 0, &err), VX_OK);
    cr_assert_eq(list[0].engine, 1);
}

/* Another cuDNN, another GPU: slow is better than not at all. */
Test(cuda_choose, without_a_fit_plan_a_slow_one_is_taken) {
    struct dnn_plan list[] = {{.engine = 1},
                              {.engine = 2, .tensor_core = true, .workspace = 9000},
                              {.engine = 3, .tensor_core = true, .varying = true}};
    cr_assert_eq(dnn_best_fitness(list, 3, &conv, &RULES), DNN_HIDDEN_COPY);
    cr_assert_eq(dnn_choose(list, 3, &conv, DNN_DATA, &RULES, NULL, 0, NULL), VX_OK);
    cr_assert_eq(list[0].engine, 2, "tensor cores with a copy");
    cr_assert_eq(dnn_choose(list + 1, 1, &conv, DNN_DATA, &RULES, NULL, 0, NULL), VX_OK);
    cr_assert_eq(list[1].engine, 1, "or none");
}

/* A made-up device: engine e takes ms[e] and computes value[e]. */
struct made_up {
    double ms[8], value[8];
    double out[2];
    int runs;
};

static double measure(void *self, const struct dnn_plan *plan, int which) {
    struct made_up *m = self;
    m->out[which] = m->value[plan->engine];
    m->runs++;
    return m->ms[plan->engine];
}

static double differ(void *self) {
    const struct made_up *m = self;
    return fabs(m->out[0] - m->out[1]);
}

static int choose(struct made_up *m, struct dnn_plan *list, int n, struct vx_err *err) {
    struct dnn_trial trial = {.self = m, .measure = measure, .differ = differ};
    return dnn_choose(list, n, &conv, DNN_FORWARD, &RULES, &trial, 0.01, err);
}

static void fill(struct dnn_plan *list, const int *engines, int n) {
    for (int i = 0; i < n; i++) {
        list[i] = (struct dnn_plan){
            .rank = i, .engine = engines[i], .tensor_core = true, .ms = -1, .checked_with = -1};
    }
}

Test(cuda_choose, the_fastest_that_another_engine_agrees_with) {
    struct made_up m = {.ms = {0, 5, 1, 2, -1}, .value = {0, 1, 7, 1, 1}};
    struct dnn_plan list[4];
    fill(list, (int[]){1, 2, 3, 4}, 4);
    struct vx_err err = {0};
    cr_assert_eq(choose(&m, list, 4, &err), VX_OK, "%s", err.text);
    cr_assert_eq(list[0].engine, 3, "engine 2 is faster and alone with its result");
    cr_assert_eq(list[0].checked_with, 1);
    cr_assert_float_eq(list[0].ms, 2, 1e-12);
}

Test(cuda_choose, plans_of_one_engine_do_not_vouch_where_there_is_another) {
    struct made_up m = {.ms = {0, 1, 4, 5}, .value = {0, 7, 1, 1}};
    struct dnn_plan list[4];
    fill(list, (int[]){1, 1, 2, 3}, 4);
    cr_assert_eq(choose(&m, list, 4, NULL), VX_OK);
    cr_assert_eq(list[0].engine, 2);
    struct made_up alone = {.ms = {0, 1}, .value = {0, 7}};
    fill(list, (int[]){1, 1, 1, 1}, 4);
    cr_assert_eq(choose(&alone, list, 4, NULL), VX_OK, "one engine only: its next plan");
    cr_assert_eq(list[0].checked_with, 1);
    fill(list, (int[]){1}, 1);
    cr_assert_eq(choose(&alone, list, 1, NULL), VX_OK, "nobody to ask");
    cr_assert_eq(list[0].checked_with, -1);
}

Test(cuda_choose, only_the_fittest_are_tried) {
    struct made_up m = {.ms = {0, 1, 2, 3}, .value = {0, 1, 1, 1}};
    struct dnn_trial trial = {.self = &m, .measure = measure, .differ = differ};
    struct dnn_plan list[3];
    fill(list, (int[]){1, 2, 3}, 3);
    list[0].varying = true;
    cr_assert_eq(dnn_choose(list, 3, &conv, DNN_FORWARD, &RULES, &trial, 0.01, NULL), VX_OK);
    cr_assert_eq(list[0].engine, 2, "engine 1 is not repeatable");
    fill(list, (int[]){1, 2, 3}, 3);
    list[0].varying = true;
    cr_assert_eq(dnn_choose(list, 3, &conv, DNN_FORWARD, &FAST, &trial, 0.01, NULL), VX_OK);
    cr_assert_eq(list[0].engine, 1, "which nobody asked for");
    cr_assert_eq(list[0].checked_with, 2);
}

Test(cuda_choose, nobody_agrees) {
    struct made_up m = {.ms = {0, 1, 2, 3}, .value = {0, 1, 2, NAN}};
    struct dnn_plan list[3];
    struct vx_err err = {0};
    fill(list, (int[]){1, 2, 3}, 3);
    cr_assert_eq(choose(&m, list, 3, &err), VX_E_DEVICE);
    cr_assert_str_eq(err.reason, "no_agreement");
    cr_assert(strstr(err.text, "no two of cuDNN's 3 plans"), "%s", err.text);
}

Test(cuda_choose, nothing_ran) {
    struct made_up m = {.ms = {0, -1, -1}};
    struct dnn_plan list[2];
    fill(list, (int[]){1, 2}, 2);
    cr_assert_eq(choose(&m, list, 2, NULL), VX_E_DEVICE);
    cr_assert_eq(m.runs, 2);
}
