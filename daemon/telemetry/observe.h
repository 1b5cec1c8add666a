/* The look of every second: the host, then each session's workers, verdicts and tuner, and the
 * samples of its time series. Inside daemon/telemetry only. Thread: the telemetry thread. */
#ifndef VX_DAEMON_TELEMETRY_OBSERVE_H
#define VX_DAEMON_TELEMETRY_OBSERVE_H

#include "daemon/telemetry/telemetry.h"

#include <pthread.h>

struct gpus;
struct vx_host_watch;
struct watched;

struct observation {
    const struct gpus *gpus;     /* borrowed; as last looked at */
    struct vx_host_watch *watch; /* owned by the telemetry thread's struct */
    pthread_mutex_t *lock;       /* of the list's contents, for what readers see */
    struct watched *list;        /* does not change while observe() runs */
    uint32_t cores;              /* to be shared; 0: those there are */
    uint64_t seconds;            /* looks so far: which samples are due */
};

void observe(struct observation *o, uint64_t now_ns, int64_t wall_ms);

#endif
