/* Builds PlainConvUNet's op list: first every parameter in PyTorch's order, then the operations in
 * the order in which they run. */
#include "base/err.h"
#include "device/oplist.h"
#include "net/net.h"
#include "net/topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(VX_NET_MAX_STAGES == VX_MAX_HEADS + 1, "one head per decoder step");

static const float LEAKY_SLOPE = 0.01f;
static const float NORM_EPS = 1e-5f;

/* First parameter id of each part; a block's four parameters follow one another. */
struct ids {
    int encoder[VX_NET_MAX_STAGES][VX_NET_MAX_CONVS];
    int decoder[VX_NET_MAX_STAGES][VX_NET_MAX_CONVS];
    int transposed[VX_NET_MAX_STAGES];
    int head[VX_NET_MAX_STAGES];
};

struct builder {
    const struct vx_topology *topo;
    struct vx_oplist *net;
    struct ids ids;
};

void vx_net_options_default(struct vx_net_options *ret) {
    struct vx_net_options o = {
        .deep_supervision = true, .momentum = 0.99f, .weight_decay = 3e-5f, .clip_norm = 12.0f};
    *ret = o;
}

static int volume(const int s[3]) {
    return s[0] * s[1] * s[2];
}

static struct vx_param *new_param(struct builder *b, const char *prefix, const char *leaf) {
    struct vx_param *p = &b->net->params[b->net->n_params++];
    memset(p, 0, sizeof(*p));
    snprintf(p->name, sizeof(p->name), "%s%s", prefix, leaf);
    p->trainable = true;
    return p;
}

/* weight of shape (a, b, kernel) and its bias of `bias` numbers; returns the weight's id. */
static int add_conv_params(struct builder *b, const char *prefix, int dim0, int dim1,
                           const int kernel[3], int bias) {
    int id = b->net->n_params;
    struct vx_param *w = new_param(b, prefix, ".weight");
    w->ndim = 5;
    w->shape[0] = dim0;
    w->shape[1] = dim1;
    memcpy(&w->shape[2], kernel, 3 * sizeof(int));
    w->init = VX_INIT_HE;
    w->fan_in = dim1 * volume(kernel);
    w->count = (size_t)dim0 * (size_t)w->fan_in;
    struct vx_param *v = new_param(b, prefix, ".bias");
    v->ndim = 1;
    v->shape[0] = bias;
    v->init = VX_INIT_ZERO;
    v->count = (size_t)bias;
    return id;
}

static int add_block_params(struct builder *b, const char *prefix, int in, int out,
                            const int kernel[3]) {
    char name[64];
    snprintf(name, sizeof(name), "%s.conv", prefix);
    int id = add_conv_params(b, name, out, in, kernel, out);
    for (int i = 0; i < 2; i++) {
        struct vx_param *p = new_param(b, prefix, i == 0 ? ".norm.weight" : ".norm.bias");
        p->ndim = 1;
        p->shape[0] = out;
        p->count = (size_t)out;
        p->init = i == 0 ? VX_INIT_ONE : VX_INIT_ZERO;
    }
    return id;
}

static void add_encoder_params(struct builder *b, int channels) {
    const struct vx_topology *t = b->topo;
    int in = channels;
    for (int s = 0; s < t->stages; s++) {
        for (int c = 0; c < t->convs[s]; c++) {
            char prefix[64];
            snprintf(prefix, sizeof(prefix), "encoder.stages.%d.0.convs.%d", s, c);
            b->ids.encoder[s][c] = add_block_params(b, prefix, in, t->features[s], t->kernel[s]);
            in = t->features[s];
        }
    }
}

