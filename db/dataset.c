#include "db/dataset.h"
#include "base/clock.h"
#include "base/err.h"
#include "db/sql.h"

#include <stdlib.h>
#include <string.h>

static const char *const words[] = {"registering", "ready", "invalid"};

const char *vx_dataset_state_word(enum vx_dataset_state state) {
    return (unsigned)state < VX_DATASET_STATES ? words[state] : NULL;
}

void vx_dataset_release(struct vx_dataset *d) {
    free(d->report);
    free(d->fingerprint);
    free(d->plans);
    d->report = d->fingerprint = d->plans = NULL;
}

void vx_dataset_list_release(struct vx_dataset_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        vx_dataset_release(&list->v[i]);
    }
    free(list->v);
    list->v = NULL;
    list->n = 0;
}

int vx_db_dataset_register(struct vx_db *db, const char *name, const char *path,
                           struct vx_err *err) {
    sqlite3_int64 busy = 0;
    sqlite3_int64 now = vx_wall_ms();
    int rc = vx_sql_int(db, "SELECT state = 'registering' FROM datasets WHERE name = ?1", &busy,
                        err, "s", name);
    if (rc == VX_E_NOT_FOUND) {
        return vx_sql_run(db,
                          "INSERT INTO datasets(name, state, path, created_ms, updated_ms) "
                          "VALUES(?1, 'registering', ?2, ?3, ?3)",
                          err, "ssi", name, path, now);
    }
    if (rc == VX_OK && busy) {
        return vx_fail(err, VX_E_EXISTS, "already_registering", "%s is being registered already",
                       name);
    }
    if (rc != VX_OK) {
        return rc;
    }
    return vx_sql_run(db,
                      "UPDATE datasets SET state = 'registering', path = ?2, reason_code = '', "
                      "reason_message = '', updated_ms = ?3, version = version + 1 WHERE name = ?1",
                      err, "ssi", name, path, now);
}

int vx_db_dataset_update(struct vx_db *db, const char *name, const struct vx_dataset_change *change,
                         struct vx_err *err) {
    int rc = vx_sql_run(
        db,
        "UPDATE datasets SET state = ?2, reason_code = coalesce(?3, ''), "
        "reason_message = coalesce(substr(?4, 1, 500), ''), report = coalesce(?5, report), "
        "fingerprint = coalesce(?6, fingerprint), plans = coalesce(?7, plans), "
        "updated_ms = ?8, version = version + 1 WHERE name = ?1",
        err, "sssssssi", name, vx_dataset_state_word(change->state), change->reason_code,
        change->reason_message, change->report, change->fingerprint, change->plans,
        (sqlite3_int64)vx_wall_ms());
    if (rc == VX_OK && sqlite3_changes(db->handle) == 0) {
        return vx_fail(err, VX_E_NOT_FOUND, "dataset_not_found", "no data set %s is registered",
                       name);
    }
    return rc;
}

static int read_row(sqlite3_stmt *s, struct vx_dataset *d, struct vx_err *err) {
    memset(d, 0, sizeof *d);
    vx_sql_text(s, 0, d->name, sizeof d->name);
    const char *state = (const char *)sqlite3_column_text(s, 1);
    for (int i = 0; state && i < VX_DATASET_STATES; i++) {
        if (strcmp(words[i], state) == 0) {
            d->state = (enum vx_dataset_state)i;
        }
    }
    vx_sql_text(s, 2, d->path, sizeof d->path);
    vx_sql_text(s, 3, d->reason_code, sizeof d->reason_code);
    vx_sql_text(s, 4, d->reason_message, sizeof d->reason_message);
    d->created_ms = sqlite3_column_int64(s, 5);
    d->updated_ms = sqlite3_column_int64(s, 6);
    d->version = sqlite3_column_int64(s, 7);
    int rc = vx_sql_text_dup(s, 8, &d->report, err);
    if (rc == VX_OK) {
        rc = vx_sql_text_dup(s, 9, &d->fingerprint, err);
    }
    if (rc == VX_OK) {
        rc = vx_sql_text_dup(s, 10, &d->plans, err);
    }
    if (rc != VX_OK) {
        vx_dataset_release(d);
    }
    return rc;
}

int vx_db_dataset_get(struct vx_db *db, const char *name, struct vx_dataset *ret,
                      struct vx_err *err) {
    sqlite3_stmt *s = NULL;
    int rc = vx_sql_query(
        db,
        "SELECT name, state, path, reason_code, reason_message, created_ms, updated_ms, "
        "version, report, fingerprint, plans FROM datasets WHERE name = ?1",
        &s, err, "s", name);
    rc = rc == VX_OK ? vx_sql_next(db, s, err) : rc;
    if (rc == 1) {
        rc = read_row(s, ret, err);
        sqlite3_reset(s);
        return rc;
    }
    return rc == 0 ? vx_fail(err, VX_E_NOT_FOUND, "dataset_not_found",
                             "no data set %s is registered", name)
                   : rc;
}

int vx_db_dataset_list(struct vx_db *db, const char *after, int limit, struct vx_dataset_list *ret,
                       struct vx_err *err) {
    if (limit < 1 || limit > 1000) {
        return vx_fail(err, VX_E_INVALID, NULL, "limit must be between 1 and 1000");
    }
    sqlite3_stmt *s = NULL;
    int rc = vx_sql_query(
        db,
        "SELECT name, state, path, reason_code, reason_message, created_ms, updated_ms, "
        "version, NULL, NULL, NULL FROM datasets WHERE name > coalesce(?1, '') "
        "ORDER BY name LIMIT ?2",
        &s, err, "si", after, (sqlite3_int64)limit);
    struct vx_dataset_list list = {NULL, 0};
    while (rc >= 0 && (rc = vx_sql_next(db, s, err)) == 1) {
        struct vx_dataset *v = realloc(list.v, (list.n + 1) * sizeof *v);
        if (v) {
            list.v = v;
        }
        rc = v ? read_row(s, &v[list.n], err) : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
        if (rc != VX_OK) {
            sqlite3_reset(s);
            break;
        }
        list.n++;
    }
    if (rc != VX_OK) {
        vx_dataset_list_release(&list);
        return rc;
    }
    *ret = list;
    return VX_OK;
}
