/* The launchers of device/cuda/kernels.h as a table, so that one program can hold them twice: as
 * nvcc made them and as the CPU runs them. Source: table.c, compiled once for each. */
#ifndef VX_TESTS_KERNELS_TABLE_H
#define VX_TESTS_KERNELS_TABLE_H

#include "device/cuda/kernels.h"

struct kernel_table {
    int (*norm_forward)(const struct vx_cuda_norm *, struct vx_cuda_view, struct vx_cuda_view,
                        struct vx_cuda_view, struct CUstream_st *);
    int (*norm_backward)(const struct vx_cuda_norm *, struct vx_cuda_view,
                         const struct vx_cuda_view *, int, struct vx_cuda_view, float *, float *,
                         struct CUstream_st *);
    int (*bias_forward)(struct vx_cuda_view, const float *, int, int, int64_t, struct vx_cuda_view,
                        struct CUstream_st *);
    int (*bias_backward)(const struct vx_cuda_view *, int, int, int, int64_t, struct vx_cuda_view,
                         float *, void *, struct CUstream_st *);
    int (*load_images)(const float *, int64_t, int, int, int, int64_t, struct vx_cuda_view,
                       struct CUstream_st *);
    int (*load_targets)(const struct vx_cuda_targets *, struct CUstream_st *);
    int (*loss_forward)(const struct vx_cuda_loss *, struct CUstream_st *);
    int (*loss_backward)(const struct vx_cuda_loss *, struct CUstream_st *);
    int (*gradient_norm)(const struct vx_cuda_optimizer *, struct CUstream_st *);
    int (*update)(const struct vx_cuda_optimizer *, struct CUstream_st *);
    int (*filter_pack)(const struct vx_cuda_filter *, const float *, float *, void *,
                       struct CUstream_st *);
    int (*filter_unpack)(const struct vx_cuda_filter *, const float *, float *,
                         struct CUstream_st *);
    int (*cut_tile)(const struct vx_cuda_tile *, const float *, int, int, void *,
                    struct CUstream_st *);
    int (*add_tile)(const struct vx_cuda_tile *, const void *, const float *, int, int,
                    const float *, float *, struct CUstream_st *);
    int (*divide_tiles)(const int64_t *, int, const float *, float, float *, int32_t *,
                        struct CUstream_st *);
    int (*read_logits)(const void *, const float *, int, int, int, int64_t, float *,
                       struct CUstream_st *);
    size_t (*norm_workspace)(int, int, int64_t);
    size_t (*bias_workspace)(int, int64_t);
    size_t (*loss_workspace)(const struct vx_cuda_loss *);
    size_t (*optimizer_workspace)(void);
};

extern const struct kernel_table host_kernels, device_kernels;

#endif
