/* How tensors of an op list lie on the GPU, and its convolutions as cuDNN is asked for them.
 * Private to this room (and to tests and tools). */
#ifndef VX_DEVICE_CUDA_SHAPE_H
#define VX_DEVICE_CUDA_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

struct dnn_conv;
struct vx_err;
struct vx_op;
struct vx_oplist;

/* Channels of a tensor in memory: the next multiple of 8, as vx_cuda_logit_channels has it for
 * logits too; for a concatenation those of its parts. */
int cuda_padded_channels(const struct vx_oplist *net, int tensor);
bool cuda_is_logits(const struct vx_oplist *net, int tensor);
/* Voxels of one sample. */
int64_t cuda_voxels(const struct vx_oplist *net, int tensor);
/* A VX_OP_CONV, or the convolution whose gradient a VX_OP_CONV_TRANSPOSE is (its x is the
 * operation's output). */
void cuda_conv_of(const struct vx_oplist *net, const struct vx_op *op, struct dnn_conv *ret);
/* VX_E_UNSUPPORTED with the layer where the list holds something that has no path on the GPU. */
int cuda_check_net(const struct vx_oplist *net, struct vx_err *err);

#endif
