/* CUDA's runtime, cuDNN and our kernels behind the table of api.h. */
#include "device/cuda/real.h"

#include "base/err.h"
#include "device/cuda/engine.h"
#include "device/device.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

static int no_gpu(cudaError_t code, struct vx_err *err) {
    const char *why = code == cudaErrorInsufficientDriver
                          ? "there is no NVIDIA driver, or one older than CUDA 13 needs (580)"
                          : cudaGetErrorString(code);
    return vx_fail(err, VX_E_NOT_FOUND, "no_gpu", "no device \"cuda\": %s", why);
}

static int check_index(int index, struct vx_err *err) {
    int count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess) {
        return no_gpu(code, err);
    }
    return index < count ? VX_OK
                         : vx_fail(err, VX_E_NOT_FOUND, "no_gpu",
                                   "no device \"cuda:%d\": there are %d GPUs here, from cuda:0",
                                   index, count);
}

static int describe(int index, struct vx_device_info *ret, int *ret_processors,
                    struct vx_err *err) {
    struct cudaDeviceProp prop;
    cudaError_t code = cudaGetDeviceProperties(&prop, index);
    if (code != cudaSuccess) {
        return no_gpu(code, err);
    }
    if (prop.major < 8) {
        return vx_fail(err, VX_E_UNSUPPORTED, "gpu_too_old",
                       "cuda:%d (%s) has compute capability %d.%d: 8.0 (Ampere) is the least that "
                       "computes in bf16",
                       index, prop.name, prop.major, prop.minor);
    }
    int runtime = 0;
    *ret_processors = prop.multiProcessorCount;
    size_t dnn = dnn_version();
    cudaRuntimeGetVersion(&runtime);
    *ret = (struct vx_device_info){.threads = 1, .bf16 = true, .memory_bytes = prop.totalGlobalMem};
    snprintf(ret->name, sizeof ret->name, "cuda:%d", index);
    snprintf(ret->model, sizeof ret->model, "%.90s", prop.name);
    snprintf(ret->isa, sizeof ret->isa, "sm_%d%d", prop.major, prop.minor);
    snprintf(ret->library, sizeof ret->library, "cuDNN %zu.%zu.%zu, CUDA %d.%d", dnn / 10000,
             dnn / 100 % 100, dnn % 100, runtime / 1000, runtime / 10 % 100);
    return VX_OK;
}

static int open_gpu(int index, bool fast, struct vx_device_info *ret_info, void **ret_engine,
                    struct vx_err *err) {
    int processors = 0, rc = check_index(index, err);
    rc = rc != VX_OK ? rc : describe(index, ret_info, &processors, err);
    if (rc != VX_OK) {
        return rc;
    }
    cudaError_t code = cudaSetDevice(index);
    code = code ? code : cudaFree(NULL); /* makes the context, or says why not */
    if (code != cudaSuccess) {
        return vx_fail(err, VX_E_DEVICE, "device_lost", "%s (%s) cannot be used: %s",
                       ret_info->name, ret_info->model, cudaGetErrorString(code));
    }
    return cuda_engine_open(ret_info->model, processors, fast, ret_engine, err);
}

/* An error that was handed over is none of the next launch, which asks for the last. Errors that
 * stay are repeated by whatever comes. */
static int handed(cudaError_t code) {
    if (code != cudaSuccess) {
        cudaGetLastError();
    }
    return (int)code;
}

static int enter(int index) {
    return handed(cudaSetDevice(index));
}

static int allocate(void **ret, size_t bytes) {
    return handed(cudaMalloc(ret, bytes));
}

static void release(void *memory) {
    handed(cudaFree(memory));
}

static int allocate_host(void **ret, size_t bytes) {
    return handed(cudaHostAlloc(ret, bytes, cudaHostAllocPortable));
}

static void release_host(void *memory) {
    handed(cudaFreeHost(memory));
}

static int lock_memory(void *memory, size_t bytes) {
    return handed(cudaHostRegister(memory, bytes, cudaHostRegisterPortable));
}

static void unlock_memory(void *memory) {
    handed(cudaHostUnregister(memory));
}

static int room(size_t *ret_free, size_t *ret_total) {
    return handed(cudaMemGetInfo(ret_free, ret_total));
}

static int stream_create(struct CUstream_st **ret) {
    return handed(cudaStreamCreateWithFlags(ret, cudaStreamNonBlocking));
}

