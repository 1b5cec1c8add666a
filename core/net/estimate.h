/* What a network costs, from its op list alone: arithmetic and memory, for dry runs and advice.
 *
 * Arithmetic is exact for convolutions (padding taps counted, as everyone counts); memory is an
 * estimate with every activation kept for the backward pass and no reuse of gradients beyond the
 * two largest. Thread: any. */
#ifndef VX_NET_ESTIMATE_H
#define VX_NET_ESTIMATE_H

#include <stdint.h>

struct vx_oplist;

struct vx_net_estimate {
    int64_t parameters;   /* numbers, all of them */
    int64_t forward_macs; /* multiply-adds of convolutions, transposed convolutions and heads with
                             loss weight, one batch */
    int64_t step_flop;    /* 2 x 3 x forward_macs: forward, gradient of inputs and of weights */
    int64_t activation_values; /* elements of all tensors, one batch */
    int64_t train_bytes;       /* activations, gradients and state of a training program */
    int64_t infer_bytes;       /* the same for inference: the largest live set, and weights */
};

/* bytes_per_value: 4 for fp32, 2 for bf16 activations; state is always fp32. */
void vx_net_estimate(const struct vx_oplist *net, int bytes_per_value, struct vx_net_estimate *ret);

#endif
