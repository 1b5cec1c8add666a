#include "net_maker.h"

#include "base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int ones[3] = {1, 1, 1};

static int add_tensor(struct maker *m, enum vx_tensor_kind kind, int n, int c, const int size[3]) {
    struct vx_oplist *net = &m->net;
    net->tensors = realloc(net->tensors, (size_t)(net->n_tensors + 1) * sizeof *net->tensors);
    net->tensors[net->n_tensors] = (struct vx_tensor){kind, {n, c, size[0], size[1], size[2]}};
    return net->n_tensors++;
}

static int add_param(struct maker *m, const char *what, int a, int b, const int kernel[3],
                     enum vx_param_init init) {
    struct vx_oplist *net = &m->net;
    net->params = realloc(net->params, (size_t)(net->n_params + 1) * sizeof *net->params);
    struct vx_param *p = &net->params[net->n_params];
    *p = (struct vx_param){.init = init, .trainable = true, .ndim = b ? 5 : 1};
    snprintf(p->name, sizeof p->name, "p%d.%s", net->n_params, what);
    int shape[5] = {a, b ? b : 1, kernel[0], kernel[1], kernel[2]};
    memcpy(p->shape, shape, sizeof shape);
    p->count = 1;
    for (int i = 0; i < 5; i++) {
        p->count *= (size_t)shape[i];
    }
    p->fan_in = shape[1] * kernel[0] * kernel[1] * kernel[2];
    return net->n_params++;
}

static struct vx_op *add_op(struct maker *m, struct vx_op op) {
    struct vx_oplist *net = &m->net;
    net->ops = realloc(net->ops, (size_t)(net->n_ops + 1) * sizeof *net->ops);
    net->ops[net->n_ops] = op;
    return &net->ops[net->n_ops++];
}

void maker_init(struct maker *m, int batch, int channels, int d, int h, int w, int classes) {
    memset(m, 0, sizeof *m);
    m->net.batch = batch;
    m->net.classes = classes;
    m->net.loss.smooth = 1e-5f;
    m->net.optimizer = (struct vx_optimizer){0.99f, 3e-5f, 12.0f};
    m->net.input = add_tensor(m, VX_TENSOR_INPUT, batch, channels, (int[3]){d, h, w});
}

void maker_release(struct maker *m) {
    free(m->net.tensors);
    free(m->net.params);
    free(m->net.ops);
}

int maker_conv(struct maker *m, int in, const struct conv_args *args) {
    struct vx_op op = {.kind = VX_OP_CONV, .in = {in, -1}, .bias = -1};
    int shape[5], size[3];
    memcpy(shape, m->net.tensors[in].shape, sizeof shape);
    for (int a = 0; a < 3; a++) {
        op.kernel[a] = args->kernel[a];
        op.stride[a] = args->stride[a];
        op.pad[a] = (args->kernel[a] - 1) / 2;
        size[a] = (shape[2 + a] + 2 * op.pad[a] - op.kernel[a]) / op.stride[a] + 1;
    }
    op.weight = add_param(m, "weight", args->out_channels, shape[1], args->kernel, VX_INIT_HE);
    if (!args->no_bias) {
        op.bias = add_param(m, "bias", args->out_channels, 0, ones, VX_INIT_ZERO);
    }
    op.out = add_tensor(m, VX_TENSOR_ACTIVATION, shape[0], args->out_channels, size);
    return add_op(m, op)->out;
}

int maker_norm(struct maker *m, int in, float slope) {
    struct vx_op op = {.kind = VX_OP_NORM_ACT, .in = {in, -1}, .slope = slope, .eps = 1e-5f};
    int shape[5];
    memcpy(shape, m->net.tensors[in].shape, sizeof shape);
    op.weight = add_param(m, "gamma", shape[1], 0, ones, VX_INIT_ONE);
    op.bias = add_param(m, "beta", shape[1], 0, ones, VX_INIT_ZERO);
    op.out = add_tensor(m, VX_TENSOR_ACTIVATION, shape[0], shape[1], shape + 2);
    return add_op(m, op)->out;
}

int maker_transpose(struct maker *m, int in, int out_channels, int kd, int kh, int kw) {
    struct vx_op op = {.kind = VX_OP_CONV_TRANSPOSE,
                       .in = {in, -1},
                       .kernel = {kd, kh, kw},
                       .stride = {kd, kh, kw}};
    int shape[5];
    memcpy(shape, m->net.tensors[in].shape, sizeof shape);
    int size[3] = {shape[2] * kd, shape[3] * kh, shape[4] * kw};
    op.weight = add_param(m, "up", shape[1], out_channels, op.kernel, VX_INIT_HE);
    op.bias = add_param(m, "up_bias", out_channels, 0, ones, VX_INIT_ZERO);
    op.out = add_tensor(m, VX_TENSOR_ACTIVATION, shape[0], out_channels, size);
    return add_op(m, op)->out;
}

