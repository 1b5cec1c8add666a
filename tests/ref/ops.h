/* Forward and gradient of each operation; arrays are plain [N][C][D][H][W] doubles. Gradients are
 * added to what is there. NULL where an output is not wanted. */
#ifndef VX_TESTS_REF_OPS_H
#define VX_TESTS_REF_OPS_H

#include "device/device.h"
#include "device/oplist.h"

struct ref_tensor {
    int shape[5];
    size_t count;
    double *value, *grad; /* owned */
};

/* Weights are in PyTorch's order: conv O,I,k; transposed I,O,k. */
void ref_conv(const struct vx_op *op, const struct ref_tensor *in, const double *weight,
              const double *bias, struct ref_tensor *out);
void ref_conv_backward(const struct vx_op *op, struct ref_tensor *in, const double *weight,
                       const struct ref_tensor *out, double *grad_weight, double *grad_bias);
void ref_conv_transpose(const struct vx_op *op, const struct ref_tensor *in, const double *weight,
                        const double *bias, struct ref_tensor *out);
void ref_conv_transpose_backward(const struct vx_op *op, struct ref_tensor *in,
                                 const double *weight, const struct ref_tensor *out,
                                 double *grad_weight, double *grad_bias);
void ref_norm_act(const struct vx_op *op, const struct ref_tensor *in, const double *gamma,
                  const double *beta, struct ref_tensor *out);
void ref_norm_act_backward(const struct vx_op *op, struct ref_tensor *in, const double *gamma,
                           const double *beta, const struct ref_tensor *out, double *grad_gamma,
                           double *grad_beta);
void ref_concat(const struct ref_tensor *a, const struct ref_tensor *b, struct ref_tensor *out);
void ref_concat_backward(struct ref_tensor *a, struct ref_tensor *b, const struct ref_tensor *out);

/* Value (in result) and, where gradient, the gradient of all heads with a weight that is not 0. */
void ref_loss(const struct vx_loss *loss, int classes, struct ref_tensor *tensors,
              const int16_t *labels, const int label_shape[4], bool gradient,
              struct vx_run_result *result);
/* Hard tp, fp, fn of one head. */
void ref_hard_statistics(const struct ref_tensor *logits, const int16_t *labels,
                         const int label_shape[4], struct vx_run_result *result);

#endif
