/* Everything that the backend asks of the machine, as a table: CUDA's runtime, cuDNN and our own
 * kernels in real.c, a recording device in tests. Private to this room.
 *
 * Functions return 0 or a number: CUDA's error code below 1000, cuDNN's status from 1000 on. What
 * is put on a stream is not done when the call returns. */
#ifndef VX_DEVICE_CUDA_API_H
#define VX_DEVICE_CUDA_API_H

#include "device/cuda/dnn/dnn.h"
#include "device/cuda/kernels.h"

struct vx_device_info;
struct vx_err;
struct CUevent_st;
struct CUgraphExec_st;
struct cuda_conv; /* one convolution in one direction, planned */

struct cuda_api {
    /* Makes the device the calling thread's; fills name, model, isa, library, memory. *ret_engine
     * is what conv_plan needs; fast: its plans need not be repeatable. VX_E_NOT_FOUND with one
     * clear line where there is no GPU or driver. */
    int (*open)(int index, bool fast, struct vx_device_info *ret_info, void **ret_engine,
                struct vx_err *err);
    void (*close)(void *engine);
    /* The same for another thread, before anything else of a call. */
    int (*enter)(int index);

    /* On the device; page-locked on the host; locking what is there. */
    int (*allocate)(void **ret, size_t bytes);
    void (*release)(void *memory);
    int (*allocate_host)(void **ret, size_t bytes);
    void (*release_host)(void *memory);
    int (*lock)(void *memory, size_t bytes);
    void (*unlock)(void *memory);
    int (*room)(size_t *ret_free, size_t *ret_total);

    /* Streams, events, graphs. event_sync waits for what was recorded last; event_ms is the time
     * from a to b. */
    int (*stream_create)(struct CUstream_st **ret);
    void (*stream_free)(struct CUstream_st *stream);
    int (*stream_sync)(struct CUstream_st *stream);
    int (*event_create)(struct CUevent_st **ret);
    void (*event_free)(struct CUevent_st *event);
    int (*event_record)(struct CUevent_st *event, struct CUstream_st *stream);
    int (*event_wait)(struct CUstream_st *stream, struct CUevent_st *event);
    int (*event_sync)(struct CUevent_st *event);
    int (*event_ms)(float *ret, struct CUevent_st *a, struct CUevent_st *b);
    int (*capture_begin)(struct CUstream_st *stream);
    int (*capture_end)(struct CUstream_st *stream, struct CUgraphExec_st **ret);
    int (*graph_launch)(struct CUgraphExec_st *graph, struct CUstream_st *stream);
    void (*graph_free)(struct CUgraphExec_st *graph);

    /* Between host and device or within it; host memory may be reused when the call returns only
     * where it is not page-locked. */
    int (*copy)(void *dst, const void *src, size_t bytes, struct CUstream_st *stream);
    int (*clear)(void *dst, size_t bytes, struct CUstream_st *stream);

    /* Convolutions. One of x, w, y is written: y forward, x for data, w for weights. */
    int (*conv_plan)(void *engine, const struct dnn_conv *shape, enum dnn_direction direction,
                     struct cuda_conv **ret, size_t *ret_workspace, struct vx_err *err);
    int (*conv_run)(struct cuda_conv *conv, void *x, void *w, void *y, void *workspace,
                    struct CUstream_st *stream);
    void (*conv_free)(struct cuda_conv *conv);

    /* kernels.h */
    int (*norm_forward)(const struct vx_cuda_norm *, struct vx_cuda_view x, struct vx_cuda_view out,
                        struct vx_cuda_view copy, struct CUstream_st *);
    int (*norm_backward)(const struct vx_cuda_norm *, struct vx_cuda_view x,
                         const struct vx_cuda_view *grads, int n_grads, struct vx_cuda_view dx,
                         float *dgamma, float *dbeta, struct CUstream_st *);
    int (*bias_forward)(struct vx_cuda_view in, const float *bias, int channels, int padded,
                        int64_t voxels, struct vx_cuda_view out, struct CUstream_st *);
    int (*bias_backward)(const struct vx_cuda_view *grads, int n_grads, int channels, int padded,
                         int64_t voxels, struct vx_cuda_view out, float *dbias, void *workspace,
                         struct CUstream_st *);
    int (*load_images)(const float *slots, int64_t sample_stride, int n, int channels, int padded,
                       int64_t voxels, struct vx_cuda_view out, struct CUstream_st *);
    int (*load_targets)(const struct vx_cuda_targets *, struct CUstream_st *);
    int (*loss_forward)(const struct vx_cuda_loss *, struct CUstream_st *);
    int (*loss_backward)(const struct vx_cuda_loss *, struct CUstream_st *);
    int (*gradient_norm)(const struct vx_cuda_optimizer *, struct CUstream_st *);
    int (*update)(const struct vx_cuda_optimizer *, struct CUstream_st *);
    int (*filter_pack)(const struct vx_cuda_filter *, const float *torch, float *dst, void *copy,
                       struct CUstream_st *);
    int (*filter_unpack)(const struct vx_cuda_filter *, const float *src, float *torch,
                         struct CUstream_st *);
    int (*filter_unpack_bf16)(const struct vx_cuda_filter *, const void *src, float *torch,
                              struct CUstream_st *);
    int (*read_logits)(const void *logits, const float *bias, int n, int classes, int padded,
                       int64_t voxels, float *dst, struct CUstream_st *);
    int (*cut_tile)(const struct vx_cuda_tile *, const float *image, int channels, int padded,
                    void *out, struct CUstream_st *);
    int (*add_tile)(const struct vx_cuda_tile *, const void *logits, const float *bias, int classes,
                    int padded, const float *importance, float *sums, struct CUstream_st *);
    int (*divide_tiles)(const int64_t volume[3], int classes, const float *weights, float passes,
                        float *sums, int32_t *not_finite, struct CUstream_st *);
    size_t (*norm_workspace)(int n, int padded, int64_t voxels);
    size_t (*bias_workspace)(int padded, int64_t voxels);
    size_t (*loss_workspace)(const struct vx_cuda_loss *);
    size_t (*optimizer_workspace)(void);

    const char *(*error_text)(int code);
};

#endif
