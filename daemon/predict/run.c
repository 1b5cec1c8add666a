/* See run.h. */
#include "daemon/predict/run.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/session/death.h"
#include "daemon/session/proc.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define SECOND_NS  1000000000ull
#define STOP_NS    (60 * SECOND_NS) /* it ends after the tiles it is at, or the case it prepares */
#define CANCEL_NS  (20 * SECOND_NS)
#define RESTART_NS (SECOND_NS / 5)
#define MAX_ARGS   40

struct running {
    const struct vx_predict_run *o;
    struct vx_proc proc;
    char case_name[256];                /* in the network */
    bool new_case;                      /* since the last crash */
    unsigned restarts;                  /* in a row, for the pause before the next */
    uint64_t restart_at_ns, kill_at_ns; /* 0: not due */
    json_t *result;
    struct vx_err said; /* by the process, in its {"error": ...} line */
    bool said_retry;
    bool stopping, cancelling;
    bool device_gone; /* somebody knows */
    bool ended;
    enum vx_session_end end;
    struct vx_err failure;
};

static void finish(struct running *r, enum vx_session_end end) {
    if (!r->ended) {
        r->ended = true;
        r->end = end;
    }
}

static void fail(struct running *r, const struct vx_err *err) {
    if (!r->ended) {
        r->failure = *err;
        finish(r, VX_SESSION_FAILED);
    }
}

/* --- starting the process --- */

/* argv under construction; the texts are owned. */
struct args {
    char *v[MAX_ARGS];
    int n;
    bool failed;
};

static void add(struct args *a, const char *text) {
    a->v[a->n] = text && a->n < MAX_ARGS - 1 ? strdup(text) : NULL;
    a->failed |= !a->v[a->n];
    a->n += a->v[a->n] != NULL;
}

static void add_text(struct args *a, const json_t *brief, const char *key, const char *option) {
    add(a, option);
    add(a, json_string_value(json_object_get(brief, key)));
}

static void add_flag(struct args *a, const json_t *brief, const char *key, bool when,
                     const char *option) {
    if (json_is_true(json_object_get(brief, key)) == when) {
        add(a, option);
    }
}

static void add_folds(struct args *a, const json_t *folds) {
    struct vx_buf list = VX_BUF_INIT;
    for (size_t i = 0; i < json_array_size(folds); i++) {
        const char *name = json_string_value(json_array_get(folds, i));
        vx_buf_printf(&list, "%s%s", i ? "," : "", name ? name : "");
    }
    if (list.len > 0 || list.failed) {
        add(a, "--folds");
        add(a, list.failed ? NULL : list.data);
    }
    vx_buf_release(&list);
}

static void make_args(const struct vx_predict_run *o, struct args *a) {
    const json_t *brief = o->brief;
    char number[32];
    add(a, "predict");
    add_text(a, brief, "input", "--input");
    add_text(a, brief, "output", "--output");
    add_text(a, brief, "model", "--model");
    add_text(a, brief, "checkpoint", "--checkpoint");
    add(a, "--device");
    add(a, o->device ? o->device : json_string_value(json_object_get(brief, "device")));
    add_text(a, brief, "precision", "--precision");
    add_folds(a, json_object_get(brief, "folds"));
    snprintf(number, sizeof number, "%.17g",
             json_number_value(json_object_get(brief, "step_size")));
    add(a, "--step-size");
    add(a, number);
    snprintf(number, sizeof number, "%d",
             (int)json_integer_value(json_object_get(brief, "threads")));
    add(a, "--threads");
    add(a, number);
    add_flag(a, brief, "mirroring", false, "--no-mirroring");
    add_flag(a, brief, "save_probabilities", true, "--save-probabilities");
    add(a, "--continue");
}

static int spawn(struct running *r, struct vx_err *err) {
    const json_t *brief = r->o->brief;
    struct args args = {0};
    make_args(r->o, &args);
    char visible[160];
    snprintf(visible, sizeof visible, "CUDA_VISIBLE_DEVICES=%s", r->o->gpu ? r->o->gpu : "");
    const char *const env[] = {"OMP_WAIT_POLICY=passive", r->o->gpu ? visible : NULL, NULL};
    struct vx_proc_options options = {
        .args = args.v,
        .env = env,
        .fds = {-1, -1, -1},
        .death_signal = SIGKILL, /* its files are whole or not there: nothing is lost by it */
        .nice = (int)json_integer_value(json_object_get(brief, "nice")),
        .oom_score_adj = 200,
        .memory_bytes = r->o->memory_limit};
    r->said = (struct vx_err){0};
    r->restart_at_ns = 0;
    int rc = args.failed ? vx_fail(err, VX_E_NOMEM, NULL, "starting the prediction")
                         : vx_proc_spawn(&r->proc, &options, err);
    for (int i = 0; i < args.n; i++) {
        free(args.v[i]);
    }
    return rc;
}

