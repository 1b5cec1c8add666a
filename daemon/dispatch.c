/* See dispatch.h. A task is a job that left the queue; it is dropped when its final state is on the
 * disk. */
#include "daemon/dispatch.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/children.h"
#include "daemon/config.h"
#include "daemon/dispatch_internal.h"
#include "daemon/evidence/gpu.h"
#include "daemon/post.h"
#include "daemon/resolve.h"
#include "daemon/telemetry/telemetry.h"
#include "daemon/worker_thread.h"
#include "db/dataset.h"
#include "db/job.h"
#include "db/store.h"

#include <stdio.h>
#include <string.h>

#define MAX_WAITING   4   /* jobs in the line before the devices */
#define QUEUE_LOOK    200 /* queued jobs looked at in one go */
#define LOOK_EVERY_NS 500000000ull

/* --- tasks --- */

struct task *dispatch_find(struct vx_dispatch *d, int64_t id) {
    for (size_t i = 0; i < d->n_tasks; i++) {
        if (d->tasks[i]->s.id == id) {
            return d->tasks[i];
        }
    }
    return NULL;
}

size_t dispatch_view(const struct vx_dispatch *d, struct vx_sched_task out[DISPATCH_MAX_TASKS]) {
    for (size_t i = 0; i < d->n_tasks; i++) {
        out[i] = d->tasks[i]->s;
    }
    return d->n_tasks;
}

static void check_drained(struct vx_dispatch *d) {
    if (d->draining && d->n_tasks == 0 && d->n_builds == 0 && d->pending == 0 && !d->drained) {
        d->drained = true;
        d->o.drained(d->o.ctx);
    }
}

void dispatch_drop(struct vx_dispatch *d, struct task *t) {
    for (size_t i = 0; i < d->n_tasks; i++) {
        if (d->tasks[i] == t) {
            d->tasks[i] = d->tasks[--d->n_tasks];
            break;
        }
    }
    vx_resolved_release(&t->resolved);
    free(t->spec);
    free(t->raw_dir);
    free(t->plans);
    free(t->fingerprint);
    free(t);
    check_drained(d);
}

/* --- state changes through the store --- */

struct change {
    struct vx_dispatch *d;
    int64_t id;
    enum vx_job_state to;
    char phase[48], code[48], message[1100];
    char *result;
    void (*then)(struct vx_dispatch *d, struct task *t, int rc);
};

static int change_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct change *c = arg;
    struct vx_job_change change = {c->to, c->phase, c->code, c->message, c->result};
    return vx_db_job_transition(db, c->id, &change, err);
}

static void change_done(void *arg, int rc, const struct vx_err *err) {
    struct change *c = arg;
    struct task *t = dispatch_find(c->d, c->id);
    if (rc != VX_OK && rc != VX_E_STATE) {
        vx_log_err("dispatch", "store_failed job=%lld text=\"%s\"", (long long)c->id, err->text);
    }
    c->d->pending--;
    if (c->then && t) {
        c->then(c->d, t, rc);
    }
    check_drained(c->d);
    free(c->result);
    free(c);
}

void dispatch_change(struct vx_dispatch *d, int64_t id, enum vx_job_state to, const char *phase,
                     const struct vx_err *why, char *result,
                     void (*then)(struct vx_dispatch *d, struct task *t, int rc)) {
    struct change *c = calloc(1, sizeof *c);
    if (!c) {
        vx_log_err("dispatch", "out_of_memory");
        abort(); /* a restart resumes every job */
    }
    c->d = d;
    c->id = id;
    c->to = to;
    c->result = result;
    c->then = then;
    snprintf(c->phase, sizeof c->phase, "%s", phase ? phase : "");
    if (why) {
        snprintf(c->code, sizeof c->code, "%s",
                 why->reason[0] ? why->reason : vx_status_word(why->code));
        snprintf(c->message, sizeof c->message, "%s%s%s", why->text, why->where[0] ? ": " : "",
                 why->where);
    }
    d->pending++;
    vx_post_store_firmly(d->o.post, d->o.store, change_op, c, change_done);
}

