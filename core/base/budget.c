#include "base/budget.h"

#include "base/cgroup.h"
#include "base/own.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/resource.h>

/* --- sets of CPUs --- */

bool vx_cpus_has(const struct vx_cpus *cpus, uint32_t cpu) {
    return cpu < VX_CPUS_MAX && (cpus->bits[cpu / 64] >> cpu % 64 & 1u);
}

uint32_t vx_cpus_count(const struct vx_cpus *cpus) {
    uint32_t n = 0;
    for (size_t i = 0; i < VX_COUNTOF(cpus->bits); i++) {
        n += (uint32_t)__builtin_popcountll(cpus->bits[i]);
    }
    return n;
}

bool vx_cpus_parse(const char *list, struct vx_cpus *ret) {
    memset(ret, 0, sizeof *ret);
    struct vx_cpus cpus = {{0}};
    const char *at = list + strspn(list, " \t");
    while (*at && *at != '\n') {
        char *end;
        unsigned long first = strtoul(at, &end, 10), last = first;
        if (end == at) {
            return false;
        }
        at = end;
        if (*at == '-') {
            last = strtoul(at + 1, &end, 10);
            if (end == at + 1) {
                return false;
            }
            at = end;
        }
        if (last < first || (*at && !strchr(",\n", *at))) {
            return false;
        }
        for (unsigned long c = first; c <= last && c < VX_CPUS_MAX; c++) {
            cpus.bits[c / 64] |= 1ull << c % 64;
        }
        at += *at == ',';
    }
    *ret = cpus;
    return vx_cpus_count(ret) > 0;
}

char *vx_cpus_format(const struct vx_cpus *cpus, char *buf, size_t size) {
    size_t used = 0;
    buf[0] = '\0';
    for (uint32_t c = 0; c < VX_CPUS_MAX && used + 24 < size; c++) {
        if (!vx_cpus_has(cpus, c)) {
            continue;
        }
        uint32_t last = c;
        while (vx_cpus_has(cpus, last + 1)) {
            last++;
        }
        used += (size_t)snprintf(buf + used, size - used, "%s%" PRIu32, used ? "," : "", c);
        if (last > c) {
            used += (size_t)snprintf(buf + used, size - used, "-%" PRIu32, last);
        }
        c = last;
    }
    return buf;
}

/* --- cores --- */

static FILE *open_proc(const char *root, const char *path) {
    char full[VX_CGROUP_PATH];
    snprintf(full, sizeof full, "%s%s", root, path);
    return fopen(full, "re");
}

/* The kernel narrows a task's affinity to its cpuset by itself, but a container's view of /proc may
 * be the host's. */
static void keep_cpuset(const char *root, struct vx_cpus *cpus) {
    static const char *const files[] = {"cpuset.cpus.effective", "cpuset.effective_cpus",
                                        "cpuset.cpus"};
    struct vx_cgroup g;
    char line[4096];
    bool found = vx_cgroup_find(root, "cpuset", &g);
    for (size_t i = 0; found && i < VX_COUNTOF(files); i++) {
        struct vx_cpus set, both;
        if (!vx_cgroup_line(&g, files[i], line, sizeof line) || !vx_cpus_parse(line, &set)) {
            continue;
        }
        for (size_t w = 0; w < VX_COUNTOF(both.bits); w++) {
            both.bits[w] = cpus->bits[w] & set.bits[w];
        }
        if (vx_cpus_count(&both)) {
            *cpus = both;
        }
        return;
    }
}

void vx_budget_cpus(const char *root, struct vx_cpus *ret) {
    vx_auto_fclose FILE *f = open_proc(root, "/proc/self/status");
    char line[4096];
    static const char key[] = "Cpus_allowed_list:";
    struct vx_cpus cpus = {{0}};
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, sizeof key - 1) == 0) {
            vx_cpus_parse(line + sizeof key - 1, &cpus);
            break;
        }
    }
    if (vx_cpus_count(&cpus) == 0) {
        cpus.bits[0] = 1;
    }
    keep_cpuset(root, &cpus);
    *ret = cpus;
}

