#include "daemon/telemetry/gpus.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOW_EVERY 10 /* looks: PCIe costs 20 ms a question */
#define MIB        1048576.0

void gpus_open(struct gpus *g, const char *library, bool dcgm) {
    struct vx_err err = {0};
    *g = (struct gpus){.dcgm = dcgm};
    if (gethostname(g->host, sizeof g->host - 1) != 0) {
        snprintf(g->host, sizeof g->host, "unknown");
    }
    if (vx_gpus_open(library, &g->source, &err) != VX_OK) {
        vx_log_info("telemetry", "no_gpu_evidence text=\"%s\"", err.text);
        return;
    }
    g->n = vx_gpus_count(g->source) < GPUS_MAX ? vx_gpus_count(g->source) : GPUS_MAX;
}

void gpus_close(struct gpus *g) {
    g->source = vx_gpus_close(g->source);
    g->n = 0;
}

void gpus_look(struct gpus *g, pthread_mutex_t *lock) {
    bool slow = g->looks++ % SLOW_EVERY == 0;
    for (uint32_t i = 0; i < g->n; i++) {
        struct vx_gpu now;
        vx_gpus_look(g->source, i, slow, &now);
        pthread_mutex_lock(lock);
        bool fell = now.lost && !g->last[i].lost, back = !now.lost && g->last[i].lost;
        g->last[i] = now;
        pthread_mutex_unlock(lock);
        if (fell) {
            vx_log_err("telemetry", "gpu_lost index=%u uuid=%s xid=%u", i,
                       vx_gpus_card(g->source, i)->uuid, now.xid_last);
        } else if (back) {
            vx_log_notice("telemetry", "gpu_back index=%u uuid=%s", i,
                          vx_gpus_card(g->source, i)->uuid);
        }
    }
}

/* --- metrics --- */

struct family {
    const char *name, *type, *help;
    uint32_t needs; /* bits of enum vx_gpu_has; 0: always */
    size_t offset;  /* of a double, or with `integer` of a uint64_t */
    bool integer;
    double scale;
    const char *dcgm; /* NVIDIA's name of it; NULL: none */
    double dcgm_scale;
};

#define REAL(member)  offsetof(struct vx_gpu, member), false
#define WHOLE(member) offsetof(struct vx_gpu, member), true

static const struct family families[] = {
    {"voxeld_gpu_utilisation_ratio", "gauge", "Share of the time in which some kernel ran.",
     VX_GPU_UTILISATION, REAL(utilisation), 1, NULL, 0},
    {"voxeld_gpu_memory_total_bytes", "gauge", "Memory of the GPU.", VX_GPU_MEMORY,
     WHOLE(memory_total), 1, NULL, 0},
    {"voxeld_gpu_memory_used_bytes", "gauge", "Memory in use.", VX_GPU_MEMORY, WHOLE(memory_used),
     1, "DCGM_FI_DEV_FB_USED", 1 / MIB},
    {"voxeld_gpu_memory_free_bytes", "gauge", "Memory that is free.", VX_GPU_MEMORY,
     WHOLE(memory_free), 1, "DCGM_FI_DEV_FB_FREE", 1 / MIB},
    {"voxeld_gpu_power_watts", "gauge", "Power drawn.", VX_GPU_POWER, REAL(power_watts), 1,
     "DCGM_FI_DEV_POWER_USAGE", 1},
    {"voxeld_gpu_power_cap_watts", "gauge", "Enforced limit of the power.", VX_GPU_POWER,
     REAL(power_cap_watts), 1, NULL, 0},
    {"voxeld_gpu_temperature_celsius", "gauge", "Temperature of the GPU.", VX_GPU_TEMPERATURE,
     REAL(temperature), 1, "DCGM_FI_DEV_GPU_TEMP", 1},
    {"voxeld_gpu_sm_clock_hertz", "gauge", "Clock of the multiprocessors.", VX_GPU_CLOCK,
     REAL(sm_clock_hz), 1, "DCGM_FI_DEV_SM_CLOCK", 1e-6},
    {"voxeld_gpu_graphics_active_ratio", "gauge", "Share of the time in which the GPU computed.",
     VX_GPU_ACTIVITY, REAL(graphics_active), 1, "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 1},
    {"voxeld_gpu_sm_active_ratio", "gauge", "Multiprocessors with work, share over all.",
     VX_GPU_ACTIVITY, REAL(sm_active), 1, NULL, 0},
    {"voxeld_gpu_tensor_active_ratio", "gauge", "Tensor cores with work, share over all.",
     VX_GPU_ACTIVITY, REAL(tensor_active), 1, "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", 1},
    {"voxeld_gpu_dram_active_ratio", "gauge", "Memory bandwidth in use.", VX_GPU_ACTIVITY,
     REAL(dram_active), 1, NULL, 0},
    {"voxeld_gpu_pcie_receive_bytes_per_second", "gauge", "Bytes to the GPU.", VX_GPU_PCIE,
     REAL(pcie_rx), 1, NULL, 0},
    {"voxeld_gpu_pcie_transmit_bytes_per_second", "gauge", "Bytes from the GPU.", VX_GPU_PCIE,
     REAL(pcie_tx), 1, NULL, 0},
};

static double value_of(const struct family *f, const struct vx_gpu *s) {
    const char *at = (const char *)s + f->offset;
    return f->integer ? (double)*(const uint64_t *)at : *(const double *)at;
}

/* One family under a name of its own; GPUs that do not say leave their line out. */
static void write_family(const struct gpus *g, const struct family *f, bool dcgm,
                         struct vx_buf *out) {
    const char *name = dcgm ? f->dcgm : f->name;
    bool headed = false;
    for (uint32_t i = 0; i < g->n; i++) {
        const struct vx_gpu *s = &g->last[i];
        if ((s->has & f->needs) != f->needs) {
            continue;
        }
        if (!headed) {
            vx_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, f->help, name, f->type);
            headed = true;
        }
        double v = value_of(f, s) * (dcgm ? f->dcgm_scale : f->scale);
        const char *uuid = vx_gpus_card(g->source, i)->uuid;
        const char *model = vx_gpus_card(g->source, i)->name;
        if (dcgm) {
            /* old boards ask for Hostname, new ones for hostname */
            vx_buf_printf(out,
                          "%s{gpu=\"%u\",UUID=\"%s\",device=\"nvidia%u\",modelName=\"%s\","
                          "Hostname=\"%s\",hostname=\"%s\"} %.9g\n",
                          name, i, uuid, i, model, g->host, g->host, v);
        } else {
            vx_buf_printf(out, "%s{gpu=\"%u\",uuid=\"%s\"} %.9g\n", name, i, uuid, v);
        }
    }
}

