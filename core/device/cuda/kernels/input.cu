/* Launches of input.h: see device/cuda/kernels.h. C subset: a test runs this file on a CPU. */
#include "device/cuda/kernels/input.h"

VX_KERNEL(input_images, struct image_arguments, struct vx_nothing, struct vx_nothing, 1, 4)
VX_KERNEL(input_clear_top, struct target_arguments, struct vx_nothing, struct vx_nothing, 1, 1)
VX_KERNEL(input_targets, struct target_arguments, struct vx_nothing, struct target_shared,
          INPUT_TARGETS_PHASES, 4)

int vx_cuda_load_images(const float *slots, int64_t sample_stride, int n, int channels, int padded,
                        int64_t voxels, struct vx_cuda_view out, struct CUstream_st *stream) {
    if (n < 1 || voxels < 1 || padded < channels || padded % VX_CUDA_LANES != 0 ||
        !vx_view_fits(&out)) {
        return VX_BAD_VALUE;
    }
    struct image_arguments a;
    a.slots = slots;
    a.sample_stride = sample_stride;
    a.voxels = voxels;
    a.per_sample = vx_pieces(voxels, VX_THREADS * IMAGE_VOXELS);
    a.channels = channels;
    a.padded = padded;
    a.out = out;
    return input_images_launch(&a, n * a.per_sample, stream);
}

int vx_cuda_load_targets(const struct vx_cuda_targets *t, struct CUstream_st *stream) {
    struct target_arguments a;
    a.t = *t;
    a.first_block[0] = 0;
    for (int h = 0; h < t->n_heads; h++) {
        int64_t voxels = t->targets[h] ? input_head_voxels(t, h) : 0;
        a.first_block[h + 1] = a.first_block[h] + vx_pieces(voxels, VX_THREADS * INPUT_VOXELS);
    }
    if (a.first_block[t->n_heads] > INT32_MAX / (VX_THREADS * INPUT_VOXELS)) {
        return VX_BAD_VALUE; /* voxels are counted in 32 bits: division is slow in 64 */
    }
    int rc = input_clear_top_launch(&a, 1, stream);
    return rc != 0 ? rc : input_targets_launch(&a, a.first_block[t->n_heads], stream);
}
