#include "daemon/evidence/gpu.h"

#include "base/err.h"
#include "daemon/evidence/nvml.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_GPUS    64
#define GPM_VERSION 1

/* Pointers of the library; NULL where this driver has no such function. */
struct nvml {
#define VX_X(field, symbol, args) int(*field) args;
    NVML_FUNCTIONS(VX_X)
#undef VX_X
};

struct gpu {
    nvml_device handle;
    struct vx_gpu_card card;
    nvml_gpm_sample sample[2]; /* the one before and the one now; NULL: no GPM */
    bool sampled;
    struct vx_gpu last;
};

struct vx_gpus {
    void *library;
    struct nvml f;
    nvml_event_set events; /* NULL: none */
    uint32_t n;
    struct gpu gpu[MAX_GPUS];
};

static void find_functions(struct vx_gpus *g) {
#define VX_X(field, symbol, args) *(void **)&g->f.field = dlsym(g->library, symbol);
    NVML_FUNCTIONS(VX_X)
#undef VX_X
}

static void open_activity(struct vx_gpus *g, struct gpu *gpu) {
    struct nvml_gpm_support support = {.version = GPM_VERSION};
    if (!g->f.gpm_support || !g->f.gpm_alloc || !g->f.gpm_sample || !g->f.gpm_get ||
        g->f.gpm_support(gpu->handle, &support) != NVML_OK || !support.supported) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (g->f.gpm_alloc(&gpu->sample[i]) != NVML_OK) {
            gpu->sample[0] = gpu->sample[1] = NULL;
            return;
        }
    }
}

static void read_card(const struct nvml *f, nvml_device h, struct vx_gpu_card *c) {
    struct nvml_memory m;
    unsigned now = 0, later = 0;
    if (f->name) {
        f->name(h, c->name, sizeof c->name);
    }
    if (f->uuid) {
        f->uuid(h, c->uuid, sizeof c->uuid);
    }
    if (f->memory && f->memory(h, &m) == NVML_OK) {
        c->memory_bytes = m.total;
    }
    if (f->capability && f->capability(h, &c->major, &c->minor) != NVML_OK) {
        c->major = c->minor = 0;
    }
    c->mig = f->mig && f->mig(h, &now, &later) == NVML_OK && now == NVML_MIG_ON;
}

static void open_gpu(struct vx_gpus *g, uint32_t i) {
    struct gpu *gpu = &g->gpu[i];
    gpu->card = (struct vx_gpu_card){.name = "?", .uuid = "?"};
    if (g->f.by_index(i, &gpu->handle) != NVML_OK) {
        gpu->handle = NULL;
        gpu->card.lost = gpu->last.lost = true;
        return;
    }
    read_card(&g->f, gpu->handle, &gpu->card);
    open_activity(g, gpu);
    if (g->events && g->f.event_register) {
        g->f.event_register(gpu->handle, NVML_EVENT_XID, g->events);
    }
}

