/* The table, and opening the device: which instruction set, which library, how many threads. */
#include "device/cpu/backend.h"

#include "base/budget.h"
#include "base/err.h"
#include "device/cpu/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_isa(dnnl_cpu_isa_t have, dnnl_cpu_isa_t want) {
    return ((unsigned)have & (unsigned)want) == (unsigned)want;
}

static int cpu_open(int index, const struct vx_device_options *options, struct vx_device **ret,
                    struct vx_err *err) {
    if (index != 0) {
        return vx_fail(err, VX_E_NOT_FOUND, NULL, "there is one device cpu:0, not cpu:%d", index);
    }
    /* oneDNN's own view, so that its environment variables limit our kernels too. */
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    if (!has_isa(isa, dnnl_cpu_isa_avx2)) {
        return vx_fail(err, VX_E_UNSUPPORTED, "cpu_too_old",
                       "this processor has no AVX2 instructions, which device cpu needs");
    }
    struct cpu_device *device = calloc(1, sizeof *device);
    if (!device) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a device");
    }
    device->base.api = &vx_cpu_device_api;
    device->threads = options->threads > 0 ? options->threads : (int)vx_budget_cores("");
    device->avx512 = has_isa(isa, dnnl_cpu_isa_avx512_core);
    device->bf16 = has_isa(isa, dnnl_cpu_isa_avx512_core_bf16);
    device->block = device->avx512 ? 16 : 8;
    dnnl_status_t rc = dnnl_engine_create(&device->engine, dnnl_cpu, 0);
    if (rc == dnnl_success) {
        rc = dnnl_stream_create(&device->stream, device->engine, dnnl_stream_default_flags);
    }
    if (rc != dnnl_success) {
        device->base.api->close(&device->base);
        vx_fail(err, VX_E_DEVICE, NULL, "oneDNN gives no CPU engine (status %d)", (int)rc);
        return VX_E_DEVICE;
    }
    *ret = &device->base;
    return VX_OK;
}

static void cpu_close(struct vx_device *base) {
    struct cpu_device *device = (struct cpu_device *)base;
    dnnl_stream_destroy(device->stream);
    dnnl_engine_destroy(device->engine);
    free(device);
}

/* The number after `key` in a file of "key : value" lines, or text into buf. */
static void proc_value(const char *path, const char *key, char *buf, size_t size) {
    FILE *f = fopen(path, "re");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (colon && strncmp(line, key, strlen(key)) == 0) {
            colon += 1 + strspn(colon + 1, " \t");
            colon[strcspn(colon, "\n")] = '\0';
            snprintf(buf, size, "%s", colon);
            break;
        }
    }
    if (f) {
        fclose(f);
    }
}

size_t cpu_available_memory(void) {
    char kib[64] = "0";
    proc_value("/proc/meminfo", "MemAvailable", kib, sizeof kib);
    return strtoull(kib, NULL, 10) << 10;
}

static void cpu_info(struct vx_device *base, struct vx_device_info *ret) {
    const struct cpu_device *device = (const struct cpu_device *)base;
    *ret = (struct vx_device_info){.threads = device->threads, .bf16 = device->bf16};
    snprintf(ret->name, sizeof ret->name, "cpu:0");
    snprintf(ret->model, sizeof ret->model, "unknown processor");
    proc_value("/proc/cpuinfo", "model name", ret->model, sizeof ret->model);
    snprintf(ret->isa, sizeof ret->isa, "%s",
             device->bf16     ? "avx512_core_bf16"
             : device->avx512 ? "avx512_core"
                              : "avx2");
    const dnnl_version_t *version = dnnl_version();
    snprintf(ret->library, sizeof ret->library, "oneDNN %d.%d.%d", version->major, version->minor,
             version->patch);
    ret->memory_bytes = cpu_available_memory();
}

const struct vx_device_api vx_cpu_device_api = {
    .abi = VX_DEVICE_ABI,
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .info = cpu_info,
    .state_create = cpu_state_create,
    .state_free = cpu_state_free,
    .state_upload = cpu_state_upload,
    .state_download = cpu_state_download,
    .compile = cpu_compile,
    .program_free = cpu_program_free,
    .program_memory = cpu_program_memory,
    .run = cpu_run,
    .wait = cpu_wait,
    .read_logits = cpu_read_logits,
};
