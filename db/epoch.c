#include "db/epoch.h"
#include "base/err.h"
#include "base/own.h"
#include "db/event.h"
#include "db/sql.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void vx_epoch_list_release(struct vx_epoch_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        free(list->v[i].dice);
        free(list->v[i].phases);
    }
    free(list->v);
    list->v = NULL;
    list->n = 0;
}

/* SQLite and JSON know neither NaN nor infinities. */
static double storable(double x) {
    return isfinite(x) ? x : (double)NAN;
}

/* The event is made from the row, so that both always say the same. */
static int add_event(struct vx_db *db, const struct vx_epoch *e, struct vx_err *err) {
    sqlite3_stmt *s = NULL;
    int rc = vx_sql_query(
        db,
        "SELECT json_object('epoch', epoch, 'ts_ms', ts_ms, 'train_loss', train_loss, "
        "'val_loss', val_loss, 'ema', ema, 'lr', lr, 'seconds', seconds, 'loader_wait', "
        "loader_wait, 'dice', json(dice), 'phases', json(phases)) "
        "FROM epochs WHERE job_id = ?1 AND epoch = ?2",
        &s, err, "ii", (sqlite3_int64)e->job_id, (sqlite3_int64)e->epoch);
    rc = rc == VX_OK ? vx_sql_next(db, s, err) : rc;
    if (rc != 1) {
        return rc == 0 ? vx_fail(err, VX_E_INTERNAL, NULL, "epoch %d is not there", e->epoch) : rc;
    }
    vx_auto_free char *data = NULL;
    rc = vx_sql_text_dup(s, 0, &data, err);
    sqlite3_reset(s);
    return rc == VX_OK ? vx_db_event_add(db, e->job_id, "epoch", data, NULL, err) : rc;
}

int vx_db_epoch_add(struct vx_db *db, const struct vx_epoch *e, struct vx_err *err) {
    int rc = vx_sql_run(
        db,
        "INSERT OR REPLACE INTO epochs(job_id, epoch, ts_ms, train_loss, val_loss, ema, lr, "
        "seconds, loader_wait, dice, phases) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
        err, "iiiddddddss", (sqlite3_int64)e->job_id, (sqlite3_int64)e->epoch,
        (sqlite3_int64)e->ts_ms, storable(e->train_loss), storable(e->val_loss), storable(e->ema),
        storable(e->lr), storable(e->seconds), storable(e->loader_wait), e->dice ? e->dice : "[]",
        e->phases ? e->phases : "{}");
    return rc == VX_OK ? add_event(db, e, err) : rc;
}

static double real_at(sqlite3_stmt *s, int column) {
    return sqlite3_column_type(s, column) == SQLITE_NULL ? (double)NAN
                                                         : sqlite3_column_double(s, column);
}

static int read_epoch(sqlite3_stmt *s, struct vx_epoch_list *list, struct vx_err *err) {
    struct vx_epoch *v = realloc(list->v, (list->n + 1) * sizeof *v);
    if (!v) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    list->v = v;
    struct vx_epoch *e = &v[list->n];
    memset(e, 0, sizeof *e);
    e->job_id = sqlite3_column_int64(s, 0);
    e->epoch = sqlite3_column_int(s, 1);
    e->ts_ms = sqlite3_column_int64(s, 2);
    e->train_loss = real_at(s, 3);
    e->val_loss = real_at(s, 4);
    e->ema = real_at(s, 5);
    e->lr = real_at(s, 6);
    e->seconds = real_at(s, 7);
    e->loader_wait = real_at(s, 8);
    int rc = vx_sql_text_dup(s, 9, &e->dice, err);
    if (rc == VX_OK) {
        rc = vx_sql_text_dup(s, 10, &e->phases, err);
    }
    list->n++;
    return rc;
}

int vx_db_epochs(struct vx_db *db, int64_t job_id, int from_epoch, int limit,
                 struct vx_epoch_list *ret, struct vx_err *err) {
    if (limit < 1 || limit > 10000) {
        return vx_fail(err, VX_E_INVALID, NULL, "limit must be between 1 and 10000");
    }
    sqlite3_stmt *s = NULL;
    int rc = vx_sql_query(
        db,
        "SELECT job_id, epoch, ts_ms, train_loss, val_loss, ema, lr, seconds, loader_wait, "
        "dice, phases FROM epochs WHERE job_id = ?1 AND epoch >= ?2 ORDER BY epoch LIMIT ?3",
        &s, err, "iii", (sqlite3_int64)job_id, (sqlite3_int64)from_epoch, (sqlite3_int64)limit);
    struct vx_epoch_list list = {NULL, 0};
    while (rc >= 0 && (rc = vx_sql_next(db, s, err)) == 1) {
        rc = read_epoch(s, &list, err);
        if (rc != VX_OK) {
            sqlite3_reset(s);
        }
    }
    if (rc != VX_OK) {
        vx_epoch_list_release(&list);
        return rc;
    }
    *ret = list;
    return VX_OK;
}
