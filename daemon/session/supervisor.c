/* The poll loop of a session and the life of its step process. See supervisor.h. */
#include "daemon/session/internal.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/session/brief.h"
#include "loader/recipe.h"
#include "train/engine.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define SECOND_NS      1000000000ull
#define STOP_NS        (120 * SECOND_NS) /* a stopping step has this long to write its checkpoint */
#define CANCEL_NS      (20 * SECOND_NS)
#define RESTART_NS     (SECOND_NS / 5)
#define POLL_MAX       (10 + 3 * VX_WORKERS_MAX)
#define REWIND_POLL_MS 2

static void finish(struct session *s, enum vx_session_end end) {
    if (!s->ended) {
        s->ended = true;
        s->end = end;
    }
}

void session_fail(struct session *s, const struct vx_err *err) {
    if (!s->ended) {
        s->failure = *err;
        finish(s, VX_SESSION_FAILED);
    }
}

void session_gates(struct session *s) {
    bool making = !s->closed && s->quarantine.n_condemned == 0;
    vx_control_set_gate(&s->control, s->closed ? VX_GATE_PAUSED : VX_GATE_OPEN);
    vx_ring_set_gate(&s->ring, making ? VX_GATE_OPEN : VX_GATE_PAUSED);
}

static int spawn_step(struct session *s, struct vx_err *err) {
    char verb[] = "step", brief[] = "--brief", device[] = "--device", threads[48], visible[160];
    const char *wanted = s->o->device ? s->o->device : s->o->brief->device;
    vx_auto_free char *path = strdup(s->o->brief_path), *name = strdup(wanted);
    if (!path || !name) {
        return vx_fail(err, VX_E_NOMEM, NULL, "starting the step process");
    }
    char *args[] = {verb, brief, path, device, name, NULL};
    snprintf(threads, sizeof threads, "OMP_NUM_THREADS=%d", vx_brief_threads(s->o->brief, wanted));
    snprintf(visible, sizeof visible, "CUDA_VISIBLE_DEVICES=%s", s->o->gpu ? s->o->gpu : "");
    const char *const env[] = {"OMP_WAIT_POLICY=passive", threads, s->o->gpu ? visible : NULL,
                               NULL};
    struct vx_proc_options options = {
        .args = args,
        .env = env,
        .fds = {s->control.shm.fd, s->timeline.shm.fd, s->ring.shm.fd},
        .death_signal = SIGTERM,
        .nice = s->o->brief->nice,
        .oom_score_adj = 200,
        .memory_bytes = s->o->memory_limit};
    s->step_error = (struct vx_err){0};
    s->restart_at_ns = 0;
    int rc = vx_proc_spawn(&s->step, &options, err);
    if (rc == VX_OK) {
        s->stage = STEP_LOADING;
    }
    return rc;
}

/* The step's first sample is known: bring the ring there. On the first start it usually stands
 * there already with its gate open, and the step has gone on without waiting for us, so the ring
 * must not be looked at or touched then. After a crash the gate is closed until the rewind. */
static void on_loaded(struct session *s, uint64_t q) {
    s->wanted_q = q;
    if (!s->started_before && q == s->first_q) {
        s->stage = STEP_WORKING;
    } else {
        s->closed = true;
        session_gates(s);
        s->stage = STEP_REWINDING;
    }
    s->started_before = true;
}

static void try_rewind(struct session *s) {
    if (s->stage != STEP_REWINDING || !vx_ring_quiet(&s->ring)) {
        return;
    }
    int rc = vx_ring_rewind(&s->ring, s->wanted_q);
    if (rc == VX_E_BUSY) {
        return;
    }
    if (rc != VX_OK) {
        struct vx_err err = {0};
        vx_fail(&err, rc, "ring_rewind", "the sample ring could not be set back to sample %llu",
                (unsigned long long)s->wanted_q);
        session_fail(s, &err);
        return;
    }
    s->stage = STEP_WORKING;
    s->deaths = 0;
    s->closed = false;
    session_gates(s);
}

static void take_error(struct session *s, const json_t *error) {
    const char *code = "", *message = "", *where = "";
    int native = 0;
    json_unpack((json_t *)error, "{s?s, s?s, s?s, s?i}", "code", &code, "message", &message,
                "where", &where, "native", &native);
    vx_fail(&s->step_error, VX_E_INVALID, code, "%s", message);
    s->step_error.native = native;
    s->step_error_retry = json_is_true(json_object_get(error, "retry"));
    vx_err_at(&s->step_error, "%s", where);
}

