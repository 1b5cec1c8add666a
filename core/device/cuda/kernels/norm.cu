/* Launches of norm.h: see device/cuda/kernels.h. C subset: a test runs this file on a CPU. */
#include "device/cuda/kernels/norm.h"

VX_KERNEL(norm_moments, struct norm_arguments, struct norm_registers, struct norm_shared,
          NORM_MOMENTS_PHASES, 4)
VX_KERNEL(norm_forward, struct norm_arguments, struct vx_nothing, struct vx_nothing, 1, 4)

/* One kernel each for a gradient from one place and from several. */
#define NORM_BACKWARD(which, several, at_least)                                                    \
    VX_INLINE void norm_sums_##which(int phase, const struct norm_arguments *a, int block,         \
                                     int thread, struct norm_registers *r,                         \
                                     struct vx_columns_shared *s) {                                \
        norm_sums(phase, a, block, thread, several, r, s);                                         \
    }                                                                                              \
    VX_INLINE void norm_backward_##which(int phase, const struct norm_arguments *a, int block,     \
                                         int thread, struct vx_nothing *r, struct vx_nothing *s) { \
        (void)phase, (void)r, (void)s;                                                             \
        norm_backward(a, block, thread, several);                                                  \
    }                                                                                              \
    VX_KERNEL(norm_sums_##which, struct norm_arguments, struct norm_registers,                     \
              struct vx_columns_shared, NORM_SUMS_PHASES, at_least)                                \
    VX_KERNEL(norm_backward_##which, struct norm_arguments, struct vx_nothing, struct vx_nothing,  \
              1, at_least)

NORM_BACKWARD(one, false, 3)
NORM_BACKWARD(several, true, 2)

static int64_t sums_count(const struct vx_grid *g) {
    return (int64_t)g->n * 2 * g->padded;
}

size_t vx_cuda_norm_workspace(int n, int padded, int64_t voxels) {
    struct vx_grid g = vx_grid_of(n, padded, voxels, VX_SUM_BLOCKS);
    return VX_CUDA_WORKSPACE_HEAD + (size_t)sums_count(&g) * sizeof(float) +
           vx_partials_bytes(&g, 2);
}

static int arguments_of(const struct vx_cuda_norm *norm, struct norm_arguments *ret) {
    memset(ret, 0, sizeof *ret);
    if (norm->n < 1 || norm->voxels < 1 || norm->padded < norm->channels ||
        norm->padded % VX_CUDA_LANES != 0) {
        return VX_BAD_VALUE;
    }
    ret->grid = vx_grid_of(norm->n, norm->padded, norm->voxels, VX_SUM_BLOCKS);
    ret->channels = norm->channels;
    ret->eps = norm->eps;
    ret->slope = norm->slope;
    ret->gamma = norm->gamma;
    ret->beta = norm->beta;
    ret->moments = norm->moments;
    ret->counters = vx_counters(norm->workspace);
    ret->sums = vx_scratch(norm->workspace);
    ret->partials = ret->sums + sums_count(&ret->grid);
    return (int64_t)norm->n * ret->grid.groups <= VX_COUNTERS ? 0 : VX_BAD_VALUE;
}

int vx_cuda_norm_forward(const struct vx_cuda_norm *norm, struct vx_cuda_view x,
                         struct vx_cuda_view out, struct vx_cuda_view copy,
                         struct CUstream_st *stream) {
    struct norm_arguments a;
    int rc = arguments_of(norm, &a);
    if (rc != 0) {
        return rc;
    }
    a.x = x;
    a.out = out;
    a.copy = copy;
    if (!vx_view_fits(&x) || !vx_view_fits(&out) || !vx_view_fits(&copy)) {
        return VX_BAD_VALUE;
    }
    rc = norm_moments_launch(&a, vx_grid_blocks(&a.grid), stream);
    a.grid = vx_grid_of(norm->n, norm->padded, norm->voxels, VX_MAP_BLOCKS);
    return rc != 0 ? rc : norm_forward_launch(&a, vx_grid_blocks(&a.grid), stream);
}

int vx_cuda_norm_backward(const struct vx_cuda_norm *norm, struct vx_cuda_view x,
                          const struct vx_cuda_view *grads, int n_grads, struct vx_cuda_view dx,
                          float *dgamma, float *dbeta, struct CUstream_st *stream) {
    struct norm_arguments a;
    int rc = arguments_of(norm, &a);
    if (rc != 0 || n_grads < 1 || n_grads > VX_CUDA_MAX_GRADS || !dgamma != !dbeta) {
        return rc != 0 ? rc : VX_BAD_VALUE;
    }
    a.x = x;
    a.out = dx;
    a.dgamma = dgamma;
    a.dbeta = dbeta;
    a.n_grads = n_grads;
    bool fits = vx_view_fits(&x) && vx_view_fits(&dx);
    for (int i = 0; i < n_grads; i++) {
        a.grads[i] = grads[i];
        fits = fits && vx_view_fits(&grads[i]);
    }
    if (!fits) {
        return VX_BAD_VALUE;
    }
    int64_t blocks = vx_grid_blocks(&a.grid);
    rc = n_grads == 1 ? norm_sums_one_launch(&a, blocks, stream)
                      : norm_sums_several_launch(&a, blocks, stream);
    if (rc != 0) {
        return rc;
    }
    a.grid = vx_grid_of(norm->n, norm->padded, norm->voxels, VX_MAP_BLOCKS);
    blocks = vx_grid_blocks(&a.grid);
    return n_grads == 1 ? norm_backward_one_launch(&a, blocks, stream)
                        : norm_backward_several_launch(&a, blocks, stream);
}
