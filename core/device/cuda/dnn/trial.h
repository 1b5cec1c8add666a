/* Plans of one convolution run on the GPU over random data: how long, and do two agree. Private to
 * this room. The entries fit struct dnn_trial. */
#ifndef VX_DEVICE_CUDA_TRIAL_H
#define VX_DEVICE_CUDA_TRIAL_H

#include "device/cuda/dnn/dnn.h"

struct trial;

/* Takes memory for x, w, y, a second result and the largest workspace that one of the fittest plans
 * asks for. VX_E_NOMEM where that is too much. */
int trial_open(struct dnn *dnn, const struct dnn_conv *c, enum dnn_direction direction,
               const struct dnn_plan *list, int n, const struct dnn_rules *rules,
               struct trial **ret, struct vx_err *err);
/* Accepts NULL. */
void trial_close(struct trial *t);
double trial_measure(void *trial, const struct dnn_plan *plan, int which);
double trial_differ(void *trial);
/* What the first run that failed said; NULL: all ran. */
const char *trial_failure(const struct trial *t);

#endif
