/* The builder against parameter lists made by PyTorch (tests/oracle/golden_params.py), published
 * counts, and figures worked out by hand. */
#include "base/err.h"
#include "base/own.h"
#include "configs.h"
#include "device/oplist.h"
#include "net/estimate.h"
#include "net/net.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>

static const struct net_case *named(const char *name) {
    for (size_t i = 0; i < VX_COUNTOF(NET_CASES); i++) {
        if (strcmp(NET_CASES[i].name, name) == 0) {
            return &NET_CASES[i];
        }
    }
    return NULL;
}

static struct vx_oplist *build(const struct net_case *c, int batch) {
    struct vx_plan_config p = net_config(c);
    struct vx_net_options o;
    vx_net_options_default(&o);
    struct vx_oplist *net = NULL;
    struct vx_err err = {0};
    int rc = vx_net_build(&p, c->channels, c->classes, batch, &o, &net, &err);
    cr_assert_eq(rc, VX_OK, "%s: %s", c->name, err.text);
    return net;
}

static void shape_text(const struct vx_param *p, char *out, size_t size) {
    size_t at = 0;
    for (int a = 0; a < p->ndim; a++) {
        at += (size_t)snprintf(out + at, size - at, "%s%d", a ? "," : "", p->shape[a]);
    }
}

Test(net_build, names_order_and_shapes_are_pytorchs) {
    for (size_t i = 0; i < VX_COUNTOF(NET_CASES); i++) {
        const struct net_case *c = &NET_CASES[i];
        char path[256];
        snprintf(path, sizeof(path), "tests/net/golden/%s.txt", c->name);
        FILE *f = fopen(path, "re");
        cr_assert_not_null(f, "%s", path);
        struct vx_oplist *net = build(c, 2);
        char name[128], shape[64], got[64];
        int n = 0;
        for (; fscanf(f, "%127s %63s", name, shape) == 2; n++) {
            cr_assert_lt(n, net->n_params);
            shape_text(&net->params[n], got, sizeof(got));
            cr_assert_str_eq(net->params[n].name, name);
            cr_assert_str_eq(got, shape, "%s %s", c->name, name);
            cr_assert(eq(int, vx_oplist_param(net, name), n));
        }
        fclose(f);
        cr_assert_eq(n, net->n_params, "%s", c->name);
        cr_assert_eq(n, 20 * c->stages - 12, "%s", c->name);
        if (c->parameters) {
            cr_assert_eq(vx_oplist_param_count(net), c->parameters, "%s", c->name);
        }
        vx_oplist_free(net);
    }
}

Test(net_build, two_classes_of_the_six_stage_network) {
    struct net_case c = *named("liver");
    c.classes = 2;
    struct vx_oplist *net = build(&c, 1);
    cr_assert(eq(i64, vx_oplist_param_count(net), 31195594));
    vx_oplist_free(net);
}

/* Every tensor is made once, before it is used; shapes follow from the operations. */
Test(net_build, operations_fit_together) {
    for (size_t i = 0; i < VX_COUNTOF(NET_CASES); i++) {
        struct vx_oplist *net = build(&NET_CASES[i], 3);
        bool *made = calloc((size_t)net->n_tensors, sizeof(bool));
        made[net->input] = true;
        for (int k = 0; k < net->n_ops; k++) {
            const struct vx_op *op = &net->ops[k];
            const struct vx_tensor *out = &net->tensors[op->out];
            int channels = 0;
            for (int j = 0; j < 2 && op->in[j] >= 0; j++) {
                cr_assert(made[op->in[j]]);
                channels += net->tensors[op->in[j]].shape[1];
            }
            cr_assert(not(made[op->out]));
            made[op->out] = true;
            const struct vx_tensor *in = &net->tensors[op->in[0]];
            for (int a = 0; a < 3; a++) {
                int size = in->shape[2 + a];
                if (op->kind == VX_OP_CONV) {
                    size = (size + 2 * op->pad[a] - op->kernel[a]) / op->stride[a] + 1;
                } else if (op->kind == VX_OP_CONV_TRANSPOSE) {
                    size *= op->stride[a];
                }
                cr_assert(eq(int, out->shape[2 + a], size));
            }
            if (op->kind == VX_OP_CONV) {
                cr_assert(eq(int, net->params[op->weight].shape[0], out->shape[1]));
                cr_assert(eq(int, net->params[op->weight].shape[1], channels));
            } else if (op->kind == VX_OP_CONV_TRANSPOSE) {
                cr_assert(eq(int, net->params[op->weight].shape[0], channels));
                cr_assert(eq(int, net->params[op->weight].shape[1], out->shape[1]));
            } else {
                cr_assert(eq(int, out->shape[1], channels));
            }
        }
        for (int t = 0; t < net->n_tensors; t++) {
            cr_assert(made[t]);
            cr_assert(eq(int, net->tensors[t].shape[0], 3));
        }
        free(made);
        vx_oplist_free(net);
    }
}

