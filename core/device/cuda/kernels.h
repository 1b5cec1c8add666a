/* Our own CUDA kernels: everything of a step that is not a convolution. Private to this room.
 *
 * Plain C: each function puts one to three kernels on a stream and returns cudaSuccess (0) or the
 * cudaError_t of the launch. None of them allocates, waits or touches the host's memory after it
 * returns, so all may be captured into a graph; pointers in the structs are read at the call, and
 * every array named here is device memory of the caller, 16-byte aligned.
 *
 * Layout: activations are bfloat16, NDHWC; "padded" channel counts are multiples of 8 and padded
 * channels are written as zeros. A view may be a channel slice of a wider tensor (a concatenation
 * that nobody copies): data points at the slice's first channel, pitch is the width of the whole.
 *
 * Workspace: VX_CUDA_WORKSPACE_HEAD bytes that are zero before the first call (the kernels leave
 * them zero), then scratch. One workspace, as large as the largest need, serves all launches of one
 * stream; two streams need two.
 *
 * Determinism: sums are cut into pieces by shape alone (never by the device), and added up in a
 * fixed order. Equal inputs give equal bits, on every GPU. No result depends on atomics but for
 * `top_label`, a maximum. Threads: any, one at a time per workspace. */
#ifndef VX_DEVICE_CUDA_KERNELS_H
#define VX_DEVICE_CUDA_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st; /* cudaStream_t is a pointer to it */

enum {
    VX_CUDA_LANES = 8, /* channels of one 16-byte access */
    VX_CUDA_MAX_HEADS = 8,
    VX_CUDA_MAX_CLASSES = 64,
    VX_CUDA_MAX_GRADS = 3,
    VX_CUDA_WORKSPACE_HEAD = 65536,
    VX_CUDA_IGNORE = 255, /* target of a voxel that no term of the loss counts */
    VX_CUDA_NO_IGNORE = -32768
};

/* bfloat16 [N][D][H][W][pitch], of which the channels from data on; data NULL: no such tensor. */
struct vx_cuda_view {
    void *data;
    int64_t pitch; /* elements from a voxel to the next, a multiple of 8 */
};

/* What a step says about itself; the caller's, in device memory, and copied back by the caller. The
 * loss writes loss, ce, dice (and tp, fp, fn where hard), the optimizer grad_norm and clip, the
 * labels top_label. */
struct vx_cuda_result {
    double loss;     /* weighted total over heads */
    double ce, dice; /* of the first head: cross-entropy, mean soft Dice over foreground classes */
    double grad_norm;
    int64_t tp[VX_CUDA_MAX_CLASSES], fp[VX_CUDA_MAX_CLASSES], fn[VX_CUDA_MAX_CLASSES];
    float clip;        /* what gradients are multiplied by */
    int32_t top_label; /* largest label seen; not below classes: the run's numbers mean nothing */
};

/* --- instance norm, affine map, leaky ReLU (norm.cu); VX_OP_NORM_ACT of device/oplist.h --- */

struct vx_cuda_norm {
    int n, channels, padded;
    int64_t voxels; /* of one sample */
    float eps, slope;
    const float *gamma, *beta; /* [channels] */
    float *moments; /* [n][2][padded]: mean and 1 / std; forward writes, backward reads */
    void *workspace;
};

size_t vx_cuda_norm_workspace(int n, int padded, int64_t voxels);
/* out and copy (may be none) get the same values, e.g. packed for the next convolution and a slice
 * for the decoder; out may be x where x is not needed afterwards (inference). Two launches. */
int vx_cuda_norm_forward(const struct vx_cuda_norm *norm, struct vx_cuda_view x,
                         struct vx_cuda_view out, struct vx_cuda_view copy,
                         struct CUstream_st *stream);
/* The gradient of the output is the sum of n_grads views (1 to 3). Recomputes the activation's sign
 * from x. dx may be x or one of the grads. dgamma, dbeta: [channels], overwritten; both or neither
 * may be NULL. Two launches. */
