/* A stand-in for NVIDIA's management library that plays a trace; built as a shared library for
 * tests.
 *
 * $VX_NVML_TRACE names a text file. One line a look, words KEY=VALUE, any of: util (percent),
 * total, used (bytes), power, cap (mW), temp, clock (MHz), reasons (hex), rx, tx (KiB/s), sm,
 * tensor, dram, gr (percent), xid (an error that happens at this look), pid (a process, with all of
 * used). A key that is absent is refused, as a chip refuses what it does not keep; "lost" means
 * that the GPU has fallen off the bus. A line "next" or each call of nvmlDeviceGetUtilizationRates
 * goes on to the next line; the last line stands for ever. Lines that begin with # are comments.
 * One GPU. */
#include "daemon/evidence/nvml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REFUSED = 3, TIMEOUT = 10 };

#define EXPORT __attribute__((visibility("default")))

static char lines[256][512];
static int n_lines, at = -1;
static int xid_told = -1;

static const char *now(void) {
    return n_lines ? lines[at < 0 ? 0 : at] : "";
}

/* False where the present line has no such key. */
static int get(const char *key, double *ret) {
    char word[32];
    snprintf(word, sizeof word, "%s=", key);
    for (const char *p = now(); *p; p += strcspn(p, " "), p += strspn(p, " ")) {
        if (strncmp(p, word, strlen(word)) == 0) {
            *ret = strcmp(key, "reasons") == 0 ? (double)strtoul(p + strlen(word), NULL, 16)
                                               : strtod(p + strlen(word), NULL);
            return NVML_OK;
        }
    }
    return strstr(now(), "lost") ? NVML_LOST : REFUSED;
}

static int get_unsigned(const char *key, unsigned *ret) {
    double x = 0;
    int rc = get(key, &x);
    *ret = (unsigned)x;
    return rc;
}

int nvmlInit_v2(void);
int nvmlShutdown(void);
EXPORT int nvmlInit_v2(void) {
    const char *path = getenv("VX_NVML_TRACE");
    FILE *f = path ? fopen(path, "re") : NULL;
    if (!f) {
        return 9; /* driver not loaded */
    }
    n_lines = 0;
    at = -1;
    while (n_lines < 256 && fgets(lines[n_lines], sizeof lines[0], f)) {
        lines[n_lines][strcspn(lines[n_lines], "\n")] = '\0';
        n_lines += lines[n_lines][0] != '#' && lines[n_lines][0] != '\0';
    }
    fclose(f);
    return NVML_OK;
}

EXPORT int nvmlShutdown(void) {
    return NVML_OK;
}

#define DEFINE(name, args)                                                                         \
    int name args;                                                                                 \
    EXPORT int name args

DEFINE(nvmlDeviceGetCount_v2, (unsigned *n)) {
    *n = 1;
    return NVML_OK;
}

DEFINE(nvmlDeviceGetHandleByIndex_v2, (unsigned i, nvml_device *ret)) {
    *ret = lines;
    return i == 0 ? NVML_OK : REFUSED;
}

DEFINE(nvmlDeviceGetName, (nvml_device d, char *buf, unsigned size)) {
    (void)d;
    snprintf(buf, size, "Trace player");
    return NVML_OK;
}

DEFINE(nvmlDeviceGetUUID, (nvml_device d, char *buf, unsigned size)) {
    (void)d;
    snprintf(buf, size, "GPU-trace");
    return NVML_OK;
}

/* The first question of a look. */
DEFINE(nvmlDeviceGetUtilizationRates, (nvml_device d, struct nvml_utilisation *ret)) {
    (void)d;
    at = at + 1 < n_lines ? at + 1 : at;
    ret->memory = 0;
    return get_unsigned("util", &ret->gpu);
}

DEFINE(nvmlDeviceGetMemoryInfo, (nvml_device d, struct nvml_memory *ret)) {
    (void)d;
    double total = 0, used = 0;
    int rc = get("total", &total);
    get("used", &used);
    *ret = (struct nvml_memory){(unsigned long long)total, (unsigned long long)(total - used),
                                (unsigned long long)used};
    return rc;
}

