/* Launches of bias.h: see device/cuda/kernels.h. C subset: a test runs this file on a CPU. */
#include "device/cuda/kernels/bias.h"

VX_KERNEL(bias_forward, struct bias_arguments, struct vx_nothing, struct vx_nothing, 1, 4)
VX_KERNEL(bias_sums, struct bias_arguments, struct bias_registers, struct vx_columns_shared,
          BIAS_SUMS_PHASES, 3)

static int arguments_of(int channels, int padded, int64_t voxels, struct vx_cuda_view out,
                        int blocks, struct bias_arguments *ret) {
    memset(ret, 0, sizeof *ret);
    if (voxels < 1 || padded < channels || padded % VX_CUDA_LANES != 0 || !vx_view_fits(&out)) {
        return VX_BAD_VALUE;
    }
    ret->grid = vx_grid_of(1, padded, voxels, blocks);
    ret->channels = channels;
    ret->out = out;
    return ret->grid.groups <= VX_COUNTERS ? 0 : VX_BAD_VALUE;
}

int vx_cuda_bias_forward(struct vx_cuda_view in, const float *bias, int channels, int padded,
                         int64_t voxels, struct vx_cuda_view out, struct CUstream_st *stream) {
    struct bias_arguments a;
    int rc = arguments_of(channels, padded, voxels, out, VX_MAP_BLOCKS, &a);
    a.in = in;
    a.bias = bias;
    rc = vx_view_fits(&in) ? rc : VX_BAD_VALUE;
    return rc != 0 ? rc : bias_forward_launch(&a, vx_grid_blocks(&a.grid), stream);
}

size_t vx_cuda_bias_workspace(int padded, int64_t voxels) {
    struct vx_grid g = vx_grid_of(1, padded, voxels, VX_SUM_BLOCKS);
    return VX_CUDA_WORKSPACE_HEAD + vx_partials_bytes(&g, 1);
}

int vx_cuda_bias_backward(const struct vx_cuda_view *grads, int n_grads, int channels, int padded,
                          int64_t voxels, struct vx_cuda_view out, float *dbias, void *workspace,
                          struct CUstream_st *stream) {
    struct bias_arguments a;
    int rc = arguments_of(channels, padded, voxels, out, VX_SUM_BLOCKS, &a);
    if (rc != 0 || n_grads < 1 || n_grads > VX_CUDA_MAX_GRADS) {
        return rc != 0 ? rc : VX_BAD_VALUE;
    }
    a.dbias = dbias;
    a.counters = vx_counters(workspace);
    a.partials = vx_scratch(workspace);
    a.n_grads = n_grads;
    for (int i = 0; i < n_grads; i++) {
        a.grads[i] = grads[i];
        rc = vx_view_fits(&grads[i]) ? rc : VX_BAD_VALUE;
    }
    return rc != 0 ? rc : bias_sums_launch(&a, vx_grid_blocks(&a.grid), stream);
}
