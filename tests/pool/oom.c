/* See oom.h. Hogs fill a memory group in which a session runs, until the kernel kills somebody.
 * Each is small, so that a worker, whose oom_score_adj counts like half the group's memory, weighs
 * more.
 */
#include "oom.h"
#include "lab.h"

#include "base/budget.h"
#include "base/cgroup.h"
#include "base/clock.h"
#include "base/own.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LIMIT (256ull << 20)
#define SHARE (32ull << 20) /* of a hog */
#define HOGS  10
#define STEP  (1u << 20)

static bool put(const char *dir, const char *file, unsigned long long value) {
    char path[VX_CGROUP_PATH + 64];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    vx_auto_fclose FILE *f = fopen(path, "we");
    return f && fprintf(f, "%llu", value) > 0 && fflush(f) == 0;
}

/* A group below ours with a limit; false where that is not allowed here. */
static bool make_group(char dir[VX_CGROUP_PATH + 32]) {
    struct vx_cgroup g;
    if (!vx_cgroup_find("", "memory", &g)) {
        return false;
    }
    snprintf(dir, VX_CGROUP_PATH + 32, "%s/voxeld-test-%d", g.dir, (int)getpid());
    if (mkdir(dir, 0755) != 0) {
        return false;
    }
    const char *file = g.version == 2 ? "memory.max" : "memory.limit_in_bytes";
    if (put(dir, file, LIMIT) && put(dir, "cgroup.procs", (unsigned long long)getpid())) {
        return true;
    }
    rmdir(dir);
    return false;
}

/* Takes its share of memory, unless the kernel has killed somebody by then, and keeps it. */
static void hog(uint64_t before) {
    uint64_t now = before;
    for (uint64_t taken = 0; taken < SHARE && now == before; taken += STEP) {
        char *at = mmap(NULL, STEP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) {
            _exit(1);
        }
        memset(at, 1, STEP);
        vx_budget_oom_kills("", &now);
    }
    pause();
}

static bool killed_somebody;

static void fill_memory(struct lab_session *s) {
    int pids[64], n = 0;
    pid_t hogs[HOGS];
    uint64_t before = 0, now = 0;
    while (!s->over && lab_workers(pids) < 2) {
        usleep(5000);
    }
    vx_budget_oom_kills("", &before);
    for (; n < HOGS; n++) {
        hogs[n] = fork();
        if (hogs[n] == 0) {
            hog(before);
        }
    }
    for (now = before; now == before && !s->over; usleep(5000)) {
        vx_budget_oom_kills("", &now);
    }
    killed_somebody = now > before;
    for (int i = 0; i < n; i++) {
        kill(hogs[i], SIGKILL);
        waitpid(hogs[i], NULL, 0);
    }
}

static int inside(void) {
    struct lab lab;
    lab_open(&lab, 12);
    struct lab_session quiet = {.name = "quiet", .workers = 2, .workers_max = 2, .epochs = 8};
    struct lab_session full = {.name = "full",
                               .workers = 2,
                               .workers_max = 2,
                               .epochs = 8,
                               .pace_us = 20000,
                               .meddle = fill_memory};
    lab_run(&lab, &quiet);
    lab_run(&lab, &full);
    bool same = strcmp(quiet.trace, full.trace) == 0;
    printf("{\"name\": \"pool oom\", \"lost\": %u, \"by_oom\": %u, \"quarantined\": %u, "
           "\"same_batches\": %s, \"kernel_killed\": %s}\n",
           full.lost, full.lost_by_oom, full.quarantined, same ? "true" : "false",
           killed_somebody ? "true" : "false");
    bool good = same && killed_somebody && full.lost_by_oom >= 1 && full.lost == full.lost_by_oom &&
                quiet.lost == 0;
    lab_release(&quiet);
    lab_release(&full);
    lab_close(&lab);
    return good ? 0 : 1;
}

int oom_scene(void) {
    char dir[VX_CGROUP_PATH + 32];
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (!make_group(dir)) {
            puts("{\"name\": \"pool oom\", \"skipped\": \"no memory group can be made here\"}");
            fflush(stdout);
            _exit(77);
        }
        int status = inside();
        fflush(stdout);
        _exit(status);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    struct vx_cgroup g;
    if (vx_cgroup_find("", "memory", &g)) {
        snprintf(dir, sizeof dir, "%s/voxeld-test-%d", g.dir, (int)pid);
        rmdir(dir);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
