/* The thread that drives one device: it runs one training at a time by supervising a session, or
 * one prediction (predict/job.h), writes the job's history to the store and its files, and
 * publishes the result. One per device;
 * the CPU counts as one ("cpu:0"). Thread: create, start, ask and free on the loop thread. */
#ifndef VX_DAEMON_WORKER_THREAD_H
#define VX_DAEMON_WORKER_THREAD_H

#include "daemon/session/supervisor.h"

#include <stdbool.h>
#include <stdint.h>

struct vx_err;
struct vx_post;
struct vx_store;
struct vx_telemetry;
struct vx_worker_thread;

struct vx_worker_thread_options {
    const char *device;     /* "cpu:0", "cuda:1"; copied */
    const char *gpu;        /* its UUID; NULL: the CPU; copied */
    struct vx_store *store; /* all borrowed, outlive the thread */
    struct vx_post *post;
    struct vx_telemetry *telemetry;
    uint64_t memory_limit; /* of step; 0: none */
    /* On the loop thread, after the job's final (or requeued) state is durable. lost: the device
     * failed, and why; else NULL. */
    void (*ended)(void *ctx, struct vx_worker_thread *worker, int64_t job_id,
                  const struct vx_err *lost);
    void *ctx;
};

struct vx_worker_thread *vx_worker_thread_create(const struct vx_worker_thread_options *options,
                                                 struct vx_err *err);
const char *vx_worker_thread_device(const struct vx_worker_thread *w);
/* 0: idle. */
int64_t vx_worker_thread_job(const struct vx_worker_thread *w);
/* Hands it a job that is in state running; it must be idle. brief_path is copied. */
int vx_worker_thread_start(struct vx_worker_thread *w, int64_t job_id, const char *brief_path,
                           struct vx_err *err);
/* Ends the running session: cancel, or stop for a later resume (the job goes back to queued). */
void vx_worker_thread_cancel(struct vx_worker_thread *w);
void vx_worker_thread_stop(struct vx_worker_thread *w);
/* Somebody knows that the device is gone: the running job leaves it, as if its process had said so.
 */
void vx_worker_thread_lose(struct vx_worker_thread *w, const char *code, const char *text);

/* The loader of the running job: its knobs now, as planned, and how far they can be turned. */
struct vx_loader_state {
    struct vx_session_knobs now, planned;
    int workers_max, window_max;
};
/* False while no session runs, or its knobs are not known yet. */
bool vx_worker_thread_loader(struct vx_worker_thread *w, struct vx_loader_state *ret);
/* Turns knobs of the running session (vx_session_turn). */
void vx_worker_thread_turn(struct vx_worker_thread *w, const struct vx_session_knobs *wish);

/* It must be idle. Joins the thread. Accepts NULL. */
void vx_worker_thread_free(struct vx_worker_thread *w);

#endif
