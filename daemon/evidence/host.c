#include "daemon/evidence/host.h"

#include "base/budget.h"
#include "base/cgroup.h"
#include "daemon/evidence/pressure.h"
#include "daemon/evidence/process.h"

#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_BYTES    4096.0 /* of /proc/vmstat's counters, whatever the page size */
#define MAX_ANCESTORS 16
#define STANDS_OUT    0.10 /* cores: a process below this is nobody's trouble */
#define MAX_PROCESSES 65536

struct table {
    struct vx_process *v; /* ascending by pid */
    size_t n, cap;
};

struct vx_host_watch {
    char root[256];
    int32_t self;
    struct vx_cpus cpus;
    uint64_t at_ns; /* of the last look; 0: none */
    uint64_t busy_ns;
    struct table before, now;
    struct vx_pressure psi[3];
    uint64_t periods, throttled, swapped, oom_first;
    bool oom_known;
};

/* --- processes --- */

static int by_pid(const void *a, const void *b) {
    int32_t x = ((const struct vx_process *)a)->pid, y = ((const struct vx_process *)b)->pid;
    return (x > y) - (x < y);
}

static const struct vx_process *find(const struct table *t, int32_t pid) {
    struct vx_process key = {.pid = pid};
    return t->n ? bsearch(&key, t->v, t->n, sizeof *t->v, by_pid) : NULL;
}

static bool add(struct table *t, const struct vx_process *p) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 256;
        struct vx_process *v = cap <= MAX_PROCESSES ? realloc(t->v, cap * sizeof *v) : NULL;
        if (!v) {
            return false;
        }
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n++] = *p;
    return true;
}

static void scan(const char *root, struct table *t) {
    char path[300];
    snprintf(path, sizeof path, "%s/proc", root);
    DIR *dir = opendir(path);
    t->n = 0;
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        struct vx_process p;
        if (isdigit((unsigned char)e->d_name[0]) &&
            vx_process_read(root, (int32_t)strtol(e->d_name, NULL, 10), &p) && !add(t, &p)) {
            break;
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (t->n) {
        qsort(t->v, t->n, sizeof *t->v, by_pid);
    }
}

static bool is_own(const struct vx_host_watch *w, const struct vx_process *p) {
    for (int i = 0; p && i < MAX_ANCESTORS; i++) {
        if (p->pid == w->self) {
            return true;
        }
        p = p->ppid > 1 ? find(&w->now, p->ppid) : NULL;
    }
    return false;
}

/* Own time, and the busiest of the others on our CPUs. */
static double account(struct vx_host_watch *w, double seconds, struct vx_host *ret) {
    double own = 0, most = STANDS_OUT;
    for (size_t i = 0; i < w->now.n; i++) {
        const struct vx_process *p = &w->now.v[i], *old = find(&w->before, p->pid);
        if (old && old->start_ticks != p->start_ticks) {
            old = NULL;
        }
        double used = (double)(p->cpu_ns - (old ? old->cpu_ns : 0)) * 1e-9 / seconds;
        if (is_own(w, p)) {
            own += used;
        } else if (used > most && vx_cpus_has(&w->cpus, p->processor)) {
            most = used;
            ret->foreign_pid = p->pid;
            ret->foreign_pid_cores = used;
            snprintf(ret->foreign_name, sizeof ret->foreign_name, "%s", p->name);
        }
    }
    if (ret->foreign_pid) {
        vx_process_uid(w->root, ret->foreign_pid, &ret->foreign_uid);
    }
    return own;
}

/* --- the machine --- */

/* Time that our CPUs worked, whoever for; /proc/stat also counts what no process table here shows
 * (another container's work). False where it cannot be read. */
static bool busy_time(const struct vx_host_watch *w, uint64_t *ret_ns) {
    char path[300], line[512];
    snprintf(path, sizeof path, "%s/proc/stat", w->root);
    FILE *f = fopen(path, "re");
    long hz = sysconf(_SC_CLK_TCK);
    uint64_t ticks = 0;
    bool any = false;
    while (f && fgets(line, sizeof line, f)) {
        unsigned cpu;
        unsigned long long user, nice, system, idle, iowait, irq, softirq;
        if (sscanf(line, "cpu%u %llu %llu %llu %llu %llu %llu %llu", &cpu, &user, &nice, &system,
                   &idle, &iowait, &irq, &softirq) == 8 &&
            vx_cpus_has(&w->cpus, cpu)) {
            ticks += user + nice + system + irq + softirq;
            any = true;
        }
    }
    if (f) {
        fclose(f);
    }
    *ret_ns = ticks * (1000000000ull / (uint64_t)(hz > 0 ? hz : 100));
    return any;
}

static bool swapped_in(const char *root, uint64_t *ret) {
    char path[300], line[128];
    snprintf(path, sizeof path, "%s/proc/vmstat", root);
    FILE *f = fopen(path, "re");
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f)) {
        unsigned long long pages;
        found = sscanf(line, "pswpin %llu", &pages) == 1;
        if (found) {
            *ret = pages;
        }
    }
    if (f) {
        fclose(f);
    }
    return found;
}

