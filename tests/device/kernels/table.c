#include "device/kernels/table.h"

const struct kernel_table KERNEL_TABLE = {
    .norm_forward = vx_cuda_norm_forward,
    .norm_backward = vx_cuda_norm_backward,
    .bias_forward = vx_cuda_bias_forward,
    .bias_backward = vx_cuda_bias_backward,
    .load_images = vx_cuda_load_images,
    .load_targets = vx_cuda_load_targets,
    .loss_forward = vx_cuda_loss_forward,
    .loss_backward = vx_cuda_loss_backward,
    .gradient_norm = vx_cuda_gradient_norm,
    .update = vx_cuda_update,
    .filter_pack = vx_cuda_filter_pack,
    .filter_unpack = vx_cuda_filter_unpack,
    .cut_tile = vx_cuda_cut_tile,
    .add_tile = vx_cuda_add_tile,
    .divide_tiles = vx_cuda_divide_tiles,
    .read_logits = vx_cuda_read_logits,
    .norm_workspace = vx_cuda_norm_workspace,
    .bias_workspace = vx_cuda_bias_workspace,
    .loss_workspace = vx_cuda_loss_workspace,
    .optimizer_workspace = vx_cuda_optimizer_workspace,
};
