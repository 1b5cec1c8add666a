/* Convolutions of any kernel, stride and padding, row by row: for the layers and processors that
 * oneDNN has no fast implementation for. About half as fast as oneDNN where that has one.
 *
 * Weights lie in blocks: forward and gradient [tap][in block][out block][in lane][out lane], for
 * the gradient of the input [tap][out block][in block][out lane][in lane]. */
#ifndef VX_DEVICE_CPU_SIMD_DIRECT_H
#define VX_DEVICE_CPU_SIMD_DIRECT_H

#include <stddef.h>

struct vx_direct {
    int in_blocks, out_blocks;
    int in[3], out[3], kernel[3], stride[3], pad[3];
};

#endif
