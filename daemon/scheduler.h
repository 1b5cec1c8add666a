/* The scheduler's decisions, as pure functions over what dispatch.c knows: which job goes on next.
 * Highest priority first, then the oldest (smallest id). Thread: any. */
#ifndef VX_DAEMON_SCHEDULER_H
#define VX_DAEMON_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A job on its way to a device. */
enum vx_task_stage {
    VX_TASK_PLANNING, /* its plan and the KEY of its prepared data are being worked out */
    VX_TASK_WANTS,    /* wants prepared data that is not complete; may wait for a build */
    VX_TASK_PLANNED,  /* data complete; its change to ready is on its way to the disk */
    VX_TASK_READY,    /* waits for a device */
    VX_TASK_RUNNING,
    VX_TASK_LEAVING, /* its last state change is on its way to the disk */
};

#define VX_SCHED_KEY_SIZE 65

struct vx_sched_task {
    int64_t id;
    int priority;
    enum vx_task_stage stage;
    char key[VX_SCHED_KEY_SIZE]; /* of its prepared data; known from VX_TASK_WANTS on */
    uint32_t devices;            /* that it may run on, one bit each */
};

struct vx_sched_build {
    char key[VX_SCHED_KEY_SIZE];
};

/* True where a goes before b. */
bool vx_sched_before(const struct vx_sched_task *a, const struct vx_sched_task *b);
/* Index of the best task in stage, or -1. */
int vx_sched_best(const struct vx_sched_task *tasks, size_t n, enum vx_task_stage stage);
/* The ready task for a device (its bit) that is free, or -1. One for it that goes before it and is
 * about to become ready (planning takes milliseconds) is waited for; one whose data is still being
 * prepared is not.
 */
int vx_sched_next_run(const struct vx_sched_task *tasks, size_t n, uint32_t device);
/* The task for which a build should start now, or -1: the best that wants data for which no build
 * runs, while fewer than max_builds run. All tasks with the same KEY share that one build. */
int vx_sched_next_build(const struct vx_sched_task *tasks, size_t n,
                        const struct vx_sched_build *builds, size_t n_builds, size_t max_builds);
/* How many tasks wait for a device, or are about to, and go before job, which may run on some of
 * the same devices (NULL: all of them). The
 * line is kept short, so that a late job with a high priority is planned and goes first all the
 * same. A task that wants data does not count: its preparation may take hours, and holds up nobody
 * whose data is there. */
size_t vx_sched_line(const struct vx_sched_task *tasks, size_t n, const struct vx_sched_task *job);

#endif