static void then_drop(struct vx_dispatch *d, struct task *t, int rc) {
    (void)rc;
    dispatch_drop(d, t);
    vx_dispatch_kick(d);
}

/* The last change of a task; nothing else may touch it on the way. */
void dispatch_leave(struct vx_dispatch *d, struct task *t, enum vx_job_state to,
                    const struct vx_err *why, char *result) {
    t->s.stage = VX_TASK_LEAVING;
    dispatch_change(d, t->s.id, to, NULL, why, result, then_drop);
}

/* --- planning, on the thread pool --- */

static void plan_work(uv_work_t *work) {
    struct task *t = work->data;
    vx_auto_free char *job_dir = vx_strf("%s/%lld", t->d->o.jobs_dir, (long long)t->s.id);
    if (!job_dir) {
        t->rc = vx_fail(&t->err, VX_E_NOMEM, NULL, "planning");
        return;
    }
    struct vx_resolve_input in = {
        t->s.id,        t->spec,
        job_dir,        t->raw_dir,
        t->plans,       t->fingerprint,
        t->d->o.config, .gpu = vx_devices_gpus(t->d->o.devices, t->s.devices)};
    t->rc = vx_resolve(&in, &t->resolved, &t->err);
}

static void plan_done(uv_work_t *work, int status) {
    (void)status;
    struct task *t = work->data;
    struct vx_dispatch *d = t->d;
    if (t->cancelled) {
        dispatch_leave(d, t, VX_JOB_CANCELLED, NULL, NULL);
    } else if (t->rc != VX_OK) {
        dispatch_leave(d, t, VX_JOB_FAILED, &t->err, NULL);
    } else if (d->draining) {
        dispatch_leave(d, t, VX_JOB_QUEUED, &d->stopped, NULL);
    } else {
        snprintf(t->s.key, sizeof t->s.key, "%s", t->resolved.key);
        if (t->resolved.complete) {
            dispatch_ready(d, t);
        } else {
            t->s.stage = VX_TASK_WANTS;
            vx_dispatch_kick(d);
        }
    }
}

static void start_planning(struct vx_dispatch *d, struct task *t, int rc) {
    if (rc != VX_OK) {
        dispatch_drop(d, t); /* cancelled in the meantime */
        return;
    }
    t->work.data = t;
    uv_queue_work(d->o.loop, &t->work, plan_work, plan_done);
}

/* resources.device of a canonical spec. The whole queue is looked at by this, so no parsing. */
static void device_wanted(const char *spec, char buf[32]) {
    const char *at = strstr(spec, "\"device\":");
    at = at ? strchr(at + strlen("\"device\":"), '"') : NULL;
    size_t len = at ? strcspn(at + 1, "\"") : 0;
    snprintf(buf, 32, "%.*s", len > 0 && len < 32 ? (int)len : 4, len > 0 ? at + 1 : "auto");
}

static uint32_t devices_for(const struct vx_dispatch *d, const char *wants) {
    uint32_t mask = vx_devices_match(d->o.devices, wants);
    return mask ? mask : VX_DEVICES_NOWHERE;
}

