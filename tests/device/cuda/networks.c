#include "networks.h"

#include "base/err.h"
#include "device/cuda/shape.h"
#include "device/oplist.h"
#include "net/net.h"
#include "plan/plans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct network {
    const char *name;
    int batch, channels, classes;
    int patch[3], stages;
    int features[7], stride[7][3];
    int flat_kernels; /* the first so many stages have kernel 1, 3, 3 */
    int blocks[7];    /* residual blocks per encoder stage; 0: a plain encoder, two convolutions */
};

#define S1                                                                                         \
    { 1, 1, 1 }
#define S2                                                                                         \
    { 2, 2, 2 }
#define SF                                                                                         \
    { 1, 2, 2 }

/* Plans as nnU-Net's rules make them: Hippocampus from all its cases, 101 (SarcomaCT) from those of
 * the test data. */
static const struct network networks[] = {
    {"Dataset004 3d_fullres",
     9,
     1,
     3,
     {40, 56, 40},
     4,
     {32, 64, 128, 256},
     {S1, S2, S2, S2},
     0,
     {0}},
    {"Dataset004 2d", 366, 1, 3, {1, 56, 40}, 4, {32, 64, 128, 256}, {S1, SF, SF, SF}, 4, {0}},
    {"Dataset101 3d_fullres",
     2,
     1,
     2,
     {56, 160, 160},
     6,
     {32, 64, 128, 256, 320, 320},
     {S1, SF, S2, S2, S2, SF},
     1,
     {0}},
    {"six stages 128^3",
     2,
     1,
     4,
     {128, 128, 128},
     6,
     {32, 64, 128, 256, 320, 320},
     {S1, S2, S2, S2, S2, S2},
     0,
     {0}},
    {"ResEnc-L 128^3",
     2,
     1,
     4,
     {128, 128, 128},
     6,
     {32, 64, 128, 256, 320, 320},
     {S1, S2, S2, S2, S2, S2},
     0,
     {1, 3, 4, 6, 6, 6}},
};

int network_count(void) {
    return (int)(sizeof networks / sizeof networks[0]);
}

const char *network_name(int network) {
    return networks[network].name;
}

static void kernel_of(const struct network *n, int stage, int ret[3]) {
    ret[0] = stage < n->flat_kernels ? 1 : 3;
    ret[1] = ret[2] = 3;
}

struct vx_oplist *network_build(int network) {
    const struct network *n = &networks[network];
    struct vx_plan_config plan = {.batch_size = n->batch, .n_stages = n->stages};
    if (n->blocks[0]) {
        return NULL;
    }
    memcpy(plan.patch_size, n->patch, sizeof n->patch);
    for (int s = 0; s < n->stages; s++) {
        plan.features[s] = n->features[s];
        memcpy(plan.strides[s], n->stride[s], sizeof plan.strides[s]);
        kernel_of(n, s, plan.kernels[s]);
        plan.convs_encoder[s] = 2;
        plan.convs_decoder[s] = s + 1 < n->stages ? 2 : 0;
    }
    struct vx_net_options options;
    struct vx_oplist *net = NULL;
    struct vx_err err = {0};
    vx_net_options_default(&options);
    memcpy(options.patch, n->patch, sizeof options.patch);
    if (vx_net_build(&plan, n->channels, n->classes, n->batch, &options, &net, &err) != VX_OK) {
        fprintf(stderr, "%s: %s\n", n->name, err.text);
        abort();
    }
    return net;
}

struct listing {
    struct network_conv *list;
    int n;
};

static void add(struct listing *l, const struct dnn_conv *c, const char *layer, bool data) {
    for (int i = 0; i < l->n; i++) {
        if (memcmp(&l->list[i].conv, c, sizeof *c) == 0) {
            l->list[i].count++;
            l->list[i].direction[DNN_DATA] |= data;
            return;
        }
    }
    struct network_conv *new = &l->list[l->n++];
    *new = (struct network_conv){.conv = *c, .direction = {true, data, true}, .count = 1};
    snprintf(new->layer, sizeof new->layer, "%s", layer);
}

/* The layer's name without its last words. */
static void layer_of(const struct vx_oplist *net, const struct vx_op *op, char ret[48]) {
    char name[96];
    snprintf(name, sizeof name, "%s", net->params[op->weight].name);
    for (int words = op->kind == VX_OP_CONV && strstr(name, ".conv.") ? 2 : 1; words > 0; words--) {
        *strrchr(name, '.') = '\0';
    }
    snprintf(ret, 48, "%.47s", name);
}

