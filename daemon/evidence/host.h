/* What happens on this machine beside and because of voxeld, from one look to the next: who uses
 * the cores, pressure, throttling, swap, memory. Thread: one at a time per watcher (the telemetry
 * thread). A look costs a read of /proc/PID/stat of the processes that matter: own ones and those
 * that use cores; the others are read in turn of many looks where there are many. */
#ifndef VX_DAEMON_EVIDENCE_HOST_H
#define VX_DAEMON_EVIDENCE_HOST_H

#include <stdbool.h>
#include <stdint.h>

struct vx_host_watch; /* what the last look saw */

/* Which of the figures below this machine gives. */
enum vx_host_has {
    VX_HOST_CPU = 1u << 0,
    VX_HOST_PSI = 1u << 1,
    VX_HOST_THROTTLING = 1u << 2,
    VX_HOST_MEMORY = 1u << 3,
    VX_HOST_SWAP = 1u << 4,
    VX_HOST_OOM = 1u << 5
};

/* Between the last two looks. */
struct vx_host {
    uint32_t has;
    double seconds;       /* between them; 0: only one look so far, rates are then 0 */
    double cores;         /* this process may use, whole ones or the quota */
    double own_cores;     /* used by this process and its descendants */
    double foreign_cores; /* used by others on the CPUs that we may use */
    int32_t foreign_pid;  /* the busiest of them that can be seen; 0: none stands out */
    uint32_t foreign_uid;
    double foreign_pid_cores;
    char foreign_name[32];
    double psi_cpu, psi_io, psi_memory, psi_memory_full; /* shares of the time */
    double throttled;                                    /* share of the scheduler's periods */
    double swap_in;                                      /* bytes a second */
    uint64_t memory_total, memory_available;
    uint64_t oom_kills; /* since the first look */
};

/* root: a prefix to every path, "" for this machine; self: the process whose descendants are
 * "own". NULL when out of memory. */
struct vx_host_watch *vx_host_watch_create(const char *root, int32_t self);
struct vx_host_watch *vx_host_watch_free(struct vx_host_watch *w); /* NULL is fine; returns NULL */
/* now_ns: CLOCK_MONOTONIC; a clock that did not advance gives rates of 0. */
void vx_host_look(struct vx_host_watch *w, uint64_t now_ns, struct vx_host *ret);

#endif
