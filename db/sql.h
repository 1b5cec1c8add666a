/* Inside this room only: one SQLite connection with its prepared statements, and short calls to run
 * them. Thread: the connection's. */
#ifndef VX_DB_SQL_H
#define VX_DB_SQL_H

#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>

struct vx_err;

#define VX_SQL_CACHE 64

struct vx_db {
    sqlite3 *handle; /* owned */
    struct {
        const char *text;   /* a literal: found again by its address */
        sqlite3_stmt *stmt; /* owned */
    } cache[VX_SQL_CACHE];
    size_t cached;
};

/* Opens path with flags (SQLITE_OPEN_*), busy timeout and foreign keys set. Close with vx_db_close.
 */
int vx_sql_open(const char *path, int flags, struct vx_db **ret, struct vx_err *err);

/* The connection's last error as a code and err: SQLITE_FULL and ENOSPC or EFBIG become VX_E_FULL,
 * a trigger's RAISE(ABORT) VX_E_STATE "illegal_transition", and so on. */
int vx_sql_fail(struct vx_db *db, struct vx_err *err, const char *what);

/* Several statements without parameters. */
int vx_sql_exec(struct vx_db *db, const char *text, struct vx_err *err);

/* A statement made ready with its parameters: types has one letter each, i int64_t, s const char *
 * (NULL allowed), d double (NaN is NULL). text must be a string literal. */
int vx_sql_query(struct vx_db *db, const char *text, sqlite3_stmt **ret, struct vx_err *err,
                 const char *types, ...);
/* The next row: 1 with a row, 0 at the end, negative on failure; the statement is reset in the last
 * two cases. Leaving earlier needs sqlite3_reset. */
int vx_sql_next(struct vx_db *db, sqlite3_stmt *stmt, struct vx_err *err);
/* Runs a statement that returns no rows. */
int vx_sql_run(struct vx_db *db, const char *text, struct vx_err *err, const char *types, ...);
/* The first column of the first row; VX_E_NOT_FOUND without a row. */
int vx_sql_int(struct vx_db *db, const char *text, sqlite3_int64 *ret, struct vx_err *err,
               const char *types, ...);

/* Copies a text column into a fixed field (NULL becomes ""), cut at a UTF-8 boundary. */
void vx_sql_text(sqlite3_stmt *stmt, int column, char *out, size_t size);
/* A malloc'ed copy of a text column: NULL column gives *ret NULL. */
int vx_sql_text_dup(sqlite3_stmt *stmt, int column, char **ret, struct vx_err *err);

#endif