static void on_step_line(void *ctx, const char *text, size_t len) {
    struct session *s = ctx;
    vx_auto_json json_t *line = NULL;
    if (vx_json_parse(text, len, 1 << 20, 32, &line, NULL) != VX_OK || !json_is_object(line)) {
        vx_log_warn("session", "line_ignored text=\"%.*s\"", (int)(len < 200 ? len : 200), text);
        return;
    }
    const json_t *error = json_object_get(line, "error");
    const char *event = json_string_value(json_object_get(line, "event"));
    if (json_is_object(error)) {
        take_error(s, error);
    }
    if (event && strcmp(event, "loaded") == 0) {
        on_loaded(s, (uint64_t)json_integer_value(json_object_get(line, "q")));
    } else if (event && strcmp(event, "checkpoint") == 0) {
        s->new_checkpoint = true;
        s->restarts = 0;
    } else if (event && strcmp(event, "result") == 0) {
        s->result_seen = true;
        json_decref(s->result);
        s->result = json_copy(line);
        json_object_del(s->result, "event");
    }
    if (s->o->events.line) {
        s->o->events.line(s->o->events.ctx, line);
    }
}

static json_t *crash_evidence(struct session *s, const struct vx_proc_end *end) {
    struct vx_progress p = {0};
    bool oom = end->signal == SIGKILL && vx_oom_killed(&s->oom, "");
    const char *said = s->step_error.code ? vx_status_word(s->step_error.code) : "";
    bool known = vx_timeline_progress(&s->timeline, &p);
    const char *name = end->signal ? strsignal(end->signal) : "";
    return json_pack(
        "{s:s, s:s, s:i, s:i, s:s, s:s, s:s, s:I, s:I, s:I, s:s}", "role", "step", "reason",
        vx_death_reason(end, said, oom), "exit_status", end->exit_status, "signal", end->signal,
        "signal_name", name ? name : "", "code", s->step_error.reason, "message",
        s->step_error.text[0] ? s->step_error.text : vx_proc_last_words(&s->step), "max_rss_bytes",
        (json_int_t)end->max_rss_bytes, "k", (json_int_t)(known ? (int64_t)p.k : -1),
        "checkpoint_k", (json_int_t)(known && p.checkpoint_ns ? (int64_t)p.checkpoint_k : -1),
        "phase", known ? vx_step_state_name(p.state) : "starting");
}

static void on_crash(struct session *s, const struct vx_proc_end *end) {
    vx_auto_json json_t *evidence = crash_evidence(s, end);
    vx_log_warn("session", "step_crashed job=%lld exit_status=%d signal=%d said=\"%s\"",
                (long long)s->o->brief->job_id, end->exit_status, end->signal,
                vx_proc_last_words(&s->step));
    bool go_on = !s->o->events.crashed ||
                 s->o->events.crashed(s->o->events.ctx, evidence, s->new_checkpoint);
    s->new_checkpoint = false;
    s->started_before = true;
    if (!go_on) {
        struct vx_err err = {0};
        vx_fail(&err, VX_E_INTERNAL, "crashed_repeatedly",
                "the training process crashed again without a new checkpoint (exit status %d, "
                "signal %d): %s",
                end->exit_status, end->signal,
                s->step_error.text[0] ? s->step_error.text : vx_proc_last_words(&s->step));
        session_fail(s, &err);
        return;
    }
    s->closed = true;
    session_gates(s);
    s->restart_at_ns = vx_now_ns() + (RESTART_NS << (s->restarts < 5 ? s->restarts : 5));
    s->restarts++;
}

/* The job is not to blame, and its checkpoint stands. */
static void on_device_lost(struct session *s, const struct vx_proc_end *end) {
    vx_auto_json json_t *evidence = crash_evidence(s, end);
    vx_fail(&s->failure, VX_E_DEVICE, "device_lost", "%s",
            s->device_gone ? "the device is gone" : s->step_error.text);
    s->o->events.device_lost(s->o->events.ctx, evidence);
    finish(s, VX_SESSION_DEVICE_LOST);
}

/* Errors that another process could not avoid end the job at once (roles/say.c says which are worth
 * a try). */
static bool final_error(const struct session *s, const struct vx_proc_end *end) {
    return end->exit_status == 1 && s->step_error.code && !s->step_error_retry;
}

