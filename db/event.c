#include "db/event.h"
#include "base/clock.h"
#include "base/err.h"
#include "db/sql.h"

#include <stdlib.h>
#include <string.h>

void vx_event_list_release(struct vx_event_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        free(list->v[i].data);
    }
    free(list->v);
    list->v = NULL;
    list->n = 0;
}

int vx_db_event_add(struct vx_db *db, int64_t job_id, const char *type, const char *data,
                    int64_t *ret_id, struct vx_err *err) {
    int rc = vx_sql_run(
        db, "INSERT INTO events(job_id, ts_ms, type, data) VALUES(nullif(?1, 0), ?2, ?3, ?4)", err,
        "iiss", (sqlite3_int64)job_id, (sqlite3_int64)vx_wall_ms(), type, data ? data : "{}");
    if (rc == VX_OK && ret_id) {
        *ret_id = sqlite3_last_insert_rowid(db->handle);
    }
    return rc;
}

int vx_db_event_has(struct vx_db *db, int64_t job_id, const char *type, bool *ret,
                    struct vx_err *err) {
    sqlite3_int64 n = 0;
    int rc = vx_sql_int(db, "SELECT count(*) FROM events WHERE job_id = ?1 AND type = ?2", &n, err,
                        "is", (sqlite3_int64)job_id, type);
    if (rc == VX_OK) {
        *ret = n > 0;
    }
    return rc;
}

static int read_event(sqlite3_stmt *s, struct vx_event_list *list, struct vx_err *err) {
    struct vx_event *v = realloc(list->v, (list->n + 1) * sizeof *v);
    if (!v) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    list->v = v;
    struct vx_event *e = &v[list->n];
    memset(e, 0, sizeof *e);
    e->id = sqlite3_column_int64(s, 0);
    e->job_id = sqlite3_column_int64(s, 1);
    e->ts_ms = sqlite3_column_int64(s, 2);
    vx_sql_text(s, 3, e->type, sizeof e->type);
    int rc = vx_sql_text_dup(s, 4, &e->data, err);
    list->n += rc == VX_OK;
    return rc;
}

int vx_db_events_since(struct vx_db *db, int64_t job_id, int64_t after_id, int limit,
                       struct vx_event_list *ret, struct vx_err *err) {
    if (limit < 1 || limit > 1000) {
        return vx_fail(err, VX_E_INVALID, NULL, "limit must be between 1 and 1000");
    }
    static const char of_job[] = "SELECT id, job_id, ts_ms, type, data FROM events "
                                 "WHERE job_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
    static const char of_all[] = "SELECT id, job_id, ts_ms, type, data FROM events "
                                 "WHERE ?1 = 0 AND id > ?2 ORDER BY id LIMIT ?3";
    sqlite3_stmt *s = NULL;
    int rc = vx_sql_query(db, job_id ? of_job : of_all, &s, err, "iii", (sqlite3_int64)job_id,
                          (sqlite3_int64)after_id, (sqlite3_int64)limit);
    struct vx_event_list list = {NULL, 0};
    while (rc >= 0 && (rc = vx_sql_next(db, s, err)) == 1) {
        rc = read_event(s, &list, err);
        if (rc != VX_OK) {
            sqlite3_reset(s);
        }
    }
    if (rc != VX_OK) {
        vx_event_list_release(&list);
        return rc;
    }
    *ret = list;
    return VX_OK;
}

int vx_db_event_last(struct vx_db *db, int64_t *ret_id, struct vx_err *err) {
    sqlite3_int64 id = 0;
    int rc = vx_sql_int(db, "SELECT coalesce(max(id), 0) FROM events", &id, err, "");
    if (rc == VX_OK) {
        *ret_id = id;
    }
    return rc;
}
