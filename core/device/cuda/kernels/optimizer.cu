/* Launches of optimizer.h: see device/cuda/kernels.h. C subset: a test runs this file on a CPU. */
#include "device/cuda/kernels/optimizer.h"

VX_KERNEL(optimizer_norm, struct optimizer_arguments, struct vx_nothing, struct optimizer_shared,
          OPTIMIZER_NORM_PHASES, 4)
VX_KERNEL(optimizer_update, struct optimizer_arguments, struct vx_nothing, struct vx_nothing, 1, 4)

size_t vx_cuda_optimizer_workspace(void) {
    return VX_CUDA_WORKSPACE_HEAD + VX_SUM_BLOCKS * sizeof(double);
}

static int arguments_of(const struct vx_cuda_optimizer *o, struct optimizer_arguments *ret) {
    ret->o = *o;
    ret->counter = vx_counters(o->workspace);
    ret->partials = (double *)vx_scratch(o->workspace);
    return o->n_filters < 0 || o->n_vectors < 0 || o->n_filters % 8 != 0 || o->n_vectors % 8 != 0
               ? VX_BAD_VALUE
               : 0;
}

int vx_cuda_gradient_norm(const struct vx_cuda_optimizer *o, struct CUstream_st *stream) {
    struct optimizer_arguments a;
    int rc = arguments_of(o, &a);
    return rc != 0 ? rc : optimizer_norm_launch(&a, VX_SUM_BLOCKS, stream);
}

int vx_cuda_update(const struct vx_cuda_optimizer *o, struct CUstream_st *stream) {
    struct optimizer_arguments a;
    int rc = arguments_of(o, &a);
    int64_t blocks = vx_pieces(o->n_filters + o->n_vectors, VX_THREADS * 8);
    return rc != 0 ? rc : optimizer_update_launch(&a, blocks, stream);
}
