#include "db/support.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/own.h"
#include "db/event.h"

/* The state machine written a second time, by the words of the API. */
static const char *const legal[] = {
    "queued>preparing",     "queued>cancelled",    "queued>paused",     "queued>failed",
    "preparing>ready",      "preparing>succeeded", "preparing>failed",  "preparing>cancelling",
    "preparing>pausing",    "preparing>queued",    "ready>running",     "ready>queued",
    "ready>cancelled",      "ready>paused",        "ready>failed",      "running>succeeded",
    "running>failed",       "running>cancelling",  "running>pausing",   "running>ready",
    "running>queued",       "pausing>paused",      "pausing>succeeded", "pausing>failed",
    "pausing>cancelling",   "paused>queued",       "paused>cancelled",  "cancelling>cancelled",
    "cancelling>succeeded", "cancelling>failed",
};

static bool is_legal(enum vx_job_state from, enum vx_job_state to) {
    char pair[64];
    snprintf(pair, sizeof pair, "%s>%s", vx_job_state_word(from), vx_job_state_word(to));
    for (size_t i = 0; i < VX_COUNTOF(legal); i++) {
        if (strcmp(legal[i], pair) == 0) {
            return true;
        }
    }
    return false;
}

/* A way from queued to each state. */
static const enum vx_job_state ways[VX_JOB_STATES][4] = {
    [VX_JOB_QUEUED] = {VX_JOB_QUEUED},
    [VX_JOB_PREPARING] = {VX_JOB_PREPARING, VX_JOB_QUEUED},
    [VX_JOB_READY] = {VX_JOB_PREPARING, VX_JOB_READY, VX_JOB_QUEUED},
    [VX_JOB_RUNNING] = {VX_JOB_PREPARING, VX_JOB_READY, VX_JOB_RUNNING, VX_JOB_QUEUED},
    [VX_JOB_PAUSING] = {VX_JOB_PREPARING, VX_JOB_PAUSING, VX_JOB_QUEUED},
    [VX_JOB_PAUSED] = {VX_JOB_PAUSED, VX_JOB_QUEUED},
    [VX_JOB_CANCELLING] = {VX_JOB_PREPARING, VX_JOB_CANCELLING, VX_JOB_QUEUED},
    [VX_JOB_SUCCEEDED] = {VX_JOB_PREPARING, VX_JOB_SUCCEEDED, VX_JOB_QUEUED},
    [VX_JOB_FAILED] = {VX_JOB_FAILED, VX_JOB_QUEUED},
    [VX_JOB_CANCELLED] = {VX_JOB_CANCELLED, VX_JOB_QUEUED},
};

static int64_t job_in(struct vx_store *store, enum vx_job_state state) {
    int64_t id = insert_job(store, 0);
    for (int i = 0; i < 4 && ways[state][i] != VX_JOB_QUEUED; i++) {
        struct vx_err err = {0};
        cr_assert_eq(change_job(store, id, ways[state][i], &err), VX_OK, "%s", err.text);
    }
    return id;
}

static size_t count_events(struct vx_db *reader, int64_t id) {
    struct vx_event_list list;
    cr_assert_eq(vx_db_events_since(reader, id, 0, 1000, &list, NULL), VX_OK);
    size_t n = list.n;
    vx_event_list_release(&list);
    return n;
}

Test(db_job, every_pair_of_states_is_allowed_or_refused) {
    struct fixture f = fixture_open();
    int allowed = 0;
    for (int from = 0; from < VX_JOB_STATES; from++) {
        for (int to = 0; to < VX_JOB_STATES; to++) {
            int64_t id = job_in(f.store, (enum vx_job_state)from);
            cr_assert_eq(state_now(f.reader, id), (enum vx_job_state)from);
            size_t before = count_events(f.reader, id);
            struct vx_err err = {0};
            int rc = change_job(f.store, id, (enum vx_job_state)to, &err);
            bool ok = is_legal((enum vx_job_state)from, (enum vx_job_state)to);
            allowed += ok;
            cr_assert_eq(rc, ok ? VX_OK : VX_E_STATE, "%s > %s: %s", vx_job_state_word(from),
                         vx_job_state_word(to), err.text);
            cr_assert_eq(state_now(f.reader, id), (enum vx_job_state)(ok ? to : from));
            cr_assert_eq(count_events(f.reader, id), before + ok);
            if (!ok) {
                cr_assert_str_eq(err.reason, "illegal_transition");
            }
        }
    }
    cr_assert_eq(allowed, (int)VX_COUNTOF(legal));
    fixture_close(&f);
}

