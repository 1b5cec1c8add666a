/* The augment workers of a session: spawn, reap, take back what the dead had claimed, bring back
 * with growing pauses.
 *
 * A worker's death costs nothing but the sample it was making: its claim is freed after the process
 * was reaped, and another worker makes the same bytes. A case that kills every worker would make
 * that an endless storm: after three of them it is taken out (quarantine.c). Deaths that no case is
 * to blame for are counted until the trainer has consumed a sample again; too many end the session
 * with the evidence. */
#include "daemon/session/internal.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/session/brief.h"
#include "loader/pool.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MAX_DEATHS_IN_ROW 8
#define FIRST_PAUSE_NS    100000000ull
#define LONGEST_PAUSE_NS  5000000000ull
#define LEAVE_NS          10000000000ull

static int spawn_worker(struct session *s, uint32_t w, struct vx_err *err) {
    char id[16];
    snprintf(id, sizeof id, "%u", w);
    char verb[] = "augment", brief[] = "--brief", worker[] = "--worker";
    vx_auto_free char *path = strdup(s->o->brief_path);
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "starting a worker");
    }
    char *args[] = {verb, brief, path, worker, id, NULL};
    static const char *const env[] = {"OMP_WAIT_POLICY=passive", "OMP_NUM_THREADS=1", NULL};
    struct vx_proc_options options = {
        .args = args,
        .env = env,
        .fds = {s->control.shm.fd, s->timeline.shm.fd, s->ring.shm.fd, s->nearing.held_fd},
        .death_signal = SIGKILL,
        .nice = s->o->brief->nice,
        .oom_score_adj = 500};
    struct pool_entry *e = &s->pool[w];
    e->session = s;
    e->leaving = false;
    e->retry_at_ns = 0;
    e->leave_by_ns = 0;
    e->error_code[0] = e->error_status[0] = e->error_text[0] = e->error_where[0] = '\0';
    vx_control_set_worker(&s->control, w, 0, VX_WANT_RUN);
    int rc = vx_proc_spawn(&e->proc, &options, err);
    if (rc == VX_OK) {
        vx_control_set_worker(&s->control, w, (int32_t)e->proc.pid, VX_WANT_RUN);
        knobs_pin(s, e->proc.pid);
        if (w >= s->pool_size) {
            s->pool_size = w + 1;
        }
    }
    return rc;
}

/* ctx: struct pool_entry */
static void pool_line(void *ctx, const char *text, size_t len) {
    struct pool_entry *e = ctx;
    vx_auto_json json_t *line = NULL;
    if (vx_json_parse(text, len, 1 << 20, 16, &line, NULL) != VX_OK) {
        return;
    }
    repair_line(e, line);
    const char *code = NULL, *message = NULL, *where = "", *status = "failed";
    if (json_unpack(line, "{s:{s:s, s:s, s?s, s?s}}", "error", "code", &code, "message", &message,
                    "where", &where, "status", &status) == 0) {
        snprintf(e->error_code, sizeof e->error_code, "%s", code);
        snprintf(e->error_status, sizeof e->error_status, "%s", status);
        snprintf(e->error_text, sizeof e->error_text, "%s", message);
        snprintf(e->error_where, sizeof e->error_where, "%s", where);
    }
}

static void fail_for_deaths(struct session *s, uint32_t w, const struct loss *l) {
    struct pool_entry *e = &s->pool[w];
    struct vx_err err = {0};
    if (e->error_code[0]) {
        vx_fail(&err, VX_E_CORRUPT, e->error_code,
                "%u workers in a row failed at the same sample: %s", s->deaths, e->error_text);
        vx_err_at(&err, "%s", e->error_where);
    } else if (strcmp(l->reason, "oom_killed") == 0) {
        vx_fail(&err, VX_E_NOMEM, "out_of_memory",
                "the kernel killed %u workers in a row for lack of memory: give the job fewer "
                "workers, or the machine's other work less memory",
                s->deaths);
    } else {
        vx_fail(&err, VX_E_INTERNAL, "worker_lost",
                "%u workers in a row died without finishing a sample (last: %s, exit status %d, "
                "signal %d): %s",
                s->deaths, l->reason, l->end.exit_status, l->end.signal,
                vx_proc_last_words(&e->proc));
    }
    session_fail(s, &err);
}

static void report(struct session *s, uint32_t w, struct loss *l) {
    l->deaths_on_case = quarantine_blame(s, l);
    vx_auto_json json_t *evidence = loss_json(s, w, l);
    if (s->o->events.worker_lost && evidence) {
        s->o->events.worker_lost(s->o->events.ctx, evidence);
    }
    quarantine_consider(s, l, evidence);
}

static void on_death(struct session *s, uint32_t w, const struct vx_proc_end *end, pid_t pid) {
    struct pool_entry *e = &s->pool[w];
    struct loss loss;
    loss_examine(s, w, end, pid, &loss);
    uint32_t freed = vx_ring_reclaim(&s->ring, (uint16_t)w);
    repair_forget(s, w);
    bool asked = e->leaving || s->stopping || s->cancelling || s->ended;
    vx_control_set_worker(&s->control, w, 0, VX_WANT_NONE);
    if (asked) {
        return;
    }
    if (e->restarting) {
        e->restarting = false;
        e->retry_at_ns = vx_now_ns();
        return;
    }
    uint64_t next = vx_ring_next(&s->ring);
    if (next != s->next_at_death) {
        s->deaths = 0;
    }
    s->next_at_death = next;
    s->deaths++;
    uint64_t pause = FIRST_PAUSE_NS << (s->deaths < 8 ? s->deaths - 1 : 7);
    e->retry_at_ns = vx_now_ns() + (pause < LONGEST_PAUSE_NS ? pause : LONGEST_PAUSE_NS);
    vx_log_warn("session",
                "worker_lost worker=%u reason=%s exit_status=%d signal=%d freed=%u in_row=%u "
                "said=\"%s\"",
                w, loss.reason, end->exit_status, end->signal, freed, s->deaths, e->error_text);
    report(s, w, &loss);
    if (s->deaths >= MAX_DEATHS_IN_ROW) {
        fail_for_deaths(s, w, &loss);
    }
}

