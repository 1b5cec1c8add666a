/* The network as a static list of operations over tensor ids with logical shapes.
 *
 * core/net builds it; a device backend compiles it. Layout in memory, channel padding, fusion,
 * memory plan and graph capture belong to the backend. Only forward operations are listed: every
 * kind has exactly one gradient, so a backend that compiles for training walks the list backwards.
 * All shapes are N, C, D, H, W; 2d networks have D = 1 and kernels 1 x k x k. Plain data: built
 * once, then read-only and shared between threads.
 */
#ifndef VX_DEVICE_OPLIST_H
#define VX_DEVICE_OPLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VX_MAX_HEADS   8
#define VX_MAX_CLASSES 64

enum vx_tensor_kind {
    VX_TENSOR_INPUT, /* images, float32, from the input slots */
    VX_TENSOR_ACTIVATION,
};

struct vx_tensor {
    enum vx_tensor_kind kind;
    int shape[5]; /* N, C, D, H, W */
};

enum vx_param_init {
    VX_INIT_HE, /* N(0, 2 / ((1 + slope^2) * fan_in)), slope 0.01: Kaiming normal for leaky ReLU */
    VX_INIT_ZERO, /* biases, norm shift */
    VX_INIT_ONE,  /* norm scale */
};

struct vx_param {
    char name[96]; /* nnU-Net's unique state_dict key, e.g. "encoder.stages.0.0.convs.0.conv.weight"
                    */
    int ndim;      /* 1 or 5 (2d networks keep kd = 1 here; exporters drop the axis) */
    int shape[5];  /* PyTorch's order: conv O,I,kd,kh,kw; transposed conv I,O,kd,kh,kw; vectors C */
    size_t count;
    enum vx_param_init init;
    int fan_in; /* for VX_INIT_HE: shape[1] * kernel volume (also for transposed convolutions) */
    bool trainable; /* false: no gradient, no decay, no momentum (the coarsest deep-supervision
                       head) */
};

enum vx_op_kind {
    VX_OP_CONV, /* out = conv(in[0], weight, bias); zero padding pad on both sides of each axis */
    VX_OP_NORM_ACT, /* out = leaky_relu(instance_norm(in[0]) * gamma + beta); biased variance, eps
                       inside the root */
    VX_OP_CONV_TRANSPOSE, /* out = conv_transpose(in[0], weight, bias), kernel = stride, no padding
                           */
    VX_OP_CONCAT,         /* out = channels of in[0], then channels of in[1] */
};

struct vx_op {
    enum vx_op_kind kind;
    int in[2]; /* tensor ids; -1 where unused */
    int out;
    int weight, bias; /* parameter ids; for VX_OP_NORM_ACT gamma and beta; -1 where unused */
    int kernel[3], stride[3], pad[3];
    float slope; /* VX_OP_NORM_ACT: negative slope; 1 means no activation */
    float eps;   /* VX_OP_NORM_ACT */
};

/* Dice + cross-entropy over several resolutions.
 * Targets of head i are picked from the labels of the input slot by nearest-exact: source index
 * along an axis = floor((o + 0.5) * in / out). Heads with weight exactly 0 are not evaluated,
 * forward or backward. CE: mean over all voxels of the batch. Dice: softmax p, per (sample, class)
 * or, with batch_dice, per class over the batch: d = (2 I + smooth) / max(G + P + smooth, 1e-8), I
 * = sum p y, P = sum p, G = sum y; the background class is left out; loss = CE - mean d. Total =
 * sum_i weight_i * loss_i (weights sum to 1). Source: nnU-Net v2, DC_and_CE_loss. */
struct vx_loss {
    int n_heads;
    int logits[VX_MAX_HEADS]; /* tensor ids, finest first; C = classes */
    float weight[VX_MAX_HEADS];
    bool batch_dice;
    float smooth; /* 1e-5 */
};

/* SGD with Nesterov momentum in PyTorch's form: g += decay * p; v = momentum * v + g; p -= lr * (g
 * + momentum * v). Before it, gradients are scaled by min(1, clip / (norm + 1e-6)), norm = global
 * L2 norm over trainable parameters. All in fp32 on fp32 master weights, whatever the compute
 * precision. */
struct vx_optimizer {
    float momentum, weight_decay, clip_norm;
};

struct vx_oplist {
    int batch, classes; /* N; classes including background */
    int n_tensors, n_params, n_ops;
    struct vx_tensor *tensors; /* owned, like the two below */
    struct vx_param *params;
    struct vx_op *ops; /* in execution order */
    int input;         /* tensor id of the images */
    int output;        /* tensor id of the finest logits */
    struct vx_loss loss;
    struct vx_optimizer optimizer;
};

#endif