static void stream_free(struct CUstream_st *stream) {
    if (stream) {
        handed(cudaStreamDestroy(stream));
    }
}

static int stream_sync(struct CUstream_st *stream) {
    return handed(cudaStreamSynchronize(stream));
}

/* Waiting sleeps: the cores belong to the augmentation. */
static int event_create(struct CUevent_st **ret) {
    return handed(cudaEventCreateWithFlags(ret, cudaEventBlockingSync));
}

static void event_free(struct CUevent_st *event) {
    if (event) {
        handed(cudaEventDestroy(event));
    }
}

static int event_record(struct CUevent_st *event, struct CUstream_st *stream) {
    return handed(cudaEventRecord(event, stream));
}

static int event_wait(struct CUstream_st *stream, struct CUevent_st *event) {
    return handed(cudaStreamWaitEvent(stream, event, 0));
}

static int event_sync(struct CUevent_st *event) {
    return handed(cudaEventSynchronize(event));
}

static int event_ms(float *ret, struct CUevent_st *a, struct CUevent_st *b) {
    return handed(cudaEventElapsedTime(ret, a, b));
}

static int capture_begin(struct CUstream_st *stream) {
    return handed(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
}

static int capture_end(struct CUstream_st *stream, struct CUgraphExec_st **ret) {
    cudaGraph_t graph = NULL;
    cudaError_t code = cudaStreamEndCapture(stream, &graph);
    code = code ? code : cudaGraphInstantiate(ret, graph, 0);
    if (graph) {
        cudaGraphDestroy(graph);
    }
    return handed(code);
}

static int graph_launch(struct CUgraphExec_st *graph, struct CUstream_st *stream) {
    return handed(cudaGraphLaunch(graph, stream));
}

static void graph_free(struct CUgraphExec_st *graph) {
    handed(cudaGraphExecDestroy(graph));
}

static int copy(void *dst, const void *src, size_t bytes, struct CUstream_st *stream) {
    return handed(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, stream));
}

static int clear(void *dst, size_t bytes, struct CUstream_st *stream) {
    return handed(cudaMemsetAsync(dst, 0, bytes, stream));
}

static const char *error_text(int code) {
    return code >= 1000 ? dnn_status_text(code) : cudaGetErrorString((cudaError_t)code);
}

const struct cuda_api cuda_real_api = {
    .open = open_gpu,
    .close = cuda_engine_close,
    .enter = enter,
    .allocate = allocate,
    .release = release,
    .allocate_host = allocate_host,
    .release_host = release_host,
    .lock = lock_memory,
    .unlock = unlock_memory,
    .room = room,
    .stream_create = stream_create,
    .stream_free = stream_free,
    .stream_sync = stream_sync,
    .event_create = event_create,
    .event_free = event_free,
    .event_record = event_record,
    .event_wait = event_wait,
    .event_sync = event_sync,
    .event_ms = event_ms,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .graph_launch = graph_launch,
    .graph_free = graph_free,
    .copy = copy,
    .clear = clear,
    .conv_plan = cuda_engine_plan,
    .conv_run = cuda_engine_run,
    .conv_free = cuda_engine_free,
    .norm_forward = vx_cuda_norm_forward,
    .norm_backward = vx_cuda_norm_backward,
    .bias_forward = vx_cuda_bias_forward,
    .bias_backward = vx_cuda_bias_backward,
    .load_images = vx_cuda_load_images,
    .load_targets = vx_cuda_load_targets,
    .loss_forward = vx_cuda_loss_forward,
    .loss_backward = vx_cuda_loss_backward,
    .gradient_norm = vx_cuda_gradient_norm,
    .update = vx_cuda_update,
    .filter_pack = vx_cuda_filter_pack,
    .filter_unpack = vx_cuda_filter_unpack,
    .filter_unpack_bf16 = vx_cuda_filter_unpack_bf16,
    .read_logits = vx_cuda_read_logits,
    .cut_tile = vx_cuda_cut_tile,
    .add_tile = vx_cuda_add_tile,
    .divide_tiles = vx_cuda_divide_tiles,
    .norm_workspace = vx_cuda_norm_workspace,
    .bias_workspace = vx_cuda_bias_workspace,
    .loss_workspace = vx_cuda_loss_workspace,
    .optimizer_workspace = vx_cuda_optimizer_workspace,
    .error_text = error_text,
};
