/* The desk: who turned a knob, and what the tuning log says of a trial that nobody judged. */
#include "daemon/telemetry/desk.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "daemon/session/brief.h"
#include "daemon/session/supervisor.h"
#include "db/job.h"
#include "db/store.h"
#include "db/tuning.h"
#include "session/control.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

struct office {
    char *dir;
    struct vx_store *store;
    struct vx_desk desk;
    struct vx_telemetry_job job;
};

static int job_op(struct vx_db *db, void *arg, struct vx_err *err) {
    const struct vx_job_new job = {.type = "train", .spec = "{}"};
    return vx_db_job_insert(db, &job, arg, err);
}

static void open_office(struct office *o) {
    const char *tmp = getenv("TMPDIR");
    struct vx_err err = {0};
    *o = (struct office){.dir = vx_strf("%s/vx-desk-XXXXXX", tmp ? tmp : "/tmp")};
    cr_assert_not_null(mkdtemp(o->dir));
    vx_auto_free char *path = vx_strf("%s/voxeld.db", o->dir);
    cr_assert_eq(vx_store_open(path, &o->store, &err), VX_OK, "%s", err.text);
    o->desk.store = o->store;
    cr_assert_eq(vx_store_call(o->store, job_op, &o->desk.job, &err), VX_OK, "%s", err.text);
    struct vx_brief brief = {.device = "cpu:0", .cache_dir = o->dir, .slots = 16};
    const struct vx_session_knobs now = {.workers = 2};
    vx_desk_telemetry(&o->desk, &brief, &now, &o->job);
}

static void close_office(struct office *o) {
    vx_store_close(o->store);
    vx_remove_tree(o->dir, NULL);
    free(o->dir);
}

static enum vx_tune_knob changed(struct office *o, const char *knob, int from, int to) {
    vx_auto_json json_t *change =
        json_pack("{s:s, s:i, s:i}", "knob", knob, "from", from, "to", to);
    return vx_desk_changed(&o->desk, change);
}

Test(daemon_desk, hands_are_told_from_the_tuner) {
    struct office o;
    open_office(&o);
    atomic_store(&o.desk.asked[VX_KNOB_WORKERS], 4);
    cr_expect_eq(changed(&o, "workers", 2, 4), VX_KNOBS);
    cr_expect_eq(changed(&o, "workers", 4, 3), VX_KNOB_WORKERS);
    cr_expect_eq(changed(&o, "window", 16, 8), VX_KNOB_PREFETCH);
    atomic_store(&o.desk.asked[VX_KNOB_TIER], VX_CACHE_MEMORY);
    cr_expect_eq(changed(&o, "cache_mode", VX_CACHE_AUTO, VX_CACHE_MEMORY), VX_KNOBS);
    cr_expect_eq(changed(&o, "cache_mode", VX_CACHE_MEMORY, VX_CACHE_OPEN), VX_KNOB_TIER);
    cr_expect_eq(changed(&o, "nice", 0, 1), VX_KNOBS);
    close_office(&o);
}

static int trial_op(struct vx_db *db, void *arg, struct vx_err *err) {
    const struct vx_tuning row = {.job_id = *(int64_t *)arg,
                                  .ts_ms = 1000,
                                  .who = "tuner",
                                  .knob = "workers",
                                  .from_value = "2",
                                  .to_value = "4",
                                  .why = "augment_bound",
                                  .outcome = "trial",
                                  .predicted = -0.5,
                                  .measured = (double)NAN,
                                  .noise = (double)NAN};
    return vx_db_tuning_add(db, &row, NULL, err);
}

struct found {
    int64_t job;
    struct vx_tuning row;
};

static int found_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct found *f = arg;
    return vx_db_tuning_get(db, f->job, 1, &f->row, err);
}

Test(daemon_desk, a_trial_that_something_else_ended_is_written_down) {
    struct office o;
    struct vx_err err = {0};
    open_office(&o);
    cr_assert_eq(vx_store_call(o.store, trial_op, &o.desk.job, &err), VX_OK, "%s", err.text);
    const struct vx_decision ended = {.kind = VX_DECISION_ENDED,
                                      .knob = VX_KNOB_WORKERS,
                                      .from = 2,
                                      .to = 4,
                                      .measured = (double)NAN,
                                      .noise = (double)NAN};
    o.job.events.decided(o.job.events.ctx, &ended);
    struct found f = {.job = o.desk.job};
    cr_assert_eq(vx_store_call(o.store, found_op, &f, &err), VX_OK, "%s", err.text);
    cr_expect_str_eq(f.row.outcome, "applied");
    cr_expect_gt(f.row.ended_ms, 0);
    cr_expect(isnan(f.row.measured));
    close_office(&o);
}
