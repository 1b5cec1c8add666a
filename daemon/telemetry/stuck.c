/* See stuck.h. */
#include "daemon/telemetry/stuck.h"

#include "daemon/evidence/process.h"
#include "daemon/telemetry/diagnosis.h"
#include "daemon/telemetry/watched.h"

#include <string.h>

static void set_text(json_t *o, const char *key, const char *text) {
    size_t n = strcspn(text, "\n");
    if (n && strcmp(text, "0") != 0) { /* "0": a wchan that one may not see, or none */
        json_object_set_new(o, key, json_stringn(text, strlen(text)));
    }
}

static void add(const char *root, json_t *list, const char *role, int32_t pid, const char *doing,
                uint64_t marked_ns, uint64_t now_ns, int64_t case_index) {
    struct vx_process_stuck s;
    if (pid <= 0) {
        return;
    }
    vx_process_stuck(root, pid, &s);
    if (!s.state) {
        return;
    }
    char state[2] = {s.state, '\0'};
    json_t *o = json_pack("{s:s, s:i, s:s, s:s}", "role", role, "pid", (int)pid, "doing", doing,
                          "state", state);
    set_text(o, "wchan", s.wchan);
    set_text(o, "syscall", s.syscall);
    set_text(o, "stack", s.stack);
    if (marked_ns && now_ns > marked_ns) {
        json_object_set_new(o, "marker_age_seconds",
                            json_real((double)(now_ns - marked_ns) * 1e-9));
    }
    if (case_index >= 0) {
        json_object_set_new(o, "case_index", json_integer(case_index));
    }
    json_array_append_new(list, o);
}

json_t *stuck_json(const char *root, const struct watched *w, uint64_t now_ns) {
    json_t *list = json_array();
    if (!list) {
        return NULL;
    }
    const struct vx_progress *p = &w->progress;
    if (w->has_progress) {
        add(root, list, "step", p->pid, vx_step_state_name(p->state), p->heartbeat_ns, now_ns, -1);
    }
    for (uint32_t i = 0; i < VX_WORKERS_MAX; i++) {
        const struct vx_worker_record *r = &w->worker[i];
        bool there = r->state != VX_WORKER_NONE && r->state != VX_WORKER_LEFT;
        add(root, list, "augment", there ? r->pid : 0, vx_worker_state_name(r->state),
            r->heartbeat_ns, now_ns, r->case_index == UINT32_MAX ? -1 : (int64_t)r->case_index);
    }
    return list;
}
