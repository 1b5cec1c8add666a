/* Sizes of the worker pool, without any process handling: pure functions for the supervisor.
 * Thread: any. */
#ifndef VX_LOADER_POOL_H
#define VX_LOADER_POOL_H

#include <stdbool.h>
#include <stdint.h>

struct vx_cpus;
struct vx_recipe;

struct vx_pool_limits {
    uint32_t cores;           /* schedulable ones, after cgroup and affinity */
    uint32_t trainer_threads; /* cores the trainer keeps busy; 0 on a GPU */
    uint64_t memory_bytes;    /* the pool's budget for slots and workers; 0: no limit */
};

struct vx_pool_plan {
    uint32_t workers;     /* to start with, >= 1 */
    uint32_t workers_max; /* ceiling for tuning, <= VX_WORKERS_MAX */
    uint32_t slots;
    uint32_t window; /* samples ahead of the trainer to start with */
    uint64_t slot_bytes, ring_bytes;
    uint64_t worker_bytes; /* private memory one worker is expected to need */
};

/* workers_asked 0: automatic (the cores the trainer leaves, at least 1). Asked numbers are obeyed
 * up to the memory budget and VX_WORKERS_MAX. */
void vx_pool_plan(const struct vx_recipe *recipe, const struct vx_pool_limits *limits,
                  uint32_t workers_asked, struct vx_pool_plan *ret);

/* Which CPUs the workers keep to. Where there are as many CPUs and cores as the trainer has threads
 * and workers are wanted, the workers keep off the first trainer_threads of the allowed CPUs, so
 * that the two never take turns on one (true); the trainer may run anywhere. With fewer, nobody is
 * bound: *ret is all of allowed (false). */
bool vx_pool_cpus(const struct vx_cpus *allowed, uint32_t cores, uint32_t trainer_threads,
                  uint32_t workers, struct vx_cpus *ret);

/* One worker of the pool as the supervisor knows it. */
struct vx_pool_worker {
    bool alive;
    bool leaving; /* was asked to leave */
    uint64_t started_ns;
};

/* Compares the pool with the wanted number: >= 0: that many to spawn; < 0: that many to ask to
 * leave. */
int vx_pool_balance(const struct vx_pool_worker *workers, uint32_t n, uint32_t wanted);
/* Free entry for a new worker, or -1. */
int vx_pool_free_entry(const struct vx_pool_worker *workers, uint32_t n);
/* Who should leave next: the youngest that is not leaving yet (the oldest have the warmest file
 * caches); -1: none. */
int vx_pool_pick_leaver(const struct vx_pool_worker *workers, uint32_t n);

#endif
