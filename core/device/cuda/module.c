/* The entry of voxeld_cuda.so; its name ends in the ABI that it speaks (device/registry.c). */
#include "device/cuda/internal.h"
#include "device/cuda/real.h"

_Static_assert(VX_DEVICE_ABI == 3, "the entry's name follows the ABI");

const struct vx_device_api *vx_device_module_v3(void);

static int open_device(int index, const struct vx_device_options *options, struct vx_device **ret,
                       struct vx_err *err);

static const struct vx_device_api table = {
    .abi = VX_DEVICE_ABI,
    .name = "cuda",
    .open = open_device,
    .close = cuda_device_close,
    .info = cuda_device_info,
    .state_create = cuda_state_create,
    .state_free = cuda_state_free,
    .state_upload = cuda_state_upload,
    .state_download = cuda_state_download,
    .compile = cuda_compile,
    .program_free = cuda_program_free,
    .program_memory = cuda_program_memory,
    .run = cuda_run,
    .wait = cuda_wait,
    .read_logits = cuda_read_logits,
    .use_memory = cuda_use_memory,
    .sums_begin = cuda_sums_begin,
    .sums_image = cuda_sums_image,
    .sums_add = cuda_sums_add,
    .sums_read = cuda_sums_read,
    .sums_free = cuda_sums_free,
};

/* Our kernels add in a fixed order whatever the options say: that costs a few partial sums a
 * launch, and atomics would need their sums cleared first. */
static int open_device(int index, const struct vx_device_options *options, struct vx_device **ret,
                       struct vx_err *err) {
    return cuda_device_open(&cuda_real_api, &table, index, options, ret, err);
}

__attribute__((visibility("default"))) const struct vx_device_api *vx_device_module_v3(void) {
    return &table;
}
