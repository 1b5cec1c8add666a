/* What is known of a convolution and of a plan without asking cuDNN. */
#include "device/cuda/dnn/dnn.h"

#include <math.h>
#include <string.h>

uint16_t dnn_number(enum dnn_type type, float value) {
    uint32_t u;
    memcpy(&u, &value, sizeof u);
    if (type == DNN_BF16 || value == 0) {
        return (uint16_t)(u >> 16);
    }
    /* Exponents are biased by 127 and by 15, mantissas of 23 and of 10 bits. */
    return (uint16_t)((u >> 16 & 0x8000u) | (((u >> 23 & 0xffu) - 112) << 10) | (u >> 13 & 0x3ffu));
}

double dnn_value(enum dnn_type type, uint16_t bits) {
    if (type == DNN_BF16) {
        uint32_t u = (uint32_t)bits << 16;
        float v;
        memcpy(&v, &u, sizeof v);
        return (double)v;
    }
    int exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
    double v = exponent == 31  ? (mantissa ? NAN : INFINITY)
               : exponent == 0 ? ldexp(mantissa, -24)
                               : ldexp(1024 + mantissa, exponent - 25);
    return bits >> 15 ? -v : v;
}

const char *dnn_direction_name(enum dnn_direction direction) {
    static const char *const names[] = {"forward", "data", "weights"};
    return names[direction];
}

int dnn_out_size(const struct dnn_conv *c, int axis) {
    return (c->in[axis] + 2 * c->pad[axis] - c->kernel[axis]) / c->stride[axis] + 1;
}

int64_t dnn_x_elements(const struct dnn_conv *c) {
    return (int64_t)c->n * c->in_channels * c->in[0] * c->in[1] * c->in[2];
}

int64_t dnn_w_elements(const struct dnn_conv *c) {
    return (int64_t)c->out_channels * c->in_channels * c->kernel[0] * c->kernel[1] * c->kernel[2];
}

int64_t dnn_y_elements(const struct dnn_conv *c) {
    return (int64_t)c->n * c->out_channels * dnn_out_size(c, 0) * dnn_out_size(c, 1) *
           dnn_out_size(c, 2);
}

enum dnn_fitness dnn_fitness(const struct dnn_plan *plan, const struct dnn_conv *c,
                             const struct dnn_rules *rules) {
    if (plan->varying && !rules->varying) {
        return DNN_VARYING;
    }
    if (plan->workspace > rules->workspace) {
        return DNN_WORKSPACE_TOO_LARGE;
    }
    if (!plan->tensor_core) {
        return DNN_NO_TENSOR_CORES;
    }
    int64_t x = dnn_x_elements(c), y = dnn_y_elements(c);
    size_t smaller = 2 * (size_t)(x < y ? x : y);
    size_t unexplained = plan->workspace > plan->split ? plan->workspace - plan->split : 0;
    return unexplained >= smaller ? DNN_HIDDEN_COPY : DNN_FIT;
}

enum dnn_fitness dnn_best_fitness(const struct dnn_plan *list, int n, const struct dnn_conv *c,
                                  const struct dnn_rules *rules) {
    enum dnn_fitness best = DNN_VARYING;
    for (int i = 0; i < n; i++) {
        enum dnn_fitness here = dnn_fitness(&list[i], c, rules);
        best = here < best ? here : best;
    }
    return best;
}