/* Decoder step j makes the tensors of encoder stage stages - 2 - j. */
static void add_decoder_params(struct builder *b, int classes) {
    const struct vx_topology *t = b->topo;
    static const int one[3] = {1, 1, 1};
    char prefix[64];
    for (int j = 0; j < t->stages - 1; j++) {
        int s = t->stages - 2 - j;
        for (int c = 0; c < t->decoder_convs[j]; c++) {
            snprintf(prefix, sizeof(prefix), "decoder.stages.%d.convs.%d", j, c);
            int in = c == 0 ? 2 * t->features[s] : t->features[s];
            b->ids.decoder[j][c] = add_block_params(b, prefix, in, t->features[s], t->kernel[s]);
        }
    }
    for (int j = 0; j < t->stages - 1; j++) {
        int s = t->stages - 2 - j;
        snprintf(prefix, sizeof(prefix), "decoder.transpconvs.%d", j);
        b->ids.transposed[j] = add_conv_params(b, prefix, t->features[s + 1], t->features[s],
                                               t->stride[s + 1], t->features[s]);
    }
    for (int j = 0; j < t->stages - 1; j++) {
        int s = t->stages - 2 - j;
        snprintf(prefix, sizeof(prefix), "decoder.seg_layers.%d", j);
        b->ids.head[j] = add_conv_params(b, prefix, classes, t->features[s], one, classes);
    }
}

static int add_tensor(struct builder *b, int channels, const int size[3]) {
    int id = b->net->n_tensors++;
    struct vx_tensor *t = &b->net->tensors[id];
    t->kind = VX_TENSOR_ACTIVATION;
    t->shape[0] = b->net->batch;
    t->shape[1] = channels;
    memcpy(&t->shape[2], size, 3 * sizeof(int));
    return id;
}

static struct vx_op *add_op(struct builder *b, enum vx_op_kind kind, int in0, int in1, int out) {
    struct vx_op *op = &b->net->ops[b->net->n_ops++];
    memset(op, 0, sizeof(*op));
    op->kind = kind;
    op->in[0] = in0;
    op->in[1] = in1;
    op->out = out;
    op->weight = op->bias = -1;
    for (int a = 0; a < 3; a++) {
        op->kernel[a] = op->stride[a] = 1;
    }
    return op;
}

/* A convolution with "same" padding at stride 1. */
static int add_conv(struct builder *b, int in, int param, const int kernel[3], const int stride[3],
                    int channels, const int size[3]) {
    int out = add_tensor(b, channels, size);
    struct vx_op *op = add_op(b, VX_OP_CONV, in, -1, out);
    op->weight = param;
    op->bias = param + 1;
    for (int a = 0; a < 3; a++) {
        op->kernel[a] = kernel[a];
        op->stride[a] = stride[a];
        op->pad[a] = (kernel[a] - 1) / 2;
    }
    return out;
}

static int add_block(struct builder *b, int in, int param, int stage, const int stride[3]) {
    const struct vx_topology *t = b->topo;
    int f = t->features[stage];
    int x = add_conv(b, in, param, t->kernel[stage], stride, f, t->size[stage]);
    int out = add_tensor(b, f, t->size[stage]);
    struct vx_op *op = add_op(b, VX_OP_NORM_ACT, x, -1, out);
    op->weight = param + 2;
    op->bias = param + 3;
    op->slope = LEAKY_SLOPE;
    op->eps = NORM_EPS;
    return out;
}

static int add_upsample(struct builder *b, int in, int param, int stage) {
    const struct vx_topology *t = b->topo;
    int out = add_tensor(b, t->features[stage], t->size[stage]);
    struct vx_op *op = add_op(b, VX_OP_CONV_TRANSPOSE, in, -1, out);
    op->weight = param;
    op->bias = param + 1;
    memcpy(op->kernel, t->stride[stage + 1], sizeof(op->kernel));
    memcpy(op->stride, t->stride[stage + 1], sizeof(op->stride));
    return out;
}

/* Fills skip[s] with the output tensor of each encoder stage. */
static void add_encoder(struct builder *b, int channels, int skip[VX_NET_MAX_STAGES]) {
    const struct vx_topology *t = b->topo;
    static const int one[3] = {1, 1, 1};
    int x = add_tensor(b, channels, t->size[0]);
    b->net->tensors[x].kind = VX_TENSOR_INPUT;
    b->net->input = x;
    for (int s = 0; s < t->stages; s++) {
        for (int c = 0; c < t->convs[s]; c++) {
            x = add_block(b, x, b->ids.encoder[s][c], s, c == 0 ? t->stride[s] : one);
        }
        skip[s] = x;
    }
}

