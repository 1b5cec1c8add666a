/* The operation graph of one convolution in one direction. */
#include "device/cuda/dnn/internal.h"

/* dim: logical N, C, D, H, W (of a filter K, C, taps); channels are innermost in memory. */
static desc_t tensor(struct dnn_scope *s, const struct dnn *d, int64_t uid, const int64_t dim[5]) {
    int64_t align = 16, stride[5] = {0, 1, 0, 0, dim[1]};
    stride[3] = stride[4] * dim[4];
    stride[2] = stride[3] * dim[3];
    stride[0] = stride[2] * dim[2];
    desc_t t = dnn_make(s, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    dnn_set(s, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    dnn_set(s, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &d->type);
    dnn_set(s, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 5, dim);
    dnn_set(s, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 5, stride);
    dnn_set(s, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    return dnn_finish(s, t, "a tensor");
}

static desc_t geometry(struct dnn_scope *s, const struct dnn_conv *c) {
    int64_t axes = 3, pad[3], stride[3], one[3] = {1, 1, 1};
    for (int a = 0; a < 3; a++) {
        pad[a] = c->pad[a];
        stride[a] = c->stride[a];
    }
    cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    desc_t g = dnn_make(s, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    dnn_set(s, g, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes);
    dnn_set(s, g, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    dnn_set(s, g, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    dnn_set(s, g, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 3, pad);
    dnn_set(s, g, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 3, pad);
    dnn_set(s, g, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 3, one);
    dnn_set(s, g, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 3, stride);
    return dnn_finish(s, g, "a convolution");
}

/* The same five things under other names for each direction. */
static const struct {
    cudnnBackendDescriptorType_t operation;
    cudnnBackendAttributeName_t x, w, y, geometry, alpha, beta;
} names[] = {
    [DNN_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [DNN_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [DNN_WEIGHTS] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

desc_t dnn_graph(struct dnn_scope *s, const struct dnn *d, const struct dnn_conv *c,
                 enum dnn_direction direction) {
    int64_t x[5] = {c->n, c->in_channels}, w[5] = {c->out_channels, c->in_channels};
    int64_t y[5] = {c->n, c->out_channels};
    for (int a = 0; a < 3; a++) {
        x[2 + a] = c->in[a];
        w[2 + a] = c->kernel[a];
        y[2 + a] = dnn_out_size(c, a);
    }
    float one = 1, zero = 0;
    desc_t o = dnn_make(s, names[direction].operation);
    dnn_set_desc(s, o, names[direction].x, tensor(s, d, DNN_UID_X, x));
    dnn_set_desc(s, o, names[direction].w, tensor(s, d, DNN_UID_W, w));
    dnn_set_desc(s, o, names[direction].y, tensor(s, d, DNN_UID_Y, y));
    dnn_set_desc(s, o, names[direction].geometry, geometry(s, c));
    dnn_set(s, o, names[direction].alpha, CUDNN_TYPE_FLOAT, 1, &one);
    dnn_set(s, o, names[direction].beta, CUDNN_TYPE_FLOAT, 1, &zero);
    o = dnn_finish(s, o, "a convolution's operation");
    desc_t graph = dnn_make(s, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    dnn_set_desc(s, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, o);
    if (d->handle) {
        dnn_set(s, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &d->handle);
    }
    return dnn_finish(s, graph, "an operation graph");
}
