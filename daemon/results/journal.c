/* See journal.h. Each store operation owns its argument until `done` frees it. */
#include "daemon/results/journal.h"

#include "base/err.h"
#include "base/log.h"
#include "base/own.h"
#include "db/epoch.h"
#include "db/event.h"
#include "db/job.h"
#include "db/store.h"

#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define AGAIN_MS 1000 /* between two tries of the store */

/* --- notes --- */

struct note {
    int64_t job;
    struct vx_note n;
};

static void note_done(int rc, const struct vx_err *err, void *arg) {
    struct note *note = arg;
    if (rc != VX_OK && rc != VX_E_STATE) {
        vx_log_warn("worker", "store_failed job=%lld text=\"%s\"", (long long)note->job, err->text);
    }
    free(note->n.phase);
    free(note->n.progress);
    free(note->n.event);
    free(note->n.data);
    free(note);
}

static int note_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct note *note = arg;
    const struct vx_note *n = &note->n;
    int rc = VX_OK;
    if (n->checkpointed) {
        rc = vx_db_job_checkpoint(db, note->job, n->checkpoint, err);
    }
    if (rc == VX_OK && (n->phase || n->progress)) {
        rc = vx_db_job_progress(db, note->job, n->phase, n->progress, err);
    }
    if (rc == VX_OK && n->event) {
        rc = vx_db_event_add(db, note->job, n->event, n->data, NULL, err);
    }
    return rc;
}

void vx_journal_note(const struct vx_journal *j, struct vx_note n) {
    struct note *note = malloc(sizeof *note);
    struct vx_err err = {0};
    if (note) {
        *note = (struct note){j->job, n};
        int rc = vx_store_submit(j->store, note_op, note, note_done, &err);
        if (rc != VX_OK) {
            note_done(rc, &err, note);
        }
    }
}

/* --- epochs --- */

static double real_of(const json_t *line, const char *key) {
    const json_t *v = json_object_get(line, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void epoch_done(int rc, const struct vx_err *err, void *arg) {
    struct vx_epoch *e = arg;
    if (rc != VX_OK) {
        vx_log_warn("worker", "store_failed job=%lld text=\"%s\"", (long long)e->job_id, err->text);
    }
    free(e->dice);
    free(e->phases);
    free(e);
}

static int epoch_op(struct vx_db *db, void *arg, struct vx_err *err) {
    return vx_db_epoch_add(db, arg, err);
}

void vx_journal_epoch(const struct vx_journal *j, const json_t *line) {
    struct vx_epoch *e = calloc(1, sizeof *e);
    struct vx_err err = {0};
    if (!e) {
        return;
    }
    *e = (struct vx_epoch){.job_id = j->job,
                           .epoch = (int)json_integer_value(json_object_get(line, "epoch")),
                           .ts_ms = (int64_t)(real_of(line, "end_time") * 1000),
                           .train_loss = real_of(line, "train_loss"),
                           .val_loss = real_of(line, "val_loss"),
                           .ema = real_of(line, "ema_dice"),
                           .lr = real_of(line, "lr"),
                           .seconds = real_of(line, "seconds"),
                           .loader_wait = real_of(line, "loader_wait_ratio"),
                           .dice = json_dumps(json_object_get(line, "dice"), JSON_COMPACT),
                           .phases = json_dumps(json_object_get(line, "phases"), JSON_COMPACT)};
    int rc = vx_store_submit(j->store, epoch_op, e, epoch_done, &err);
    if (rc != VX_OK) {
        epoch_done(rc, &err, e);
    }
}

/* --- devices --- */

struct has {
    int64_t job;
    const char *event;
    bool found;
};

static int has_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct has *h = arg;
    return vx_db_event_has(db, h->job, h->event, &h->found, err);
}

bool vx_journal_has(const struct vx_journal *j, const char *event) {
    struct has h = {j->job, event, false};
    struct vx_err err = {0};
    if (vx_store_call(j->store, has_op, &h, &err) != VX_OK) {
        vx_log_warn("worker", "store_failed job=%lld text=\"%s\"", (long long)j->job, err.text);
    }
    return h.found;
}

void vx_journal_device_lost(const struct vx_journal *j, const json_t *evidence, const char *device,
                            const char *uuid, const struct vx_err *why) {
    vx_auto_json json_t *data = json_copy((json_t *)evidence);
    json_object_set_new(data, "device", json_string(device));
    json_object_set_new(data, "uuid", json_string(uuid));
    json_object_set_new(data, "code", json_string(why->reason));
    json_object_set_new(data, "message", json_string(why->text));
    vx_journal_note(j, (struct vx_note){.event = strdup("device_lost"),
                                        .data = json_dumps(data, JSON_COMPACT)});
}

/* --- crashes --- */

struct crash {
    int64_t job;
    const char *evidence;
    bool had_new_checkpoint;
    enum vx_job_state state;
};

/* The store counts, and takes the job out of running; it goes on there where it may. */
static int crash_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct crash *c = arg;
    int rc = vx_db_job_crashed(db, c->job, c->evidence, c->had_new_checkpoint, &c->state, err);
    if (rc == VX_OK && c->state == VX_JOB_READY) {
        struct vx_job_change change = {.to = VX_JOB_RUNNING, .phase = "restarting"};
        rc = vx_db_job_transition(db, c->job, &change, err);
        c->state = VX_JOB_RUNNING;
    }
    return rc;
}

