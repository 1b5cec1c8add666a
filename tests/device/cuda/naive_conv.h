/* Convolutions of cuDNN's layout by the obvious loops: bfloat16 in and out, sums in double. */
#ifndef VX_TESTS_DEVICE_CUDA_NAIVE_CONV_H
#define VX_TESTS_DEVICE_CUDA_NAIVE_CONV_H

#include "device/cuda/dnn/dnn.h"

/* Writes y, x or w, whichever the direction makes. */
void naive_conv(const struct dnn_conv *c, enum dnn_direction direction, void *x, void *w, void *y);

#endif