static void take_up(struct vx_dispatch *d, const struct vx_job *job) {
    /* a prediction needs its model and its input only: the data set may be unknown here */
    bool needs_data = strcmp(job->type, "predict") != 0;
    struct vx_dataset set = {.state = VX_DATASET_READY};
    struct vx_err err = {0};
    int rc = needs_data ? vx_db_dataset_get(d->o.reader, job->dataset, &set, &err) : VX_OK;
    bool later = vx_store_passing(rc) || (rc == VX_OK && set.state == VX_DATASET_REGISTERING);
    struct task *t = later ? NULL : calloc(1, sizeof *t);
    if (!t) {
        vx_dataset_release(&set);
        return; /* taken up when its check has ended, or the trouble is over */
    }
    if (rc == VX_OK && set.state == VX_DATASET_INVALID) {
        rc = vx_fail(&err, VX_E_INVALID, "dataset_invalid", "data set %s is not usable: %s",
                     job->dataset, set.reason_message);
    }
    t->d = d;
    t->s =
        (struct vx_sched_task){.id = job->id, .priority = job->priority, .stage = VX_TASK_PLANNING};
    device_wanted(job->spec, t->wants);
    t->s.devices = devices_for(d, t->wants);
    d->tasks[d->n_tasks++] = t;
    if (rc == VX_OK) {
        t->spec = strdup(job->spec);
        t->raw_dir = strdup(set.path);
        t->plans = set.plans ? strdup(set.plans) : NULL;
        t->fingerprint = set.fingerprint ? strdup(set.fingerprint) : NULL;
        dispatch_change(d, job->id, VX_JOB_PREPARING, "planning", NULL, NULL, start_planning);
    } else {
        dispatch_leave(d, t, VX_JOB_FAILED, &err, NULL);
    }
    vx_dataset_release(&set);
}

/* With a full line only a job that goes before those in it can be taken up; that one may come at
 * any time, but a look at a long queue costs something. */
static bool worth_a_look(struct vx_dispatch *d) {
    struct vx_sched_task view[DISPATCH_MAX_TASKS];
    bool full = vx_sched_line(view, dispatch_view(d, view), NULL) >= MAX_WAITING;
    uint64_t now = vx_now_ns();
    if (d->n_tasks == DISPATCH_MAX_TASKS || (full && now - d->looked_ns < LOOK_EVERY_NS)) {
        return false;
    }
    d->looked_ns = now;
    return true;
}

static void look_at_queue(struct vx_dispatch *d) {
    if (!worth_a_look(d)) {
        return;
    }
    struct vx_job_query query = {
        .states = 1u << VX_JOB_QUEUED, .limit = QUEUE_LOOK, .by_priority = true};
    struct vx_job_list list = {0};
    struct vx_err err = {0};
    if (vx_db_job_list(d->o.reader, &query, &list, &err) != VX_OK) {
        vx_log_err("dispatch", "queue_unreadable text=\"%s\"", err.text);
        return;
    }
    for (size_t i = 0; i < list.n && d->n_tasks < DISPATCH_MAX_TASKS; i++) {
        struct vx_sched_task view[DISPATCH_MAX_TASKS];
        char wants[32];
        device_wanted(list.v[i].spec, wants);
        struct vx_sched_task job = {
            .id = list.v[i].id, .priority = list.v[i].priority, .devices = devices_for(d, wants)};
        if (!dispatch_find(d, job.id) &&
            vx_sched_line(view, dispatch_view(d, view), &job) < MAX_WAITING) {
            take_up(d, &list.v[i]);
        }
    }
    vx_job_list_release(&list);
}

static void then_ready(struct vx_dispatch *d, struct task *t, int rc) {
    if (t->cancelled || (rc == VX_E_STATE && !d->draining)) {
        dispatch_leave(d, t, VX_JOB_CANCELLED, NULL, NULL);
    } else if (rc != VX_OK) {
        dispatch_drop(d, t);
    } else if (d->draining) {
        dispatch_leave(d, t, VX_JOB_QUEUED, &d->stopped, NULL);
    } else {
        t->s.stage = VX_TASK_READY;
        vx_dispatch_kick(d);
    }
}

void dispatch_ready(struct vx_dispatch *d, struct task *t) {
    if (t->resolved.prepare_only) {
        vx_auto_json json_t *result =
            json_pack("{s:s, s:s}", "key", t->resolved.key, "store", t->resolved.store_dir);
        dispatch_leave(d, t, VX_JOB_SUCCEEDED, NULL,
                       result ? json_dumps(result, JSON_COMPACT) : NULL);
        return;
    }
    t->s.stage = VX_TASK_PLANNED;
    dispatch_change(d, t->s.id, VX_JOB_READY, "waiting for a device", NULL, NULL, then_ready);
}

