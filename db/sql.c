#include "db/sql.h"
#include "base/err.h"
#include "db/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_TIMEOUT_MS 5000

static int code_of(int rc, int sys) {
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return VX_E_FULL;
    case SQLITE_IOERR:
        return sys == ENOSPC || sys == EDQUOT || sys == EFBIG ? VX_E_FULL : VX_E_IO;
    case SQLITE_NOMEM:
        return VX_E_NOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return VX_E_BUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return VX_E_CORRUPT;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return VX_E_PERM;
    case SQLITE_CANTOPEN:
        return VX_E_IO;
    case SQLITE_CONSTRAINT:
        return rc == SQLITE_CONSTRAINT_TRIGGER ? VX_E_STATE : VX_E_INVALID;
    case SQLITE_TOOBIG:
        return VX_E_LIMIT;
    default:
        return VX_E_INTERNAL;
    }
}

/* errno of the last failed write to the WAL. sqlite3_system_errno does not have it, and only ENOSPC
 * becomes SQLITE_FULL: a quota (EDQUOT) or a file size limit (EFBIG) would look like a broken disk.
 */
static int wal_errno(struct vx_db *db) {
    sqlite3_file *wal = NULL;
    int sys = 0;
    sqlite3_file_control(db->handle, NULL, SQLITE_FCNTL_JOURNAL_POINTER, &wal);
    if (wal && wal->pMethods) {
        wal->pMethods->xFileControl(wal, SQLITE_FCNTL_LAST_ERRNO, &sys);
    }
    return sys;
}

int vx_sql_fail(struct vx_db *db, struct vx_err *err, const char *what) {
    int rc = sqlite3_extended_errcode(db->handle);
    int sys = (rc & 0xff) == SQLITE_IOERR ? wal_errno(db) : 0;
    int code = code_of(rc, sys);
    const char *reason = NULL;
    if (code == VX_E_STATE) {
        reason = "illegal_transition";
    } else if ((rc & 0xff) == SQLITE_NOTADB) {
        reason = "not_a_database";
    }
    vx_fail(err, code, reason, "%s: %s%s%s", what, sqlite3_errmsg(db->handle),
            code == VX_E_FULL ? ": free some space on the disk of the state folder" : "",
            code == VX_E_CORRUPT ? ": restore the database from a backup" : "");
    if (err) {
        err->native = rc;
    }
    return code;
}

int vx_sql_open(const char *path, int flags, struct vx_db **ret, struct vx_err *err) {
    struct vx_db *db = calloc(1, sizeof *db);
    if (!db) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = sqlite3_open_v2(path, &db->handle, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        rc = db->handle ? vx_sql_fail(db, err, "cannot open the database")
                        : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
        vx_err_at(err, "%s", path);
        vx_db_close(db);
        return rc;
    }
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
    rc = vx_sql_exec(db, "PRAGMA foreign_keys = ON", err);
    if (rc != VX_OK) {
        vx_db_close(db);
        return rc;
    }
    *ret = db;
    return VX_OK;
}

void vx_db_close(struct vx_db *db) {
    if (!db) {
        return;
    }
    for (size_t i = 0; i < db->cached; i++) {
        sqlite3_finalize(db->cache[i].stmt);
    }
    sqlite3_close(db->handle);
    free(db);
}

int vx_sql_exec(struct vx_db *db, const char *text, struct vx_err *err) {
    if (sqlite3_exec(db->handle, text, NULL, NULL, NULL) != SQLITE_OK) {
        return vx_sql_fail(db, err, "database");
    }
    return VX_OK;
}

