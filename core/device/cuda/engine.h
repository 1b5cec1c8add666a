/* cuDNN on the current GPU as the backend's table wants it: a plan for every convolution, from the
 * store or by trial. Private to this room. */
#ifndef VX_DEVICE_CUDA_ENGINE_H
#define VX_DEVICE_CUDA_ENGINE_H

#include "device/cuda/api.h"

/* fast: plans need not be repeatable; they are kept apart from those that are. */
int cuda_engine_open(const char *model, int processors, bool fast, void **ret, struct vx_err *err);
/* Accepts NULL. */
void cuda_engine_close(void *engine);
int cuda_engine_plan(void *engine, const struct dnn_conv *shape, enum dnn_direction direction,
                     struct cuda_conv **ret, size_t *ret_workspace, struct vx_err *err);
int cuda_engine_run(struct cuda_conv *conv, void *x, void *w, void *y, void *workspace,
                    struct CUstream_st *stream);
void cuda_engine_free(struct cuda_conv *conv);

#endif
