/* Preparation: one child per KEY, its progress shown in every job that waits for it, its end handed
 * to all of them. */
#include "daemon/dispatch_internal.h"

#include "base/budget.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/children.h"
#include "daemon/config.h"
#include "daemon/post.h"

#include <stdio.h>
#include <string.h>

#define STORE_EVERY_NS 500000000ull

/* --- progress of the waiting jobs --- */

struct note {
    int64_t id;
    char *progress;
};

static int note_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct note *n = arg;
    return vx_db_job_progress(db, n->id, "preparing data", n->progress, err);
}

static void note_done(void *arg, int rc, const struct vx_err *err) {
    struct note *n = arg;
    if (rc != VX_OK && rc != VX_E_STATE) {
        vx_log_warn("dispatch", "store_failed job=%lld text=\"%s\"", (long long)n->id, err->text);
    }
    free(n->progress);
    free(n);
}

static void store_progress(struct build *b) {
    struct vx_dispatch *d = b->d;
    b->stored_ns = vx_now_ns();
    for (size_t i = 0; i < d->n_tasks; i++) {
        struct task *t = d->tasks[i];
        if (t->s.stage == VX_TASK_WANTS && strcmp(t->s.key, b->key) == 0) {
            struct note *n = calloc(1, sizeof *n);
            if (n) {
                n->id = t->s.id;
                n->progress = vx_strf("{\"phase\":\"preparing\",\"done\":%lld,\"total\":%lld}",
                                      (long long)b->done, (long long)b->total);
                vx_post_store(d->o.post, d->o.store, note_op, n, note_done);
            }
        }
    }
}

static void on_line(void *ctx, const json_t *line) {
    struct build *b = ctx;
    const char *event = json_string_value(json_object_get(line, "event"));
    if (event && strcmp(event, "progress") == 0) {
        b->done = json_integer_value(json_object_get(line, "done"));
        b->total = json_integer_value(json_object_get(line, "total"));
        if (vx_now_ns() - b->stored_ns > STORE_EVERY_NS || b->done == b->total) {
            store_progress(b);
        }
    }
}

/* --- the end of a build --- */

struct crash {
    struct vx_dispatch *d;
    int64_t id;
    char *evidence;
    enum vx_job_state state;
};

static int crash_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct crash *c = arg;
    return vx_db_job_crashed(db, c->id, c->evidence, false, &c->state, err);
}

static void crash_done(void *arg, int rc, const struct vx_err *err) {
    struct crash *c = arg;
    if (rc != VX_OK) {
        vx_log_err("dispatch", "store_failed job=%lld text=\"%s\"", (long long)c->id, err->text);
    }
    struct task *t = dispatch_find(c->d, c->id);
    c->d->pending--;
    if (t) {
        dispatch_drop(c->d, t);
    }
    vx_dispatch_kick(c->d);
    free(c->evidence);
    free(c);
}

/* The child was killed: the job goes back to the queue, or ends after the third time (db/job.h). */
static void count_crash(struct vx_dispatch *d, struct task *t, const struct vx_err *err) {
    struct crash *c = calloc(1, sizeof *c);
    vx_auto_json json_t *evidence =
        json_pack("{s:s, s:s, s:s}", "role", "prepare", "code", err->reason, "message", err->text);
    t->s.stage = VX_TASK_LEAVING;
    if (!c || !evidence) {
        free(c);
        dispatch_leave(d, t, VX_JOB_FAILED, err, NULL);
        return;
    }
    *c = (struct crash){.d = d, .id = t->s.id, .evidence = json_dumps(evidence, JSON_COMPACT)};
    d->pending++;
    vx_post_store_firmly(d->o.post, d->o.store, crash_op, c, crash_done);
}

