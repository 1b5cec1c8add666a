/* See precision.h. */
#include "daemon/devices/precision.h"

#include "base/err.h"
#include "device/device.h"

#include <string.h>

int vx_precision_choose(const char *asked, const struct vx_device_info *device, int *ret,
                        struct vx_err *err) {
    bool gpu = strncmp(device->name, "cuda", 4) == 0;
    bool bf16 = strcmp(asked, "bf16") == 0 || (gpu && strcmp(asked, "auto") == 0);
    if ((bf16 && !device->bf16) || (gpu && !bf16)) {
        return vx_fail(err, VX_E_UNSUPPORTED, "precision_unsupported",
                       "%s (%s) does not compute in %s; ask for precision %s or auto", device->name,
                       device->model, asked, gpu ? "bf16" : "fp32");
    }
    *ret = bf16 ? VX_BF16 : VX_FP32;
    return VX_OK;
}

const char *vx_precision_word(int precision) {
    return precision == VX_BF16 ? "bf16" : "fp32";
}
