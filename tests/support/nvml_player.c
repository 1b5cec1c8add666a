/* A stand-in for NVIDIA's management library that plays a trace; built as a shared library for
 * tests.
 *
 * $VX_NVML_TRACE names a text file. One line a look, words KEY=VALUE, any of: util (percent),
 * total, used (bytes), power, cap (mW), temp, clock (MHz), reasons (hex), rx, tx (KiB/s), sm,
 * tensor, dram, gr (percent), xid (an error that happens at this look), pid (a process, with all of
 * used), cc (compute capability, 90), mig (1: split into instances). A key that is absent is
 * refused, as a chip refuses what it does not keep; "lost" means that the GPU has fallen off the
 * bus. Each call of nvmlDeviceGetUtilizationRates, the first question of a look, goes on to the
 * next line of that GPU; the last line stands for ever. Lines that begin with # are comments.
 *
 * A line belongs to GPU 0, one that begins with "@2 " to GPU 2; there are as many GPUs as lines
 * name. With "live" on the first line the file is read again at every look, and what its last line
 * says of a GPU holds now: a test tells it what happens by writing the file anew. While "hang" is
 * in it the first question of a look is not answered; $VX_NVML_TRACE.hangs says that it was asked.
 */
#include "daemon/evidence/nvml.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { REFUSED = 3, TIMEOUT = 10, MAX_GPUS = 4, MAX_LINES = 256 };

#define EXPORT __attribute__((visibility("default")))

struct gpu {
    char lines[MAX_LINES][512];
    int n, at;
    bool looking;      /* the question after the first of a look is next */
    int line_told;     /* whose Xid was told */
    unsigned xid_told; /* the same where lines have no lasting number */
};

static struct gpu gpus[MAX_GPUS];
static int n_gpus;
static bool live;

static const char *now(const struct gpu *g) {
    return g->n ? g->lines[g->at < 0 ? 0 : g->at] : "";
}

/* False where the present line has no such key. */
static int get(const struct gpu *g, const char *key, double *ret) {
    char word[32];
    snprintf(word, sizeof word, "%s=", key);
    for (const char *p = now(g); *p; p += strcspn(p, " "), p += strspn(p, " ")) {
        if (strncmp(p, word, strlen(word)) == 0) {
            *ret = strcmp(key, "reasons") == 0 ? (double)strtoul(p + strlen(word), NULL, 16)
                                               : strtod(p + strlen(word), NULL);
            return NVML_OK;
        }
    }
    return strstr(now(g), "lost") ? NVML_LOST : REFUSED;
}

static int get_unsigned(const struct gpu *g, const char *key, unsigned *ret) {
    double x = 0;
    int rc = get(g, key, &x);
    *ret = (unsigned)x;
    return rc;
}

static void take_line(char *line) {
    line[strcspn(line, "\n")] = '\0';
    int i = line[0] == '@' ? line[1] - '0' : 0;
    const char *text = line[0] == '@' ? line + 3 : line;
    if (line[0] == '#' || line[0] == '\0' || i < 0 || i >= MAX_GPUS) {
        return;
    }
    n_gpus = i + 1 > n_gpus ? i + 1 : n_gpus;
    struct gpu *g = &gpus[i];
    if (live) {
        g->n = g->at = 0;
    }
    if (g->n < MAX_LINES) {
        snprintf(g->lines[g->n++], sizeof g->lines[0], "%s", text);
    }
}

static bool load(void) {
    const char *path = getenv("VX_NVML_TRACE");
    FILE *f = path ? fopen(path, "re") : NULL;
    char line[512];
    while (f && fgets(line, sizeof line, f)) {
        if (strcmp(line, "live\n") == 0) {
            live = true;
        } else {
            take_line(line);
        }
    }
    if (f) {
        fclose(f);
    }
    return f != NULL;
}

static void go_on(struct gpu *g) {
    if (live) {
        load();
    } else {
        g->at = g->at + 1 < g->n ? g->at + 1 : g->at;
    }
}

static void hang(const struct gpu *g) {
    char path[512];
    snprintf(path, sizeof path, "%s.hangs", getenv("VX_NVML_TRACE"));
    FILE *f = fopen(path, "we");
    if (f) {
        fclose(f);
    }
    while (strstr(now(g), "hang")) {
        nanosleep(&(struct timespec){0, 10000000}, NULL);
        load();
    }
    remove(path);
}

int nvmlInit_v2(void);
int nvmlShutdown(void);
EXPORT int nvmlInit_v2(void) {
    live = false;
    n_gpus = 0;
    for (int i = 0; i < MAX_GPUS; i++) {
        gpus[i].n = 0;
        gpus[i].at = gpus[i].line_told = -1;
        gpus[i].xid_told = 0;
    }
    return load() ? NVML_OK : 9; /* driver not loaded */
}

EXPORT int nvmlShutdown(void) {
    return NVML_OK;
}

#define DEFINE(name, args)                                                                         \
    int name args;                                                                                 \
    EXPORT int name args

DEFINE(nvmlDeviceGetCount_v2, (unsigned *n)) {
    *n = (unsigned)n_gpus;
    return NVML_OK;
}

DEFINE(nvmlDeviceGetHandleByIndex_v2, (unsigned i, nvml_device *ret)) {
    if (i >= (unsigned)n_gpus || strstr(now(&gpus[i]), "lost")) {
        return i < (unsigned)n_gpus ? NVML_LOST : REFUSED;
    }
    *ret = &gpus[i];
    return NVML_OK;
}

