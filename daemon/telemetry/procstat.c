/* See procstat.h. Both cgroup versions are read; missing files mean "no limit". */
#include "daemon/telemetry/procstat.h"

#include "base/own.h"

#include <inttypes.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

bool vx_cpu_times_read(struct vx_cpu_times *ret) {
    vx_auto_fclose FILE *f = fopen("/proc/stat", "re");
    uint64_t v[8] = {0};
    if (!f || fscanf(f,
                     "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                     " %" SCNu64 " %" SCNu64,
                     &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) < 5) {
        return false;
    }
    uint64_t total = 0;
    for (int i = 0; i < 8; i++) {
        total += v[i];
    }
    *ret = (struct vx_cpu_times){total - v[3] - v[4], total}; /* idle, iowait */
    return true;
}

double vx_cpu_busy_ratio(const struct vx_cpu_times *before, const struct vx_cpu_times *after) {
    uint64_t total = after->total - before->total;
    return total == 0 || after->total < before->total
               ? 0
               : (double)(after->busy - before->busy) / (double)total;
}

/* First line of path as a number; false for "max" and missing files. */
static bool read_number(const char *path, int64_t *ret) {
    vx_auto_fclose FILE *f = fopen(path, "re");
    return f && fscanf(f, "%" SCNd64, ret) == 1;
}

bool vx_memory_read(struct vx_memory *ret) {
    vx_auto_fclose FILE *f = fopen("/proc/meminfo", "re");
    char line[256];
    uint64_t total = 0, available = 0, kib;
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemTotal: %" SCNu64, &kib) == 1) {
            total = kib * 1024;
        } else if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1) {
            available = kib * 1024;
        }
    }
    if (!total) {
        return false;
    }
    static const char *const limits[][2] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes",
         "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
    };
    for (size_t i = 0; i < VX_COUNTOF(limits); i++) {
        int64_t limit = 0, used = 0;
        if (read_number(limits[i][0], &limit) && limit > 0 && (uint64_t)limit < total) {
            uint64_t left =
                read_number(limits[i][1], &used) && used < limit ? (uint64_t)(limit - used) : 0;
            total = (uint64_t)limit;
            available = left < available ? left : available;
        }
    }
    *ret = (struct vx_memory){total, available};
    return true;
}

/* Cores of the CPU quota; INFINITY without one. */
static double quota_cores(void) {
    int64_t quota = 0, period = 0;
    vx_auto_fclose FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f && fscanf(f, "%" SCNd64 " %" SCNd64, &quota, &period) == 2 && quota > 0 && period > 0) {
        return (double)quota / (double)period;
    }
    if (read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota) &&
        read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period) && quota > 0 && period > 0) {
        return (double)quota / (double)period;
    }
    return INFINITY;
}

int vx_schedulable_cores(void) {
    cpu_set_t set;
    int cores = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        cores = CPU_COUNT(&set);
    }
    double quota = ceil(quota_cores());
    cores = quota < cores ? (int)quota : cores;
    return cores < 1 ? 1 : cores;
}

void vx_cpu_model(char *buf, unsigned size) {
    vx_auto_fclose FILE *f = fopen("/proc/cpuinfo", "re");
    char line[512];
    snprintf(buf, size, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(buf, size, "%s", colon + 2);
            return;
        }
    }
}
