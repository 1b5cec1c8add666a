/* The database file and its one writer.
 *
 * A store owns the only connection that writes, on a thread of its own. Operations are functions
 * that run on that thread; all that are waiting are run in one transaction and committed together
 * (group commit): WAL with synchronous=FULL, so what was acknowledged survives kill -9 and a power
 * cut. An operation that fails is rolled back to its savepoint and harms no other of its group.
 * Reading goes through connections of their own (vx_db_reader_open), which never wait for the
 * writer.
 *
 * Inside an operation every function of db/job.h, db/epoch.h, db/event.h, db/dataset.h may be
 * called with the `struct vx_db` that it is given; functions marked "reads" may also be called with
 * a reader. */
#ifndef VX_DB_STORE_H
#define VX_DB_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_db;    /* one connection; one thread at a time */
struct vx_store; /* the writer thread and its queue */

/* Runs on the store thread inside a savepoint; a negative result undoes what it wrote. It must not
 * block, nor call the store. It may be run only once. */
typedef int (*vx_store_op)(struct vx_db *db, void *arg, struct vx_err *err);
/* Runs on the store thread after the outcome is final: rc VX_OK means that the operation is on the
 * disk. err holds the reason otherwise and lives for the call only. It must not block, nor use
 * vx_store_call. */
typedef void (*vx_store_done)(int rc, const struct vx_err *err, void *arg);
/* Runs on the store thread after each commit; last_event_id is the highest id in the events table.
 */
typedef void (*vx_store_commit_hook)(int64_t last_event_id, void *arg);

/* Operations that may wait at a time; vx_store_submit answers VX_E_LIMIT beyond it. */
#define VX_STORE_MAX_PENDING 65536

/* Opens or creates the file (its folder must exist), migrates it to the newest schema, starts the
 * thread. Refused with a reason: "network_file_system" (WAL needs shared memory that those do not
 * have), "newer_schema" (made by a newer voxeld), "not_a_database". One store per file and process;
 * that no second daemon uses the same state folder is the daemon's lock. */
int vx_store_open(const char *path, struct vx_store **ret, struct vx_err *err);
/* Runs everything submitted, commits, folds the WAL into the file, ends the thread. NULL is fine.
 */
void vx_store_close(struct vx_store *store);

/* Before the first submission; fn NULL removes the hook (after which it is not running any more).
 * Any thread. */
void vx_store_on_commit(struct vx_store *store, vx_store_commit_hook fn, void *arg);
/* Groups committed so far, counted before their `done` callbacks run: what a reader found is still
 * true while the number stays the same, since nobody else writes to the database. Any thread. */
uint64_t vx_store_commits(struct vx_store *store);

/* Queues op; arg must live until done was called (done may be NULL). VX_E_LIMIT when the queue is
 * full, VX_E_STATE after vx_store_close began; then neither op nor done is called. Any thread. */
int vx_store_submit(struct vx_store *store, vx_store_op op, void *arg, vx_store_done done,
                    struct vx_err *err);
/* The same, waiting until it is durable; returns op's result. Worker threads only: never the loop
 * thread, never the store thread. */
int vx_store_call(struct vx_store *store, vx_store_op op, void *arg, struct vx_err *err);

/* Whether an operation that ended with rc may be accepted later, as it is: the disk was full or
 * failed, the database locked, memory short, the queue full. */
bool vx_store_passing(int rc);

struct vx_store_stats {
    uint64_t operations, failed, commits; /* since open */
    uint64_t commit_ns;                   /* sum of the time spent in COMMIT */
    size_t pending;
};
void vx_store_get_stats(struct vx_store *store, struct vx_store_stats *ret);

/* A read-only connection to a file that a store has opened before. Each call sees the newest
 * committed state. */
int vx_db_reader_open(const char *path, struct vx_db **ret, struct vx_err *err);
void vx_db_close(struct vx_db *db); /* NULL is fine */

#endif
