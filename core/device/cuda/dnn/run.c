/* Putting a plan on a stream. */
#include "device/cuda/dnn/internal.h"

#include <stddef.h>

int dnn_run(struct dnn *d, const struct dnn_plan *plan, void *const xwy[3], void *workspace,
            void **pack, struct CUstream_st *stream) {
    if (!*pack) {
        int64_t uid[3] = {DNN_UID_X, DNN_UID_W, DNN_UID_Y};
        struct dnn_scope s = {0};
        desc_t p = dnn_make(&s, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
        dnn_set(&s, p, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, uid);
        dnn_set(&s, p, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, xwy);
        dnn_set(&s, p, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
        p = dnn_finish(&s, p, "binding pointers");
        *pack = p ? dnn_keep(&s, p) : NULL;
        dnn_scope_end(&s);
        if (!p) {
            return CUDNN_STATUS_BAD_PARAM;
        }
    }
    cudnnStatus_t status = cudnnSetStream(d->handle, stream);
    if (status == CUDNN_STATUS_SUCCESS) {
        status = cudnnBackendExecute(d->handle, plan->desc, *pack);
    }
    return (int)status;
}

void dnn_forget_stream(struct dnn *d) {
    cudnnSetStream(d->handle, NULL);
}

void dnn_pack_free(void *pack) {
    if (pack) {
        cudnnBackendDestroyDescriptor(pack);
    }
}