static void plain(const struct vx_oplist *net, struct listing *l) {
    for (int i = 0; i < net->n_ops; i++) {
        const struct vx_op *op = &net->ops[i];
        struct dnn_conv conv;
        char layer[48];
        if (op->kind == VX_OP_CONV || op->kind == VX_OP_CONV_TRANSPOSE) {
            cuda_conv_of(net, op, &conv);
            layer_of(net, op, layer);
            add(l, &conv, layer, op->in[0] != net->input);
        }
    }
}

static int eight(int channels) {
    return (channels + 7) / 8 * 8;
}

static struct dnn_conv conv_at(const struct network *n, const int size[3], int in, int out,
                               const int kernel[3], const int stride[3]) {
    struct dnn_conv c = {.n = n->batch, .in_channels = eight(in), .out_channels = eight(out)};
    memcpy(c.in, size, sizeof c.in);
    memcpy(c.kernel, kernel, sizeof c.kernel);
    memcpy(c.stride, stride, sizeof c.stride);
    for (int a = 0; a < 3; a++) {
        c.pad[a] = (kernel[a] - 1) / 2;
    }
    return c;
}

static const int ones[3] = {1, 1, 1};

/* ResidualEncoderUNet with basic blocks: two convolutions each, and where size or channels change a
 * skip path of average pooling and a 1x1x1 convolution. */
static void residual_encoder(const struct network *n, struct listing *l, int size[7][3]) {
    int kernel[3], in = n->features[0];
    char layer[48];
    memcpy(size[0], n->patch, sizeof n->patch);
    kernel_of(n, 0, kernel);
    struct dnn_conv c = conv_at(n, size[0], n->channels, in, kernel, ones);
    add(l, &c, "encoder.stem", false);
    for (int s = 0; s < n->stages; s++) {
        const int *from = s ? size[s - 1] : size[0];
        kernel_of(n, s, kernel);
        for (int a = 0; a < 3; a++) {
            size[s][a] = from[a] / n->stride[s][a];
        }
        for (int b = 0; b < n->blocks[s]; b++) {
            const int *stride = b ? ones : n->stride[s];
            snprintf(layer, sizeof layer, "encoder.stages.%d.blocks.%d", s, b);
            c = conv_at(n, b ? size[s] : from, in, n->features[s], kernel, stride);
            add(l, &c, layer, true);
            c = conv_at(n, size[s], n->features[s], n->features[s], kernel, ones);
            add(l, &c, layer, true);
            if (in != n->features[s]) {
                snprintf(layer, sizeof layer, "encoder.stages.%d.blocks.%d.skip", s, b);
                c = conv_at(n, size[s], in, n->features[s], ones, ones);
                add(l, &c, layer, true);
            }
            in = n->features[s];
        }
    }
}

static void residual(const struct network *n, struct listing *l) {
    int size[7][3], kernel[3];
    char layer[48];
    residual_encoder(n, l, size);
    for (int s = n->stages - 2; s >= 0; s--) {
        int j = n->stages - 2 - s, f = n->features[s];
        kernel_of(n, s, kernel);
        snprintf(layer, sizeof layer, "decoder.transpconvs.%d", j);
        struct dnn_conv c =
            conv_at(n, size[s], f, n->features[s + 1], n->stride[s + 1], n->stride[s + 1]);
        memset(c.pad, 0, sizeof c.pad);
        add(l, &c, layer, true);
        snprintf(layer, sizeof layer, "decoder.stages.%d", j);
        c = conv_at(n, size[s], 2 * f, f, kernel, ones);
        add(l, &c, layer, true);
        snprintf(layer, sizeof layer, "decoder.seg_layers.%d", j);
        c = conv_at(n, size[s], f, n->classes, ones, ones);
        add(l, &c, layer, true);
    }
}

int network_convs(int network, struct network_conv ret[NETWORK_MAX_CONVS]) {
    struct listing l = {.list = ret};
    struct vx_oplist *net = network_build(network);
    if (net) {
        plain(net, &l);
    } else {
        residual(&networks[network], &l);
    }
    vx_oplist_free(net);
    return l.n;
}
