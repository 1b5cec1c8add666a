/* The calls of device/cuda/api.h that put work on a stream, as recorder_calls.c records them. */
#ifndef VX_TESTS_DEVICE_CUDA_RECORDER_CALLS_H
#define VX_TESTS_DEVICE_CUDA_RECORDER_CALLS_H

#include "recorder_private.h"

enum { MAX_ARGUMENTS = 1024 };

/* One piece of work in a stream's queue or in a graph. */
struct call {
    const char *name;
    int (*run)(const void *args); /* NULL: nothing to be done */
    const void *begins;           /* a place in the arena whose program begins a run with it */
    int waits_for, position;      /* another stream's queue; -1: no wait */
    int step;
    struct clock now;
    struct touched touched;
    _Alignas(16) char args[MAX_ARGUMENTS];
};

/* In a record_ function: names the call, lets it fail where the test wants it to, and takes its
 * arguments along. */
#define BEGIN(call_name, args_type, ...)                                                           \
    int code = call_fails(#call_name);                                                             \
    if (code) {                                                                                    \
        return code;                                                                               \
    }                                                                                              \
    struct call c = {.name = #call_name, .run = run_##call_name, .waits_for = -1};                 \
    struct touched *t = &c.touched;                                                                \
    _Static_assert(sizeof(args_type) <= MAX_ARGUMENTS, "arguments fit");                           \
    *(args_type *)(void *)c.args = (args_type) {                                                   \
        __VA_ARGS__                                                                                \
    }

/* recorder.c */
int submit(struct call *c, struct CUstream_st *stream);
int call_fails(const char *name);
bool recorder_executes(void);
void count_alive(int more);

int record_copy(void *dst, const void *src, size_t bytes, struct CUstream_st *stream);
int record_clear(void *dst, size_t bytes, struct CUstream_st *stream);
int record_conv_plan(void *engine, const struct dnn_conv *shape, enum dnn_direction direction,
                     struct cuda_conv **ret, size_t *ret_workspace, struct vx_err *err);
int record_conv_run(struct cuda_conv *conv, void *x, void *w, void *y, void *workspace,
                    struct CUstream_st *stream);
void record_conv_free(struct cuda_conv *conv);
int record_norm_forward(const struct vx_cuda_norm *norm, struct vx_cuda_view x,
                        struct vx_cuda_view out, struct vx_cuda_view copy,
                        struct CUstream_st *stream);
int record_norm_backward(const struct vx_cuda_norm *norm, struct vx_cuda_view x,
                         const struct vx_cuda_view *grads, int n_grads, struct vx_cuda_view dx,
                         float *dgamma, float *dbeta, struct CUstream_st *stream);
int record_bias_forward(struct vx_cuda_view in, const float *bias, int channels, int padded,
                        int64_t voxels, struct vx_cuda_view out, struct CUstream_st *stream);
int record_bias_backward(const struct vx_cuda_view *grads, int n_grads, int channels, int padded,
                         int64_t voxels, struct vx_cuda_view out, float *dbias, void *workspace,
                         struct CUstream_st *stream);
int record_load_images(const float *slots, int64_t sample_stride, int n, int channels, int padded,
                       int64_t voxels, struct vx_cuda_view out, struct CUstream_st *stream);
int record_load_targets(const struct vx_cuda_targets *t, struct CUstream_st *stream);
int record_loss_forward(const struct vx_cuda_loss *loss, struct CUstream_st *stream);
int record_loss_backward(const struct vx_cuda_loss *loss, struct CUstream_st *stream);
int record_gradient_norm(const struct vx_cuda_optimizer *o, struct CUstream_st *stream);
int record_update(const struct vx_cuda_optimizer *o, struct CUstream_st *stream);
int record_filter_pack(const struct vx_cuda_filter *f, const float *torch, float *dst, void *copy,
                       struct CUstream_st *stream);
int record_filter_unpack(const struct vx_cuda_filter *f, const float *src, float *torch,
                         struct CUstream_st *stream);
int record_filter_unpack_bf16(const struct vx_cuda_filter *f, const void *src, float *torch,
                              struct CUstream_st *stream);
int record_read_logits(const void *logits, const float *bias, int n, int classes, int padded,
                       int64_t voxels, float *dst, struct CUstream_st *stream);
/* recorder_tiles.c */
int record_cut_tile(const struct vx_cuda_tile *tile, const float *image, int channels, int padded,
                    void *out, struct CUstream_st *stream);
int record_add_tile(const struct vx_cuda_tile *tile, const void *logits, const float *bias,
                    int classes, int padded, const float *importance, float *sums,
                    struct CUstream_st *stream);
int record_divide_tiles(const int64_t volume[3], int classes, const float *weights, float passes,
                        float *sums, int32_t *not_finite, struct CUstream_st *stream);

#endif
