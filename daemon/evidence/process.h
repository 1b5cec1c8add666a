/* What the kernel says of one process: time on and off the cores, bytes from the device, what it is
 * stuck in. Each part may be missing (another user's process, an old kernel): then its flag says so
 * and its figure is 0. `root` is a prefix to every path, "" for this machine. Thread: any. */
#ifndef VX_DAEMON_EVIDENCE_PROCESS_H
#define VX_DAEMON_EVIDENCE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct vx_process {
    int32_t pid, ppid;
    char state; /* R, S, D, Z, ... */
    char name[32];
    uint32_t processor;    /* it ran on last */
    uint64_t cpu_ns;       /* user and system, of all its threads */
    uint64_t major_faults; /* of all its threads */
    uint64_t start_ticks;  /* since boot: tells two processes of one pid apart */
};
/* /proc/PID/stat; false where there is no such process. */
bool vx_process_read(const char *root, int32_t pid, struct vx_process *ret);

struct vx_process_waits {
    bool has_runqueue, has_device;
    uint64_t runqueue_ns;  /* ready to run, waiting for a core; main thread */
    uint64_t device_bytes; /* that storage had to bring: no page cache had them */
};
void vx_process_waits(const char *root, int32_t pid, struct vx_process_waits *ret);

/* Bytes that belong to no file and are shared with nobody; 0 where the kernel does not say. */
uint64_t vx_process_memory(const char *root, int32_t pid);

/* Owner of the process; false where it is gone. */
bool vx_process_uid(const char *root, int32_t pid, uint32_t *ret);

/* Where it stands, for the evidence of a hang; empty where the kernel does not say. */
struct vx_process_stuck {
    char state;
    char wchan[64];
    char syscall[96]; /* number and arguments, or "running" */
    char stack[1024]; /* kernel frames, where permitted */
};
void vx_process_stuck(const char *root, int32_t pid, struct vx_process_stuck *ret);

#endif