static void on_step_end(struct session *s, const struct vx_proc_end *end) {
    s->stage = STEP_NONE;
    bool clean = end->exit_status == 0;
    if (clean && s->result_seen) {
        finish(s, VX_SESSION_SUCCEEDED);
    } else if (s->cancelling) {
        finish(s, VX_SESSION_CANCELLED);
    } else if (s->stopping) {
        finish(s,
               VX_SESSION_STOPPED); /* also where it died on the way: its last checkpoint stands */
    } else if (s->o->events.device_lost && (s->device_gone || vx_death_by_device(&s->step_error))) {
        on_device_lost(s, end);
    } else if (final_error(s, end)) {
        session_fail(s, &s->step_error);
    } else {
        on_crash(s, end);
    }
}

static void take_requests(struct session *s) {
    uint64_t count;
    ssize_t n = read(s->o->mailbox->eventfd, &count, sizeof count);
    (void)n;
    unsigned requests = atomic_exchange(&s->o->mailbox->requests, 0);
    if (requests & VX_SESSION_TURN) {
        knobs_take(s);
    }
    if (requests & VX_SESSION_RESTART_LOADER) {
        pool_restart(s);
    }
    if (requests & VX_SESSION_RESTART_STEP && vx_proc_running(&s->step)) {
        vx_log_warn("session", "step_killed job=%lld reason=hang", (long long)s->o->brief->job_id);
        vx_proc_signal(&s->step, SIGKILL);
    }
    if (requests & VX_SESSION_DEVICE_GONE) {
        s->device_gone = true;
        vx_proc_signal(&s->step, SIGKILL);
        if (!vx_proc_running(&s->step) && s->o->events.device_lost) {
            on_device_lost(s, &(struct vx_proc_end){0});
        }
    }
    if (s->ended || !(requests & (VX_SESSION_STOP | VX_SESSION_CANCEL))) {
        return;
    }
    bool cancel = requests & VX_SESSION_CANCEL;
    s->cancelling |= cancel;
    s->stopping |= !cancel;
    if (!vx_proc_running(&s->step)) {
        finish(s, s->cancelling ? VX_SESSION_CANCELLED : VX_SESSION_STOPPED);
        return;
    }
    vx_proc_signal(&s->step, SIGTERM);
    uint64_t at = vx_now_ns() + (cancel ? CANCEL_NS : STOP_NS);
    s->kill_at_ns = s->kill_at_ns && s->kill_at_ns < at ? s->kill_at_ns : at;
}

static void add_poll(struct pollfd *fds, nfds_t *n, int fd) {
    if (fd >= 0) {
        fds[(*n)++] = (struct pollfd){fd, POLLIN, 0};
    }
}

static void add_proc(struct pollfd *fds, nfds_t *n, const struct vx_proc *p) {
    if (vx_proc_running(p)) {
        add_poll(fds, n, p->out_fd);
        add_poll(fds, n, p->err_fd);
        add_poll(fds, n, p->pidfd);
    }
}

static nfds_t fill_poll(struct session *s, struct pollfd *fds) {
    nfds_t n = 0;
    add_poll(fds, &n, s->o->mailbox->eventfd);
    add_poll(fds, &n, s->step.out_fd);
    add_poll(fds, &n, s->step.err_fd);
    add_poll(fds, &n, s->step.pidfd);
    add_proc(fds, &n, &s->repairs.proc);
    add_proc(fds, &n, &s->nearing.proc);
    for (uint32_t w = 0; w < s->pool_size; w++) {
        add_proc(fds, &n, &s->pool[w].proc);
    }
    return n;
}

static int poll_timeout_ms(const struct session *s) {
    if (s->stage == STEP_REWINDING || s->quarantine.n_condemned > 0) {
        return REWIND_POLL_MS;
    }
    uint64_t due = pool_next_due_ns(s), now = vx_now_ns();
    due = s->restart_at_ns && s->restart_at_ns < due ? s->restart_at_ns : due;
    due = s->kill_at_ns && s->kill_at_ns < due ? s->kill_at_ns : due;
    if (due <= now) {
        return 0;
    }
    uint64_t ms = (due - now) / 1000000 + 1;
    return due == UINT64_MAX || ms > 1000 ? 1000 : (int)ms;
}

static void step_duties(struct session *s) {
    struct vx_proc_end end;
    if (vx_proc_running(&s->step)) {
        vx_proc_read(&s->step, on_step_line, s);
        if (vx_proc_reap(&s->step, on_step_line, s, &end)) {
            on_step_end(s, &end);
        }
    }
    try_rewind(s);
    uint64_t now = vx_now_ns();
    if (s->kill_at_ns && s->kill_at_ns <= now) {
        s->kill_at_ns = 0;
        vx_log_warn("session", "step_killed job=%lld reason=\"did not end in time\"",
                    (long long)s->o->brief->job_id);
        vx_proc_signal(&s->step, SIGKILL);
    }
    struct vx_err err = {0};
    if (!s->ended && !s->stopping && !s->cancelling && s->restart_at_ns &&
        s->restart_at_ns <= now && spawn_step(s, &err) != VX_OK) {
        session_fail(s, &err);
    }
}

