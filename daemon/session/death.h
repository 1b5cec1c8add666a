/* Why a process of a session ended, from what it left behind: exit status, signal, its last error,
 * the kernel's count of processes killed for lack of memory. Thread: any; a watch one at a time. */
#ifndef VX_DAEMON_SESSION_DEATH_H
#define VX_DAEMON_SESSION_DEATH_H

#include "daemon/session/proc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;

/* Reasons in the words of voxeld_worker_restarts_total{reason} and of the event worker_lost:
 *   killed      by a signal from outside (SIGKILL, SIGTERM, ...)
 *   oom_killed  by the kernel, for lack of memory
 *   bus_error   memory behind a mapping was gone: a truncated file, a full tmpfs
 *   crashed     by a signal of its own making (SIGSEGV, SIGABRT, ...)
 *   corrupt     it said that data are damaged
 *   failed      it said another error
 *   exited      it left without a word */
#define VX_DEATH_REASONS 7
extern const char *const vx_death_reasons[VX_DEATH_REASONS];

/* One of vx_death_reasons. error: the status word of the error that it said (vx_status_word), ""
 * where it said none. oom: vx_oom_killed of its SIGKILL. */
const char *vx_death_reason(const struct vx_proc_end *end, const char *error, bool oom);
/* May what the process was working on be to blame? Not for a kill from outside or a lack of memory.
 */
bool vx_death_by_work(const char *reason, const char *error);

/* Is it the device that failed, by the error that a process said? Reason "device_lost" or "no_gpu",
 * but for what its own kernels may have done (an illegal address, say: native is CUDA's number):
 * that ends the process, and the GPU is as good as before. */
bool vx_death_by_device(const struct vx_err *said);

/* Which SIGKILLs came from the kernel: its count of them moves. Others die in the same group too
 * (a preparation), so a kill that nobody asked about is let go after two to four seconds. */
struct vx_oom_watch {
    uint64_t explained; /* kills that are accounted for */
    uint64_t recent;    /* the count when last rolled */
    uint64_t rolled_ns;
    bool known; /* the kernel says */
};

/* root: base/cgroup.h. */
void vx_oom_watch_start(struct vx_oom_watch *w, const char *root, uint64_t now_ns);
/* Call at least every few seconds. */
void vx_oom_watch_roll(struct vx_oom_watch *w, const char *root, uint64_t now_ns);
/* A process was ended by SIGKILL: did the kernel do it? Accounts for one kill. */
bool vx_oom_killed(struct vx_oom_watch *w, const char *root);

#endif