int maker_concat(struct maker *m, int a, int b) {
    int sa[5], sb[5];
    memcpy(sa, m->net.tensors[a].shape, sizeof sa);
    memcpy(sb, m->net.tensors[b].shape, sizeof sb);
    struct vx_op op = {.kind = VX_OP_CONCAT, .in = {a, b}, .weight = -1, .bias = -1};
    op.out = add_tensor(m, VX_TENSOR_ACTIVATION, sa[0], sa[1] + sb[1], sa + 2);
    return add_op(m, op)->out;
}

int maker_block(struct maker *m, int in, int out_channels, const int kernel[3],
                const int stride[3]) {
    struct conv_args args = {.out_channels = out_channels};
    memcpy(args.kernel, kernel, sizeof args.kernel);
    memcpy(args.stride, stride, sizeof args.stride);
    return maker_norm(m, maker_conv(m, in, &args), 0.01f);
}

void maker_head(struct maker *m, int in, float weight) {
    struct conv_args args = {
        .out_channels = m->net.classes, .kernel = {1, 1, 1}, .stride = {1, 1, 1}};
    struct vx_loss *loss = &m->net.loss;
    int out = maker_conv(m, in, &args);
    if (weight == 0) {
        m->net.params[m->net.n_params - 1].trainable = false;
        m->net.params[m->net.n_params - 2].trainable = false;
    }
    if (loss->n_heads == 0) {
        m->net.output = out;
    }
    loss->logits[loss->n_heads] = out;
    loss->weight[loss->n_heads++] = weight;
}

/* Heads come coarsest first; the loss wants them finest first. */
static void order_heads(struct vx_oplist *net) {
    struct vx_loss *loss = &net->loss;
    for (int i = 0; i < loss->n_heads / 2; i++) {
        int swap = loss->logits[i];
        loss->logits[i] = loss->logits[loss->n_heads - 1 - i];
        loss->logits[loss->n_heads - 1 - i] = swap;
    }
    float total = 0, weight = 1;
    for (int i = 0; i < loss->n_heads; i++, weight /= 2) {
        loss->weight[i] = i > 0 && i == loss->n_heads - 1 ? 0 : weight;
        total += loss->weight[i];
    }
    for (int i = 0; i < loss->n_heads; i++) {
        loss->weight[i] /= total;
    }
    net->output = loss->logits[0];
}

void maker_unet(struct maker *m, const struct unet_args *a) {
    maker_init(m, a->batch, a->channels, a->size[0], a->size[1], a->size[2], a->classes);
    m->net.loss.batch_dice = a->batch_dice;
    int skip[6], kernel[6][3], stride[6][3];
    int x = m->net.input;
    for (int s = 0; s < a->stages; s++) {
        for (int k = 0; k < 3; k++) {
            kernel[s][k] = a->kernel[s][k] ? a->kernel[s][k] : 3;
            stride[s][k] = a->stride[s][k] ? a->stride[s][k] : s ? 2 : 1;
        }
        x = maker_block(m, x, a->features[s], kernel[s], stride[s]);
        x = skip[s] = maker_block(m, x, a->features[s], kernel[s], ones);
    }
    for (int s = a->stages - 2; s >= 0; s--) {
        const int *up = stride[s + 1];
        x = maker_transpose(m, x, a->features[s], up[0], up[1], up[2]);
        x = maker_concat(m, x, skip[s]);
        x = maker_block(m, x, a->features[s], kernel[s], ones);
        x = maker_block(m, x, a->features[s], kernel[s], ones);
        maker_head(m, x, a->stages > 2 && s == a->stages - 2 ? 0 : 1);
    }
    order_heads(&m->net);
}

void samples_init(struct samples *s, const struct vx_oplist *net, uint64_t seed) {
    const int *shape = net->tensors[net->input].shape;
    size_t voxels = (size_t)shape[2] * shape[3] * shape[4];
    s->n = shape[0];
    s->images = calloc((size_t)s->n, sizeof *s->images);
    s->labels = calloc((size_t)s->n, sizeof *s->labels);
    for (int n = 0; n < s->n; n++) {
        struct vx_rng rng = vx_rng_at(seed, 2, 0, (uint32_t)n, 1);
        s->images[n] = malloc(voxels * (size_t)shape[1] * sizeof(float));
        s->labels[n] = malloc(voxels * sizeof(int16_t));
        for (size_t i = 0; i < voxels * (size_t)shape[1]; i++) {
            s->images[n][i] = (float)vx_rng_normal(&rng);
        }
        int label = 0;
        for (size_t v = 0; v < voxels; v++) {
            if (vx_rng_below(&rng, 3) == 0) {
                label = (int)vx_rng_below(&rng, (uint32_t)net->classes);
            }
            /* Here and there outside of the image, which counts as background. */
            s->labels[n][v] = (int16_t)(v % 17 == 5 ? -1 : label);
        }
    }
}

void samples_release(struct samples *s) {
    for (int n = 0; n < s->n; n++) {
        free(s->images[n]);
        free(s->labels[n]);
    }
    free(s->images);
    free(s->labels);
}

struct vx_run_input samples_input(const struct samples *s, float rate) {
    return (struct vx_run_input){.images = (const float *const *)s->images,
                                 .labels = (const int16_t *const *)s->labels,
                                 .learning_rate = rate};
}
