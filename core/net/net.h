/* PlainConvUNet as an op list: the network that a plan describes, with its loss and its optimizer.
 *
 * Source of the architecture: nnU-Net v2's PlainConvUNet. Encoder stage s: n_conv blocks of Conv
 * (bias, zero padding (k - 1) / 2), InstanceNorm (eps 1e-5, affine), LeakyReLU (0.01); the first
 * block of a stage carries its stride. Decoder step j from the bottleneck up: transposed
 * convolution with kernel = stride of the stage above, concatenation (upsampled, skip),
 * n_conv_decoder blocks, and a 1x1x1 segmentation head, constructed for every step. Any number of
 * stages from 2 to VX_MAX_HEADS + 1; kernels and strides may differ per axis; 2d networks have D =
 * 1 and kernel and stride 1 on that axis.
 *
 * Parameters carry nnU-Net's unique state_dict keys in the order of PyTorch's optimizer: encoder
 * blocks (conv weight, conv bias, norm weight, norm bias), decoder blocks, transposed convolutions,
 * heads; 20 n - 12 of them for n stages with 2 convolutions each. Thread: any. */
#ifndef VX_NET_NET_H
#define VX_NET_NET_H

#include <stdbool.h>
#include <stdint.h>

struct vx_err;
struct vx_oplist;
struct vx_plan_config;

struct vx_net_options {
    int patch[3];          /* D, H, W; all 0: the plan's patch size. Inference may use another */
    bool deep_supervision; /* loss over all heads; false: the finest only */
    float momentum;        /* optimizer constants, see struct vx_optimizer */
    float weight_decay;
    float clip_norm;
};

/* nnU-Net's values: the plan's patch, deep supervision, momentum 0.99, decay 3e-5, clip 12. */
void vx_net_options_default(struct vx_net_options *ret);

/* Builds the list. classes includes background. The loss takes batch_dice from the plan, smooth
 * 1e-5, and nnU-Net's weights: 2^-i for head i (finest first), the coarsest 0, scaled to sum 1;
 * with one head alone its weight is 1. Heads without weight have trainable = false, as nnU-Net's
 * optimizer never touches them. VX_E_INVALID names the field: a patch that its strides do not
 * divide, an even kernel, too many stages or classes, a first stride that is not 1.
 * *ret is owned by the caller; it copies all that it needs from cfg. */
int vx_net_build(const struct vx_plan_config *cfg, int in_channels, int classes, int batch,
                 const struct vx_net_options *options, struct vx_oplist **ret, struct vx_err *err);
/* Accepts NULL. */
void vx_oplist_free(struct vx_oplist *net);

/* Parameter id of a state_dict key; -1 where there is none. */
int vx_oplist_param(const struct vx_oplist *net, const char *name);
/* Numbers in all parameters, trainable or not. */
int64_t vx_oplist_param_count(const struct vx_oplist *net);

/* Host arrays for every parameter: n_params pointers into one block, all zero; NULL when out of
 * memory. Freed by vx_net_values_free (NULL is fine). */
float **vx_net_values_create(const struct vx_oplist *net);
void vx_net_values_free(float **values);

/* Kaiming-normal start for leaky ReLU 0.01: sigma = sqrt(2 / (1 + 0.01^2) / fan_in), biases and
 * norm shifts 0, norm scales 1. A pure function of (seed, parameter index, element): Philox stream
 * 2, k = parameter index. values[param] has params[param].count floats. */
void vx_net_init(const struct vx_oplist *net, uint64_t seed, float *const *values);

#endif
