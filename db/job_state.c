/* The life of a job: transitions, cancelling, crashes, recovery. What is allowed stands in the
 * table job_transitions (schema.c); a trigger refuses the rest, so these functions only choose
 * among allowed ways. */
#include "base/clock.h"
#include "base/err.h"
#include "base/own.h"
#include "db/event.h"
#include "db/job.h"
#include "db/sql.h"

#include <stdio.h>
#include <string.h>

static int state_of(struct vx_db *db, int64_t id, enum vx_job_state *ret, struct vx_err *err) {
    sqlite3_stmt *s = NULL;
    int rc =
        vx_sql_query(db, "SELECT state FROM jobs WHERE id = ?1", &s, err, "i", (sqlite3_int64)id);
    rc = rc == VX_OK ? vx_sql_next(db, s, err) : rc;
    if (rc == 1) {
        int state = vx_job_state_parse((const char *)sqlite3_column_text(s, 0));
        sqlite3_reset(s);
        *ret = (enum vx_job_state)state;
        return VX_OK;
    }
    return rc == 0 ? vx_fail(err, VX_E_NOT_FOUND, "job_not_found", "there is no job %lld",
                             (long long)id)
                   : rc;
}

int vx_db_job_transition(struct vx_db *db, int64_t id, const struct vx_job_change *change,
                         struct vx_err *err) {
    enum vx_job_state from = VX_JOB_QUEUED;
    int rc = state_of(db, id, &from, err);
    if (rc != VX_OK) {
        return rc;
    }
    const char *to = vx_job_state_word(change->to);
    if (!to) {
        return vx_fail(err, VX_E_INVALID, NULL, "%d is no state of a job", (int)change->to);
    }
    rc = vx_sql_run(
        db,
        "UPDATE jobs SET state = ?2, phase = coalesce(?3, ''), "
        "reason_code = CASE WHEN coalesce(?4, '') = '' AND state = 'cancelling' AND "
        "?2 = 'cancelled' THEN reason_code ELSE coalesce(?4, '') END, "
        "reason_message = CASE WHEN coalesce(?4, '') = '' AND state = 'cancelling' AND "
        "?2 = 'cancelled' THEN reason_message ELSE coalesce(substr(?5, 1, 500), '') END, result = "
        "coalesce(?6, result), "
        "updated_ms = ?7, version = version + 1, "
        "started_ms = CASE WHEN ?2 = 'running' AND started_ms = 0 THEN ?7 ELSE started_ms END, "
        "finished_ms = CASE WHEN ?2 IN ('succeeded','failed','cancelled') THEN ?7 ELSE 0 END "
        "WHERE id = ?1",
        err, "isssssi", (sqlite3_int64)id, to, change->phase, change->reason_code,
        change->reason_message, change->result, (sqlite3_int64)vx_wall_ms());
    if (rc == VX_E_STATE) {
        return vx_fail(err, VX_E_STATE, "illegal_transition", "job %lld cannot go from %s to %s",
                       (long long)id, vx_job_state_word(from), to);
    }
    return rc;
}

int vx_db_job_progress(struct vx_db *db, int64_t id, const char *phase, const char *progress,
                       struct vx_err *err) {
    enum vx_job_state state = VX_JOB_QUEUED;
    int rc = state_of(db, id, &state, err);
    if (rc == VX_OK && vx_job_state_final(state)) {
        rc = vx_fail(err, VX_E_STATE, "job_ended", "job %lld is %s already", (long long)id,
                     vx_job_state_word(state));
    }
    if (rc != VX_OK) {
        return rc;
    }
    return vx_sql_run(
        db,
        "UPDATE jobs SET phase = coalesce(?2, phase), progress = coalesce(?3, progress), "
        "updated_ms = ?4, version = version + 1 WHERE id = ?1",
        err, "issi", (sqlite3_int64)id, phase, progress, (sqlite3_int64)vx_wall_ms());
}

int vx_db_job_waits(struct vx_db *db, int64_t id, const char *code, const char *message,
                    struct vx_err *err) {
    return vx_sql_run(db,
                      "UPDATE jobs SET reason_code = ?2, reason_message = substr(?3, 1, 500), "
                      "updated_ms = ?4, version = version + 1 "
                      "WHERE id = ?1 AND state = 'ready' AND (reason_code <> ?2 OR "
                      "reason_message <> substr(?3, 1, 500))",
                      err, "issi", (sqlite3_int64)id, code, message, (sqlite3_int64)vx_wall_ms());
}

int vx_db_job_checkpoint(struct vx_db *db, int64_t id, int64_t k, struct vx_err *err) {
    enum vx_job_state state = VX_JOB_QUEUED;
    int rc = state_of(db, id, &state, err);
    if (rc != VX_OK) {
        return rc;
    }
    return vx_sql_run(
        db,
        "UPDATE jobs SET checkpoint_k = ?2, crashes = 0, updated_ms = ?3, version = version + 1 "
        "WHERE id = ?1 AND checkpoint_k < ?2",
        err, "iii", (sqlite3_int64)id, (sqlite3_int64)k, (sqlite3_int64)vx_wall_ms());
}