static double rate(uint64_t now, uint64_t before, double seconds) {
    return seconds > 0 && now > before ? (double)(now - before) / seconds : 0;
}

static void look_at_pressure(struct vx_host_watch *w, double seconds, struct vx_host *ret) {
    static const char *const resources[] = {"cpu", "io", "memory"};
    double *some[] = {&ret->psi_cpu, &ret->psi_io, &ret->psi_memory};
    for (int i = 0; i < 3; i++) {
        struct vx_pressure p;
        if (!vx_pressure_read(w->root, resources[i], &p)) {
            continue;
        }
        ret->has |= VX_HOST_PSI;
        *some[i] = fmin(rate(p.some_us, w->psi[i].some_us, seconds) * 1e-6, 1);
        if (i == 2) {
            ret->psi_memory_full = fmin(rate(p.full_us, w->psi[i].full_us, seconds) * 1e-6, 1);
        }
        w->psi[i] = p;
    }
}

static void look_at_throttling(struct vx_host_watch *w, struct vx_host *ret) {
    struct vx_cgroup g;
    uint64_t periods, throttled;
    if (!vx_cgroup_find(w->root, "cpu", &g) ||
        !vx_cgroup_field(&g, "cpu.stat", "nr_periods", &periods) ||
        !vx_cgroup_field(&g, "cpu.stat", "nr_throttled", &throttled)) {
        return;
    }
    ret->has |= VX_HOST_THROTTLING;
    if (w->at_ns && periods > w->periods && throttled >= w->throttled) {
        ret->throttled = (double)(throttled - w->throttled) / (double)(periods - w->periods);
    }
    w->periods = periods;
    w->throttled = throttled;
}

static void look_at_memory(struct vx_host_watch *w, double seconds, struct vx_host *ret) {
    struct vx_memory m;
    uint64_t pages, kills;
    if (vx_budget_memory(w->root, &m)) {
        ret->has |= VX_HOST_MEMORY;
        ret->memory_total = m.total_bytes;
        ret->memory_available = m.available_bytes;
    }
    if (swapped_in(w->root, &pages)) {
        ret->has |= VX_HOST_SWAP;
        ret->swap_in = rate(pages, w->swapped, seconds) * PAGE_BYTES;
        w->swapped = pages;
    }
    if (vx_budget_oom_kills(w->root, &kills)) {
        ret->has |= VX_HOST_OOM;
        w->oom_first = w->oom_known ? w->oom_first : kills;
        w->oom_known = true;
        ret->oom_kills = kills - w->oom_first;
    }
}

static void look_at_cores(struct vx_host_watch *w, double seconds, struct vx_host *ret) {
    uint64_t busy;
    vx_budget_cpus(w->root, &w->cpus);
    ret->cores = fmin(vx_cpus_count(&w->cpus), vx_budget_quota(w->root));
    scan(w->root, &w->now);
    bool have_busy = busy_time(w, &busy);
    if (seconds > 0) {
        ret->own_cores = account(w, seconds, ret);
    }
    if (have_busy) {
        ret->has |= VX_HOST_CPU;
        double used = rate(busy, w->busy_ns, seconds) * 1e-9;
        ret->foreign_cores = seconds > 0 ? fmax(used - ret->own_cores, 0) : 0;
        w->busy_ns = busy;
    }
    struct table t = w->before;
    w->before = w->now;
    w->now = t;
}

void vx_host_look(struct vx_host_watch *w, uint64_t now_ns, struct vx_host *ret) {
    double seconds = w->at_ns && now_ns > w->at_ns ? (double)(now_ns - w->at_ns) * 1e-9 : 0;
    *ret = (struct vx_host){.seconds = seconds};
    look_at_cores(w, seconds, ret);
    look_at_pressure(w, seconds, ret);
    look_at_throttling(w, ret);
    look_at_memory(w, seconds, ret);
    w->at_ns = now_ns;
}

struct vx_host_watch *vx_host_watch_create(const char *root, int32_t self) {
    struct vx_host_watch *w = calloc(1, sizeof *w);
    if (w) {
        snprintf(w->root, sizeof w->root, "%s", root);
        w->self = self;
    }
    return w;
}

struct vx_host_watch *vx_host_watch_free(struct vx_host_watch *w) {
    if (w) {
        free(w->before.v);
        free(w->now.v);
        free(w);
    }
    return NULL;
}