int vx_cuda_norm_backward(const struct vx_cuda_norm *norm, struct vx_cuda_view x,
                          const struct vx_cuda_view *grads, int n_grads, struct vx_cuda_view dx,
                          float *dgamma, float *dbeta, struct CUstream_st *stream);

/* --- moves with a bias (bias.cu): transposed convolutions into and out of a concatenation --- */

/* out = in + bias; voxels: of all samples together; bias: [channels] or NULL. out may be in. */
int vx_cuda_bias_forward(struct vx_cuda_view in, const float *bias, int channels, int padded,
                         int64_t voxels, struct vx_cuda_view out, struct CUstream_st *stream);
size_t vx_cuda_bias_workspace(int padded, int64_t voxels);
/* out = sum of the grads (none: not wanted); dbias: [channels], overwritten with its sum over
 * voxels, or NULL. out may be one of the grads. */
int vx_cuda_bias_backward(const struct vx_cuda_view *grads, int n_grads, int channels, int padded,
                          int64_t voxels, struct vx_cuda_view out, float *dbias, void *workspace,
                          struct CUstream_st *stream);

/* --- input slots (input.cu) --- */

/* slots: [n] samples, sample_stride floats apart, each [channels][voxels] -> packed or sliced
 * bfloat16 with the padded channels zero. */
int vx_cuda_load_images(const float *slots, int64_t sample_stride, int n, int channels, int padded,
                        int64_t voxels, struct vx_cuda_view out, struct CUstream_st *stream);

struct vx_cuda_targets {
    const int16_t *labels; /* [n] samples, sample_stride elements apart, each [D][H][W] */
    int64_t sample_stride;
    int n, shape[3];
    int ignore; /* this label becomes VX_CUDA_IGNORE; VX_CUDA_NO_IGNORE: none does */
    int n_heads;
    int head_shape[VX_CUDA_MAX_HEADS][3];
    uint8_t *targets[VX_CUDA_MAX_HEADS]; /* [n][D][H][W] of the head; NULL: not evaluated */
    struct vx_cuda_result *result;
};

/* Nearest-exact targets of every head; labels below 0 become 0. Writes result->top_label over all
 * voxels that a head picks. */
int vx_cuda_load_targets(const struct vx_cuda_targets *t, struct CUstream_st *stream);

/* --- Dice + cross-entropy of all heads (loss.cu) --- */

/* Heads are 1x1x1 convolutions without bias by cuDNN; the loss adds the bias and sums its gradient.
 */
struct vx_cuda_head {
    void *logits;      /* bfloat16 [n][voxels][padded], packed, before the bias */
    void *dlogits;     /* the same shape, padded channels zero; may be logits where padded is 8 */
    const float *bias; /* [classes]; NULL: none */
    float *dbias;      /* [classes], overwritten; NULL: not wanted */
    const uint8_t *targets; /* [n][voxels] */
    int64_t voxels;         /* of one sample */
    float weight;           /* heads with weight 0 are left out by the caller */
};

struct vx_cuda_loss {
    int n, classes, padded; /* padded: a multiple of 8, at most 64 */
    bool batch_dice;
    bool hard; /* also tp, fp, fn of the first head */
    float smooth;
    int n_heads; /* the first is the finest */
    struct vx_cuda_head heads[VX_CUDA_MAX_HEADS];
    struct vx_cuda_result *result;
    void *workspace; /* must survive from forward to backward, or be this loss's own */
};

/* Channels that logits are best padded to: the next multiple of 8; 0 where there are too many
 * classes.
 */
int vx_cuda_logit_channels(int classes);
size_t vx_cuda_loss_workspace(const struct vx_cuda_loss *loss);
/* One launch over all heads: softmax, sums, and their end: result, and the slopes that backward
 * multiplies with, in the workspace. */
int vx_cuda_loss_forward(const struct vx_cuda_loss *loss, struct CUstream_st *stream);
/* One launch: softmax again, dlogits, dbias. */
int vx_cuda_loss_backward(const struct vx_cuda_loss *loss, struct CUstream_st *stream);