int vx_db_job_cancel(struct vx_db *db, int64_t id, enum vx_job_state *ret_state,
                     struct vx_err *err) {
    enum vx_job_state state = VX_JOB_QUEUED;
    int rc = state_of(db, id, &state, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_job_change change = {.reason_code = "cancelled_by_user",
                                   .reason_message = "cancelled on request"};
    switch (state) {
    case VX_JOB_QUEUED:
    case VX_JOB_READY:
    case VX_JOB_PAUSED:
        change.to = VX_JOB_CANCELLED;
        break;
    case VX_JOB_PREPARING:
    case VX_JOB_RUNNING:
    case VX_JOB_PAUSING:
        change.to = VX_JOB_CANCELLING;
        break;
    default:
        *ret_state = state;
        return VX_OK;
    }
    rc = vx_db_job_transition(db, id, &change, err);
    if (rc == VX_OK) {
        *ret_state = change.to;
    }
    return rc;
}

/* {"crashes": n, ...evidence} as text; NULL on failure. */
static char *evidence_with_count(const char *evidence, int crashes, struct vx_err *err) {
    vx_auto_json json_t *obj = evidence ? json_loads(evidence, 0, NULL) : json_object();
    if (!json_is_object(obj)) {
        vx_fail(err, VX_E_INVALID, NULL, "the evidence of a crash must be a JSON object");
        return NULL;
    }
    json_object_set_new(obj, "crashes", json_integer(crashes));
    char *text = json_dumps(obj, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text) {
        vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    return text;
}

/* Where a job goes after its crashes-th crash in state `from`. */
static struct vx_job_change after_crash(enum vx_job_state from, int crashes, const char *evidence) {
    struct vx_job_change change = {.reason_code = "crashed",
                                   .reason_message = "its processes died; it is tried again"};
    switch (from) {
    case VX_JOB_CANCELLING:
        change.to = VX_JOB_CANCELLED;
        change.reason_code = "cancelled_by_user";
        change.reason_message = "cancelled on request";
        return change;
    case VX_JOB_PAUSING:
        change.to = VX_JOB_PAUSED;
        return change;
    default:
        change.to = from == VX_JOB_RUNNING ? VX_JOB_READY : VX_JOB_QUEUED;
        break;
    }
    if (crashes >= VX_JOB_MAX_CRASHES) {
        change.to = VX_JOB_FAILED;
        change.reason_code = "crashed_repeatedly";
        change.reason_message =
            "its processes died again and again without a new checkpoint between; the evidence is "
            "in its result and in its events of type crash";
        change.result = evidence;
    }
    return change;
}

int vx_db_job_crashed(struct vx_db *db, int64_t id, const char *evidence, bool had_new_checkpoint,
                      enum vx_job_state *ret_state, struct vx_err *err) {
    struct vx_job job;
    int rc = vx_db_job_get(db, id, &job, err);
    if (rc != VX_OK) {
        return rc;
    }
    int crashes = had_new_checkpoint ? 1 : job.crashes + 1;
    enum vx_job_state from = job.state;
    vx_job_release(&job);
    if (from != VX_JOB_PREPARING && from != VX_JOB_RUNNING && from != VX_JOB_CANCELLING &&
        from != VX_JOB_PAUSING) {
        return vx_fail(err, VX_E_STATE, "illegal_transition",
                       "job %lld is %s: it has no process that can crash", (long long)id,
                       vx_job_state_word(from));
    }
    vx_auto_free char *text = evidence_with_count(evidence, crashes, err);
    if (!text) {
        return VX_E_INVALID;
    }
    rc = vx_sql_run(db, "UPDATE jobs SET crashes = ?2 WHERE id = ?1", err, "ii", (sqlite3_int64)id,
                    (sqlite3_int64)crashes);
    rc = rc == VX_OK ? vx_db_event_add(db, id, "crash", text, NULL, err) : rc;
    struct vx_job_change change = after_crash(from, crashes, text);
    rc = rc == VX_OK ? vx_db_job_transition(db, id, &change, err) : rc;
    if (rc == VX_OK) {
        *ret_state = change.to;
    }
    return rc;
}

int vx_db_jobs_recover(struct vx_db *db, int *ret_n, struct vx_err *err) {
    static const struct {
        enum vx_job_state from, to;
        const char *code, *message;
    } ways[] = {
        {VX_JOB_PREPARING, VX_JOB_QUEUED, "daemon_restarted", "the daemon was restarted"},
        {VX_JOB_READY, VX_JOB_QUEUED, "daemon_restarted", "the daemon was restarted"},
        {VX_JOB_RUNNING, VX_JOB_QUEUED, "daemon_restarted",
         "the daemon was restarted; the job goes on from its newest checkpoint"},
        {VX_JOB_CANCELLING, VX_JOB_CANCELLED, "cancelled_by_user", "cancelled on request"},
        {VX_JOB_PAUSING, VX_JOB_PAUSED, "daemon_restarted", "the daemon was restarted"},
    };
    int n = 0;
    for (size_t i = 0; i < VX_COUNTOF(ways); i++) {
        for (;;) {
            sqlite3_int64 id = 0;
            int rc = vx_sql_int(db, "SELECT id FROM jobs WHERE state = ?1 ORDER BY id LIMIT 1", &id,
                                err, "s", vx_job_state_word(ways[i].from));
            if (rc == VX_E_NOT_FOUND) {
                break;
            }
            struct vx_job_change change = {
                .to = ways[i].to, .reason_code = ways[i].code, .reason_message = ways[i].message};
            rc = rc == VX_OK ? vx_db_job_transition(db, id, &change, err) : rc;
            if (rc != VX_OK) {
                return rc;
            }
            n++;
        }
    }
    *ret_n = n;
    return VX_OK;
}