DEFINE(nvmlDeviceGetPowerUsage, (nvml_device d, unsigned *ret)) {
    (void)d;
    return get_unsigned("power", ret);
}

DEFINE(nvmlDeviceGetEnforcedPowerLimit, (nvml_device d, unsigned *ret)) {
    (void)d;
    return get_unsigned("cap", ret);
}

DEFINE(nvmlDeviceGetTemperature, (nvml_device d, int sensor, unsigned *ret)) {
    (void)d;
    (void)sensor;
    return get_unsigned("temp", ret);
}

DEFINE(nvmlDeviceGetClockInfo, (nvml_device d, int type, unsigned *ret)) {
    (void)d;
    return type == NVML_CLOCK_SM ? get_unsigned("clock", ret) : REFUSED;
}

DEFINE(nvmlDeviceGetCurrentClocksEventReasons, (nvml_device d, unsigned long long *ret)) {
    (void)d;
    unsigned bits = 0;
    int rc = get_unsigned("reasons", &bits);
    *ret = bits;
    return rc;
}

DEFINE(nvmlDeviceGetPcieThroughput, (nvml_device d, int counter, unsigned *ret)) {
    (void)d;
    return get_unsigned(counter == NVML_PCIE_RX ? "rx" : "tx", ret);
}

DEFINE(nvmlDeviceGetComputeRunningProcesses_v3,
       (nvml_device d, unsigned *count, struct nvml_process *list)) {
    (void)d;
    unsigned pid;
    double used = 0;
    int rc = get_unsigned("pid", &pid);
    get("used", &used);
    if (rc == NVML_OK && *count > 0) {
        list[0] = (struct nvml_process){pid, (unsigned long long)used, 0, 0};
        *count = 1;
    } else if (rc == REFUSED) {
        *count = 0;
        rc = NVML_OK;
    }
    return rc;
}

DEFINE(nvmlGpmQueryDeviceSupport, (nvml_device d, struct nvml_gpm_support *ret)) {
    (void)d;
    double x;
    ret->supported = get("sm", &x) == NVML_OK;
    return NVML_OK;
}

DEFINE(nvmlGpmSampleAlloc, (nvml_gpm_sample * ret)) {
    *ret = malloc(1);
    return NVML_OK;
}

DEFINE(nvmlGpmSampleFree, (nvml_gpm_sample s)) {
    free(s);
    return NVML_OK;
}

DEFINE(nvmlGpmSampleGet, (nvml_device d, nvml_gpm_sample s)) {
    (void)d;
    (void)s;
    return NVML_OK;
}

DEFINE(nvmlGpmMetricsGet, (struct nvml_gpm_get * g)) {
    for (unsigned i = 0; i < g->count; i++) {
        const char *key = g->metric[i].id == NVML_GPM_SM       ? "sm"
                          : g->metric[i].id == NVML_GPM_TENSOR ? "tensor"
                          : g->metric[i].id == NVML_GPM_DRAM   ? "dram"
                                                               : "gr";
        g->metric[i].result = get(key, &g->metric[i].value);
    }
    return NVML_OK;
}

DEFINE(nvmlEventSetCreate, (nvml_event_set * ret)) {
    *ret = lines;
    return NVML_OK;
}

DEFINE(nvmlEventSetFree, (nvml_event_set s)) {
    (void)s;
    return NVML_OK;
}

DEFINE(nvmlDeviceRegisterEvents, (nvml_device d, unsigned long long types, nvml_event_set s)) {
    (void)d;
    (void)s;
    return types == NVML_EVENT_XID ? NVML_OK : REFUSED;
}

DEFINE(nvmlEventSetWait_v2, (nvml_event_set s, struct nvml_event *ret, unsigned ms)) {
    (void)s;
    (void)ms;
    unsigned xid;
    if (at == xid_told || get_unsigned("xid", &xid) != NVML_OK) {
        return TIMEOUT;
    }
    xid_told = at;
    *ret = (struct nvml_event){lines, NVML_EVENT_XID, xid, 0, 0};
    return NVML_OK;
}