int vx_gpus_open(const char *library, struct vx_gpus **ret, struct vx_err *err) {
    struct vx_gpus *g = calloc(1, sizeof *g);
    if (!g) {
        return vx_fail(err, VX_E_NOMEM, NULL, "looking for GPUs");
    }
    unsigned n = 0;
    g->library = dlopen(library ? library : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (g->library) {
        find_functions(g);
    }
    if (!g->library || !g->f.init || !g->f.count || !g->f.by_index || g->f.init() != NVML_OK ||
        g->f.count(&n) != NVML_OK) {
        const char *why = g->library ? "it does not answer" : dlerror();
        vx_fail(err, VX_E_UNSUPPORTED, "no_nvml", "no NVIDIA management library: %.200s", why);
        if (g->library) {
            dlclose(g->library);
        }
        free(g);
        return VX_E_UNSUPPORTED;
    }
    if (g->f.event_set && g->f.event_wait && g->f.event_set(&g->events) != NVML_OK) {
        g->events = NULL;
    }
    g->n = n < MAX_GPUS ? n : MAX_GPUS;
    for (uint32_t i = 0; i < g->n; i++) {
        open_gpu(g, i);
    }
    *ret = g;
    return VX_OK;
}

struct vx_gpus *vx_gpus_close(struct vx_gpus *g) {
    if (!g) {
        return NULL;
    }
    for (uint32_t i = 0; i < g->n; i++) {
        for (int s = 0; s < 2; s++) {
            if (g->gpu[i].sample[s] && g->f.gpm_free) {
                g->f.gpm_free(g->gpu[i].sample[s]);
            }
        }
    }
    if (g->events && g->f.event_free) {
        g->f.event_free(g->events);
    }
    if (g->f.shutdown) {
        g->f.shutdown();
    }
    dlclose(g->library);
    free(g);
    return NULL;
}

uint32_t vx_gpus_count(const struct vx_gpus *g) {
    return g->n;
}

const struct vx_gpu_card *vx_gpus_card(const struct vx_gpus *g, uint32_t i) {
    return &g->gpu[i].card;
}

const char *vx_xid_fault(uint32_t xid) {
    static const struct {
        uint32_t xid;
        const char *words;
    } known[] = {
        {48, "an uncorrectable memory error"},
        {62, "its internal micro-controller halted"},
        {64, "a failed repair of its memory"},
        {74, "an NVLink error"},
        {79, "it has fallen off the bus"},
        {95, "an uncontained memory error"},
        {119, "its system processor does not answer"},
        {120, "an error of its system processor"},
        {140, "an unrecovered memory error"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].xid == xid) {
            return known[i].words;
        }
    }
    return NULL;
}

/* --- a look --- */

/* False where the library refuses; notes that the GPU is lost. */
static bool good(struct vx_gpu *s, int result) {
    s->lost = s->lost || result == NVML_LOST;
    return result == NVML_OK;
}

static void look_at_state(const struct nvml *f, nvml_device h, struct vx_gpu *s) {
    struct nvml_utilisation u;
    struct nvml_memory m;
    unsigned value, cap;
    unsigned long long reasons;
    if (f->utilisation && good(s, f->utilisation(h, &u))) {
        s->has |= VX_GPU_UTILISATION;
        s->utilisation = u.gpu / 100.0;
    }
    if (f->memory && good(s, f->memory(h, &m))) {
        s->has |= VX_GPU_MEMORY;
        s->memory_total = m.total;
        s->memory_used = m.used;
        s->memory_free = m.free;
    }
    if (f->power && f->power_cap && good(s, f->power(h, &value)) &&
        good(s, f->power_cap(h, &cap))) {
        s->has |= VX_GPU_POWER;
        s->power_watts = value / 1000.0;
        s->power_cap_watts = cap / 1000.0;
    }
    if (f->temperature && good(s, f->temperature(h, NVML_SENSOR_GPU, &value))) {
        s->has |= VX_GPU_TEMPERATURE;
        s->temperature = value;
    }
    if (f->clock && good(s, f->clock(h, NVML_CLOCK_SM, &value))) {
        s->has |= VX_GPU_CLOCK;
        s->sm_clock_hz = value * 1e6;
    }
    int (*const why)(nvml_device, unsigned long long *) = f->reasons ? f->reasons : f->reasons_old;
    if (why && good(s, why(h, &reasons))) {
        s->has |= VX_GPU_REASONS;
        s->throttled_thermal = reasons & (NVML_REASON_SW_THERMAL | NVML_REASON_HW_THERMAL);
        s->throttled_power =
            reasons & (NVML_REASON_SW_POWER | NVML_REASON_POWER_BRAKE | NVML_REASON_HW_SLOWDOWN);
    }
}