static int make_memory(struct session *s, struct vx_err *err) {
    const struct vx_brief *b = s->o->brief;
    uint64_t batches = 0;
    int rc = vx_train_position(b->dir, b->schedule.batch, &s->first_q, &batches, err);
    if (rc == VX_OK) {
        rc = vx_recipe_from_json(b->recipe, &s->recipe, err);
    }
    if (rc == VX_OK && vx_live_read(b->dir, &s->live, err) != VX_OK) {
        /* the checkpoint knows the cases that are out as well */
        vx_log_warn("session", "changes_forgotten job=%lld text=\"%s\" file=\"%s\"",
                    (long long)b->job_id, err->text, err->where);
    }
    knobs_load(s);
    if (rc == VX_OK) {
        rc = vx_control_create(&s->knobs, &s->control, err);
    }
    if (rc == VX_OK) {
        rc = vx_timeline_create(&s->timeline, err);
    }
    if (rc == VX_OK) {
        rc = vx_ring_create(b->channels, b->patch, &b->schedule, b->slots, s->first_q, &s->ring,
                            err);
    }
    return rc == VX_OK ? nearing_start(s, err) : rc;
}

static void run_loop(struct session *s) {
    struct pollfd fds[POLL_MAX];
    while (!s->ended) {
        nfds_t n = fill_poll(s, fds);
        if (poll(fds, n, poll_timeout_ms(s)) < 0 && errno != EINTR) {
            struct vx_err err = {0};
            vx_fail_errno(&err, errno, NULL, "the session cannot wait for its processes");
            session_fail(s, &err);
            return;
        }
        take_requests(s);
        step_duties(s);
        pool_reap(s);
        repair_duties(s);
        nearing_duties(s);
        quarantine_duties(s);
        pool_balance(s);
        vx_oom_watch_roll(&s->oom, "", vx_now_ns());
    }
}

int vx_session_run(const struct vx_session_options *options, enum vx_session_end *ret_end,
                   json_t **ret_result, struct vx_err *err) {
    struct session *s = calloc(1, sizeof *s);
    if (!s) {
        return vx_fail(err, VX_E_NOMEM, NULL, "starting a session");
    }
    s->o = options;
    s->control.shm = s->timeline.shm = s->ring.shm = (struct vx_shm)VX_SHM_INIT;
    s->step.pidfd = s->step.out_fd = s->step.err_fd = -1;
    s->repairs.proc.pidfd = s->repairs.proc.out_fd = s->repairs.proc.err_fd = -1;
    s->nearing.answered = VX_CACHE_MODES;
    s->nearing.proc.pidfd = s->nearing.proc.out_fd = s->nearing.proc.err_fd = -1;
    for (uint32_t w = 0; w < VX_WORKERS_MAX; w++) {
        s->pool[w].proc.pidfd = s->pool[w].proc.out_fd = s->pool[w].proc.err_fd = -1;
    }
    vx_oom_watch_start(&s->oom, "", vx_now_ns());
    struct vx_err failure = {0};
    int rc = make_memory(s, &failure);
    bool mapped = rc == VX_OK;
    if (mapped && options->events.mapped) {
        options->events.mapped(options->events.ctx, s->timeline.shm.fd, s->ring.shm.fd);
    }
    if (rc == VX_OK) {
        rc = quarantine_load(s, &failure);
    }
    if (rc == VX_OK) {
        rc = spawn_step(s, &failure);
    }
    if (rc != VX_OK) {
        session_fail(s, &failure);
    }
    run_loop(s);
    repair_stop(s);
    if (mapped) {
        pool_stop(s);
    }
    nearing_stop(s);
    vx_proc_release(&s->step);
    if (mapped && options->events.unmapped) {
        options->events.unmapped(options->events.ctx);
    }
    quarantine_release(s);
    vx_live_release(&s->live);
    vx_recipe_free(s->recipe);
    vx_ring_close(&s->ring);
    vx_timeline_close(&s->timeline);
    vx_control_close(&s->control);
    *ret_end = s->end;
    rc = s->end == VX_SESSION_FAILED ? s->failure.code : VX_OK;
    if ((rc != VX_OK || s->end == VX_SESSION_DEVICE_LOST) && err) {
        *err = s->failure;
    }
    if (ret_result) {
        *ret_result = json_incref(s->result);
    }
    json_decref(s->result);
    free(s);
    return rc;
}