Test(db_job, transition_writes_its_event_and_times) {
    struct fixture f = fixture_open();
    int64_t id = job_in(f.store, VX_JOB_READY);
    struct change_args a = {.id = id,
                            .change = {.to = VX_JOB_RUNNING,
                                       .phase = "epoch 0",
                                       .reason_code = "because",
                                       .reason_message = "of \"quotes\""}};
    cr_assert_eq(vx_store_call(f.store, change_op, &a, NULL), VX_OK);
    struct vx_job job;
    cr_assert_eq(vx_db_job_get(f.reader, id, &job, NULL), VX_OK);
    cr_assert_str_eq(job.phase, "epoch 0");
    cr_assert_str_eq(job.reason_message, "of \"quotes\"");
    cr_assert_gt(job.started_ms, 0);
    cr_assert_eq(job.finished_ms, 0);
    cr_assert_eq(job.version, 4);
    cr_assert_str_eq(job.spec, "{\"type\":\"train\"}");
    vx_job_release(&job);
    struct vx_event_list list;
    cr_assert_eq(vx_db_events_since(f.reader, id, 0, 1000, &list, NULL), VX_OK);
    cr_assert_eq(list.n, 4);
    cr_assert_str_eq(list.v[3].data,
                     "{\"state\":\"running\",\"previous\":\"ready\",\"phase\":\"epoch 0\","
                     "\"reason_code\":\"because\",\"reason_message\":\"of \\\"quotes\\\"\"}");
    cr_assert_str_eq(list.v[0].data, "{\"state\":\"queued\",\"previous\":null,\"phase\":\"\","
                                     "\"reason_code\":\"\",\"reason_message\":\"\"}");
    for (size_t i = 1; i < list.n; i++) {
        cr_assert_gt(list.v[i].id, list.v[i - 1].id);
    }
    vx_event_list_release(&list);
    fixture_close(&f);
}

struct pick_args {
    enum vx_job_state from, to;
    struct vx_job job;
};

static int pick_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct pick_args *a = arg;
    return vx_db_job_pick(db, a->from, a->to, "picked", &a->job, err);
}

Test(db_job, pick_takes_priority_then_age) {
    struct fixture f = fixture_open();
    int64_t low = insert_job(f.store, -1), old = insert_job(f.store, 5),
            young = insert_job(f.store, 5);
    int64_t want[] = {old, young, low};
    for (int i = 0; i < 3; i++) {
        struct pick_args a = {.from = VX_JOB_QUEUED, .to = VX_JOB_PREPARING};
        cr_assert_eq(vx_store_call(f.store, pick_op, &a, NULL), VX_OK);
        cr_assert_eq(a.job.id, want[i]);
        cr_assert_eq(a.job.state, VX_JOB_PREPARING);
        cr_assert_str_eq(a.job.phase, "picked");
        vx_job_release(&a.job);
    }
    struct pick_args a = {.from = VX_JOB_QUEUED, .to = VX_JOB_PREPARING};
    struct vx_err err = {0};
    cr_assert_eq(vx_store_call(f.store, pick_op, &a, &err), VX_E_NOT_FOUND);
    cr_assert_str_eq(err.reason, "queue_empty");
    fixture_close(&f);
}

Test(db_job, list_filters_orders_and_pages) {
    struct fixture f = fixture_open();
    for (int i = 0; i < 7; i++) {
        insert_job(f.store, i % 3);
    }
    cr_assert_eq(change_job(f.store, 2, VX_JOB_CANCELLED, NULL), VX_OK);
    struct vx_job_list list;
    struct vx_job_query newest = {.limit = 3};
    cr_assert_eq(vx_db_job_list(f.reader, &newest, &list, NULL), VX_OK);
    cr_assert(list.n == 3 && list.v[0].id == 7 && list.v[2].id == 5);
    vx_job_list_release(&list);
    newest.before_id = 3;
    cr_assert_eq(vx_db_job_list(f.reader, &newest, &list, NULL), VX_OK);
    cr_assert(list.n == 2 && list.v[0].id == 2 && list.v[1].id == 1);
    vx_job_list_release(&list);
    struct vx_job_query queue = {.states = 1u << VX_JOB_QUEUED, .by_priority = true};
    cr_assert_eq(vx_db_job_list(f.reader, &queue, &list, NULL), VX_OK);
    int64_t want[] = {3, 6, 5, 1, 4, 7}; /* priorities 2, 2, 1, 0, 0, 0; job 2 is cancelled */
    cr_assert_eq(list.n, VX_COUNTOF(want));
    for (size_t i = 0; i < list.n; i++) {
        cr_assert_eq(list.v[i].id, want[i]);
    }
    vx_job_list_release(&list);
    int64_t counts[VX_JOB_STATES];
    cr_assert_eq(vx_db_job_counts(f.reader, counts, NULL), VX_OK);
    cr_assert(counts[VX_JOB_QUEUED] == 6 && counts[VX_JOB_CANCELLED] == 1 &&
              counts[VX_JOB_RUNNING] == 0);
    fixture_close(&f);
}