/* (upsampled, skip), in this order. */
Test(net_build, concatenation_order) {
    struct vx_oplist *net = build(named("demo"), 2);
    int seen = 0;
    for (int k = 0; k < net->n_ops; k++) {
        if (net->ops[k].kind == VX_OP_CONCAT) {
            int up = -1, skip = -1;
            for (int j = 0; j < k; j++) {
                up = net->ops[j].out == net->ops[k].in[0] ? (int)net->ops[j].kind : up;
                skip = net->ops[j].out == net->ops[k].in[1] ? (int)net->ops[j].kind : skip;
            }
            cr_assert(eq(int, up, VX_OP_CONV_TRANSPOSE));
            cr_assert(eq(int, skip, VX_OP_NORM_ACT));
            seen++;
        }
    }
    cr_assert(eq(int, seen, 2));
    vx_oplist_free(net);
}

Test(net_build, deep_supervision_weights) {
    static const struct {
        const char *name;
        int n;
        double weight[8];
    } golden[] = {
        {"demo", 2, {1, 0}},
        {"hippocampus", 3, {2.0 / 3, 1.0 / 3, 0}},
        {"liver", 5, {.5333333, .2666667, .1333333, .0666667, 0}},
        {"prostate", 6, {.516129, .2580645, .1290323, .0645161, .0322581, 0}},
    };
    for (size_t i = 0; i < VX_COUNTOF(golden); i++) {
        struct vx_oplist *net = build(named(golden[i].name), 2);
        cr_assert(eq(int, net->loss.n_heads, golden[i].n));
        cr_assert(eq(int, net->loss.logits[0], net->output));
        for (int h = 0; h < golden[i].n; h++) {
            cr_assert(epsilon_eq(flt, net->loss.weight[h], (float)golden[i].weight[h], 1e-6f));
        }
        /* The coarsest head is frozen, and nothing else is. */
        for (int p = 0; p < net->n_params; p++) {
            bool coarsest = strstr(net->params[p].name, "seg_layers.0.") != NULL;
            cr_assert_eq(net->params[p].trainable, !coarsest, "%s", net->params[p].name);
        }
        vx_oplist_free(net);
    }
}

Test(net_build, without_deep_supervision_and_with_another_patch) {
    struct vx_plan_config p = net_config(named("hippocampus"));
    struct vx_net_options o;
    vx_net_options_default(&o);
    o.deep_supervision = false;
    o.patch[0] = 48, o.patch[1] = 64, o.patch[2] = 8;
    struct vx_oplist *net = NULL;
    cr_assert(eq(int, vx_net_build(&p, 1, 3, 1, &o, &net, NULL), VX_OK));
    cr_assert(eq(int, net->loss.n_heads, 1));
    cr_assert(eq(flt, net->loss.weight[0], 1));
    cr_assert(eq(int, net->tensors[net->output].shape[2], 48));
    cr_assert(eq(int, net->tensors[net->output].shape[4], 8));
    cr_assert(not(net->params[vx_oplist_param(net, "decoder.seg_layers.1.weight")].trainable));
    cr_assert(net->params[vx_oplist_param(net, "decoder.seg_layers.2.weight")].trainable);
    vx_oplist_free(net);

    /* Two stages have one head; it carries the loss. */
    p.n_stages = 2;
    o.deep_supervision = true;
    cr_assert(eq(int, vx_net_build(&p, 1, 3, 1, &o, &net, NULL), VX_OK));
    cr_assert(eq(flt, net->loss.weight[0], 1));
    cr_assert(net->params[vx_oplist_param(net, "decoder.seg_layers.0.bias")].trainable);
    vx_oplist_free(net);
}

static void refused(struct vx_plan_config p, int classes, const char *reason) {
    struct vx_net_options o;
    vx_net_options_default(&o);
    struct vx_oplist *net = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_net_build(&p, 1, classes, 2, &o, &net, &err), VX_E_INVALID, "%s", reason);
    cr_assert_str_eq(err.reason, reason);
    cr_assert_null(net);
}

