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
/* Reading one costs some 15 us, and large machines have thousands, most of them asleep: so many a
 * look are read on the average. Those that matter are read every time. */
#define PROCESSES_PER_LOOK 100

struct entry {
    struct vx_process p;
    uint64_t read_ns;
    double used; /* cores, between its last two readings */
    bool own, matters;
};

struct table {
    struct entry *v; /* ascending by pid */
    size_t n, cap;
};

struct vx_host_watch {
    char root[256];
    int32_t self;
    struct vx_cpus cpus;
    uint64_t at_ns; /* of the last look; 0: none */
    uint64_t busy_ns;
    struct table before, now;
    uint64_t all_ns;   /* when all processes were read last */
    size_t looks_left; /* until they are read again */
    struct vx_pressure psi[3];
    uint64_t periods, throttled, swapped, oom_first;
    bool oom_known;
};

/* --- processes --- */

static int by_pid(const void *a, const void *b) {
    int32_t x = ((const struct entry *)a)->p.pid, y = ((const struct entry *)b)->p.pid;
    return (x > y) - (x < y);
}

static struct entry *find(const struct table *t, int32_t pid) {
    struct entry key = {.p.pid = pid};
    return t->n ? bsearch(&key, t->v, t->n, sizeof *t->v, by_pid) : NULL;
}

static bool add(struct table *t, const struct entry *e) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 256;
        struct entry *v = cap <= MAX_PROCESSES ? realloc(t->v, cap * sizeof *v) : NULL;
        if (!v) {
            return false;
        }
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n++] = *e;
    return true;
}

static bool add_read(struct vx_host_watch *w, int32_t pid, uint64_t now_ns) {
    struct entry e = {.read_ns = now_ns};
    return !vx_process_read(w->root, pid, &e.p) || add(&w->now, &e);
}

/* The numbers among the names of a folder below /proc. */
static DIR *open_proc(const struct vx_host_watch *w, const char *below) {
    char path[400];
    snprintf(path, sizeof path, "%s/proc%s", w->root, below);
    return opendir(path);
}

static int32_t next_number(DIR *dir) {
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        if (isdigit((unsigned char)e->d_name[0])) {
            return (int32_t)strtol(e->d_name, NULL, 10);
        }
    }
    return 0;
}

static void read_all(struct vx_host_watch *w, uint64_t now_ns) {
    DIR *dir = open_proc(w, "");
    for (int32_t pid; (pid = next_number(dir)) > 0 && add_read(w, pid, now_ns);) {
    }
    if (dir) {
        closedir(dir);
    }
}

/* Children that began since all were read; kernels that do not list them have theirs found then. */
static void read_new_children(struct vx_host_watch *w, uint64_t now_ns) {
    char below[32], path[400];
    snprintf(below, sizeof below, "/%d/task", w->self);
    DIR *dir = open_proc(w, below);
    for (int32_t task; (task = next_number(dir)) > 0;) {
        snprintf(path, sizeof path, "%s/proc%s/%d/children", w->root, below, task);
        FILE *f = fopen(path, "re");
        for (int32_t pid; f && fscanf(f, "%d", &pid) == 1;) {
            if (!find(&w->before, pid)) {
                add_read(w, pid, now_ns);
            }
        }
        if (f) {
            fclose(f);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static void read_those_that_matter(struct vx_host_watch *w, uint64_t now_ns) {
    for (size_t i = 0; i < w->before.n; i++) {
        const struct entry *e = &w->before.v[i];
        if (e->matters) {
            add_read(w, e->p.pid, now_ns);
        } else {
            add(&w->now, e);
        }
    }
    read_new_children(w, now_ns);
}

static bool is_own(const struct vx_host_watch *w, const struct entry *e) {
    for (int i = 0; e && i < MAX_ANCESTORS; i++) {
        if (e->p.pid == w->self) {
            return true;
        }
        e = e->p.ppid > 1 ? find(&w->now, e->p.ppid) : NULL;
    }
    return false;
}

static void read_processes(struct vx_host_watch *w, uint64_t now_ns) {
    w->now.n = 0;
    uint64_t all_before = w->all_ns;
    if (w->looks_left > 0) {
        w->looks_left--;
        read_those_that_matter(w, now_ns);
    } else {
        read_all(w, now_ns);
        w->all_ns = now_ns;
        w->looks_left = w->now.n / PROCESSES_PER_LOOK;
    }
    if (w->now.n) {
        qsort(w->now.v, w->now.n, sizeof *w->now.v, by_pid);
    }
    for (size_t i = 0; i < w->now.n; i++) {
        struct entry *e = &w->now.v[i];
        if (e->read_ns != now_ns) {
            continue;
        }
        const struct entry *old = find(&w->before, e->p.pid);
        bool same = old && old->p.start_ticks == e->p.start_ticks;
        uint64_t since = same ? old->read_ns : all_before;
        e->used = since && now_ns > since ? (double)(e->p.cpu_ns - (same ? old->p.cpu_ns : 0)) /
                                                (double)(now_ns - since)
                                          : 0;
        e->own = is_own(w, e);
        e->matters = e->own || e->used > STANDS_OUT;
    }
}

/* Own time, and the busiest of the others on our CPUs. */
static double account(const struct vx_host_watch *w, struct vx_host *ret) {
    double own = 0, most = STANDS_OUT;
    for (size_t i = 0; i < w->now.n; i++) {
        const struct entry *e = &w->now.v[i];
        if (e->own) {
            own += e->used;
        } else if (e->used > most && vx_cpus_has(&w->cpus, e->p.processor)) {
            most = e->used;
            ret->foreign_pid = e->p.pid;
            ret->foreign_pid_cores = e->used;
            snprintf(ret->foreign_name, sizeof ret->foreign_name, "%s", e->p.name);
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

static void look_at_cores(struct vx_host_watch *w, uint64_t now_ns, double seconds,
                          struct vx_host *ret) {
    uint64_t busy;
    vx_budget_cpus(w->root, &w->cpus);
    ret->cores = fmin(vx_cpus_count(&w->cpus), vx_budget_quota(w->root));
    read_processes(w, now_ns);
    bool have_busy = busy_time(w, &busy);
    if (seconds > 0) {
        ret->own_cores = account(w, ret);
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
    look_at_cores(w, now_ns, seconds, ret);
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