/* Cores that one level of the hierarchy grants. */
static double level_quota(const struct vx_cgroup *g) {
    uint64_t quota = 0, period = 0;
    char line[128];
    bool limited;
    if (g->version == 2) {
        limited = vx_cgroup_line(g, "cpu.max", line, sizeof line) &&
                  sscanf(line, "%" SCNu64 " %" SCNu64, &quota, &period) == 2;
    } else {
        limited = vx_cgroup_number(g, "cpu.cfs_quota_us", &quota) &&
                  vx_cgroup_number(g, "cpu.cfs_period_us", &period);
    }
    return limited && quota > 0 && period > 0 ? (double)quota / (double)period : INFINITY;
}

double vx_budget_quota(const char *root) {
    struct vx_cgroup g;
    double least = INFINITY;
    if (vx_cgroup_find(root, "cpu", &g)) {
        do {
            double here = level_quota(&g);
            least = here < least ? here : least;
        } while (vx_cgroup_parent(&g));
    }
    return least;
}

uint32_t vx_budget_cores(const char *root) {
    struct vx_cpus cpus;
    vx_budget_cpus(root, &cpus);
    uint32_t cores = vx_cpus_count(&cpus);
    double quota = ceil(vx_budget_quota(root));
    cores = quota < cores ? (uint32_t)quota : cores;
    return cores < 1 ? 1 : cores;
}

/* --- memory --- */

static bool machine_memory(const char *root, struct vx_memory *ret) {
    vx_auto_fclose FILE *f = open_proc(root, "/proc/meminfo");
    char line[256];
    uint64_t kib;
    *ret = (struct vx_memory){0, 0};
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemTotal: %" SCNu64, &kib) == 1) {
            ret->total_bytes = kib * 1024;
        } else if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1) {
            ret->available_bytes = kib * 1024;
        }
    }
    return ret->total_bytes > 0;
}

/* Narrows m by one level's limit. */
static void keep_level(const struct vx_cgroup *g, struct vx_memory *m) {
    bool two = g->version == 2;
    uint64_t limit = UINT64_MAX, high = UINT64_MAX, used = 0, cache = 0;
    vx_cgroup_number(g, two ? "memory.max" : "memory.limit_in_bytes", &limit);
    if (two && vx_cgroup_number(g, "memory.high", &high)) {
        limit = high < limit ? high : limit; /* beyond it the group is throttled to a crawl */
    }
    if (limit >= m->total_bytes) {
        return;
    }
    vx_cgroup_number(g, two ? "memory.current" : "memory.usage_in_bytes", &used);
    vx_cgroup_field(g, "memory.stat", two ? "inactive_file" : "total_inactive_file", &cache);
    used -= cache < used ? cache : used;
    uint64_t left = used < limit ? limit - used : 0;
    m->total_bytes = limit;
    m->available_bytes = left < m->available_bytes ? left : m->available_bytes;
}

bool vx_budget_memory(const char *root, struct vx_memory *ret) {
    struct vx_memory m;
    struct vx_cgroup g;
    if (!machine_memory(root, &m)) {
        return false;
    }
    if (vx_cgroup_find(root, "memory", &g)) {
        do {
            keep_level(&g, &m);
        } while (vx_cgroup_parent(&g));
    }
    *ret = m;
    return true;
}

uint64_t vx_budget_memory_share(void) {
    struct vx_memory memory;
    struct rlimit limit;
    uint64_t share = vx_budget_memory("", &memory) ? memory.available_bytes / 2 : 0;
    if (getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        uint64_t data = limit.rlim_cur / 5 * 4; /* the rest is for the process itself */
        share = share && share < data ? share : data;
    }
    return share;
}

bool vx_budget_oom_kills(const char *root, uint64_t *ret) {
    struct vx_cgroup g;
    if (vx_cgroup_find(root, "memory", &g) &&
        vx_cgroup_field(&g, g.version == 2 ? "memory.events" : "memory.oom_control", "oom_kill",
                        ret)) {
        return true;
    }
    vx_auto_fclose FILE *f = open_proc(root, "/proc/vmstat");
    char line[128];
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "oom_kill %" SCNu64, ret) == 1) {
            return true;
        }
    }
    return false;
}

/* --- descriptors --- */

uint32_t vx_budget_files_of(uint64_t limit) {
    enum { OTHERS = 110, MOST = 1 << 20 };
    uint64_t n = limit > 2 * OTHERS ? limit - OTHERS : limit / 4;
    return n > MOST ? MOST : (uint32_t)n;
}

uint32_t vx_budget_files(void) {
    struct rlimit limit;
    return vx_budget_files_of(getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 64);
}