Test(net_build, refuses_what_cannot_be_built) {
    struct vx_plan_config good = net_config(named("hippocampus")), p = good;
    p.patch_size[1] = 52; /* 8 does not divide it */
    refused(p, 3, "patch_size");
    p = good;
    p.kernels[2][0] = 2;
    refused(p, 3, "kernel_sizes");
    p = good;
    p.strides[0][2] = 2;
    refused(p, 3, "strides");
    p = good;
    p.n_stages = 1;
    refused(p, 3, "n_stages");
    p = good;
    p.convs_decoder[0] = 0;
    refused(p, 3, "n_conv_per_stage_decoder");
    p = good;
    p.convs_encoder[1] = 99;
    refused(p, 3, "n_conv_per_stage");
    p = good;
    p.features[3] = 0;
    refused(p, 3, "features_per_stage");
    refused(good, 1, "classes");
    refused(good, 65, "classes");
}

/* sigma = sqrt(2 / 1.0001 / fan_in), and transposed convolutions take fan_in from their outputs. */
Test(net_init, spread_of_each_weight) {
    struct vx_oplist *net = build(named("hippocampus"), 2);
    float **values = vx_net_values_create(net), **again = vx_net_values_create(net);
    vx_net_init(net, 7, values);
    vx_net_init(net, 7, again);
    for (int i = 0; i < net->n_params; i++) {
        const struct vx_param *p = &net->params[i];
        cr_assert(eq(int, memcmp(values[i], again[i], p->count * sizeof(float)), 0));
        double sum = 0, sum2 = 0, n = (double)p->count;
        for (size_t k = 0; k < p->count; k++) {
            sum += (double)values[i][k];
            sum2 += (double)values[i][k] * (double)values[i][k];
        }
        if (p->ndim == 1) {
            double want = strstr(p->name, "norm.weight") ? 1.0 : 0.0;
            cr_assert(eq(dbl, sum, want * n));
            cr_assert(eq(dbl, sum2, want * n));
            continue;
        }
        int fan_in = p->shape[1] * p->shape[2] * p->shape[3] * p->shape[4];
        double sigma = sqrt(2.0 / 1.0001 / fan_in);
        /* Five standard errors. */
        cr_assert(lt(dbl, fabs(sum / n), 5 * sigma / sqrt(n)), "%s", p->name);
        cr_assert(lt(dbl, fabs(sqrt(sum2 / n) / sigma - 1), 5 / sqrt(2 * n)), "%s", p->name);
    }
    vx_net_init(net, 8, again);
    cr_assert(ne(flt, values[0][0], again[0][0]), "another seed, other weights");
    vx_net_values_free(values);
    vx_net_values_free(again);
    vx_oplist_free(net);
}

Test(net_estimate, published_and_by_hand) {
    /* Forward cost of one sample without the frozen head: 477.3 GMAC at 128^3 with two
     * classes, 19.14 GMAC for Hippocampus. */
    struct vx_net_estimate e;
    struct net_case liver = *named("liver");
    liver.classes = 2;
    struct vx_oplist *net = build(&liver, 1);
    vx_net_estimate(net, 4, &e);
    cr_assert(epsilon_eq(dbl, (double)e.forward_macs, 477.3e9, 0.05e9));
    cr_assert(eq(i64, e.step_flop, 6 * e.forward_macs));
    vx_oplist_free(net);
    net = build(named("hippocampus"), 1);
    vx_net_estimate(net, 4, &e);
    cr_assert(epsilon_eq(dbl, (double)e.forward_macs, 19.14e9, 0.01e9));
    cr_assert(eq(i64, e.parameters, 5603177));
    /* Elements per voxel of each resolution, 2 tensors a block: stage 0 has the input 1, 4 blocks
     * of 32, the upsampled 32, the joined 64 and 3 logits; deeper stages likewise without the
     * input. */
    int64_t v = 40 * 56 * 40;
    int64_t values = v * (1 + 8 * 32 + 32 + 64 + 3) + v / 8 * (8 * 64 + 64 + 128 + 3) +
                     v / 64 * (8 * 128 + 128 + 256 + 3) + v / 512 * (4 * 256);
    cr_assert(eq(i64, e.activation_values, values));
    cr_assert(gt(i64, e.train_bytes, e.infer_bytes));
    vx_oplist_free(net);
}
