/* What every convolution of a network takes on the GPU that is here, forward and both gradients, in
 * bfloat16 and in half precision: the fastest plan of each that another engine agrees with, as the
 * backend would take it, and engines that compile at run time besides: whether they are worth the
 * seconds they take to plan (*).
 *   gpu_convolutions [NETWORK]   a Markdown table and per network one line of JSON; 77 without a
 * GPU, 1 where a convolution has no plan */
#include "networks.h"

#include "base/err.h"
#include "device/cuda/dnn/dnn.h"
#include "device/cuda/dnn/trial.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct dnn_rules RULES = {.workspace = (size_t)1 << 30};
static const double TOLERANCE = 1e-2; /* as engine.c has it */

enum { TYPES = 2 };

struct timed {
    double ms; /* negative: no plan */
    int64_t engine;
    int plans;
    bool compiled;
};

/* No store: what was kept before says nothing about this machine. */
static struct timed measure(struct dnn *dnn, const struct dnn_conv *c, enum dnn_direction d) {
    struct timed ret = {.ms = -1, .engine = -1};
    struct dnn_plan *list = NULL;
    struct trial *trial = NULL;
    struct vx_err err = {0};
    int rc = dnn_list(dnn, c, d, &list, &ret.plans, &err);
    rc = rc != VX_OK ? rc : trial_open(dnn, c, d, list, ret.plans, &RULES, &trial, &err);
    if (rc == VX_OK) {
        struct dnn_trial calls = {.self = trial, .measure = trial_measure, .differ = trial_differ};
        rc = dnn_choose(list, ret.plans, c, d, &RULES, &calls, TOLERANCE, &err);
    }
    if (rc == VX_OK) {
        ret.ms = list[0].ms;
        ret.engine = list[0].engine;
        ret.compiled = list[0].compiled;
    } else {
        fprintf(stderr, "gpu_convolutions: %s\n", err.text);
    }
    trial_close(trial);
    dnn_list_free(list, ret.plans);
    return ret;
}

static void print_row(const struct network_conv *c, enum dnn_direction d,
                      const struct timed t[TYPES]) {
    const struct dnn_conv *v = &c->conv;
    printf("| %s | %d | %d -> %d | %dx%dx%d | %dx%dx%d / %dx%dx%d | %s |", c->layer, c->count,
           v->in_channels, v->out_channels, v->in[0], v->in[1], v->in[2], v->kernel[0],
           v->kernel[1], v->kernel[2], v->stride[0], v->stride[1], v->stride[2],
           dnn_direction_name(d));
    for (int i = 0; i < TYPES; i++) {
        printf(" %.4f | %" PRId64 "%s | %d |", t[i].ms, t[i].engine, t[i].compiled ? "*" : "",
               t[i].plans);
    }
    printf(" %.2f |\n", t[0].ms > 0 && t[1].ms > 0 ? t[0].ms / t[1].ms : 0);
    fflush(stdout);
}

static int measure_network(struct dnn *const dnn[TYPES], int network) {
    struct network_conv convs[NETWORK_MAX_CONVS];
    double all[TYPES] = {0};
    int n = network_convs(network, convs), missing = 0;
    printf("\n## %s, batch %d\n\n", network_name(network), convs[0].conv.n);
    printf("| layer | of its shape | channels | x | kernel / stride | direction | bf16 ms | engine "
           "| plans | fp16 ms | engine | plans | bf16 / fp16 |\n");
    printf("|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < n; i++) {
        for (int d = 0; d < 3; d++) {
            struct timed t[TYPES];
            for (int k = 0; convs[i].direction[d] && k < TYPES; k++) {
                t[k] = measure(dnn[k], &convs[i].conv, (enum dnn_direction)d);
                missing += t[k].ms < 0;
                all[k] += t[k].ms > 0 ? t[k].ms * convs[i].count : 0;
            }
            if (convs[i].direction[d]) {
                print_row(&convs[i], (enum dnn_direction)d, t);
            }
        }
    }
    printf("\n{\"check\": \"convolutions\", \"network\": \"%s\", \"bf16_ms\": %.3f, \"fp16_ms\": "
           "%.3f, "
           "\"without_plan\": %d}\n",
           network_name(network), all[0], all[1], missing);
    return missing;
}

int main(int argc, char **argv) {
    static const enum dnn_type types[TYPES] = {DNN_BF16, DNN_FP16};
    struct dnn *dnn[TYPES] = {NULL};
    struct vx_err err = {0};
    int found = 0, missing = 0;
    for (int i = 0; i < TYPES; i++) {
        if (dnn_open_device("this GPU", 0, types[i], &dnn[i], &err) != VX_OK) {
            fprintf(stderr, "gpu_convolutions: no GPU: %s\n", err.text);
            dnn_close(dnn[0]);
            return 77;
        }
        dnn_allow_compiled(dnn[i]);
    }
    printf("cuDNN %zu on the GPU of this machine, NDHWC, median of three runs\n", dnn_version());
    for (int i = 0; i < network_count(); i++) {
        if (argc < 2 || strcmp(argv[1], network_name(i)) == 0) {
            missing += measure_network(dnn, i);
            found++;
        }
    }
    for (int i = 0; i < TYPES; i++) {
        dnn_close(dnn[i]);
    }
    if (found == 0) {
        fprintf(stderr, "gpu_convolutions: there is no network \"%s\"\n", argv[1]);
        return 2;
    }
    return missing ? 1 : 0;
}