static void write_faults(const struct gpus *g, struct vx_buf *out) {
    vx_buf_puts(out, "# HELP voxeld_gpu_lost 1 where the GPU has fallen off the bus.\n"
                     "# TYPE voxeld_gpu_lost gauge\n");
    for (uint32_t i = 0; i < g->n; i++) {
        vx_buf_printf(out, "voxeld_gpu_lost{gpu=\"%u\",uuid=\"%s\"} %d\n", i,
                      vx_gpus_card(g->source, i)->uuid, g->last[i].lost);
    }
    vx_buf_puts(out, "# HELP voxeld_gpu_xid_errors_total Xid errors since the daemon's start.\n"
                     "# TYPE voxeld_gpu_xid_errors_total counter\n");
    for (uint32_t i = 0; i < g->n; i++) {
        vx_buf_printf(out, "voxeld_gpu_xid_errors_total{gpu=\"%u\",uuid=\"%s\"} %u\n", i,
                      vx_gpus_card(g->source, i)->uuid, g->last[i].xid_errors);
    }
}

void gpus_metrics(const struct gpus *g, struct vx_buf *out) {
    if (!g->n) {
        return;
    }
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        write_family(g, &families[i], false, out);
    }
    write_faults(g, out);
    for (size_t i = 0; g->dcgm && i < sizeof families / sizeof *families; i++) {
        if (families[i].dcgm) {
            write_family(g, &families[i], true, out);
        }
    }
}

/* --- windows --- */

static uint64_t bytes_of(const struct vx_gpu *s, int32_t pid) {
    for (uint32_t i = 0; i < s->n_processes; i++) {
        if (s->process[i].pid == pid) {
            return s->process[i].bytes;
        }
    }
    return 0;
}

void gpus_window(const struct gpus *g, const char *device, int32_t trainer,
                 struct vx_device_look *ret) {
    *ret = (struct vx_device_look){0};
    if (strncmp(device, "cuda", 4) != 0) {
        return;
    }
    unsigned long i = device[4] == ':' ? strtoul(device + 5, NULL, 10) : 0;
    if (i >= g->n || g->last[i].lost) {
        return;
    }
    const struct vx_gpu *s = &g->last[i];
    struct vx_tune_device *d = &ret->device;
    const uint32_t needed = VX_GPU_MEMORY | VX_GPU_REASONS;
    if ((s->has & needed) == needed) {
        ret->have |= VX_TUNE_HAVE_GPU;
        d->memory_free = s->memory_free;
        d->throttled_thermal = s->throttled_thermal;
        d->throttled_power = s->throttled_power;
        d->power_ratio = s->power_cap_watts > 0 ? s->power_watts / s->power_cap_watts : 0;
        ret->own_bytes = bytes_of(s, trainer);
    }
    if (s->has & VX_GPU_ACTIVITY) {
        ret->have |= VX_TUNE_HAVE_GPM;
        d->sm_active = s->sm_active;
        d->tensor_active = s->tensor_active;
        ret->active = s->graphics_active;
    }
}
