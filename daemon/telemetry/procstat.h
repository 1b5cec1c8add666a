/* Host figures from /proc: CPU time and the processor's name. What this process may use of it is
 * base/budget.h's. Thread: any; each struct one at a time. */
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

/* Name of the processor from /proc/cpuinfo; "unknown" where there is none. */
void vx_cpu_model(char *buf, unsigned size);

#endif
