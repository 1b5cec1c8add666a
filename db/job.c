/* Jobs: rows in and out. The changes of state are in job_state.c. */
#include "db/job.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/own.h"
#include "db/sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS                                                                                    \
    "id, state, type, dataset, configuration, fold, results_name, phase, reason_code, "            \
    "reason_message, priority, spec_version, crashes, checkpoint_k, created_ms, updated_ms, "      \
    "started_ms, finished_ms, version, spec, progress, result"

static const char *const words[] = {
#define VX_X(name, word) [VX_JOB_##name] = word,
    VX_JOB_STATE_LIST(VX_X)
#undef VX_X
};

const char *vx_job_state_word(enum vx_job_state state) {
    return (unsigned)state < VX_JOB_STATES ? words[state] : NULL;
}

int vx_job_state_parse(const char *word) {
    for (int i = 0; i < VX_JOB_STATES; i++) {
        if (strcmp(words[i], word) == 0) {
            return i;
        }
    }
    return -1;
}

bool vx_job_state_final(enum vx_job_state state) {
    return state == VX_JOB_SUCCEEDED || state == VX_JOB_FAILED || state == VX_JOB_CANCELLED;
}

void vx_job_release(struct vx_job *job) {
    free(job->spec);
    free(job->progress);
    free(job->result);
    job->spec = job->progress = job->result = NULL;
}

void vx_job_list_release(struct vx_job_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        vx_job_release(&list->v[i]);
    }
    free(list->v);
    list->v = NULL;
    list->n = 0;
}

/* The current row of a statement over COLUMNS. On failure nothing is left to release. */
static int read_row(sqlite3_stmt *s, struct vx_job *job, struct vx_err *err) {
    memset(job, 0, sizeof *job);
    job->id = sqlite3_column_int64(s, 0);
    const char *state = (const char *)sqlite3_column_text(s, 1);
    int parsed = state ? vx_job_state_parse(state) : -1;
    if (parsed < 0) {
        return vx_fail(err, VX_E_CORRUPT, NULL, "job %lld is in an unknown state",
                       (long long)job->id);
    }
    job->state = (enum vx_job_state)parsed;
    vx_sql_text(s, 2, job->type, sizeof job->type);
    vx_sql_text(s, 3, job->dataset, sizeof job->dataset);
    vx_sql_text(s, 4, job->configuration, sizeof job->configuration);
    vx_sql_text(s, 5, job->fold, sizeof job->fold);
    vx_sql_text(s, 6, job->results_name, sizeof job->results_name);
    vx_sql_text(s, 7, job->phase, sizeof job->phase);
    vx_sql_text(s, 8, job->reason_code, sizeof job->reason_code);
    vx_sql_text(s, 9, job->reason_message, sizeof job->reason_message);
    job->priority = sqlite3_column_int(s, 10);
    job->spec_version = sqlite3_column_int(s, 11);
    job->crashes = sqlite3_column_int(s, 12);
    job->checkpoint_k = sqlite3_column_int64(s, 13);
    job->created_ms = sqlite3_column_int64(s, 14);
    job->updated_ms = sqlite3_column_int64(s, 15);
    job->started_ms = sqlite3_column_int64(s, 16);
    job->finished_ms = sqlite3_column_int64(s, 17);
    job->version = sqlite3_column_int64(s, 18);
    int rc = vx_sql_text_dup(s, 19, &job->spec, err);
    if (rc == VX_OK) {
        rc = vx_sql_text_dup(s, 20, &job->progress, err);
    }
    if (rc == VX_OK) {
        rc = vx_sql_text_dup(s, 21, &job->result, err);
    }
    if (rc != VX_OK) {
        vx_job_release(job);
    }
    return rc;
}

static int queue_has_room(struct vx_db *db, int64_t max, struct vx_err *err) {
    sqlite3_int64 n = 0;
    int rc = vx_sql_int(db,
                        "SELECT count(*) FROM jobs WHERE state IN ('queued','preparing','ready',"
                        "'running','pausing','paused','cancelling')",
                        &n, err, "");
    if (rc == VX_OK && n >= max) {
        return vx_fail(
            err, VX_E_LIMIT, "queue_full",
            "%lld jobs have not ended yet, which is the limit; wait for some to end or cancel some",
            (long long)n);
    }
    return rc;
}

int vx_db_job_insert(struct vx_db *db, const struct vx_job_new *job, int64_t *ret_id,
                     struct vx_err *err) {
    int rc = job->max_unfinished > 0 ? queue_has_room(db, job->max_unfinished, err) : VX_OK;
    if (rc != VX_OK) {
        return rc;
    }
    int64_t now = vx_wall_ms();
    rc = vx_sql_run(db,
                    "INSERT INTO jobs(type, spec, spec_version, dataset, configuration, fold, "
                    "results_name, priority, created_ms, updated_ms) "
                    "VALUES(?1, ?2, ?3, coalesce(?4,''), coalesce(?5,''), coalesce(?6,''), "
                    "coalesce(?7,''), ?8, ?9, ?9)",
                    err, "ssissssii", job->type, job->spec, (sqlite3_int64)job->spec_version,
                    job->dataset, job->configuration, job->fold, job->results_name,
                    (sqlite3_int64)job->priority, (sqlite3_int64)now);
    if (rc == VX_OK) {
        /* The event that the trigger inserted does not count: its rowid is forgotten when it ends.
         */
        *ret_id = sqlite3_last_insert_rowid(db->handle);
    }
    return rc;
}

