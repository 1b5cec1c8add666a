/* The CPU backend's own inner loops, one table per instruction set and activation type.
 *
 * Activations lie in blocks of `block` channels: [N][C / block][voxel][block]; "lanes" below are
 * the channels of one block. Every kernel works on a run of voxels inside one block and is called
 * with the same runs whatever the number of threads, so sums do not depend on scheduling. Element
 * type of `void *` arrays: float or bfloat16, by table. The tables are compiled from one source
 * (body.h) with different flags. Thread: any; no state. */
#ifndef VX_DEVICE_CPU_SIMD_KERNELS_H
#define VX_DEVICE_CPU_SIMD_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VX_MAX_BLOCK = 16, VX_NORM_SOURCES = 3 };

/* What normalising one block of one sample needs. Backward: sum and sum_hat are the means over
 * voxels of du and du * hat, where u is the input of the activation. */
struct vx_norm_lanes {
    float mean[VX_MAX_BLOCK], inverse_std[VX_MAX_BLOCK];
    float gamma[VX_MAX_BLOCK], beta[VX_MAX_BLOCK];
    float sum[VX_MAX_BLOCK], sum_hat[VX_MAX_BLOCK];
    float slope;
} __attribute__((aligned(64)));

/* Sums of the loss over a run of voxels; index = class. */
struct vx_loss_sums {
    double ce;
    double p[64], intersection[64];
    int64_t target[64], tp[64], predicted[64];
};

struct vx_loss_run {
    float *logits;          /* first block; becomes softmax */
    size_t block_stride;    /* elements from one channel block to the next */
    const int16_t *targets; /* [voxels] */
    size_t voxels;
    int classes;
};

/* Derivatives of the loss by p: in[c] where the voxel is of class c, out[c] elsewhere. */
struct vx_loss_slopes {
    float in[64], out[64];
    float cross_entropy; /* weight / voxels of the batch */
} __attribute__((aligned(64)));

struct vx_sgd {
    float scale, decay, momentum, rate;
};

struct vx_direct;
struct vx_wino;
struct vx_wino_unit;

struct vx_cpu_kernels {
    int block;
    size_t element; /* bytes of an activation */

    /* ret: [2][block]: mean and sum of squared deviations from it. */
    void (*moments)(const void *x, size_t voxels, float *ret);
    /* out = leaky(norm(x)); copy, where not NULL, gets the same. out may be x. */
    void (*norm_forward)(const struct vx_norm_lanes *lanes, const void *x, void *out, void *copy,
                         size_t voxels);
    /* The gradient is the sum of n sources. ret: [2][block]: sums of du and du * hat. */
    void (*norm_reduce)(const struct vx_norm_lanes *lanes, const void *x, const void *const *g,
                        int n, size_t voxels, float *ret);
    /* dx may be x. */
    void (*norm_backward)(const struct vx_norm_lanes *lanes, const void *x, const void *const *g,
                          int n, void *dx, size_t voxels);
    /* dst = sum of n sources, count elements (a multiple of block). */
    void (*add)(const void *const *src, int n, void *dst, size_t count);

    /* Rows of a transposed convolution: dst[v * step] = src[v] + bias, v in voxels. */
    void (*spread)(const void *src, const float *bias, void *dst, size_t step, size_t voxels);
    /* dst[v] = sum of n sources at [v * step]; adds the sum over v to bias. */
    void (*collect)(const void *const *src, int n, size_t step, void *dst, float *bias,
                    size_t voxels);

    /* channels planes of plane floats -> one block, padded with zeros. */
    void (*input_block)(const float *src, size_t plane, int channels, void *dst, size_t voxels);
    void (*input_plain)(const float *src, void *dst, size_t count);
    /* dst[table[i]] = src[i] */
    void (*scatter)(const float *src, const int32_t *table, size_t count, void *dst);

    void (*softmax)(const struct vx_loss_run *run, struct vx_loss_sums *sums);
    /* From softmax values p; dst: element type of the table, may be p where that is float. */
    void (*loss_gradient)(const struct vx_loss_run *run, const struct vx_loss_slopes *slopes,
                          void *dst);

    /* One unit of a Winograd convolution (winograd.h); NULL where the table has none. x, y, dy: one
     * sample. du is added to. */
    void (*wino_forward)(const struct vx_wino *w, const struct vx_wino_unit *unit, const float *x,
                         const float *u, float *y, float *scratch);
    void (*wino_weights)(const struct vx_wino *w, const struct vx_wino_unit *unit, const float *x,
                         const float *dy, float *du, float *scratch);

    /* Convolutions of any shape (direct.h); NULL where the table has none. x, y, dx, dy: one
     * sample. direct_forward: one plane of one output block, bias NULL or the block's;
     * direct_data: one plane of one input block; direct_weights and direct_bias add to dw and db.
     */
    void (*direct_forward)(const struct vx_direct *g, int block, int plane, const float *x,
                           const float *weights, const float *bias, float *y);
    void (*direct_data)(const struct vx_direct *g, int block, int plane, const float *dy,
                        const float *weights, float *dx);
    void (*direct_weights)(const struct vx_direct *g, int tap, int in_block, int out_block,
                           const float *x, const float *dy, float *dw);
    void (*direct_bias)(const struct vx_direct *g, int out_block, const float *dy, float *db);

    double (*square_sum)(const float *x, size_t count);
    void (*sgd)(const struct vx_sgd *sgd, float *weight, float *momentum, const float *grad,
                size_t count);
};

extern const struct vx_cpu_kernels vx_cpu_kernels_avx2;
extern const struct vx_cpu_kernels vx_cpu_kernels_avx512;
extern const struct vx_cpu_kernels vx_cpu_kernels_avx512_bf16;

#endif