/* --- from outside --- */

void vx_dispatch_kick(struct vx_dispatch *d) {
    if (!d->draining) {
        look_at_queue(d);
        dispatch_builds(d);
        dispatch_watch(d);
        dispatch_fill(d);
    }
    check_drained(d);
}

void vx_dispatch_cancel(struct vx_dispatch *d, int64_t id) {
    struct task *t = dispatch_find(d, id);
    if (!t) {
        return; /* still queued, or ended: the store has done all that is to do */
    }
    t->cancelled = true;
    switch (t->s.stage) {
    case VX_TASK_PLANNING: /* these end when their next state is on the disk */
    case VX_TASK_PLANNED:
    case VX_TASK_LEAVING:
        break;
    case VX_TASK_WANTS:
        dispatch_leave(d, t, VX_JOB_CANCELLED, NULL, NULL);
        dispatch_stop_unwanted(d);
        break;
    case VX_TASK_READY:
        dispatch_drop(d, t); /* the store went from ready to cancelled in one step */
        break;
    case VX_TASK_RUNNING:
        if (vx_worker_thread_job(t->worker->thread) == id) {
            vx_worker_thread_cancel(t->worker->thread);
        }
        break;
    }
}

void vx_dispatch_drain(struct vx_dispatch *d) {
    if (d->draining) {
        return;
    }
    d->draining = true;
    for (size_t i = 0; i < d->n_tasks; i++) {
        struct task *t = d->tasks[i];
        if (t->s.stage == VX_TASK_WANTS || t->s.stage == VX_TASK_READY) {
            dispatch_leave(d, t, VX_JOB_QUEUED, &d->stopped, NULL);
        } else if (t->s.stage == VX_TASK_RUNNING &&
                   vx_worker_thread_job(t->worker->thread) == t->s.id) {
            vx_worker_thread_stop(t->worker->thread);
        }
    }
    dispatch_stop_unwanted(d);
    check_drained(d);
}

struct vx_worker_thread *vx_dispatch_runner(const struct vx_dispatch *d, int64_t id) {
    for (unsigned i = 0; i < d->n_workers; i++) {
        if (vx_worker_thread_job(d->workers[i].thread) == id) {
            return d->workers[i].thread;
        }
    }
    return NULL;
}

struct vx_dispatch *vx_dispatch_create(const struct vx_dispatch_options *options,
                                       struct vx_err *err) {
    struct vx_dispatch *d = calloc(1, sizeof *d);
    if (!d) {
        vx_fail(err, VX_E_NOMEM, NULL, "starting the scheduler");
        return NULL;
    }
    d->o = *options;
    vx_fail(&d->stopped, VX_E_STATE, "daemon_stopped",
            "the daemon was stopped; the job goes on when it is started");
    struct vx_worker_thread_options worker = {
        .store = options->store,
        .post = options->post,
        .telemetry = options->telemetry,
        .memory_limit = (uint64_t)options->config->memory_limit,
        .ended = dispatch_session_ended,
        .ctx = d,
    };
    for (uint32_t i = 0; i < options->devices->n; i++) {
        struct device_slot *slot = &d->workers[i];
        slot->d = d;
        slot->device = &options->devices->v[i];
        worker.device = slot->device->name;
        worker.gpu = slot->device->card ? slot->device->card->uuid : NULL;
        slot->thread = vx_worker_thread_create(&worker, err);
        if (!slot->thread) {
            vx_dispatch_free(d);
            return NULL;
        }
        d->n_workers++;
    }
    return d;
}

void vx_dispatch_free(struct vx_dispatch *d) {
    if (d) {
        for (unsigned i = 0; i < d->n_workers; i++) {
            vx_worker_thread_free(d->workers[i].thread);
        }
        free(d);
    }
}
