/* The host's GPUs once a second: last figures for metrics and windows. Inside daemon/telemetry
 * only. Thread: look on the telemetry thread; the rest under its lock. */
#ifndef VX_DAEMON_TELEMETRY_GPUS_H
#define VX_DAEMON_TELEMETRY_GPUS_H

#include "daemon/evidence/gpu.h"
#include "daemon/telemetry/diagnosis.h"

#include <pthread.h>

struct vx_buf;

#define GPUS_MAX 16

struct gpus {
    struct vx_gpus *source; /* owned; NULL: no driver */
    uint32_t n;
    struct vx_gpu last[GPUS_MAX];
    uint64_t looks;
    char host[64]; /* for DCGM's labels */
    bool dcgm;     /* write the names of NVIDIA's exporter too */
};

/* library: of evidence/gpu.h. A host without GPUs is fine. */
void gpus_open(struct gpus *g, const char *library, bool dcgm);
void gpus_close(struct gpus *g);
/* The library is asked without the lock, which then guards the exchange. */
void gpus_look(struct gpus *g, pthread_mutex_t *lock);
/* voxeld_gpu_*, and with dcgm the seven names that NVIDIA's stock Grafana board asks for. */
void gpus_metrics(const struct gpus *g, struct vx_buf *out);
/* device: "cuda:1"; trainer: the pid whose memory on it is asked for. What is not known, and of
 * other devices everything, is 0. */
void gpus_window(const struct gpus *g, const char *device, int32_t trainer,
                 struct vx_device_look *ret);

#endif
