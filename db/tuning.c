#include "db/tuning.h"
#include "base/err.h"
#include "base/own.h"
#include "db/event.h"
#include "db/sql.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS                                                                                    \
    "job_id, n, ts_ms, ended_ms, who, knob, from_value, to_value, why, outcome, predicted, "       \
    "measured, noise"

void vx_tuning_list_release(struct vx_tuning_list *list) {
    free(list->v);
    list->v = NULL;
    list->n = 0;
}

static double storable(double x) {
    return isfinite(x) ? x : (double)NAN;
}

/* Made from the row, so that both always say the same. */
static int add_event(struct vx_db *db, int64_t job_id, int n, struct vx_err *err) {
    sqlite3_stmt *s = NULL;
    int rc = vx_sql_query(
        db,
        "SELECT json_object('n', n, 'who', who, 'knob', knob, 'from', from_value, 'to', to_value, "
        "'why', why, 'outcome', outcome, 'predicted', predicted, 'measured', measured, 'noise', "
        "noise) FROM tuning WHERE job_id = ?1 AND n = ?2",
        &s, err, "ii", (sqlite3_int64)job_id, (sqlite3_int64)n);
    rc = rc == VX_OK ? vx_sql_next(db, s, err) : rc;
    if (rc != 1) {
        return rc == 0 ? vx_fail(err, VX_E_INTERNAL, NULL, "tuning %d is not there", n) : rc;
    }
    vx_auto_free char *data = NULL;
    rc = vx_sql_text_dup(s, 0, &data, err);
    sqlite3_reset(s);
    return rc == VX_OK ? vx_db_event_add(db, job_id, "tuning", data, NULL, err) : rc;
}

int vx_db_tuning_finish(struct vx_db *db, int64_t job_id, int n, const char *outcome,
                        int64_t ended_ms, double measured, double noise, struct vx_err *err) {
    struct vx_tuning row;
    int rc = vx_db_tuning_get(db, job_id, n, &row, err);
    if (rc == VX_OK) {
        rc = vx_sql_run(db,
                        "UPDATE tuning SET outcome = ?3, ended_ms = ?4, measured = ?5, noise = ?6 "
                        "WHERE job_id = ?1 AND n = ?2",
                        err, "iisidd", (sqlite3_int64)job_id, (sqlite3_int64)n, outcome,
                        (sqlite3_int64)ended_ms, storable(measured), storable(noise));
    }
    return rc == VX_OK ? add_event(db, job_id, n, err) : rc;
}

int vx_db_tuning_on_trial(struct vx_db *db, int64_t job_id, int *ret_n, struct vx_err *err) {
    sqlite3_int64 n = 0;
    int rc = vx_sql_int(
        db, "SELECT n FROM tuning WHERE job_id = ?1 AND outcome = 'trial' ORDER BY n DESC LIMIT 1",
        &n, err, "i", (sqlite3_int64)job_id);
    if (rc == VX_OK) {
        *ret_n = (int)n;
    }
    return rc;
}

/* Adding another says that the one on trial is over: overtaken, not measured. */
int vx_db_tuning_add(struct vx_db *db, const struct vx_tuning *row, int *ret_n,
                     struct vx_err *err) {
    sqlite3_int64 n = 0;
    int open = 0;
    bool overtaken = vx_db_tuning_on_trial(db, row->job_id, &open, NULL) == VX_OK;
    int rc = vx_sql_int(db, "SELECT coalesce(max(n), 0) + 1 FROM tuning WHERE job_id = ?1", &n, err,
                        "i", (sqlite3_int64)row->job_id);
    if (rc == VX_OK) {
        rc = vx_sql_run(db,
                        "INSERT INTO tuning(" COLUMNS
                        ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)",
                        err, "iiiissssssddd", (sqlite3_int64)row->job_id, n,
                        (sqlite3_int64)row->ts_ms, (sqlite3_int64)row->ended_ms, row->who,
                        row->knob, row->from_value, row->to_value, row->why, row->outcome,
                        storable(row->predicted), storable(row->measured), storable(row->noise));
    }
    rc = rc == VX_OK ? add_event(db, row->job_id, (int)n, err) : rc;
    if (rc == VX_OK && overtaken) {
        rc = vx_db_tuning_finish(db, row->job_id, open, "applied", row->ts_ms, (double)NAN,
                                 (double)NAN, err);
    }
    if (rc == VX_OK && ret_n) {
        *ret_n = (int)n;
    }
    return rc;
}

static double real_at(sqlite3_stmt *s, int column) {
    return sqlite3_column_type(s, column) == SQLITE_NULL ? (double)NAN
                                                         : sqlite3_column_double(s, column);
}

static void read_row(sqlite3_stmt *s, struct vx_tuning *t) {
    memset(t, 0, sizeof *t);
    t->job_id = sqlite3_column_int64(s, 0);
    t->n = sqlite3_column_int(s, 1);
    t->ts_ms = sqlite3_column_int64(s, 2);
    t->ended_ms = sqlite3_column_int64(s, 3);
    vx_sql_text(s, 4, t->who, sizeof t->who);
    vx_sql_text(s, 5, t->knob, sizeof t->knob);
    vx_sql_text(s, 6, t->from_value, sizeof t->from_value);
    vx_sql_text(s, 7, t->to_value, sizeof t->to_value);
    vx_sql_text(s, 8, t->why, sizeof t->why);
    vx_sql_text(s, 9, t->outcome, sizeof t->outcome);
    t->predicted = real_at(s, 10);
    t->measured = real_at(s, 11);
    t->noise = real_at(s, 12);
}

int vx_db_tuning_list(struct vx_db *db, int64_t job_id, int after, int limit,
                      struct vx_tuning_list *ret, struct vx_err *err) {
    if (limit < 1 || limit > 1000) {
        return vx_fail(err, VX_E_INVALID, NULL, "limit must be between 1 and 1000");
    }
    sqlite3_stmt *s = NULL;
    int rc = vx_sql_query(
        db, "SELECT " COLUMNS " FROM tuning WHERE job_id = ?1 AND n > ?2 ORDER BY n LIMIT ?3", &s,
        err, "iii", (sqlite3_int64)job_id, (sqlite3_int64)after, (sqlite3_int64)limit);
    struct vx_tuning_list list = {calloc((size_t)limit, sizeof *list.v), 0};
    if (rc == VX_OK && !list.v) {
        rc = vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    while (rc >= 0 && (rc = vx_sql_next(db, s, err)) == 1) {
        read_row(s, &list.v[list.n++]);
    }
    if (rc != VX_OK) {
        vx_tuning_list_release(&list);
        return rc;
    }
    *ret = list;
    return VX_OK;
}

int vx_db_tuning_get(struct vx_db *db, int64_t job_id, int n, struct vx_tuning *ret,
                     struct vx_err *err) {
    sqlite3_stmt *s = NULL;
    int rc = vx_sql_query(db, "SELECT " COLUMNS " FROM tuning WHERE job_id = ?1 AND n = ?2", &s,
                          err, "ii", (sqlite3_int64)job_id, (sqlite3_int64)n);
    rc = rc == VX_OK ? vx_sql_next(db, s, err) : rc;
    if (rc == 0) {
        return vx_fail(err, VX_E_NOT_FOUND, "tuning_not_found", "job %lld has no tuning %d",
                       (long long)job_id, n);
    }
    if (rc == 1) {
        read_row(s, ret);
        sqlite3_reset(s);
        rc = VX_OK;
    }
    return rc;
}
