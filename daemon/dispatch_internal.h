/* Inside daemon/dispatch.c, daemon/builds.c and daemon/devices/slots.c only. Thread: loop thread.
 */
#ifndef VX_DAEMON_DISPATCH_INTERNAL_H
#define VX_DAEMON_DISPATCH_INTERNAL_H

#include "base/err.h"
#include "daemon/devices/health.h"
#include "daemon/devices/list.h"
#include "daemon/dispatch.h"
#include "daemon/resolve.h"
#include "daemon/scheduler.h"
#include "db/job.h"

#include <uv.h>

#define DISPATCH_MAX_TASKS  64
#define DISPATCH_MAX_BUILDS 2 /* data sets prepared side by side */

struct device_slot {
    struct vx_dispatch *d;
    const struct vx_host_device *device; /* in o.devices, which has the same index */
    struct vx_worker_thread *thread;     /* owned */
    bool reserved;                       /* a job is on its way to it */
    struct vx_health health;
    struct vx_child *probe; /* under way; NULL: none */
    uint64_t probe_ns;      /* since when */
};

struct task {
    struct vx_dispatch *d;
    struct vx_sched_task s;
    char *spec, *raw_dir, *plans, *fingerprint; /* owned */
    bool cancelled;
    uv_work_t work;
    int rc; /* of planning */
    struct vx_err err;
    struct vx_resolved resolved;
    struct device_slot *worker; /* from running on */
    char wants[32];             /* resources.device */
    uint64_t said;              /* digest of why it waits, as stored */
};

struct build {
    struct vx_dispatch *d;
    char key[VX_SCHED_KEY_SIZE];
    struct vx_child *child;
    int64_t done, total;
    uint64_t stored_ns; /* when progress was last stored */
    bool stopped;
};

struct vx_dispatch {
    struct vx_dispatch_options o;
    struct task *tasks[DISPATCH_MAX_TASKS]; /* owned */
    size_t n_tasks;
    struct build *builds[DISPATCH_MAX_BUILDS]; /* owned */
    size_t n_builds;
    struct device_slot workers[VX_DEVICES_MAX];
    unsigned n_workers;
    uint64_t looked_ns;  /* at the queue */
    uint64_t watched_ns; /* the devices */
    unsigned pending;    /* store operations under way */
    bool draining, drained;
    struct vx_err stopped; /* the reason of jobs that a stop sends back */
};

/* dispatch.c */
struct task *dispatch_find(struct vx_dispatch *d, int64_t id);
size_t dispatch_view(const struct vx_dispatch *d, struct vx_sched_task out[DISPATCH_MAX_TASKS]);
void dispatch_change(struct vx_dispatch *d, int64_t id, enum vx_job_state to, const char *phase,
                     const struct vx_err *why, char *result,
                     void (*then)(struct vx_dispatch *d, struct task *t, int rc));
/* Forgets the task. */
void dispatch_drop(struct vx_dispatch *d, struct task *t);
void dispatch_leave(struct vx_dispatch *d, struct task *t, enum vx_job_state to,
                    const struct vx_err *why, char *result);
/* The prepared data of t is complete. */
void dispatch_ready(struct vx_dispatch *d, struct task *t);

/* devices/slots.c */
/* Gives ready jobs to free devices. */
void dispatch_fill(struct vx_dispatch *d);
/* Looks at the devices' health, and says why jobs wait; at most four times a second. */
void dispatch_watch(struct vx_dispatch *d);
void dispatch_session_ended(void *ctx, struct vx_worker_thread *worker, int64_t job_id,
                            const struct vx_err *lost);

/* builds.c */
void dispatch_builds(struct vx_dispatch *d);
/* Ends builds that no task waits for any more. */
void dispatch_stop_unwanted(struct vx_dispatch *d);

#endif