/* Fills head[j] with the logits of each decoder step. */
static void add_decoder(struct builder *b, const int skip[VX_NET_MAX_STAGES],
                        int head[VX_NET_MAX_STAGES]) {
    const struct vx_topology *t = b->topo;
    static const int one[3] = {1, 1, 1};
    int x = skip[t->stages - 1];
    for (int j = 0; j < t->stages - 1; j++) {
        int s = t->stages - 2 - j;
        int up = add_upsample(b, x, b->ids.transposed[j], s);
        x = add_tensor(b, 2 * t->features[s], t->size[s]);
        add_op(b, VX_OP_CONCAT, up, skip[s], x);
        for (int c = 0; c < t->decoder_convs[j]; c++) {
            x = add_block(b, x, b->ids.decoder[j][c], s, one);
        }
        head[j] = add_conv(b, x, b->ids.head[j], one, one, b->net->classes, t->size[s]);
    }
}

/* Deep-supervision weights 2^-i with the coarsest at 0, scaled to sum 1; heads without weight are
 * never updated. */
static void set_loss(struct builder *b, const int head[VX_NET_MAX_STAGES], bool deep) {
    struct vx_loss *loss = &b->net->loss;
    int n = b->topo->stages - 1;
    double weight[VX_MAX_HEADS] = {0}, sum = 0;
    for (int i = 0; i < n; i++) {
        bool used = deep ? (i < n - 1 || n == 1) : i == 0;
        weight[i] = used ? 1.0 / (1 << i) : 0.0;
        sum += weight[i];
    }
    loss->n_heads = deep ? n : 1;
    loss->batch_dice = b->topo->batch_dice;
    loss->smooth = 1e-5f;
    for (int i = 0; i < n; i++) {
        int j = n - 1 - i;
        if (i < loss->n_heads) {
            loss->logits[i] = head[j];
            loss->weight[i] = (float)(weight[i] / sum);
        }
        if (weight[i] == 0.0) {
            b->net->params[b->ids.head[j]].trainable = false;
            b->net->params[b->ids.head[j] + 1].trainable = false;
        }
    }
    b->net->output = head[n - 1];
}

static int allocate(const struct vx_topology *t, struct vx_oplist **ret, struct vx_err *err) {
    int blocks = 0;
    for (int s = 0; s < t->stages; s++) {
        blocks += t->convs[s];
    }
    for (int j = 0; j < t->stages - 1; j++) {
        blocks += t->decoder_convs[j];
    }
    int steps = t->stages - 1;
    struct vx_oplist *net = calloc(1, sizeof(*net));
    if (net) {
        net->tensors = calloc((size_t)(1 + 2 * blocks + 3 * steps), sizeof(*net->tensors));
        net->params = calloc((size_t)(4 * blocks + 4 * steps), sizeof(*net->params));
        net->ops = calloc((size_t)(2 * blocks + 3 * steps), sizeof(*net->ops));
    }
    if (!net || !net->tensors || !net->params || !net->ops) {
        vx_oplist_free(net);
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the network's op list");
    }
    *ret = net;
    return VX_OK;
}

int vx_net_build(const struct vx_plan_config *cfg, int in_channels, int classes, int batch,
                 const struct vx_net_options *options, struct vx_oplist **ret, struct vx_err *err) {
    if (classes < 2 || classes > VX_MAX_CLASSES) {
        return vx_fail(err, VX_E_INVALID, "classes",
                       "%d classes with background: 2 to %d are possible", classes, VX_MAX_CLASSES);
    }
    if (in_channels < 1 || batch < 1) {
        return vx_fail(err, VX_E_INVALID, "batch_size",
                       "%d input channels and batch size %d: both must be at least 1", in_channels,
                       batch);
    }
    struct vx_topology topo;
    int rc = vx_topology_from_plan(cfg, options->patch, &topo, err);
    struct builder b = {.topo = &topo};
    if (rc == VX_OK) {
        rc = allocate(&topo, &b.net, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    b.net->batch = batch;
    b.net->classes = classes;
    b.net->optimizer.momentum = options->momentum;
    b.net->optimizer.weight_decay = options->weight_decay;
    b.net->optimizer.clip_norm = options->clip_norm;
    add_encoder_params(&b, in_channels);
    add_decoder_params(&b, classes);
    int skip[VX_NET_MAX_STAGES], head[VX_NET_MAX_STAGES];
    add_encoder(&b, in_channels, skip);
    add_decoder(&b, skip, head);
    set_loss(&b, head, options->deep_supervision);
    *ret = b.net;
    return VX_OK;
}
