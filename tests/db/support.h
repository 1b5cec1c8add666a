/* A store on a fresh file under $TMPDIR, and store calls for tests. */
#ifndef VX_TESTS_DB_SUPPORT_H
#define VX_TESTS_DB_SUPPORT_H

#include "base/err.h"
#include "base/io.h"
#include "db/job.h"
#include "db/sql.h"
#include "db/store.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
    char *dir, *path;
    struct vx_store *store;
    struct vx_db *reader;
};

static inline struct fixture fixture_open(void) {
    struct fixture f = {NULL, NULL, NULL, NULL};
    const char *tmp = getenv("TMPDIR");
    f.dir = vx_strf("%s/vxdb-XXXXXX", tmp ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(f.dir));
    f.path = vx_strf("%s/voxeld.db", f.dir);
    struct vx_err err = {0};
    cr_assert_eq(vx_store_open(f.path, &f.store, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_db_reader_open(f.path, &f.reader, &err), VX_OK, "%s", err.text);
    return f;
}

static inline void fixture_close(struct fixture *f) {
    vx_db_close(f->reader);
    vx_store_close(f->store);
    vx_remove_tree(f->dir, NULL);
    free(f->dir);
    free(f->path);
}

struct insert_args {
    struct vx_job_new job;
    int64_t id;
};

static inline int insert_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct insert_args *a = arg;
    return vx_db_job_insert(db, &a->job, &a->id, err);
}

static inline int64_t insert_job(struct vx_store *store, int priority) {
    struct insert_args a = {.job = {.type = "train",
                                    .spec = "{\"type\":\"train\"}",
                                    .spec_version = 1,
                                    .priority = priority}};
    struct vx_err err = {0};
    cr_assert_eq(vx_store_call(store, insert_op, &a, &err), VX_OK, "%s", err.text);
    return a.id;
}

struct change_args {
    int64_t id;
    struct vx_job_change change;
};

static inline int change_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct change_args *a = arg;
    return vx_db_job_transition(db, a->id, &a->change, err);
}

static inline int change_job(struct vx_store *store, int64_t id, enum vx_job_state to,
                             struct vx_err *err) {
    struct change_args a = {.id = id, .change = {.to = to}};
    return vx_store_call(store, change_op, &a, err);
}

static inline enum vx_job_state state_now(struct vx_db *reader, int64_t id) {
    struct vx_job job;
    struct vx_err err = {0};
    cr_assert_eq(vx_db_job_get(reader, id, &job, &err), VX_OK, "%s", err.text);
    enum vx_job_state state = job.state;
    vx_job_release(&job);
    return state;
}

/* One number by SQL. */
static inline int64_t number(struct vx_db *db, const char *text) {
    sqlite3_stmt *s = NULL;
    cr_assert_eq(sqlite3_prepare_v2(db->handle, text, -1, &s, NULL), SQLITE_OK, "%s",
                 sqlite3_errmsg(db->handle));
    cr_assert_eq(sqlite3_step(s), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return n;
}

#endif