DEFINE(nvmlDeviceGetName, (nvml_device d, char *buf, unsigned size)) {
    (void)d;
    snprintf(buf, size, "Trace player");
    return NVML_OK;
}

DEFINE(nvmlDeviceGetUUID, (nvml_device d, char *buf, unsigned size)) {
    long i = (struct gpu *)d - gpus;
    snprintf(buf, size, i ? "GPU-trace-%ld" : "GPU-trace", i);
    return NVML_OK;
}

DEFINE(nvmlDeviceGetCudaComputeCapability, (nvml_device d, int *major, int *minor)) {
    unsigned cc;
    int rc = get_unsigned(d, "cc", &cc);
    *major = (int)cc / 10;
    *minor = (int)cc % 10;
    return rc;
}

DEFINE(nvmlDeviceGetMigMode, (nvml_device d, unsigned *current, unsigned *pending)) {
    *pending = 0;
    return get_unsigned(d, "mig", current);
}

DEFINE(nvmlDeviceGetUtilizationRates, (nvml_device d, struct nvml_utilisation *ret)) {
    struct gpu *g = d;
    go_on(g);
    if (live && strstr(now(g), "hang")) {
        hang(g);
    }
    g->looking = true;
    ret->memory = 0;
    return get_unsigned(g, "util", &ret->gpu);
}

/* What a lost GPU is asked to find out whether it is back. */
DEFINE(nvmlDeviceGetMemoryInfo, (nvml_device d, struct nvml_memory *ret)) {
    struct gpu *g = d;
    double total = 0, used = 0;
    if (strstr(now(g), "lost") && !g->looking) {
        go_on(g);
    }
    g->looking = false;
    int rc = get(g, "total", &total);
    get(g, "used", &used);
    *ret = (struct nvml_memory){(unsigned long long)total, (unsigned long long)(total - used),
                                (unsigned long long)used};
    return rc;
}

DEFINE(nvmlDeviceGetPowerUsage, (nvml_device d, unsigned *ret)) {
    return get_unsigned(d, "power", ret);
}

DEFINE(nvmlDeviceGetEnforcedPowerLimit, (nvml_device d, unsigned *ret)) {
    return get_unsigned(d, "cap", ret);
}

DEFINE(nvmlDeviceGetTemperature, (nvml_device d, int sensor, unsigned *ret)) {
    (void)sensor;
    return get_unsigned(d, "temp", ret);
}

DEFINE(nvmlDeviceGetClockInfo, (nvml_device d, int type, unsigned *ret)) {
    return type == NVML_CLOCK_SM ? get_unsigned(d, "clock", ret) : REFUSED;
}

DEFINE(nvmlDeviceGetCurrentClocksEventReasons, (nvml_device d, unsigned long long *ret)) {
    unsigned bits = 0;
    int rc = get_unsigned(d, "reasons", &bits);
    *ret = bits;
    return rc;
}

DEFINE(nvmlDeviceGetPcieThroughput, (nvml_device d, int counter, unsigned *ret)) {
    return get_unsigned(d, counter == NVML_PCIE_RX ? "rx" : "tx", ret);
}

DEFINE(nvmlDeviceGetComputeRunningProcesses_v3,
       (nvml_device d, unsigned *count, struct nvml_process *list)) {
    unsigned pid;
    double used = 0;
    int rc = get_unsigned(d, "pid", &pid);
    get(d, "used", &used);
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
    double x;
    ret->supported = get(d, "sm", &x) == NVML_OK;
    return NVML_OK;
}

DEFINE(nvmlGpmSampleAlloc, (nvml_gpm_sample * ret)) {
    *ret = calloc(1, sizeof(nvml_device));
    return NVML_OK;
}

DEFINE(nvmlGpmSampleFree, (nvml_gpm_sample s)) {
    free(s);
    return NVML_OK;
}

DEFINE(nvmlGpmSampleGet, (nvml_device d, nvml_gpm_sample s)) {
    memcpy(s, &d, sizeof d);
    return NVML_OK;
}

DEFINE(nvmlGpmMetricsGet, (struct nvml_gpm_get * g)) {
    nvml_device d;
    memcpy(&d, g->after, sizeof d);
    for (unsigned i = 0; i < g->count; i++) {
        const char *key = g->metric[i].id == NVML_GPM_SM       ? "sm"
                          : g->metric[i].id == NVML_GPM_TENSOR ? "tensor"
                          : g->metric[i].id == NVML_GPM_DRAM   ? "dram"
                                                               : "gr";
        g->metric[i].result = get(d, key, &g->metric[i].value);
    }
    return NVML_OK;
}

DEFINE(nvmlEventSetCreate, (nvml_event_set * ret)) {
    *ret = gpus;
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

/* A line is told once; in a live file an Xid is, until another or none is written. */
static bool untold(struct gpu *g, unsigned *ret_xid) {
    bool has = get_unsigned(g, "xid", ret_xid) == NVML_OK;
    bool told = live ? g->xid_told == (has ? *ret_xid : 0) : g->line_told == g->at;
    g->xid_told = has ? *ret_xid : 0;
    g->line_told = g->at;
    return has && !told;
}

DEFINE(nvmlEventSetWait_v2, (nvml_event_set s, struct nvml_event *ret, unsigned ms)) {
    (void)s;
    (void)ms;
    for (int i = 0; i < n_gpus; i++) {
        unsigned xid;
        if (untold(&gpus[i], &xid)) {
            *ret = (struct nvml_event){&gpus[i], NVML_EVENT_XID, xid, 0, 0};
            return NVML_OK;
        }
    }
    return TIMEOUT;
}