Test(db_job, queue_limit_counts_jobs_that_have_not_ended) {
    struct fixture f = fixture_open();
    insert_job(f.store, 0);
    insert_job(f.store, 0);
    struct insert_args a = {.job = {.type = "train", .spec = "{}", .max_unfinished = 2}};
    struct vx_err err = {0};
    cr_assert_eq(vx_store_call(f.store, insert_op, &a, &err), VX_E_LIMIT);
    cr_assert_str_eq(err.reason, "queue_full");
    cr_assert_eq(change_job(f.store, 1, VX_JOB_CANCELLED, NULL), VX_OK);
    cr_assert_eq(vx_store_call(f.store, insert_op, &a, NULL), VX_OK);
    cr_assert_eq(a.id, 3);
    fixture_close(&f);
}

struct cancel_args {
    int64_t id;
    enum vx_job_state state;
};

static int cancel_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct cancel_args *a = arg;
    return vx_db_job_cancel(db, a->id, &a->state, err);
}

Test(db_job, cancel_from_every_state_and_twice) {
    struct fixture f = fixture_open();
    enum vx_job_state want[VX_JOB_STATES] = {
        [VX_JOB_QUEUED] = VX_JOB_CANCELLED,      [VX_JOB_READY] = VX_JOB_CANCELLED,
        [VX_JOB_PAUSED] = VX_JOB_CANCELLED,      [VX_JOB_PREPARING] = VX_JOB_CANCELLING,
        [VX_JOB_RUNNING] = VX_JOB_CANCELLING,    [VX_JOB_PAUSING] = VX_JOB_CANCELLING,
        [VX_JOB_CANCELLING] = VX_JOB_CANCELLING, [VX_JOB_SUCCEEDED] = VX_JOB_SUCCEEDED,
        [VX_JOB_FAILED] = VX_JOB_FAILED,         [VX_JOB_CANCELLED] = VX_JOB_CANCELLED,
    };
    for (int from = 0; from < VX_JOB_STATES; from++) {
        struct cancel_args a = {.id = job_in(f.store, (enum vx_job_state)from)};
        for (int twice = 0; twice < 2; twice++) {
            cr_assert_eq(vx_store_call(f.store, cancel_op, &a, NULL), VX_OK);
            cr_assert_eq(a.state, want[from], "from %s", vx_job_state_word(from));
            cr_assert_eq(state_now(f.reader, a.id), want[from]);
        }
    }
    struct cancel_args missing = {.id = 999};
    struct vx_err err = {0};
    cr_assert_eq(vx_store_call(f.store, cancel_op, &missing, &err), VX_E_NOT_FOUND);
    cr_assert_str_eq(err.reason, "job_not_found");
    fixture_close(&f);
}

struct crash_args {
    int64_t id, k;
    bool fresh;
    enum vx_job_state state;
};

static int crash_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct crash_args *a = arg;
    return vx_db_job_crashed(db, a->id, "{\"signal\":9}", a->fresh, &a->state, err);
}

static int checkpoint_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct crash_args *a = arg;
    return vx_db_job_checkpoint(db, a->id, a->k, err);
}

Test(db_job, third_crash_without_a_checkpoint_fails_with_evidence) {
    struct fixture f = fixture_open();
    struct crash_args a = {.id = job_in(f.store, VX_JOB_RUNNING), .k = 10};
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(vx_store_call(f.store, crash_op, &a, NULL), VX_OK);
        cr_assert_eq(a.state, VX_JOB_READY);
        cr_assert_eq(change_job(f.store, a.id, VX_JOB_RUNNING, NULL), VX_OK);
    }
    cr_assert_eq(vx_store_call(f.store, checkpoint_op, &a, NULL),
                 VX_OK); /* the count starts anew */
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(vx_store_call(f.store, crash_op, &a, NULL), VX_OK);
        cr_assert_eq(a.state, VX_JOB_READY);
        cr_assert_eq(change_job(f.store, a.id, VX_JOB_RUNNING, NULL), VX_OK);
    }
    a.fresh = true; /* the same, told with the crash */
    cr_assert_eq(vx_store_call(f.store, crash_op, &a, NULL), VX_OK);
    a.fresh = false;
    cr_assert_eq(change_job(f.store, a.id, VX_JOB_RUNNING, NULL), VX_OK);
    cr_assert_eq(vx_store_call(f.store, checkpoint_op, &a, NULL), VX_OK); /* the same k: not new */
    cr_assert_eq(vx_store_call(f.store, crash_op, &a, NULL), VX_OK);
    cr_assert_eq(a.state, VX_JOB_READY);
    cr_assert_eq(change_job(f.store, a.id, VX_JOB_RUNNING, NULL), VX_OK);
    cr_assert_eq(vx_store_call(f.store, crash_op, &a, NULL), VX_OK);
    cr_assert_eq(a.state, VX_JOB_FAILED);
    struct vx_job job;
    cr_assert_eq(vx_db_job_get(f.reader, a.id, &job, NULL), VX_OK);
    cr_assert_str_eq(job.reason_code, "crashed_repeatedly");
    cr_assert_str_eq(job.result, "{\"crashes\":3,\"signal\":9}");
    cr_assert_eq(job.checkpoint_k, 10);
    cr_assert_gt(job.finished_ms, 0);
    vx_job_release(&job);
    fixture_close(&f);
}

static int recover_op(struct vx_db *db, void *arg, struct vx_err *err) {
    return vx_db_jobs_recover(db, arg, err);
}

Test(db_job, a_restart_of_the_daemon_requeues_and_counts_no_crash) {
    struct fixture f = fixture_open();
    int64_t ids[VX_JOB_STATES];
    for (int s = 0; s < VX_JOB_STATES; s++) {
        ids[s] = job_in(f.store, (enum vx_job_state)s);
    }
    int n = 0;
    cr_assert_eq(vx_store_call(f.store, recover_op, &n, NULL), VX_OK);
    cr_assert_eq(n, 5);
    enum vx_job_state want[VX_JOB_STATES] = {
        [VX_JOB_QUEUED] = VX_JOB_QUEUED,        [VX_JOB_PREPARING] = VX_JOB_QUEUED,
        [VX_JOB_READY] = VX_JOB_QUEUED,         [VX_JOB_RUNNING] = VX_JOB_QUEUED,
        [VX_JOB_PAUSING] = VX_JOB_PAUSED,       [VX_JOB_PAUSED] = VX_JOB_PAUSED,
        [VX_JOB_CANCELLING] = VX_JOB_CANCELLED, [VX_JOB_SUCCEEDED] = VX_JOB_SUCCEEDED,
        [VX_JOB_FAILED] = VX_JOB_FAILED,        [VX_JOB_CANCELLED] = VX_JOB_CANCELLED,
    };
    for (int s = 0; s < VX_JOB_STATES; s++) {
        struct vx_job job;
        cr_assert_eq(vx_db_job_get(f.reader, ids[s], &job, NULL), VX_OK);
        cr_assert_eq(job.state, want[s], "from %s", vx_job_state_word(s));
        cr_assert_eq(job.crashes, 0);
        vx_job_release(&job);
    }
    fixture_close(&f);
}

struct progress_args {
    int64_t id;
    const char *phase, *progress;
};

static int progress_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct progress_args *a = arg;
    return vx_db_job_progress(db, a->id, a->phase, a->progress, err);
}

