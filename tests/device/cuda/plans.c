/* For every convolution of the networks in networks.c, forward and both gradients: is there a cuDNN
 * plan that the backend would take, found and finalised without a GPU from a device's profile?
 *   gpu_plans PROFILE.json [fp16]   a Markdown table; exit status 1 where one is missing
 *   gpu_plans --device PROFILE.json writes the profile of the GPU that is here; 77 without one */
#include "networks.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "device/cuda/dnn/dnn.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct dnn_rules RULES = {.workspace = (size_t)1 << 30};
static const struct dnn_rules FAST = {.workspace = (size_t)1 << 30, .varying = true};

struct totals {
    int asked, missing, plans, varying;
    size_t workspace;
};

static void print_row(const struct network_conv *c, enum dnn_direction d, int n, int fit,
                      const struct dnn_plan *plan) {
    const struct dnn_conv *v = &c->conv;
    printf("| %s | %d | %d -> %d | %dx%dx%d | %dx%dx%d / %dx%dx%d | %s | %d | %d | ", c->layer,
           c->count, v->in_channels, v->out_channels, v->in[0], v->in[1], v->in[2], v->kernel[0],
           v->kernel[1], v->kernel[2], v->stride[0], v->stride[1], v->stride[2],
           dnn_direction_name(d), n, fit);
    if (plan) {
        printf("%d | %" PRId64 " | %.1f | %.1f |\n", plan->rank, plan->engine,
               (double)plan->workspace / 1048576, (double)plan->split / 1048576);
    } else {
        printf("- | - | - | **no plan** |\n");
    }
}

static void check(struct dnn *dnn, const struct network_conv *c, enum dnn_direction d,
                  struct totals *t) {
    struct dnn_plan *list = NULL;
    struct vx_err err = {0};
    int n = 0, fit = 0;
    int rc = dnn_list(dnn, &c->conv, d, &list, &n, &err);
    for (int i = 0; i < n; i++) {
        fit += dnn_fitness(&list[i], &c->conv, &RULES) == DNN_FIT;
        t->varying += dnn_fitness(&list[i], &c->conv, &FAST) == DNN_FIT && list[i].varying;
    }
    rc = rc != VX_OK ? rc : dnn_choose(list, n, &c->conv, d, &RULES, NULL, 0, &err);
    t->asked++;
    t->plans += n;
    if (rc != VX_OK || fit == 0) {
        t->missing++;
        fprintf(stderr, "gpu_plans: %s: %s\n", c->layer,
                rc != VX_OK ? err.text : "only plans that copy, or without tensor cores");
    } else if (list[0].workspace > t->workspace) {
        t->workspace = list[0].workspace;
    }
    print_row(c, d, n, fit, rc == VX_OK ? &list[0] : NULL);
    dnn_list_free(list, n);
}

static void check_network(struct dnn *dnn, int network, struct totals *all) {
    struct network_conv convs[NETWORK_MAX_CONVS];
    struct totals t = {0};
    int n = network_convs(network, convs);
    printf("\n## %s, batch %d\n\n", network_name(network), convs[0].conv.n);
    printf("| layer | of its shape | channels | x | kernel / stride | direction | plans | fit | "
           "taken: rank | engine | workspace MiB | of it split sums |\n");
    printf("|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < n; i++) {
        for (int d = 0; d < 3; d++) {
            if (convs[i].direction[d]) {
                check(dnn, &convs[i], (enum dnn_direction)d, &t);
            }
        }
    }
    printf("\n%d operations, %d without a fit plan; %d plans finalised; largest workspace taken "
           "%.1f MiB\n",
           t.asked, t.missing, t.plans, (double)t.workspace / 1048576);
    all->asked += t.asked;
    all->missing += t.missing;
    all->plans += t.plans;
    all->varying += t.varying;
}

static int write_profile(const char *path) {
    vx_auto_free char *profile = NULL;
    struct vx_err err = {0};
    struct dnn *dnn = NULL;
    int rc = dnn_open_device("this GPU", 0, DNN_BF16, &dnn, &err);
    if (rc != VX_OK) {
        fprintf(stderr, "gpu_plans: no GPU: %s\n", err.text);
        return 77;
    }
    rc = dnn_profile(dnn, &profile, &err);
    rc = rc != VX_OK ? rc : vx_write_file_atomic(path, profile, strlen(profile), 0644, &err);
    if (rc != VX_OK) {
        fprintf(stderr, "gpu_plans: %s\n", err.text);
    }
    dnn_close(dnn);
    return rc != VX_OK;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--device") == 0) {
        return write_profile(argv[2]);
    }
    vx_auto_free char *profile = NULL;
    struct vx_err err = {0};
    struct dnn *dnn = NULL;
    struct totals all = {0};
    size_t len = 0;
    bool fp16 = argc == 3 && strcmp(argv[2], "fp16") == 0;
    if (argc != 2 && !fp16) {
        fprintf(stderr, "usage: gpu_plans [--device] PROFILE.json [fp16]\n");
        return 2;
    }
    if (vx_read_file(argv[1], 1 << 16, &profile, &len, &err) != VX_OK ||
        dnn_open_profile(profile, fp16 ? DNN_FP16 : DNN_BF16, &dnn, &err) != VX_OK) {
        fprintf(stderr, "gpu_plans: %s\n", err.text);
        return 1;
    }
    printf("cuDNN %zu, profile %s, deviceless (no GPU was used: plans exist and finalise; nothing "
           "is said about speed or results), %s NDHWC\n",
           dnn_version(), strrchr(argv[1], '/') ? strrchr(argv[1], '/') + 1 : argv[1],
           fp16 ? "fp16" : "bf16");
    for (int i = 0; i < network_count(); i++) {
        check_network(dnn, i, &all);
    }
    printf("\nall: %d operations, %d without a fit plan, %d plans finalised; %d more are fit where "
           "results may vary\n",
           all.asked, all.missing, all.plans, all.varying);
    dnn_close(dnn);
    return all.missing ? 1 : 0;
}
