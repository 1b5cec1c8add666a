#include "db/sample.h"
#include "base/err.h"
#include "db/sql.h"

#include <stdlib.h>

void vx_sample_list_release(struct vx_sample_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        free(list->v[i].data);
    }
    free(list->v);
    list->v = NULL;
    list->n = 0;
}

int64_t vx_db_sample_keep_ms(int step) {
    switch (step) {
    case 1:
        return 3600000;
    case 10:
        return 86400000;
    case 60:
        return 0;
    default:
        return -1;
    }
}

int vx_db_sample_add(struct vx_db *db, const struct vx_sample_row *row, struct vx_err *err) {
    int64_t keep = vx_db_sample_keep_ms(row->step);
    if (keep < 0) {
        return vx_fail(err, VX_E_INVALID, NULL, "samples are 1, 10 or 60 seconds long, not %d",
                       row->step);
    }
    int rc = vx_sql_run(
        db, "INSERT OR REPLACE INTO samples(job_id, step, ts_ms, data) VALUES(?1,?2,?3,?4)", err,
        "iiis", (sqlite3_int64)row->job_id, (sqlite3_int64)row->step, (sqlite3_int64)row->ts_ms,
        row->data);
    if (rc == VX_OK && keep > 0) {
        rc = vx_sql_run(db, "DELETE FROM samples WHERE job_id = ?1 AND step = ?2 AND ts_ms <= ?3",
                        err, "iii", (sqlite3_int64)row->job_id, (sqlite3_int64)row->step,
                        (sqlite3_int64)(row->ts_ms - keep));
    }
    return rc;
}

int vx_db_samples(struct vx_db *db, int64_t job_id, int step, int64_t since_ms, int limit,
                  struct vx_sample_list *ret, struct vx_err *err) {
    if (limit < 1 || limit > 5000) {
        return vx_fail(err, VX_E_INVALID, NULL, "limit must be between 1 and 5000");
    }
    sqlite3_stmt *s = NULL;
    int rc = vx_sql_query(db,
                          "SELECT ts_ms, data FROM samples WHERE job_id = ?1 AND step = ?2 AND "
                          "ts_ms > ?3 ORDER BY ts_ms LIMIT ?4",
                          &s, err, "iiii", (sqlite3_int64)job_id, (sqlite3_int64)step,
                          (sqlite3_int64)since_ms, (sqlite3_int64)limit);
    struct vx_sample_list list = {calloc((size_t)limit, sizeof *list.v), 0};
    if (rc == VX_OK && !list.v) {
        rc = vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    while (rc >= 0 && (rc = vx_sql_next(db, s, err)) == 1) {
        struct vx_sample_row *row = &list.v[list.n++];
        *row = (struct vx_sample_row){job_id, step, sqlite3_column_int64(s, 0), NULL};
        rc = vx_sql_text_dup(s, 1, &row->data, err);
        if (rc != VX_OK) {
            sqlite3_reset(s);
        }
    }
    if (rc != VX_OK) {
        vx_sample_list_release(&list);
        return rc;
    }
    *ret = list;
    return VX_OK;
}