static void on_ended(void *ctx, const struct vx_err *err) {
    struct build *b = ctx;
    struct vx_dispatch *d = b->d;
    for (size_t i = 0; i < d->n_builds; i++) {
        if (d->builds[i] == b) {
            d->builds[i] = d->builds[--d->n_builds];
            break;
        }
    }
    vx_log_info("dispatch", "build_ended key=%.12s reason=%s text=\"%s\"", b->key,
                err ? err->reason : "", err ? err->text : "");
    bool again =
        b->stopped || d->draining; /* its end was wanted: who still waits starts a new one */
    struct task *waiting[DISPATCH_MAX_TASKS];
    size_t n = 0;
    for (size_t i = 0; i < d->n_tasks; i++) {
        if (d->tasks[i]->s.stage == VX_TASK_WANTS && strcmp(d->tasks[i]->s.key, b->key) == 0) {
            waiting[n++] = d->tasks[i];
        }
    }
    for (size_t i = 0; i < n && !again; i++) {
        if (!err) {
            dispatch_ready(d, waiting[i]);
        } else if (strcmp(err->reason, "child_killed") == 0) {
            count_crash(d, waiting[i], err);
        } else {
            dispatch_leave(d, waiting[i], VX_JOB_FAILED, err, NULL);
        }
    }
    free(b);
    vx_dispatch_kick(d);
}

/* --- starting and stopping --- */

static int start_build(struct vx_dispatch *d, struct task *t, struct vx_err *err) {
    struct build *b = calloc(1, sizeof *b);
    if (!b) {
        return vx_fail(err, VX_E_NOMEM, NULL, "starting the preparation");
    }
    b->d = d;
    snprintf(b->key, sizeof b->key, "%s", t->s.key);
    char processes[16], what[96], verb[] = "prepare", raw[] = "--raw", out[] = "--out",
                                  plans[] = "--plans", configuration[] = "--configuration",
                                  n[] = "--processes";
    int64_t wanted = d->o.config->prepare_processes;
    snprintf(processes, sizeof processes, "%lld",
             (long long)(wanted ? wanted : vx_budget_cores("")));
    snprintf(what, sizeof what, "preparation %.12s", t->s.key);
    char *args[] = {verb,
                    raw,
                    t->raw_dir,
                    out,
                    t->resolved.dataset_dir,
                    plans,
                    t->resolved.plans_path,
                    configuration,
                    t->resolved.configuration,
                    n,
                    processes,
                    NULL};
    struct vx_child_events events = {on_line, on_ended, b};
    int rc = vx_children_spawn(d->o.children, what, args, &events, &b->child, err);
    if (rc != VX_OK) {
        free(b);
        return rc;
    }
    vx_log_info("dispatch", "build_started key=%.12s job=%lld", t->s.key, (long long)t->s.id);
    d->builds[d->n_builds++] = b;
    return VX_OK;
}

void dispatch_builds(struct vx_dispatch *d) {
    for (;;) {
        struct vx_sched_task view[DISPATCH_MAX_TASKS];
        struct vx_sched_build running[DISPATCH_MAX_BUILDS];
        for (size_t i = 0; i < d->n_builds; i++) {
            memcpy(running[i].key, d->builds[i]->key, sizeof running[i].key);
        }
        int next = vx_sched_next_build(view, dispatch_view(d, view), running, d->n_builds,
                                       DISPATCH_MAX_BUILDS);
        if (next < 0) {
            return;
        }
        struct vx_err err = {0};
        if (start_build(d, d->tasks[next], &err) != VX_OK) {
            dispatch_leave(d, d->tasks[next], VX_JOB_FAILED, &err, NULL);
        }
    }
}

void dispatch_stop_unwanted(struct vx_dispatch *d) {
    for (size_t i = 0; i < d->n_builds; i++) {
        struct build *b = d->builds[i];
        bool wanted = false;
        for (size_t k = 0; k < d->n_tasks; k++) {
            wanted |=
                d->tasks[k]->s.stage == VX_TASK_WANTS && strcmp(d->tasks[k]->s.key, b->key) == 0;
        }
        if (!wanted && !b->stopped) {
            b->stopped = true;
            vx_child_stop(b->child);
        }
    }
}
