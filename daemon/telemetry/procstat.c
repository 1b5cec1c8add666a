/* See procstat.h. */
#include "daemon/telemetry/procstat.h"

#include "base/own.h"

#include <inttypes.h>
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