/* GPM compares two samples; the first look only takes one. */
static void look_at_activity(const struct nvml *f, struct gpu *gpu, struct vx_gpu *s) {
    static const unsigned ids[] = {NVML_GPM_GRAPHICS, NVML_GPM_SM, NVML_GPM_TENSOR, NVML_GPM_DRAM};
    double *const to[] = {&s->graphics_active, &s->sm_active, &s->tensor_active, &s->dram_active};
    if (!gpu->sample[1] || !good(s, f->gpm_sample(gpu->handle, gpu->sample[1]))) {
        return;
    }
    struct nvml_gpm_get get = {
        .version = GPM_VERSION, .count = 4, .before = gpu->sample[0], .after = gpu->sample[1]};
    for (int i = 0; i < 4; i++) {
        get.metric[i].id = ids[i];
    }
    if (gpu->sampled && good(s, f->gpm_get(&get))) {
        s->has |= VX_GPU_ACTIVITY;
        for (int i = 0; i < 4; i++) {
            *to[i] = get.metric[i].result == NVML_OK ? get.metric[i].value / 100 : 0;
        }
    }
    nvml_gpm_sample t = gpu->sample[0];
    gpu->sample[0] = gpu->sample[1];
    gpu->sample[1] = t;
    gpu->sampled = true;
}

static void look_slowly(const struct nvml *f, nvml_device h, struct vx_gpu *s) {
    unsigned rx, tx, n = VX_GPU_MAX_PROCESSES;
    struct nvml_process list[VX_GPU_MAX_PROCESSES];
    if (f->pcie && good(s, f->pcie(h, NVML_PCIE_RX, &rx)) &&
        good(s, f->pcie(h, NVML_PCIE_TX, &tx))) {
        s->has |= VX_GPU_PCIE;
        s->pcie_rx = rx * 1024.0;
        s->pcie_tx = tx * 1024.0;
    }
    if (f->processes && good(s, f->processes(h, &n, list)) && n <= VX_GPU_MAX_PROCESSES) {
        s->has |= VX_GPU_PROCESSES;
        s->n_processes = n;
        for (unsigned i = 0; i < n; i++) {
            s->process[i].pid = (int32_t)list[i].pid;
            s->process[i].bytes = list[i].bytes == ~0ull ? 0 : list[i].bytes;
        }
    }
}

static void keep_slow_figures(const struct vx_gpu *last, struct vx_gpu *s) {
    const uint32_t slow = VX_GPU_PCIE | VX_GPU_PROCESSES;
    s->has |= last->has & slow;
    s->pcie_rx = last->pcie_rx;
    s->pcie_tx = last->pcie_tx;
    s->n_processes = last->n_processes;
    memcpy(s->process, last->process, sizeof s->process);
}

/* Errors of all GPUs come through one set of events. */
static void take_events(struct vx_gpus *g) {
    struct nvml_event e;
    for (int i = 0; g->events && i < 64 && g->f.event_wait(g->events, &e, 0) == NVML_OK; i++) {
        for (uint32_t k = 0; k < g->n; k++) {
            if (g->gpu[k].handle == e.device) {
                g->gpu[k].last.xid_errors++;
                g->gpu[k].last.xid_last = (uint32_t)e.data;
                if (vx_xid_fault((uint32_t)e.data)) {
                    g->gpu[k].last.faults++;
                    g->gpu[k].last.fault_last = (uint32_t)e.data;
                }
            }
        }
    }
}

/* A GPU whose handle was never had stays lost: its name and number are not known. */
static bool answers(const struct nvml *f, const struct gpu *gpu) {
    struct nvml_memory m;
    return gpu->handle && f->memory && f->memory(gpu->handle, &m) == NVML_OK;
}

void vx_gpus_look(struct vx_gpus *g, uint32_t i, bool slow, struct vx_gpu *ret) {
    struct gpu *gpu = &g->gpu[i];
    take_events(g);
    struct vx_gpu s = {.lost = gpu->last.lost && !(slow && answers(&g->f, gpu)),
                       .xid_errors = gpu->last.xid_errors,
                       .xid_last = gpu->last.xid_last,
                       .faults = gpu->last.faults,
                       .fault_last = gpu->last.fault_last};
    if (!s.lost) {
        look_at_state(&g->f, gpu->handle, &s);
        look_at_activity(&g->f, gpu, &s);
        if (slow) {
            look_slowly(&g->f, gpu->handle, &s);
        } else {
            keep_slow_figures(&gpu->last, &s);
        }
    }
    if (s.lost) {
        s.has = 0; /* half a look is none */
    }
    gpu->last = s;
    *ret = s;
}
