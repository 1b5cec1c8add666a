/* Launches of loss.h: see device/cuda/kernels.h. C subset: a test runs this file on a CPU. */
#include "device/cuda/kernels/loss.h"

/* Up to eight classes, without the hard statistics and with them; more classes, always with. */
#define LOSS_SUMS(name, wide, quantities, at_least)                                                \
    VX_INLINE void name(int phase, const struct loss_arguments *a, int block, int thread,          \
                        struct loss_registers *r, struct loss_shared *s) {                         \
        loss_sums(phase, a, block, thread, wide, quantities, r, s);                                \
    }                                                                                              \
    VX_KERNEL(name, struct loss_arguments, struct loss_registers, struct loss_shared,              \
              LOSS_SUMS_PHASES(quantities), at_least)

LOSS_SUMS(loss_sums_few, false, LOSS_SOFT, 2)
LOSS_SUMS(loss_sums_few_hard, false, LOSS_HARD, 2)
LOSS_SUMS(loss_sums_many, true, LOSS_HARD, 2)

#define LOSS_GRADIENT(name, wide)                                                                  \
    VX_INLINE void name(int phase, const struct loss_arguments *a, int block, int thread,          \
                        struct loss_registers *r, struct vx_columns_shared *s) {                   \
        loss_gradient(phase, a, block, thread, wide, r, s);                                        \
    }                                                                                              \
    VX_KERNEL(name, struct loss_arguments, struct loss_registers, struct vx_columns_shared,        \
              LOSS_GRADIENT_PHASES, 2)

LOSS_GRADIENT(loss_gradient_few, false)
LOSS_GRADIENT(loss_gradient_many, true)

int vx_cuda_logit_channels(int classes) {
    return classes <= VX_CUDA_MAX_CLASSES ? (int)vx_pieces(classes, VX_CUDA_LANES) * VX_CUDA_LANES
                                          : 0;
}

/* The scratch, in elements; every part keeps doubles and 16-byte loads aligned. */
static size_t lay_out(const struct vx_cuda_loss *loss, struct loss_arguments *a) {
    int64_t units = (int64_t)loss->n_heads * loss->n * loss->padded, blocks = 0;
    for (int h = 0; h < loss->n_heads; h++) {
        a->grid[h] = vx_grid_of(loss->n, loss->padded, loss->heads[h].voxels, VX_SUM_BLOCKS);
        a->first_block[h] = blocks;
        blocks += vx_grid_blocks(&a->grid[h]);
        a->first_block[h + 1] = blocks;
    }
    a->l = *loss;
    a->counters = vx_counters(loss->workspace);
    a->sums = (double *)vx_scratch(loss->workspace);
    a->terms = a->sums + units * LOSS_HARD;
    a->slopes = (float *)(a->terms + units);
    a->ce_slopes = a->slopes + 2 * units;
    a->partials = a->ce_slopes + VX_CUDA_MAX_HEADS;
    return VX_CUDA_WORKSPACE_HEAD + (size_t)units * (LOSS_HARD + 1) * sizeof(double) +
           ((size_t)(2 * units) + VX_CUDA_MAX_HEADS + (size_t)(blocks * LOSS_HARD * loss->padded)) *
               sizeof(float);
}

size_t vx_cuda_loss_workspace(const struct vx_cuda_loss *loss) {
    struct loss_arguments a;
    return lay_out(loss, &a);
}

static int arguments_of(const struct vx_cuda_loss *loss, struct loss_arguments *ret) {
    memset(ret, 0, sizeof *ret);
    if (loss->n < 1 || loss->classes < 2 || loss->n_heads < 1 ||
        loss->n_heads > VX_CUDA_MAX_HEADS || loss->padded < loss->classes ||
        loss->padded > VX_CUDA_MAX_CLASSES || loss->padded % VX_CUDA_LANES != 0 ||
        1 + (int64_t)loss->n_heads * loss->n > VX_COUNTERS) {
        return VX_BAD_VALUE;
    }
    lay_out(loss, ret);
    return 0;
}

int vx_cuda_loss_forward(const struct vx_cuda_loss *loss, struct CUstream_st *stream) {
    struct loss_arguments a;
    int rc = arguments_of(loss, &a);
    if (rc != 0) {
        return rc;
    }
    int64_t blocks = a.first_block[loss->n_heads];
    if (loss->padded > VX_CUDA_LANES) {
        return loss_sums_many_launch(&a, blocks, stream);
    }
    return loss->hard ? loss_sums_few_hard_launch(&a, blocks, stream)
                      : loss_sums_few_launch(&a, blocks, stream);
}

int vx_cuda_loss_backward(const struct vx_cuda_loss *loss, struct CUstream_st *stream) {
    struct loss_arguments a;
    int rc = arguments_of(loss, &a);
    for (int h = 0; rc == 0 && h < loss->n_heads; h++) {
        /* More than eight classes: threads read what their neighbours would overwrite. */
        bool in_place = loss->heads[h].dlogits == loss->heads[h].logits;
        rc = in_place && loss->padded > VX_CUDA_LANES ? VX_BAD_VALUE : 0;
    }
    if (rc != 0) {
        return rc;
    }
    int64_t blocks = a.first_block[loss->n_heads];
    return loss->padded == VX_CUDA_LANES ? loss_gradient_few_launch(&a, blocks, stream)
                                         : loss_gradient_many_launch(&a, blocks, stream);
}