/* --- what it says --- */

static void take_error(struct running *r, const json_t *error) {
    const char *code = "", *message = "", *where = "";
    int native = 0;
    json_unpack((json_t *)error, "{s?s, s?s, s?s, s?i}", "code", &code, "message", &message,
                "where", &where, "native", &native);
    vx_fail(&r->said, VX_E_INVALID, code, "%s", message);
    vx_err_at(&r->said, "%s", where);
    r->said.native = native;
    /* "stopped" without our asking: somebody else's signal */
    r->said_retry = json_is_true(json_object_get(error, "retry")) || strcmp(code, "stopped") == 0;
}

static void take_event(struct running *r, const char *event, const json_t *line) {
    if (strcmp(event, "case") == 0 && !json_is_true(json_object_get(line, "kept"))) {
        r->new_case = true;
        r->restarts = 0;
    } else if (strcmp(event, "progress") == 0) {
        const char *name = json_string_value(json_object_get(line, "case"));
        snprintf(r->case_name, sizeof r->case_name, "%s", name ? name : "");
    } else if (strcmp(event, "result") == 0) {
        json_decref(r->result);
        r->result = json_copy((json_t *)line);
        json_object_del(r->result, "event");
    }
}

static void on_line(void *ctx, const char *text, size_t len) {
    struct running *r = ctx;
    vx_auto_json json_t *line = NULL;
    if (vx_json_parse(text, len, 1 << 20, 32, &line, NULL) != VX_OK || !json_is_object(line)) {
        vx_log_warn("predict", "line_ignored text=\"%.*s\"", (int)(len < 200 ? len : 200), text);
        return;
    }
    const json_t *error = json_object_get(line, "error");
    const char *event = json_string_value(json_object_get(line, "event"));
    if (json_is_object(error)) {
        take_error(r, error);
    } else if (event) {
        take_event(r, event, line);
    }
    r->o->line(r->o->ctx, line);
}

/* --- its end --- */

static json_t *evidence_of(struct running *r, const struct vx_proc_end *end) {
    const char *name = end->signal ? strsignal(end->signal) : "";
    const char *words = r->said.text[0] ? r->said.text : vx_proc_last_words(&r->proc);
    return json_pack("{s:s, s:i, s:i, s:s, s:s, s:s, s:I, s:s}", "role", "predict", "exit_status",
                     end->exit_status, "signal", end->signal, "signal_name", name ? name : "",
                     "code", r->said.reason, "message", words, "max_rss_bytes",
                     (json_int_t)end->max_rss_bytes, "case", r->case_name);
}

static void on_device_lost(struct running *r, const struct vx_proc_end *end) {
    vx_auto_json json_t *evidence = evidence_of(r, end);
    vx_fail(&r->failure, VX_E_DEVICE, "device_lost", "%s",
            r->device_gone ? "the device is gone" : r->said.text);
    r->o->device_lost(r->o->ctx, evidence);
    finish(r, VX_SESSION_DEVICE_LOST);
}

static void on_crash(struct running *r, const struct vx_proc_end *end) {
    vx_auto_json json_t *evidence = evidence_of(r, end);
    const char *words = r->said.text[0] ? r->said.text : vx_proc_last_words(&r->proc);
    vx_log_warn("predict", "crashed exit_status=%d signal=%d case=\"%s\" said=\"%s\"",
                end->exit_status, end->signal, r->case_name, words);
    bool go_on = r->o->crashed(r->o->ctx, evidence, r->new_case);
    r->new_case = false;
    if (!go_on) {
        struct vx_err err = {0};
        vx_fail(&err, VX_E_INTERNAL, "crashed_repeatedly",
                "the prediction crashed again before another case was finished (exit status %d, "
                "signal %d, case %s): %s",
                end->exit_status, end->signal, r->case_name[0] ? r->case_name : "unknown", words);
        fail(r, &err);
        return;
    }
    r->restart_at_ns = vx_now_ns() + (RESTART_NS << (r->restarts < 5 ? r->restarts : 5));
    r->restarts++;
}