/* The one row of a query. */
static int read_one(struct vx_db *db, sqlite3_stmt *s, struct vx_job *ret, struct vx_err *err) {
    int rc = vx_sql_next(db, s, err);
    if (rc == 1) {
        rc = read_row(s, ret, err);
        sqlite3_reset(s);
        return rc;
    }
    return rc == 0 ? vx_fail(err, VX_E_NOT_FOUND, "job_not_found", "there is no such job") : rc;
}

int vx_db_job_get(struct vx_db *db, int64_t id, struct vx_job *ret, struct vx_err *err) {
    sqlite3_stmt *s = NULL;
    int rc = vx_sql_query(db, "SELECT " COLUMNS " FROM jobs WHERE id = ?1", &s, err, "i",
                          (sqlite3_int64)id);
    rc = rc == VX_OK ? read_one(db, s, ret, err) : rc;
    if (rc == VX_E_NOT_FOUND) {
        return vx_fail(err, VX_E_NOT_FOUND, "job_not_found", "there is no job %lld", (long long)id);
    }
    return rc;
}

int vx_db_job_pick(struct vx_db *db, enum vx_job_state from, enum vx_job_state to,
                   const char *phase, struct vx_job *ret, struct vx_err *err) {
    sqlite3_int64 id = 0;
    int rc =
        vx_sql_int(db, "SELECT id FROM jobs WHERE state = ?1 ORDER BY priority DESC, id LIMIT 1",
                   &id, err, "s", vx_job_state_word(from));
    if (rc == VX_E_NOT_FOUND) {
        return vx_fail(err, rc, "queue_empty", "no job is in state %s", vx_job_state_word(from));
    }
    struct vx_job_change change = {.to = to, .phase = phase};
    rc = rc == VX_OK ? vx_db_job_transition(db, id, &change, err) : rc;
    return rc == VX_OK ? vx_db_job_get(db, id, ret, err) : rc;
}

/* Appends rows until the end of the statement; the caller releases the list on failure. */
static int read_all(struct vx_db *db, sqlite3_stmt *s, struct vx_job_list *list,
                    struct vx_err *err) {
    int rc = 0;
    while ((rc = vx_sql_next(db, s, err)) == 1) {
        struct vx_job *bigger = realloc(list->v, (list->n + 1) * sizeof *bigger);
        if (bigger) {
            list->v = bigger;
        }
        rc = bigger ? read_row(s, &bigger[list->n], err)
                    : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
        if (rc != VX_OK) {
            sqlite3_reset(s);
            return rc;
        }
        list->n++;
    }
    return rc;
}

/* The states of a mask as a JSON array of words; every state for 0. */
static void states_json(unsigned mask, char *out, size_t size) {
    size_t at = 0;
    for (int i = 0; i < VX_JOB_STATES; i++) {
        if (mask == 0 || mask & 1u << i) {
            at += (size_t)snprintf(out + at, size - at, "%c\"%s\"", at ? ',' : '[', words[i]);
        }
    }
    snprintf(out + at, size - at, at ? "]" : "[]");
}

int vx_db_job_list(struct vx_db *db, const struct vx_job_query *query, struct vx_job_list *ret,
                   struct vx_err *err) {
    int limit = query->limit == 0 ? 100 : query->limit;
    if (limit < 1 || limit > 1000) {
        return vx_fail(err, VX_E_INVALID, NULL, "limit must be between 1 and 1000");
    }
    static const char newest[] =
        "SELECT " COLUMNS " FROM jobs WHERE state IN (SELECT value FROM json_each(?1)) "
        "AND (?2 IS NULL OR dataset = ?2) AND (?3 = 0 OR id < ?3) "
        "ORDER BY id DESC LIMIT ?4";
    static const char ordered[] =
        "SELECT " COLUMNS " FROM jobs WHERE state IN (SELECT value FROM json_each(?1)) "
        "AND (?2 IS NULL OR dataset = ?2) AND (?3 = 0 OR id < ?3) "
        "ORDER BY priority DESC, id LIMIT ?4";
    char states[VX_JOB_STATES * 16];
    states_json(query->states, states, sizeof states);
    sqlite3_stmt *s = NULL;
    int rc = vx_sql_query(db, query->by_priority ? ordered : newest, &s, err, "ssii", states,
                          query->dataset, (sqlite3_int64)query->before_id, (sqlite3_int64)limit);
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_job_list list = {NULL, 0};
    rc = read_all(db, s, &list, err);
    if (rc != VX_OK) {
        vx_job_list_release(&list);
        return rc;
    }
    *ret = list;
    return VX_OK;
}

int vx_db_job_counts(struct vx_db *db, int64_t ret_counts[VX_JOB_STATES], struct vx_err *err) {
    sqlite3_stmt *s = NULL;
    int64_t counts[VX_JOB_STATES] = {0};
    int rc = vx_sql_query(db, "SELECT state, count(*) FROM jobs GROUP BY state", &s, err, "");
    while (rc >= 0 && (rc = vx_sql_next(db, s, err)) == 1) {
        int state = vx_job_state_parse((const char *)sqlite3_column_text(s, 0));
        if (state >= 0) {
            counts[state] = sqlite3_column_int64(s, 1);
        }
    }
    if (rc == 0) {
        memcpy(ret_counts, counts, sizeof counts);
    }
    return rc;
}