/* --- gradient norm, clipping, SGD with Nesterov momentum (optimizer.cu) --- */

/* All trainable parameters as one arena, the same index in every role. First the convolutions'
 * weights in cuDNN's layout (KDRSC, padded; see vx_cuda_filter), whose gradients are bfloat16 and
 * which have a bfloat16 copy; then biases, gamma and beta, whose gradients are fp32. Start of every
 * parameter aligned to 64 elements; gaps and paddings zero in every role, and they stay zero.
 * Parameters that are not trained lie elsewhere. */
struct vx_cuda_optimizer {
    int64_t n_filters, n_vectors; /* elements of the two parts, multiples of 8 */
    const void *filter_grads;     /* bfloat16 [n_filters] */
    const float *vector_grads;    /* [n_vectors] */
    float *weights, *momenta;     /* [n_filters + n_vectors] */
    void *copies;                 /* bfloat16 [n_filters] */
    float momentum, weight_decay, clip_norm;
    const float *learning_rate; /* one number in device memory: a captured graph reads it anew */
    struct vx_cuda_result *result;
    void *workspace;
};

size_t vx_cuda_optimizer_workspace(void);
/* result->grad_norm and result->clip. */
int vx_cuda_gradient_norm(const struct vx_cuda_optimizer *o, struct CUstream_st *stream);
/* After vx_cuda_gradient_norm: weights, momenta and copies. */
int vx_cuda_update(const struct vx_cuda_optimizer *o, struct CUstream_st *stream);

/* --- filters between PyTorch's order and cuDNN's (filter.cu) --- */

/* PyTorch [k][c][taps] against [k_padded][taps][c_padded]. A transposed convolution (I, O, taps) is
 * the data gradient of a convolution with k = I, c = O. */
struct vx_cuda_filter {
    int k, c, taps, k_padded, c_padded;
};

/* Writes all of dst, paddings as zeros, and the bfloat16 copy where not NULL. */
int vx_cuda_filter_pack(const struct vx_cuda_filter *f, const float *torch, float *dst, void *copy,
                        struct CUstream_st *stream);
int vx_cuda_filter_unpack(const struct vx_cuda_filter *f, const float *src, float *torch,
                          struct CUstream_st *stream);
int vx_cuda_filter_unpack_bf16(const struct vx_cuda_filter *f, const void *src, float *torch,
                               struct CUstream_st *stream);

/* --- sliding window (sliding.cu); the rules are those of infer/sliding.h --- */

/* A tile in one mirroring; start may be negative, parts outside the volume are zeros. */
struct vx_cuda_tile {
    int64_t volume[3], start[3];
    int patch[3];
    bool flip[3];
};

/* image [channels][Z][Y][X] float -> one sample of the input, packed. */
int vx_cuda_cut_tile(const struct vx_cuda_tile *tile, const float *image, int channels, int padded,
                     void *out, struct CUstream_st *stream);
/* sums[class][Z][Y][X] += importance * (logits + bias), mirrored back; logits: one sample, packed.
 * importance: device array of patch[0] + patch[1] + patch[2] factors. Tiles are added in the order
 * of the calls. */
int vx_cuda_add_tile(const struct vx_cuda_tile *tile, const void *logits, const float *bias,
                     int classes, int padded, const float *importance, float *sums,
                     struct CUstream_st *stream);
/* sums /= weights[z] * weights[y] * weights[x] * passes; weights: device array, Z + Y + X sums of
 * importance. *not_finite (device memory) becomes 1 where a quotient is not finite; the caller
 * clears it. */
int vx_cuda_divide_tiles(const int64_t volume[3], int classes, const float *weights, float passes,
                         float *sums, int32_t *not_finite, struct CUstream_st *stream);
/* logits + bias as [n][classes][voxels] float32. */
int vx_cuda_read_logits(const void *logits, const float *bias, int n, int classes, int padded,
                        int64_t voxels, float *dst, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif
