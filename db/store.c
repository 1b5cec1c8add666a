/* The writer thread. Operations wait in a list; the thread takes all of it (at most GROUP_MAX),
 * runs each inside a savepoint of one transaction, commits, and only then reports. A commit costs
 * one fdatasync whatever the group's size, and while it runs the next group gathers. */
#include "db/store.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/own.h"
#include "db/schema.h"
#include "db/sql.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_MAX 512

struct pending {
    struct pending *next;
    vx_store_op op;
    vx_store_done done;
    void *arg; /* borrowed, outlived by the caller's promise */
    int rc;
    struct vx_err err;
};

struct vx_store {
    struct vx_db *db; /* store thread only, once it runs */
    pthread_t thread;

    pthread_mutex_t lock; /* rank 1: everything below */
    pthread_cond_t more;
    struct pending *first, **last;
    size_t n_pending;
    bool closing;
    struct vx_store_stats stats;
    _Atomic uint64_t commits; /* no lock */

    pthread_mutex_t
        hook_lock; /* rank 2: held while the hook runs, so that removing it waits for its end */
    vx_store_commit_hook hook;
    void *hook_arg;
};

/* Up to GROUP_MAX operations; NULL when closing and nothing is left. */
static struct pending *take_group(struct vx_store *s) {
    pthread_mutex_lock(&s->lock);
    while (!s->first && !s->closing) {
        pthread_cond_wait(&s->more, &s->lock);
    }
    struct pending *group = s->first, *p = group;
    size_t n = 0;
    for (struct pending *prev = NULL; p && n < GROUP_MAX; n++) {
        prev = p;
        p = p->next;
        if (n + 1 == GROUP_MAX || !p) {
            prev->next = NULL;
        }
    }
    s->first = p;
    if (!p) {
        s->last = &s->first;
    }
    s->n_pending -= n;
    pthread_mutex_unlock(&s->lock);
    return group;
}

/* One operation inside the open transaction. False when SQLite ended the whole transaction (disk
 * full, I/O error): then the work of the entire group is gone. */
static bool run_one(struct vx_store *s, struct pending *p) {
    p->rc = vx_sql_exec(s->db, "SAVEPOINT op", &p->err);
    if (p->rc == VX_OK) {
        p->rc = p->op(s->db, p->arg, &p->err);
        if (sqlite3_get_autocommit(s->db->handle)) {
            return false;
        }
        if (p->rc < 0) {
            vx_sql_exec(s->db, "ROLLBACK TO op", NULL);
        } else {
            p->rc = VX_OK;
        }
        struct vx_err err = {0};
        int rc = vx_sql_exec(s->db, "RELEASE op", &err);
        if (rc != VX_OK && p->rc == VX_OK) {
            p->rc = rc;
            p->err = err;
        }
    }
    return !sqlite3_get_autocommit(s->db->handle);
}

/* Everything of the group that seemed well has failed with `why`. */
static void fail_group(struct pending *group, int rc, const struct vx_err *why) {
    for (struct pending *p = group; p; p = p->next) {
        if (p->rc >= 0) {
            p->rc = rc;
            p->err = *why;
        }
    }
}

static void run_group(struct vx_store *s, struct pending *group, uint64_t *ret_commit_ns) {
    struct vx_err err = {0};
    int rc = vx_sql_exec(s->db, "BEGIN IMMEDIATE", &err);
    bool alive = rc == VX_OK;
    for (struct pending *p = group; p && alive; p = p->next) {
        alive = run_one(s, p);
        if (!alive) {
            rc = p->rc < 0 ? p->rc
                           : vx_fail(&p->err, VX_E_IO, NULL, "the database ended the transaction");
            p->rc = rc;
            err = p->err;
        }
    }
    uint64_t start = vx_now_ns();
    if (alive) {
        rc = vx_sql_exec(s->db, "COMMIT", &err);
    }
    *ret_commit_ns = vx_now_ns() - start;
    if (rc != VX_OK) {
        if (!sqlite3_get_autocommit(s->db->handle)) {
            vx_sql_exec(s->db, "ROLLBACK", NULL);
        }
        fail_group(group, rc, &err);
    } else {
        atomic_fetch_add(&s->commits, 1);
    }
}

static void run_hook(struct vx_store *s) {
    sqlite3_int64 last = 0;
    if (vx_sql_int(s->db, "SELECT coalesce(max(id), 0) FROM events", &last, NULL, "") != VX_OK) {
        return;
    }
    pthread_mutex_lock(&s->hook_lock);
    if (s->hook) {
        s->hook(last, s->hook_arg);
    }
    pthread_mutex_unlock(&s->hook_lock);
}

static void count_group(struct vx_store *s, const struct pending *group, uint64_t commit_ns) {
    pthread_mutex_lock(&s->lock);
    s->stats.commits++;
    s->stats.commit_ns += commit_ns;
    for (const struct pending *p = group; p; p = p->next) {
        s->stats.operations++;
        s->stats.failed += p->rc < 0;
    }
    pthread_mutex_unlock(&s->lock);
}

static void *store_main(void *arg) {
    struct vx_store *s = arg;
    for (struct pending *group; (group = take_group(s));) {
        uint64_t commit_ns = 0;
        run_group(s, group, &commit_ns);
        count_group(s, group, commit_ns);
        for (struct pending *p = group, *next; p; p = next) {
            next = p->next;
            if (p->done) {
                p->done(p->rc, &p->err, p->arg);
            }
            free(p);
        }
        run_hook(s);
    }
    return NULL;
}

static int open_writer(const char *path, struct vx_db **ret, struct vx_err *err) {
    int rc = vx_db_check_fs(path, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_db *db = NULL;
    rc = vx_sql_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db, err);
    if (rc != VX_OK) {
        return rc;
    }
    /* The schema first: a file that is refused keeps its journal mode. */
    rc = vx_sql_exec(db, "PRAGMA synchronous = FULL", err);
    if (rc == VX_OK) {
        rc = vx_db_migrate(db, vx_db_steps, vx_db_steps_count, err);
    }
    if (rc == VX_OK) {
        rc = vx_sql_exec(db, "PRAGMA journal_mode = WAL", err);
    }
    if (rc != VX_OK) {
        vx_err_at(err, "%s", path);
        vx_db_close(db);
        return rc;
    }
    *ret = db;
    return VX_OK;
}

int vx_store_open(const char *path, struct vx_store **ret, struct vx_err *err) {
    struct vx_store *s = calloc(1, sizeof *s);
    if (!s) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = open_writer(path, &s->db, err);
    if (rc != VX_OK) {
        free(s);
        return rc;
    }
    s->last = &s->first;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->hook_lock, NULL);
    pthread_cond_init(&s->more, NULL);
    int e = pthread_create(&s->thread, NULL, store_main, s);
    if (e != 0) {
        vx_db_close(s->db);
        free(s);
        return vx_fail_errno(err, e, NULL, "cannot start the store thread");
    }
    pthread_setname_np(s->thread, "vx-store");
    *ret = s;
    return VX_OK;
}

void vx_store_close(struct vx_store *s) {
    if (!s) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    /* Fails harmlessly where a reader still looks at the WAL: the next opening folds it in. */
    vx_sql_exec(s->db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL);
    vx_db_close(s->db);
    pthread_cond_destroy(&s->more);
    pthread_mutex_destroy(&s->hook_lock);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void vx_store_on_commit(struct vx_store *s, vx_store_commit_hook fn, void *arg) {
    pthread_mutex_lock(&s->hook_lock);
    s->hook = fn;
    s->hook_arg = arg;
    pthread_mutex_unlock(&s->hook_lock);
}

int vx_store_submit(struct vx_store *s, vx_store_op op, void *arg, vx_store_done done,
                    struct vx_err *err) {
    struct pending *p = calloc(1, sizeof *p);
    if (!p) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    p->op = op;
    p->arg = arg;
    p->done = done;
    pthread_mutex_lock(&s->lock);
    int rc = VX_OK;
    if (s->closing) {
        rc = vx_fail(err, VX_E_STATE, "store_closed", "the database is being closed");
    } else if (s->n_pending >= VX_STORE_MAX_PENDING) {
        rc = vx_fail(err, VX_E_LIMIT, "store_busy", "%d database operations are waiting already",
                     VX_STORE_MAX_PENDING);
    } else {
        *s->last = p;
        s->last = &p->next;
        s->n_pending++;
        pthread_cond_signal(&s->more);
    }
    pthread_mutex_unlock(&s->lock);
    if (rc != VX_OK) {
        free(p);
    }
    return rc;
}

struct call {
    vx_store_op op;
    void *arg;
    struct vx_err *err;
    int rc;
    bool finished;
    pthread_mutex_t lock;
    pthread_cond_t done;
};

static int call_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct call *c = arg;
    return c->op(db, c->arg, err);
}

static void call_done(int rc, const struct vx_err *err, void *arg) {
    struct call *c = arg;
    pthread_mutex_lock(&c->lock);
    c->rc = rc;
    if (rc != VX_OK && c->err) {
        *c->err = *err;
    }
    c->finished = true;
    pthread_cond_signal(&c->done);
    pthread_mutex_unlock(&c->lock);
}

int vx_store_call(struct vx_store *s, vx_store_op op, void *arg, struct vx_err *err) {
    assert(!pthread_equal(pthread_self(), s->thread));
    struct call c = {.op = op, .arg = arg, .err = err};
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.done, NULL);
    int rc = vx_store_submit(s, call_op, &c, call_done, err);
    if (rc == VX_OK) {
        pthread_mutex_lock(&c.lock);
        while (!c.finished) {
            pthread_cond_wait(&c.done, &c.lock);
        }
        rc = c.rc;
        pthread_mutex_unlock(&c.lock);
    }
    pthread_cond_destroy(&c.done);
    pthread_mutex_destroy(&c.lock);
    return rc;
}

bool vx_store_passing(int rc) {
    return rc == VX_E_FULL || rc == VX_E_IO || rc == VX_E_BUSY || rc == VX_E_NOMEM ||
           rc == VX_E_LIMIT;
}

void vx_store_get_stats(struct vx_store *s, struct vx_store_stats *ret) {
    pthread_mutex_lock(&s->lock);
    *ret = s->stats;
    ret->pending = s->n_pending;
    pthread_mutex_unlock(&s->lock);
}

int vx_db_reader_open(const char *path, struct vx_db **ret, struct vx_err *err) {
    struct vx_db *db = NULL;
    int rc = vx_sql_open(path, SQLITE_OPEN_READONLY, &db, err);
    if (rc == VX_OK) {
        rc = vx_sql_exec(db, "PRAGMA query_only = ON", err);
    }
    if (rc != VX_OK) {
        vx_db_close(db);
        return rc;
    }
    *ret = db;
    return VX_OK;
}

uint64_t vx_store_commits(struct vx_store *store) {
    return atomic_load(&store->commits);
}
