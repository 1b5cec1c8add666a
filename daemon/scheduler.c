/* See scheduler.h. */
#include "daemon/scheduler.h"

#include <string.h>

bool vx_sched_before(const struct vx_sched_task *a, const struct vx_sched_task *b) {
    return a->priority != b->priority ? a->priority > b->priority : a->id < b->id;
}

int vx_sched_best(const struct vx_sched_task *tasks, size_t n, enum vx_task_stage stage) {
    int best = -1;
    for (size_t i = 0; i < n; i++) {
        if (tasks[i].stage == stage && (best < 0 || vx_sched_before(&tasks[i], &tasks[best]))) {
            best = (int)i;
        }
    }
    return best;
}

int vx_sched_next_run(const struct vx_sched_task *tasks, size_t n, uint32_t device) {
    int best = -1;
    for (size_t i = 0; i < n; i++) {
        if (tasks[i].stage == VX_TASK_READY && tasks[i].devices & device &&
            (best < 0 || vx_sched_before(&tasks[i], &tasks[best]))) {
            best = (int)i;
        }
    }
    for (size_t i = 0; best >= 0 && i < n; i++) {
        bool soon = tasks[i].stage == VX_TASK_PLANNING || tasks[i].stage == VX_TASK_PLANNED;
        if (soon && tasks[i].devices & device && vx_sched_before(&tasks[i], &tasks[best])) {
            return -1;
        }
    }
    return best;
}

static bool being_built(const char *key, const struct vx_sched_build *builds, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(builds[i].key, key) == 0) {
            return true;
        }
    }
    return false;
}

int vx_sched_next_build(const struct vx_sched_task *tasks, size_t n,
                        const struct vx_sched_build *builds, size_t n_builds, size_t max_builds) {
    int best = -1;
    for (size_t i = 0; n_builds < max_builds && i < n; i++) {
        if (tasks[i].stage == VX_TASK_WANTS && !being_built(tasks[i].key, builds, n_builds) &&
            (best < 0 || vx_sched_before(&tasks[i], &tasks[best]))) {
            best = (int)i;
        }
    }
    return best;
}

size_t vx_sched_line(const struct vx_sched_task *tasks, size_t n, const struct vx_sched_task *job) {
    size_t line = 0;
    for (size_t i = 0; i < n; i++) {
        bool waits = tasks[i].stage == VX_TASK_PLANNING || tasks[i].stage == VX_TASK_PLANNED ||
                     tasks[i].stage == VX_TASK_READY;
        line +=
            waits && (!job || (tasks[i].devices & job->devices && vx_sched_before(&tasks[i], job)));
    }
    return line;
}