Test(db_job, progress_changes_the_version_and_stops_at_the_end) {
    struct fixture f = fixture_open();
    struct progress_args a = {job_in(f.store, VX_JOB_RUNNING), "epoch 3", "{\"epoch\":3}"};
    size_t events = count_events(f.reader, a.id);
    cr_assert_eq(vx_store_call(f.store, progress_op, &a, NULL), VX_OK);
    struct vx_job job;
    cr_assert_eq(vx_db_job_get(f.reader, a.id, &job, NULL), VX_OK);
    cr_assert_str_eq(job.progress, "{\"epoch\":3}");
    cr_assert_eq(job.version, 5);
    vx_job_release(&job);
    cr_assert_eq(count_events(f.reader, a.id), events);
    struct progress_args bad = {a.id, NULL, "not json"};
    cr_assert_eq(vx_store_call(f.store, progress_op, &bad, NULL), VX_E_INVALID);
    cr_assert_eq(change_job(f.store, a.id, VX_JOB_FAILED, NULL), VX_OK);
    struct vx_err err = {0};
    cr_assert_eq(vx_store_call(f.store, progress_op, &a, &err), VX_E_STATE);
    cr_assert_str_eq(err.reason, "job_ended");
    fixture_close(&f);
}

struct idem_args {
    struct vx_idem idem;
    int64_t id;
};

static int idem_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct idem_args *a = arg;
    return vx_db_idem_store(db, &a->idem, a->id, err);
}

Test(db_job, idempotency_keys_are_per_scope_and_body) {
    struct fixture f = fixture_open();
    struct idem_args a = {{"POST /v1/jobs", "k1", "d1"}, 7};
    int64_t id = 0;
    struct vx_err err = {0};
    cr_assert_eq(vx_db_idem_find(f.reader, &a.idem, &id, NULL), VX_E_NOT_FOUND);
    cr_assert_eq(vx_store_call(f.store, idem_op, &a, NULL), VX_OK);
    cr_assert_eq(vx_db_idem_find(f.reader, &a.idem, &id, NULL), VX_OK);
    cr_assert_eq(id, 7);
    struct vx_idem other_body = {"POST /v1/jobs", "k1", "d2"}, other_scope = {"uid 5", "k1", "d1"};
    cr_assert_eq(vx_db_idem_find(f.reader, &other_body, &id, &err), VX_E_EXISTS);
    cr_assert_str_eq(err.reason, "idempotency_key_reused");
    cr_assert_eq(vx_db_idem_find(f.reader, &other_scope, &id, NULL), VX_E_NOT_FOUND);
    fixture_close(&f);
}

struct waits_args {
    int64_t id;
    const char *code, *message;
};

static int waits_op(struct vx_db *db, void *arg, struct vx_err *err) {
    const struct waits_args *a = arg;
    return vx_db_job_waits(db, a->id, a->code, a->message, err);
}

Test(db_job, only_a_ready_job_is_told_why_it_waits) {
    struct fixture f = fixture_open();
    for (int state = 0; state < VX_JOB_STATES; state++) {
        struct waits_args a = {job_in(f.store, (enum vx_job_state)state), "no_healthy_device",
                               "cuda:0 is lost"};
        struct vx_job before, after;
        cr_assert_eq(vx_db_job_get(f.reader, a.id, &before, NULL), VX_OK);
        cr_assert_eq(vx_store_call(f.store, waits_op, &a, NULL), VX_OK);
        cr_assert_eq(vx_db_job_get(f.reader, a.id, &after, NULL), VX_OK);
        bool told = state == VX_JOB_READY, has = true;
        cr_assert_eq(vx_db_event_has(f.reader, a.id, "trajectory", &has, NULL), VX_OK);
        cr_expect_not(has);
        cr_assert_eq(vx_db_event_has(f.reader, a.id, "state", &has, NULL), VX_OK);
        cr_expect(has);
        cr_expect_eq(after.version, before.version + told);
        cr_expect_eq(strcmp(after.reason_code, "no_healthy_device") == 0, told);
        cr_expect_eq(after.state, before.state);
        if (told) {
            cr_expect_str_eq(after.reason_message, "cuda:0 is lost");
            cr_assert_eq(vx_store_call(f.store, waits_op, &a, NULL), VX_OK);
            a.code = a.message = "";
            cr_assert_eq(vx_store_call(f.store, waits_op, &a, NULL), VX_OK);
            vx_job_release(&after);
            cr_assert_eq(vx_db_job_get(f.reader, a.id, &after, NULL), VX_OK);
            cr_expect_str_empty(after.reason_code);
            cr_expect_eq(after.version, before.version + 2, "the same again is no change");
        }
        vx_job_release(&before);
        vx_job_release(&after);
    }
    fixture_close(&f);
}
