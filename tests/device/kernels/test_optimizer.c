/* Gradient norm and update: kernels on the CPU against the formulas in double. */
#include "device/kernels/fixture.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FILTERS = 64 * 40000, VECTORS = 64 * 5 };

struct arena {
    uint16_t *filter_grads, *copies;
    float *vector_grads, *weights, *momenta;
    float rate;
    struct vx_cuda_result result;
    struct vx_cuda_optimizer o;
};

static struct arena *make_arena(double grad) {
    struct arena *a = calloc(1, sizeof *a);
    a->filter_grads = malloc(FILTERS * sizeof(uint16_t));
    a->copies = malloc(FILTERS * sizeof(uint16_t));
    a->vector_grads = malloc(VECTORS * sizeof(float));
    a->weights = malloc((FILTERS + VECTORS) * sizeof(float));
    a->momenta = malloc((FILTERS + VECTORS) * sizeof(float));
    uint64_t seed = 1;
    for (int i = 0; i < FILTERS + VECTORS; i++) {
        float g = (float)(grad * host_draw(&seed));
        if (i < FILTERS) {
            a->filter_grads[i] = host_to_bf16(g);
        } else {
            a->vector_grads[i - FILTERS] = g;
        }
        a->weights[i] = (float)host_draw(&seed);
        a->momenta[i] = (float)(grad * host_draw(&seed));
    }
    a->rate = 0.01f;
    a->o = (struct vx_cuda_optimizer){
        .n_filters = FILTERS,
        .n_vectors = VECTORS,
        .filter_grads = a->filter_grads,
        .vector_grads = a->vector_grads,
        .weights = a->weights,
        .momenta = a->momenta,
        .copies = a->copies,
        .momentum = 0.99f,
        .weight_decay = 3e-5f,
        .clip_norm = 12,
        .learning_rate = &a->rate,
        .result = &a->result,
        .workspace = host_workspace(vx_cuda_optimizer_workspace()),
    };
    return a;
}

static void free_arena(struct arena *a) {
    free(a->filter_grads);
    free(a->copies);
    free(a->vector_grads);
    free(a->weights);
    free(a->momenta);
    free(a->o.workspace);
    free(a);
}

static double gradient(const struct arena *a, int i) {
    return i < FILTERS ? (double)host_from_bf16(a->filter_grads[i])
                       : (double)a->vector_grads[i - FILTERS];
}

static void step(struct arena *a, enum host_order order) {
    host_set_order(order);
    host_claims();
    cr_assert_eq(vx_cuda_gradient_norm(&a->o, NULL), 0);
    cr_assert_eq(vx_cuda_update(&a->o, NULL), 0);
    host_set_order(HOST_IN_ORDER);
    cr_assert(host_workspace_clean(a->o.workspace));
    cr_assert_eq(host_claims(), 1);
}

static void check_step(double grad, bool clipped) {
    struct arena *a = make_arena(grad), *before = make_arena(grad);
    step(a, HOST_IN_ORDER);
    double squares = 0;
    for (int i = 0; i < FILTERS + VECTORS; i++) {
        squares += gradient(a, i) * gradient(a, i);
    }
    double norm = sqrt(squares), clip = fmin(1, 12 / (norm + 1e-6));
    cr_assert_float_eq(a->result.grad_norm, norm, 1e-6 * norm);
    cr_assert_float_eq((double)a->result.clip, clip, 1e-6 * clip);
    cr_assert_eq(clip < 1, clipped);
    for (int i = 0; i < FILTERS + VECTORS; i++) {
        double w = (double)before->weights[i], g = clip * gradient(a, i) + (double)3e-5f * w;
        double m = (double)0.99f * (double)before->momenta[i] + g;
        double want = w - (double)0.01f * (g + (double)0.99f * m);
        cr_assert_float_eq((double)a->momenta[i], m, 1e-6 * (fabs(m) + grad), "element %d", i);
        cr_assert_float_eq((double)a->weights[i], want, 2e-7 * (fabs(want) + grad), "element %d",
                           i);
        if (i < FILTERS) {
            cr_assert_eq(a->copies[i], host_to_bf16(a->weights[i]));
        }
    }
    free_arena(a);
    free_arena(before);
}

Test(kernels_optimizer, step_is_the_formula) {
    check_step(1e-4, false);
    check_step(1, true);
}

Test(kernels_optimizer, order_of_blocks_and_threads_changes_no_bit) {
    struct arena *a = make_arena(1);
    step(a, HOST_IN_ORDER);
    for (int order = HOST_IN_ORDER + 1; order < HOST_ORDERS; order++) {
        struct arena *other = make_arena(1);
        step(other, (enum host_order)order);
        cr_assert_arr_eq(&other->result, &a->result, sizeof a->result);
        cr_assert_arr_eq(other->weights, a->weights, (FILTERS + VECTORS) * sizeof(float));
        free_arena(other);
    }
    free_arena(a);
}

Test(kernels_optimizer, gaps_stay_zero_and_a_gradient_that_is_not_a_number_is_told) {
    struct arena *a = make_arena(1);
    for (int i = 128; i < 192; i++) {
        a->filter_grads[i] = 0;
        a->weights[i] = a->momenta[i] = 0;
    }
    step(a, HOST_IN_ORDER);
    for (int i = 128; i < 192; i++) {
        cr_assert(a->weights[i] == 0 && a->momenta[i] == 0 && a->copies[i] == 0);
    }
    a->vector_grads[3] = NAN;
    step(a, HOST_IN_ORDER);
    cr_assert(isnan(a->result.grad_norm));
    free_arena(a);
}
