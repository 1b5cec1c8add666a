/* Shared by the files of this folder: the context, and descriptors made in few words. */
#ifndef VX_DEVICE_CUDA_DNN_INTERNAL_H
#define VX_DEVICE_CUDA_DNN_INTERNAL_H

#include "device/cuda/dnn/dnn.h"

/* cuDNN's header says bool where it means C's. */
#include <cudnn.h>

typedef cudnnBackendDescriptor_t desc_t;

struct dnn {
    cudnnDataType_t type;
    cudnnHandle_t handle; /* NULL: a profile */
    bool compiled;        /* engines that compile at run time are listed too */
    desc_t device;        /* its properties; with a handle made when somebody asks for them */
    char model[96];
    int processors;
};

enum { DNN_UID_X = 1, DNN_UID_W, DNN_UID_Y };

/* Descriptors of one piece of work: the first failure is kept, everything after it does nothing,
 * and all are destroyed together. */
struct dnn_scope {
    desc_t made[160];
    int n;
    struct vx_err *err;
    int rc;
};

void dnn_scope_end(struct dnn_scope *s);
desc_t dnn_make(struct dnn_scope *s, cudnnBackendDescriptorType_t type);
/* Takes a descriptor out: the caller destroys it. */
desc_t dnn_keep(struct dnn_scope *s, desc_t d);
void dnn_set(struct dnn_scope *s, desc_t d, cudnnBackendAttributeName_t name,
             cudnnBackendAttributeType_t type, int64_t n, const void *values);
void dnn_set_desc(struct dnn_scope *s, desc_t d, cudnnBackendAttributeName_t name, desc_t value);
/* d finalised, or NULL. */
desc_t dnn_finish(struct dnn_scope *s, desc_t d, const char *what);
int dnn_fail(struct vx_err *err, cudnnStatus_t status, const char *what);
/* A text attribute; the caller frees. */
int dnn_text(desc_t d, cudnnBackendAttributeName_t name, char **ret, struct vx_err *err);

/* conv.c: the operation graph, owned by the scope; NULL after a failure. */
desc_t dnn_graph(struct dnn_scope *s, const struct dnn *d, const struct dnn_conv *c,
                 enum dnn_direction direction);

#endif