void pool_reap(struct session *s) {
    for (uint32_t w = 0; w < s->pool_size; w++) {
        struct pool_entry *e = &s->pool[w];
        struct vx_proc_end end;
        pid_t pid = e->proc.pid;
        if (vx_proc_running(&e->proc)) {
            vx_proc_read(&e->proc, pool_line, e);
            if (vx_proc_reap(&e->proc, pool_line, e, &end)) {
                on_death(s, w, &end, pid);
            } else if (e->leaving && e->leave_by_ns && vx_now_ns() > e->leave_by_ns) {
                e->leave_by_ns = 0;
                vx_proc_signal(&e->proc, SIGKILL); /* it hangs over its sample */
            }
        }
    }
}

static uint32_t snapshot(const struct session *s, struct vx_pool_worker out[VX_WORKERS_MAX]) {
    for (uint32_t w = 0; w < VX_WORKERS_MAX; w++) {
        const struct pool_entry *e = &s->pool[w];
        bool alive = vx_proc_running(&e->proc);
        /* one that waits for its retry still counts: its place is taken */
        out[w] =
            (struct vx_pool_worker){alive || e->retry_at_ns != 0, e->leaving, e->proc.started_ns};
    }
    return VX_WORKERS_MAX;
}

static bool any_running(const struct session *s) {
    for (uint32_t w = 0; w < s->pool_size; w++) {
        if (vx_proc_running(&s->pool[w].proc)) {
            return true;
        }
    }
    return false;
}

/* A worker that cannot be started now (descriptors, processes, memory) is missed, but no reason to
 * end a training that others feed. */
static int spawn_or_put_off(struct session *s, uint32_t w, struct vx_err *err) {
    int rc = spawn_worker(s, w, err);
    if (rc == VX_OK || !any_running(s)) {
        return rc;
    }
    vx_log_warn("session", "worker_put_off worker=%u text=\"%s\"", w, err->text);
    s->pool[w].retry_at_ns = vx_now_ns() + LONGEST_PAUSE_NS;
    s->pool_size = w >= s->pool_size ? w + 1 : s->pool_size;
    return VX_OK;
}

void pool_balance(struct session *s) {
    if (s->ended || s->stopping || s->cancelling) {
        return;
    }
    struct vx_pool_worker view[VX_WORKERS_MAX];
    uint32_t n = snapshot(s, view);
    int missing = vx_pool_balance(view, n, s->knobs.workers_wanted);
    for (; missing < 0; missing++) {
        int w = vx_pool_pick_leaver(view, n);
        if (w < 0) {
            break;
        }
        s->pool[w].leaving = view[w].leaving = true;
        s->pool[w].leave_by_ns = vx_now_ns() + LEAVE_NS;
        s->pool[w].retry_at_ns = 0;
        vx_control_set_worker(&s->control, (uint32_t)w, (int32_t)s->pool[w].proc.pid,
                              VX_WANT_LEAVE);
        vx_ring_kick(&s->ring);
    }
    uint64_t now = vx_now_ns();
    struct vx_err err = {0};
    int rc = VX_OK;
    for (; rc == VX_OK && missing > 0; missing--) {
        int w = vx_pool_free_entry(view, n);
        if (w < 0) {
            break;
        }
        rc = spawn_or_put_off(s, (uint32_t)w, &err);
        view[w] = (struct vx_pool_worker){true, false, now};
    }
    for (uint32_t w = 0; rc == VX_OK && w < s->pool_size; w++) {
        if (s->pool[w].retry_at_ns && s->pool[w].retry_at_ns <= now) {
            rc = spawn_or_put_off(s, w, &err);
        }
    }
    if (rc != VX_OK) {
        session_fail(s, &err);
    }
}

uint64_t pool_next_due_ns(const struct session *s) {
    uint64_t due = UINT64_MAX;
    for (uint32_t w = 0; w < s->pool_size; w++) {
        const struct pool_entry *e = &s->pool[w];
        uint64_t at = vx_proc_running(&e->proc) ? e->leave_by_ns : e->retry_at_ns;
        due = at && at < due ? at : due;
    }
    return due;
}

void pool_restart(struct session *s) {
    vx_log_warn("session", "pool_restarted job=%lld", (long long)s->o->brief->job_id);
    for (uint32_t w = 0; w < s->pool_size; w++) {
        if (vx_proc_running(&s->pool[w].proc)) {
            s->pool[w].restarting = true; /* its end is nobody's fault */
            vx_proc_signal(&s->pool[w].proc, SIGKILL);
        }
    }
}

void pool_stop(struct session *s) {
    vx_session_gate(&s->control, &s->ring, VX_GATE_STOPPED);
    for (uint32_t w = 0; w < s->pool_size; w++) {
        s->pool[w].leaving = true;
        s->pool[w].retry_at_ns = 0;
    }
    uint64_t deadline = vx_now_ns() + LEAVE_NS;
    while (any_running(s) && vx_now_ns() < deadline) {
        pool_reap(s);
        struct timespec nap = {0, 5000000};
        nanosleep(&nap, NULL);
    }
    for (uint32_t w = 0; w < s->pool_size; w++) {
        vx_proc_release(&s->pool[w].proc);
    }
}
