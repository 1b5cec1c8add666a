/* What the workers of one session did, as sums that only grow, looked at once a second: the work
 * within a window is the difference of two looks. Thread: one at a time. */
#ifndef VX_DAEMON_TELEMETRY_POOLLOG_H
#define VX_DAEMON_TELEMETRY_POOLLOG_H

#include "daemon/telemetry/trend.h"
#include "session/control.h"
#include "session/timeline.h"
#include "tune/window.h"

#include <stdbool.h>
#include <stdint.h>

#define VX_POOLLOG_LOOKS 330 /* the longest window */

struct vx_pool_sums {
    uint64_t ns; /* when */
    uint64_t samples, opens, bytes_read, bytes_device, major_faults;
    uint64_t open_ns, read_ns, decompress_ns, augment_ns, wait_ns, cpu_ns, runqueue_ns;
    uint64_t transform_ns[VX_TIMELINE_TRANSFORMS]; /* the parts of augment_ns */
    uint64_t rss_anon;                             /* of all workers, now */
    uint64_t trainer_anon;                         /* of the trainer, now; 0: not known */
    uint32_t workers;                              /* alive, now */
    bool has_runqueue, has_device;                 /* of all of them */
};

struct vx_poollog {
    struct vx_pool_sums v[VX_POOLLOG_LOOKS];
    uint64_t n; /* ever added */
    struct vx_pool_sums now;
    int32_t trainer;        /* its pid, set by the caller; 0: not known */
    struct vx_trend memory; /* of trainer and workers, since `same` came to be */
    struct {
        uint32_t workers;
        int32_t trainer;
    } same;
    struct {
        int32_t pid;
        struct vx_worker_record record; /* as last seen */
        uint64_t runqueue_ns, device_bytes;
    } seen[VX_WORKERS_MAX];
};

/* Reads every worker's record, and of the living what the kernel says of them (root as in
 * evidence/process.h). */
void vx_poollog_look(struct vx_poollog *log, const struct vx_timeline *timeline, const char *root,
                     uint64_t now_ns);
/* Work between the last look at or before from_ns (the oldest, where the log does not reach as far)
 * and the last at or before to_ns. False where those are one. *ret_seconds: between those looks.
 * slots, tier and the like are the caller's; *ret_have: VX_TUNE_HAVE_SCHEDSTAT and VX_TUNE_HAVE_IO.
 */
bool vx_poollog_window(const struct vx_poollog *log, uint64_t from_ns, uint64_t to_ns,
                       struct vx_tune_loader *ret, double *ret_seconds, uint32_t *ret_have);
/* Seconds per sample that each transform took in that time; all 0 where nothing is known. */
void vx_poollog_transforms(const struct vx_poollog *log, uint64_t from_ns, uint64_t to_ns,
                           double ret[VX_TIMELINE_TRANSFORMS]);
/* Growth of the memory of trainer and workers in bytes per hour, where trend.h calls it one and it
 * is worth a word; else 0. Begins anew when the number of workers changes or the trainer does. */
double vx_poollog_slope(const struct vx_poollog *log);

#endif
