/* Names of parameters in a .pth. A state_dict lists many of nnU-Net's parameters several times: a
 * block registers its convolution and norm as attributes and in a sequential (all_modules.0 and the
 * one behind it), and the decoder holds the encoder. Source:
 * dynamic_network_architectures/building_blocks/simple_conv_blocks.py (ConvDropoutNormReLU),
 * unet_decoder.py. Thread: any. */
#ifndef VX_CHECKPOINT_PTH_NAMES_H
#define VX_CHECKPOINT_PTH_NAMES_H

#include <stdbool.h>
#include <stddef.h>

struct vx_ckpt;
struct vx_err;

#define VX_PTH_MAX_NAME 255

/* The unique name behind a state_dict's key: without the prefixes that DistributedDataParallel
 * ("module.") and torch.compile ("_orig_mod.") add, the decoder's encoder as the encoder,
 * all_modules.0 as conv and .1 (.2 behind a dropout) as norm. False where the key is longer than
 * VX_PTH_MAX_NAME or holds a NUL. */
bool vx_pth_unique_name(const char *key, size_t len, char ret[VX_PTH_MAX_NAME + 1]);

struct vx_pth_key {
    char name[VX_PTH_MAX_NAME + 1];
    size_t tensor; /* index of the checkpoint's tensor */
};

/* All keys of the state_dict, aliases included, in PyTorch's order: 52 n - 20 for a PlainConvUNet
 * of n stages with two convolutions each. c's tensors have unique names in PyTorch's order. Caller
 * frees *ret. VX_E_INVALID for a name that has no room for its aliases. */
int vx_pth_keys(const struct vx_ckpt *c, struct vx_pth_key **ret, size_t *ret_n,
                struct vx_err *err);

#endif
