/* What this process may use: cores, memory, descriptors. The one place that knows; nothing else
 * counts processors or reads limits.
 *
 * Cores: the CPUs that the kernel lets this process run on (affinity and cpuset), and no more than
 * the CPU quota of its control groups, rounded up. Memory: the machine's, and no more than the
 * narrowest limit of its control groups; what the kernel could drop at once (inactive page cache)
 * counts as available. Both cgroup versions (base/cgroup.h); `root` as there. Thread: any. */
#ifndef VX_BASE_BUDGET_H
#define VX_BASE_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- cores --- */

#define VX_CPUS_MAX 1024

struct vx_cpus {
    uint64_t bits[VX_CPUS_MAX / 64];
};

/* From a kernel list such as "0-3,8"; false (and *ret empty) where it is none. */
bool vx_cpus_parse(const char *list, struct vx_cpus *ret);
/* The same list back into buf; returns buf. */
char *vx_cpus_format(const struct vx_cpus *cpus, char *buf, size_t size);
uint32_t vx_cpus_count(const struct vx_cpus *cpus);
bool vx_cpus_has(const struct vx_cpus *cpus, uint32_t cpu);

/* CPUs this process may run on; at least one. */
void vx_budget_cpus(const char *root, struct vx_cpus *ret);
/* CPU time per wall time that its groups grant, in cores; INFINITY without a quota. */
double vx_budget_quota(const char *root);
/* Whole cores to plan for, at least 1. */
uint32_t vx_budget_cores(const char *root);

/* --- memory --- */

struct vx_memory {
    uint64_t total_bytes, available_bytes;
};
/* False where not even /proc/meminfo can be read. */
bool vx_budget_memory(const char *root, struct vx_memory *ret);
/* What one consumer here (a crew, a ring with its workers, a data set held in memory) may take:
 * half of what is available, and four fifths of RLIMIT_DATA; 0: unknown. */
uint64_t vx_budget_memory_share(void);
/* Processes of this process's group that the kernel has killed for lack of memory, ever; without a
 * memory group those of the whole machine. False where the kernel does not say. */
bool vx_budget_oom_kills(const char *root, uint64_t *ret);

/* --- descriptors --- */

/* Data files that a process with this limit of descriptors may keep open beside what it needs
 * anyway: 110 less than the limit where that is most of it, a quarter of a small limit. */
uint32_t vx_budget_files_of(uint64_t limit);
/* The same for this process's RLIMIT_NOFILE. */
uint32_t vx_budget_files(void);

#endif