static int statement(struct vx_db *db, const char *text, sqlite3_stmt **ret, struct vx_err *err) {
    for (size_t i = 0; i < db->cached; i++) {
        if (db->cache[i].text == text) {
            *ret = db->cache[i].stmt;
            sqlite3_reset(*ret);
            return VX_OK;
        }
    }
    if (db->cached == VX_SQL_CACHE) {
        return vx_fail(err, VX_E_INTERNAL, NULL, "more than %d statements", VX_SQL_CACHE);
    }
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v3(db->handle, text, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) !=
        SQLITE_OK) {
        return vx_sql_fail(db, err, "database");
    }
    db->cache[db->cached].text = text;
    db->cache[db->cached].stmt = stmt;
    db->cached++;
    *ret = stmt;
    return VX_OK;
}

static int bind_one(sqlite3_stmt *stmt, int at, char type, va_list *ap) {
    switch (type) {
    case 'i':
        return sqlite3_bind_int64(stmt, at, va_arg(*ap, sqlite3_int64));
    case 'd':
        return sqlite3_bind_double(stmt, at, va_arg(*ap, double));
    case 's':
        return sqlite3_bind_text(stmt, at, va_arg(*ap, const char *), -1, SQLITE_TRANSIENT);
    default:
        return SQLITE_MISUSE;
    }
}

static int query(struct vx_db *db, const char *text, sqlite3_stmt **ret, struct vx_err *err,
                 const char *types, va_list *ap) {
    sqlite3_stmt *stmt = NULL;
    int rc = statement(db, text, &stmt, err);
    for (int i = 0; rc == VX_OK && types[i]; i++) {
        if (bind_one(stmt, i + 1, types[i], ap) != SQLITE_OK) {
            rc = vx_sql_fail(db, err, "database");
        }
    }
    if (rc == VX_OK) {
        *ret = stmt;
    }
    return rc;
}

int vx_sql_query(struct vx_db *db, const char *text, sqlite3_stmt **ret, struct vx_err *err,
                 const char *types, ...) {
    va_list ap;
    va_start(ap, types);
    int rc = query(db, text, ret, err, types, &ap);
    va_end(ap);
    return rc;
}

int vx_sql_next(struct vx_db *db, sqlite3_stmt *stmt, struct vx_err *err) {
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        return 1;
    }
    int out = rc == SQLITE_DONE ? 0 : vx_sql_fail(db, err, "database");
    sqlite3_reset(stmt);
    return out;
}

int vx_sql_run(struct vx_db *db, const char *text, struct vx_err *err, const char *types, ...) {
    va_list ap;
    va_start(ap, types);
    sqlite3_stmt *stmt = NULL;
    int rc = query(db, text, &stmt, err, types, &ap);
    va_end(ap);
    if (rc != VX_OK) {
        return rc;
    }
    rc = vx_sql_next(db, stmt, err);
    if (rc == 1) {
        sqlite3_reset(stmt);
        rc = 0;
    }
    return rc;
}

int vx_sql_int(struct vx_db *db, const char *text, sqlite3_int64 *ret, struct vx_err *err,
               const char *types, ...) {
    va_list ap;
    va_start(ap, types);
    sqlite3_stmt *stmt = NULL;
    int rc = query(db, text, &stmt, err, types, &ap);
    va_end(ap);
    if (rc != VX_OK) {
        return rc;
    }
    rc = vx_sql_next(db, stmt, err);
    if (rc == 1) {
        *ret = sqlite3_column_int64(stmt, 0);
        sqlite3_reset(stmt);
        return VX_OK;
    }
    return rc == 0 ? vx_fail(err, VX_E_NOT_FOUND, NULL, "no such row") : rc;
}

void vx_sql_text(sqlite3_stmt *stmt, int column, char *out, size_t size) {
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    size_t len = text ? strlen(text) : 0;
    if (len >= size) {
        len = size - 1;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    if (len) {
        memcpy(out, text, len);
    }
    out[len] = '\0';
}

int vx_sql_text_dup(sqlite3_stmt *stmt, int column, char **ret, struct vx_err *err) {
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    *ret = NULL;
    if (!text) {
        return VX_OK;
    }
    *ret = strdup(text);
    return *ret ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
}
