#include "db/support.h"

#include "base/clock.h"
#include "db/event.h"
#include "db/schema.h"
#include "db/sql.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

Test(db_store, opens_in_wal_with_full_sync) {
    struct fixture f = fixture_open();
    sqlite3_stmt *s = NULL;
    cr_assert_eq(sqlite3_prepare_v2(f.reader->handle, "PRAGMA journal_mode", -1, &s, NULL),
                 SQLITE_OK);
    cr_assert_eq(sqlite3_step(s), SQLITE_ROW);
    cr_assert_str_eq((const char *)sqlite3_column_text(s, 0), "wal");
    sqlite3_finalize(s);
    cr_assert_eq(number(f.reader, "PRAGMA user_version"), (int64_t)vx_db_steps_count);
    cr_assert_eq(number(f.reader, "PRAGMA application_id"), VX_DB_APPLICATION_ID);
    fixture_close(&f);
}

static int sync_mode_op(struct vx_db *db, void *arg, struct vx_err *err) {
    (void)err;
    *(int64_t *)arg = number(db, "PRAGMA synchronous") * 10 + number(db, "PRAGMA foreign_keys");
    return VX_OK;
}

Test(db_store, writer_has_full_sync_and_foreign_keys) {
    struct fixture f = fixture_open();
    int64_t modes = 0;
    cr_assert_eq(vx_store_call(f.store, sync_mode_op, &modes, NULL), VX_OK);
    cr_assert_eq(modes, 21);
    fixture_close(&f);
}

Test(db_store, reader_cannot_write) {
    struct fixture f = fixture_open();
    struct vx_job_new job = {.type = "train", .spec = "{}"};
    int64_t id = 0;
    cr_assert_lt(vx_db_job_insert(f.reader, &job, &id, NULL), 0);
    fixture_close(&f);
}

/* An operation that writes and then fails, between two that are fine, all in one group. */
struct step {
    int64_t id;
    int fail;
    int rc;
    char reason[48];
};

static int step_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct step *a = arg;
    struct vx_job_new job = {.type = "train", .spec = "{}"};
    int rc = vx_db_job_insert(db, &job, &a->id, err);
    return rc == VX_OK && a->fail ? vx_fail(err, VX_E_LIMIT, "on_purpose", "fails on purpose") : rc;
}

static void step_done(int rc, const struct vx_err *err, void *arg) {
    struct step *a = arg;
    a->rc = rc;
    snprintf(a->reason, sizeof a->reason, "%s", err->reason);
}

static int slow_op(struct vx_db *db, void *arg, struct vx_err *err) {
    (void)db, (void)arg, (void)err;
    usleep(100000); /* so that what follows gathers into one group */
    return VX_OK;
}

Test(db_store, a_failing_operation_harms_no_other_of_its_group) {
    struct fixture f = fixture_open();
    struct step steps[3] = {{.rc = 1}, {.fail = 1, .rc = 1}, {.rc = 1}};
    cr_assert_eq(vx_store_submit(f.store, slow_op, NULL, NULL, NULL), VX_OK);
    usleep(20000);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(vx_store_submit(f.store, step_op, &steps[i], step_done, NULL), VX_OK);
    }
    insert_job(f.store, 0); /* waits for all before it */
    cr_assert_eq(steps[0].rc, VX_OK);
    cr_assert_eq(steps[1].rc, VX_E_LIMIT);
    cr_assert_str_eq(steps[1].reason, "on_purpose");
    cr_assert_eq(steps[2].rc, VX_OK);
    cr_assert_eq(number(f.reader, "SELECT count(*) FROM jobs"), 3);
    struct vx_store_stats stats;
    vx_store_get_stats(f.store, &stats);
    cr_assert_eq(stats.operations, 5);
    cr_assert_eq(stats.failed, 1);
    cr_assert_leq(stats.commits, 3);
    fixture_close(&f);
}

Test(db_store, close_runs_what_was_submitted_and_refuses_more) {
    struct fixture f = fixture_open();
    enum { N = 3000 };
    static struct step steps[N];
    for (int i = 0; i < N; i++) {
        steps[i].rc = 1;
        cr_assert_eq(vx_store_submit(f.store, step_op, &steps[i], step_done, NULL), VX_OK);
    }
    vx_db_close(f.reader);
    vx_store_close(f.store);
    for (int i = 0; i < N; i++) {
        cr_assert_eq(steps[i].rc, VX_OK);
    }
    char *wal = vx_strf("%s-wal", f.path);
    cr_assert_not(vx_path_exists(wal), "the WAL is folded in");
    free(wal);
    cr_assert_eq(vx_store_open(f.path, &f.store, NULL), VX_OK);
    cr_assert_eq(vx_db_reader_open(f.path, &f.reader, NULL), VX_OK);
    cr_assert_eq(number(f.reader, "SELECT count(*) FROM jobs"), N);
    fixture_close(&f);
}

static void note_event(int64_t last, void *arg) {
    *(int64_t *)arg = last;
}

Test(db_store, commit_hook_names_the_newest_event) {
    struct fixture f = fixture_open();
    int64_t seen = -1;
    vx_store_on_commit(f.store, note_event, &seen);
    insert_job(f.store, 0);
    insert_job(f.store, 0);
    vx_store_call(f.store, slow_op, NULL, NULL);
    vx_store_on_commit(f.store, NULL, NULL);
    int64_t last = 0;
    cr_assert_eq(vx_db_event_last(f.reader, &last, NULL), VX_OK);
    cr_assert_eq(last, 2);
    cr_assert_eq(seen, 2);
    fixture_close(&f);
}

static void *many_calls(void *arg) {
    for (int i = 0; i < 500; i++) {
        insert_job(arg, 0);
    }
    return NULL;
}

Test(db_store, threads_share_commits) {
    struct fixture f = fixture_open();
    pthread_t threads[16];
    uint64_t start = vx_now_ns();
    for (int i = 0; i < 16; i++) {
        pthread_create(&threads[i], NULL, many_calls, f.store);
    }
    for (int i = 0; i < 16; i++) {
        pthread_join(threads[i], NULL);
    }
    double seconds = (double)(vx_now_ns() - start) * 1e-9;
    struct vx_store_stats stats;
    vx_store_get_stats(f.store, &stats);
    cr_assert_eq(number(f.reader, "SELECT count(*) FROM jobs"), 8000);
    cr_assert_lt(stats.commits, 8000u / 2);
    cr_log_info(
        "group commit: %.0f durable inserts/s from 16 threads, %.1f per commit, %.0f us a commit",
        8000 / seconds, 8000.0 / (double)stats.commits,
        (double)stats.commit_ns * 1e-3 / (double)stats.commits);
    fixture_close(&f);
}

/* ---- kill -9 ---- */

static int ack_fd;

static void ack(int rc, const struct vx_err *err, void *arg) {
    (void)err;
    struct step *a = arg;
    if (rc != VX_OK || write(ack_fd, &a->id, sizeof a->id) != sizeof a->id) {
        _exit(3);
    }
    free(a);
}

static void write_until_killed(const char *path) {
    struct vx_store *store = NULL;
    if (vx_store_open(path, &store, NULL) != VX_OK) {
        _exit(2);
    }
    for (;;) {
        struct step *a = calloc(1, sizeof *a);
        vx_store_submit(store, step_op, a, ack, NULL);
        struct vx_store_stats stats;
        do {
            vx_store_get_stats(store, &stats);
        } while (stats.pending > 20 && usleep(100) == 0);
    }
}

/* Acknowledged ids of one life of the writing process. */
static size_t one_life(const char *path, int life, int64_t *ids, size_t max) {
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        ack_fd = fds[1];
        write_until_killed(path);
    }
    close(fds[1]);
    size_t n = 0;
    /* The first acknowledgement, then some milliseconds more, another number in each life. */
    cr_assert_eq(read(fds[0], &ids[n++], sizeof ids[0]), (ssize_t)sizeof ids[0]);
    usleep((useconds_t)(500 + life * 1733 % 20000));
    kill(pid, SIGKILL);
    while (n < max && read(fds[0], &ids[n], sizeof ids[0]) == (ssize_t)sizeof ids[0]) {
        n++;
    }
    close(fds[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
    return n;
}

Test(db_store, kill_9_loses_nothing_that_was_acknowledged) {
    struct fixture f = fixture_open();
    vx_db_close(f.reader);
    vx_store_close(f.store);
    enum { MAX = 200000 };
    int64_t *ids = calloc(MAX, sizeof *ids);
    size_t total = 0;
    for (int life = 0; life < 20; life++) {
        size_t n = one_life(f.path, life, ids, MAX);
        cr_assert_eq(vx_store_open(f.path, &f.store, NULL), VX_OK);
        cr_assert_eq(vx_db_reader_open(f.path, &f.reader, NULL), VX_OK);
        for (size_t i = 0; i < n; i++) {
            cr_assert_eq(state_now(f.reader, ids[i]), VX_JOB_QUEUED, "job %lld", (long long)ids[i]);
        }
        /* Atomic: each job with its event. */
        cr_assert_eq(number(f.reader, "SELECT count(*) FROM jobs"),
                     number(f.reader, "SELECT count(*) FROM events"));
        cr_assert_eq(
            number(f.reader,
                   "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"),
            0);
        total += n;
        vx_db_close(f.reader);
        vx_store_close(f.store);
    }
    cr_log_info("kill -9: %zu acknowledged writes in 20 lives, none lost", total);
    free(ids);
    cr_assert_eq(vx_store_open(f.path, &f.store, NULL), VX_OK);
    cr_assert_eq(vx_db_reader_open(f.path, &f.reader, NULL), VX_OK);
    fixture_close(&f);
}

/* ---- full disk ---- */

static void limit_file_size(rlim_t bytes) {
    struct rlimit r;
    getrlimit(RLIMIT_FSIZE, &r);
    r.rlim_cur = bytes;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &r), 0);
}

Test(db_store, full_disk_is_an_error_and_not_the_end) {
    signal(SIGXFSZ, SIG_IGN);
    struct fixture f = fixture_open();
    insert_job(f.store, 0);
    char *spec = malloc(60000);
    memset(spec, ' ', 60000);
    memcpy(spec, "{}", 2);
    spec[59999] = '\0';
    limit_file_size(1 << 20);
    struct insert_args a = {.job = {.type = "train", .spec = spec}};
    struct vx_err err = {0};
    int n = 1, rc = VX_OK;
    while (rc == VX_OK && n < 1000) {
        rc = vx_store_call(f.store, insert_op, &a, &err);
        n += rc == VX_OK;
    }
    cr_assert_eq(rc, VX_E_FULL, "%d %s native %d", rc, err.text, err.native);
    cr_assert_str_eq(err.reason, "no_space_left");
    for (int i = 0; i < 3; i++) { /* it stays full, and says so */
        cr_assert_eq(vx_store_call(f.store, insert_op, &a, NULL), VX_E_FULL);
    }
    cr_assert_eq(number(f.reader, "SELECT count(*) FROM jobs"), n);
    limit_file_size(RLIM_INFINITY);
    cr_assert_eq(vx_store_call(f.store, insert_op, &a, &err), VX_OK, "%s", err.text);
    cr_assert_eq(number(f.reader, "SELECT count(*) FROM jobs"), n + 1);
    free(spec);
    fixture_close(&f);
}
