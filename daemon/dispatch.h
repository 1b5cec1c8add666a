/* Jobs on their way from the queue to a device: planning on the thread pool, preparation in child
 * processes (one build per KEY however many jobs wait for it), then a free device. Decisions are
 * scheduler.h's; this file carries them out. Every state change is durable before the next step is
 * taken. Thread: loop thread. */
#ifndef VX_DAEMON_DISPATCH_H
#define VX_DAEMON_DISPATCH_H

#include <stdbool.h>
#include <stdint.h>

struct uv_loop_s;
struct vx_children;
struct vx_config;
struct vx_db;
struct vx_device_list;
struct vx_dispatch;
struct vx_err;
struct vx_health;
struct vx_host_device;
struct vx_post;
struct vx_store;
struct vx_telemetry;
struct vx_worker_thread;

struct vx_dispatch_options {
    struct uv_loop_s *loop; /* all borrowed, outlive the dispatch */
    struct vx_store *store;
    struct vx_post *post;
    struct vx_db *reader; /* the loop thread's */
    struct vx_children *children;
    struct vx_telemetry *telemetry;
    const struct vx_config *config;
    const char *jobs_dir;
    const struct vx_device_list *devices;
    void (*drained)(void *ctx); /* after vx_dispatch_drain, once nothing is under way */
    void *ctx;
};

struct vx_dispatch *vx_dispatch_create(const struct vx_dispatch_options *options,
                                       struct vx_err *err);
/* Something changed (a job, a data set): look at the queue. Cheap. */
void vx_dispatch_kick(struct vx_dispatch *d);
/* A person asked to end the job; its state is cancelling or cancelled already. */
void vx_dispatch_cancel(struct vx_dispatch *d, int64_t id);
/* Takes up nothing more, sends waiting jobs back to the queue, lets trainings checkpoint and end;
 * then `drained`. */
void vx_dispatch_drain(struct vx_dispatch *d);
/* A device and what it is at; all borrowed, good until the loop goes on. */
struct vx_dispatch_seat {
    const struct vx_host_device *device;
    const struct vx_health *health;
    int64_t job; /* 0: none */
};
/* False past the last. */
bool vx_dispatch_seat(const struct vx_dispatch *d, unsigned index, struct vx_dispatch_seat *ret);
/* The thread that runs the job; NULL where none does. */
struct vx_worker_thread *vx_dispatch_runner(const struct vx_dispatch *d, int64_t id);
/* After drained. Joins the worker threads. Accepts NULL. */
void vx_dispatch_free(struct vx_dispatch *d);

#endif