bool vx_journal_crash(const struct vx_journal *j, const json_t *evidence, bool had_new_checkpoint) {
    struct vx_err err = {0};
    vx_auto_free char *text = json_dumps(evidence, JSON_COMPACT);
    struct crash c = {j->job, text, had_new_checkpoint, VX_JOB_RUNNING};
    int rc = vx_store_call(j->store, crash_op, &c, &err);
    if (rc != VX_OK) {
        vx_log_err("worker", "store_failed job=%lld text=\"%s\"", (long long)c.job, err.text);
        return vx_store_passing(rc); /* a crash that cannot be written down does not count */
    }
    return c.state == VX_JOB_RUNNING;
}

/* --- the end --- */

struct final {
    int64_t job;
    struct vx_job_change change;
};

/* A cancel may have arrived at any moment before: then cancelled is what a finished or failed one
 * becomes where the table allows no other way, and an already final state stays. */
static int final_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct final *f = arg;
    struct vx_job job;
    int rc = vx_db_job_get(db, f->job, &job, err);
    if (rc != VX_OK) {
        return rc;
    }
    enum vx_job_state now = job.state;
    vx_job_release(&job);
    if (vx_job_state_final(now)) {
        return VX_OK;
    }
    if (now == VX_JOB_CANCELLING && f->change.to == VX_JOB_QUEUED) {
        f->change.to = VX_JOB_CANCELLED;
    } else if (now == VX_JOB_RUNNING && f->change.to == VX_JOB_CANCELLED) {
        struct vx_job_change between = {.to = VX_JOB_CANCELLING};
        rc = vx_db_job_transition(db, f->job, &between, err);
    }
    return rc == VX_OK ? vx_db_job_transition(db, f->job, &f->change, err) : rc;
}

/* Nothing else would ever take the job out of `running`. */
static int store_end(const struct vx_journal *j, const struct final *wanted, int wake_fd,
                     const atomic_bool *stopping, enum vx_job_state *ret_state,
                     struct vx_err *err) {
    for (bool said = false;; said = true) {
        struct final f = *wanted;
        int rc = vx_store_call(j->store, final_op, &f, err);
        *ret_state = f.change.to;
        if (!vx_store_passing(rc) || atomic_load(stopping)) {
            return rc;
        }
        if (!said) {
            vx_log_err("worker", "store_refused job=%lld trying=again text=\"%s\"",
                       (long long)f.job, err->text);
        }
        uint64_t count;
        struct pollfd fd = {wake_fd, POLLIN, 0};
        ssize_t n = poll(&fd, 1, AGAIN_MS) > 0 ? read(fd.fd, &count, sizeof count) : 0;
        (void)n;
    }
}

static void set_change(enum vx_session_end end, const struct vx_err *err, const char *message,
                       struct vx_job_change *c) {
    switch (end) {
    case VX_SESSION_SUCCEEDED:
        c->to = VX_JOB_SUCCEEDED;
        break;
    case VX_SESSION_STOPPED:
        c->to = VX_JOB_QUEUED;
        c->reason_code = "daemon_stopped";
        c->reason_message = "the daemon was stopped; the job resumes from its checkpoint";
        break;
    case VX_SESSION_DEVICE_LOST:
        c->to = VX_JOB_QUEUED;
        c->reason_code = "device_lost";
        c->reason_message = message;
        break;
    case VX_SESSION_CANCELLED:
        c->to = VX_JOB_CANCELLED;
        break;
    case VX_SESSION_FAILED:
        c->to = VX_JOB_FAILED;
        c->reason_code = err->reason[0] ? err->reason : vx_status_word(err->code);
        c->reason_message = message;
        break;
    }
}

void vx_journal_end(const struct vx_journal *j, enum vx_session_end end, const char *result,
                    const struct vx_err *err, int wake_fd, const atomic_bool *stopping) {
    char message[1100];
    snprintf(message, sizeof message, "%s%s%s", err->text, err->where[0] ? ": " : "", err->where);
    struct final f = {.job = j->job, .change = {.result = result}};
    set_change(end, err, message, &f.change);
    struct vx_err store_err = {0};
    enum vx_job_state state = f.change.to;
    if (store_end(j, &f, wake_fd, stopping, &state, &store_err) != VX_OK) {
        vx_log_err("worker", "store_failed job=%lld text=\"%s\"", (long long)j->job,
                   store_err.text);
    }
    vx_log_info("worker", "job_ended job=%lld state=%s reason=%s text=\"%s\"", (long long)j->job,
                vx_job_state_word(state), f.change.reason_code ? f.change.reason_code : "",
                err->text);
}
