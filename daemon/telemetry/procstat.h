/* Host figures from /proc: CPU time and memory. Thread: any; each struct one at a time. */
#ifndef VX_DAEMON_TELEMETRY_PROCSTAT_H
#define VX_DAEMON_TELEMETRY_PROCSTAT_H

#include <stdbool.h>
#include <stdint.h>

struct vx_cpu_times {
    uint64_t busy, total; /* clock ticks over all CPUs since boot */
};

/* False where /proc/stat cannot be read. */
bool vx_cpu_times_read(struct vx_cpu_times *ret);
/* Share of CPU time spent working between two readings, 0 to 1; 0 where nothing passed. */
double vx_cpu_busy_ratio(const struct vx_cpu_times *before, const struct vx_cpu_times *after);

struct vx_memory {
    uint64_t total_bytes, available_bytes;
};
/* The smaller of the machine's memory and this process's cgroup limit. */
bool vx_memory_read(struct vx_memory *ret);

/* Cores this process may use: affinity, then the CPU quota of its cgroup, rounded up; at least 1.
 */
int vx_schedulable_cores(void);

/* Name of the processor from /proc/cpuinfo; "unknown" where there is none. */
void vx_cpu_model(char *buf, unsigned size);

#endif
