/* Inside daemon/dispatch.c and daemon/builds.c only. Thread: loop thread. */
#ifndef VX_DAEMON_DISPATCH_INTERNAL_H
#define VX_DAEMON_DISPATCH_INTERNAL_H

#include "base/err.h"
#include "daemon/dispatch.h"
#include "daemon/resolve.h"
#include "daemon/scheduler.h"
#include "db/job.h"

#include <uv.h>

#define DISPATCH_MAX_TASKS   64
#define DISPATCH_MAX_BUILDS  2 /* data sets prepared side by side */
#define DISPATCH_MAX_DEVICES 16

struct device_slot {
    struct vx_worker_thread *thread; /* owned */
    bool reserved;                   /* a job is on its way to it */
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
    struct device_slot workers[DISPATCH_MAX_DEVICES];
    unsigned n_workers;
    uint64_t looked_ns; /* at the queue */
    unsigned pending;   /* store operations under way */
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

/* builds.c */
void dispatch_builds(struct vx_dispatch *d);
/* Ends builds that no task waits for any more. */
void dispatch_stop_unwanted(struct vx_dispatch *d);

#endif