static void on_end(struct running *r, const struct vx_proc_end *end) {
    if (end->exit_status == 0 && r->result) {
        finish(r, VX_SESSION_SUCCEEDED);
    } else if (r->cancelling) {
        finish(r, VX_SESSION_CANCELLED);
    } else if (r->stopping) {
        finish(r, VX_SESSION_STOPPED);
    } else if (r->o->device_lost && (r->device_gone || vx_death_by_device(&r->said))) {
        on_device_lost(r, end);
    } else if (end->exit_status == 1 && r->said.code && !r->said_retry) {
        fail(r, &r->said);
    } else {
        on_crash(r, end);
    }
}

/* --- the loop --- */

static void take_requests(struct running *r) {
    uint64_t count;
    ssize_t n = read(r->o->mailbox->eventfd, &count, sizeof count);
    (void)n;
    unsigned requests = atomic_exchange(&r->o->mailbox->requests, 0);
    if (requests & VX_SESSION_DEVICE_GONE) {
        r->device_gone = true;
        vx_proc_signal(&r->proc, SIGKILL);
        if (!vx_proc_running(&r->proc) && r->o->device_lost) {
            on_device_lost(r, &(struct vx_proc_end){0});
        }
    }
    if (r->ended || !(requests & (VX_SESSION_STOP | VX_SESSION_CANCEL))) {
        return;
    }
    bool cancel = requests & VX_SESSION_CANCEL;
    r->cancelling |= cancel;
    r->stopping |= !cancel;
    if (!vx_proc_running(&r->proc)) {
        finish(r, r->cancelling ? VX_SESSION_CANCELLED : VX_SESSION_STOPPED);
        return;
    }
    vx_proc_signal(&r->proc, SIGTERM);
    uint64_t at = vx_now_ns() + (cancel ? CANCEL_NS : STOP_NS);
    r->kill_at_ns = r->kill_at_ns && r->kill_at_ns < at ? r->kill_at_ns : at;
}

static void duties(struct running *r) {
    struct vx_proc_end end;
    struct vx_err err = {0};
    uint64_t now = vx_now_ns();
    if (vx_proc_running(&r->proc)) {
        vx_proc_read(&r->proc, on_line, r);
        if (vx_proc_reap(&r->proc, on_line, r, &end)) {
            on_end(r, &end);
        }
    }
    if (r->kill_at_ns && r->kill_at_ns <= now) {
        r->kill_at_ns = 0;
        vx_proc_signal(&r->proc, SIGKILL);
    }
    if (!r->ended && r->restart_at_ns && r->restart_at_ns <= now && spawn(r, &err) != VX_OK) {
        fail(r, &err);
    }
}

static int timeout_ms(const struct running *r) {
    uint64_t due = r->restart_at_ns ? r->restart_at_ns : UINT64_MAX, now = vx_now_ns();
    due = r->kill_at_ns && r->kill_at_ns < due ? r->kill_at_ns : due;
    if (due <= now) {
        return 0;
    }
    uint64_t ms = (due - now) / 1000000 + 1;
    return due == UINT64_MAX || ms > 1000 ? 1000 : (int)ms;
}

static void loop(struct running *r) {
    while (!r->ended) {
        /* a descriptor below 0 is passed over by poll */
        struct pollfd fds[] = {{r->o->mailbox->eventfd, POLLIN, 0},
                               {r->proc.out_fd, POLLIN, 0},
                               {r->proc.err_fd, POLLIN, 0},
                               {r->proc.pidfd, POLLIN, 0}};
        if (poll(fds, VX_COUNTOF(fds), timeout_ms(r)) < 0 && errno != EINTR) {
            struct vx_err err = {0};
            vx_fail_errno(&err, errno, NULL, "the prediction's process cannot be waited for");
            fail(r, &err);
            return;
        }
        take_requests(r);
        duties(r);
    }
}

int vx_predict_run(const struct vx_predict_run *run, enum vx_session_end *ret_end,
                   json_t **ret_result, struct vx_err *err) {
    struct running *r = calloc(1, sizeof *r);
    if (!r) {
        return vx_fail(err, VX_E_NOMEM, NULL, "starting the prediction");
    }
    r->o = run;
    r->proc.pidfd = r->proc.out_fd = r->proc.err_fd = -1;
    struct vx_err failure = {0};
    if (spawn(r, &failure) != VX_OK) {
        fail(r, &failure);
    }
    loop(r);
    vx_proc_release(&r->proc);
    *ret_end = r->end;
    int rc = r->end == VX_SESSION_FAILED ? r->failure.code : VX_OK;
    if ((rc != VX_OK || r->end == VX_SESSION_DEVICE_LOST) && err) {
        *err = r->failure;
    }
    *ret_result = json_incref(r->result);
    json_decref(r->result);
    free(r);
    return rc;
}
