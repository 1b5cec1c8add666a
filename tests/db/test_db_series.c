/* Time series and tuning log. */
#include "db/support.h"

#include "db/event.h"
#include "db/sample.h"
#include "db/schema.h"
#include "db/tuning.h"

#include <math.h>

static int64_t one_job(struct vx_db *db) {
    cr_assert_eq(vx_sql_exec(db,
                             "INSERT INTO jobs(type, spec, spec_version, created_ms, updated_ms) "
                             "VALUES('train', '{}', 1, 5, 5)",
                             NULL),
                 VX_OK);
    return sqlite3_last_insert_rowid(db->handle);
}

static struct vx_db *fresh(struct fixture *f) {
    *f = fixture_open();
    char *path = vx_strf("%s/series.db", f->dir);
    struct vx_db *db = NULL;
    cr_assert_eq(vx_sql_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db, NULL), VX_OK);
    cr_assert_eq(vx_db_migrate(db, vx_db_steps, vx_db_steps_count, NULL), VX_OK);
    free(path);
    return db;
}

static int add_sample(struct vx_db *db, int64_t job, int step, int64_t ts_ms, struct vx_err *err) {
    char data[64];
    snprintf(data, sizeof data, "{\"at\": %lld}", (long long)ts_ms);
    struct vx_sample_row row = {job, step, ts_ms, data};
    return vx_db_sample_add(db, &row, err);
}

Test(db_sample, each_length_is_kept_as_long_as_it_is_meant_to) {
    struct fixture f;
    struct vx_db *db = fresh(&f);
    struct vx_err err = {0};
    int64_t job = one_job(db), other = one_job(db), hour = 3600000;
    for (int i = 0; i < 3; i++) { /* at 0, 1 h, 2 h */
        cr_assert_eq(add_sample(db, job, 1, i * hour, &err), VX_OK, "%s", err.text);
        cr_assert_eq(add_sample(db, job, 10, i * hour, &err), VX_OK);
        cr_assert_eq(add_sample(db, job, 60, i * hour, &err), VX_OK);
    }
    cr_assert_eq(add_sample(db, other, 1, 1, &err), VX_OK);
    cr_assert_eq(add_sample(db, job, 10, 24 * hour + 1, &err), VX_OK);
    cr_assert_eq(add_sample(db, job, 60, 100 * 24 * hour, &err), VX_OK);
    struct vx_sample_list list;
    cr_assert_eq(vx_db_samples(db, job, 1, -1, 100, &list, &err), VX_OK);
    cr_expect_eq(list.n, 1);
    cr_expect_eq(list.v[0].ts_ms, 2 * hour);
    cr_expect_str_eq(list.v[0].data, "{\"at\": 7200000}");
    vx_sample_list_release(&list);
    cr_assert_eq(vx_db_samples(db, job, 10, -1, 100, &list, &err), VX_OK);
    cr_expect_eq(list.n, 3); /* the one at 0 is older than a day */
    vx_sample_list_release(&list);
    cr_assert_eq(vx_db_samples(db, job, 60, 0, 2, &list, &err), VX_OK);
    cr_expect_eq(list.n, 2);
    cr_expect_eq(list.v[0].ts_ms, hour);
    vx_sample_list_release(&list);
    cr_assert_eq(vx_db_samples(db, other, 1, -1, 100, &list, &err), VX_OK);
    cr_expect_eq(list.n, 1); /* nobody else's were touched */
    vx_sample_list_release(&list);
    cr_expect_eq(add_sample(db, job, 5, 1, &err), VX_E_INVALID);
    cr_expect_lt(add_sample(db, 999, 1, 1, &err), 0); /* no such job */
    vx_db_close(db);
    fixture_close(&f);
}

Test(db_tuning, rows_and_their_outcomes) {
    struct fixture f;
    struct vx_db *db = fresh(&f);
    struct vx_err err = {0};
    int64_t job = one_job(db);
    struct vx_tuning row = {.job_id = job,
                            .ts_ms = 1000,
                            .who = "tuner",
                            .knob = "workers",
                            .from_value = "1",
                            .to_value = "6",
                            .why = "augment_bound",
                            .outcome = "trial",
                            .predicted = -0.8,
                            .measured = NAN,
                            .noise = NAN};
    int n = 0;
    cr_assert_eq(vx_db_tuning_add(db, &row, &n, &err), VX_OK, "%s", err.text);
    cr_expect_eq(n, 1);
    cr_assert_eq(vx_db_tuning_add(db, &row, &n, &err), VX_OK);
    cr_expect_eq(n, 2);
    int open = 0;
    cr_assert_eq(vx_db_tuning_on_trial(db, job, &open, &err), VX_OK);
    cr_expect_eq(open, 2);
    struct vx_tuning overtaken;
    cr_assert_eq(vx_db_tuning_get(db, job, 1, &overtaken, &err), VX_OK);
    cr_expect_str_eq(overtaken.outcome, "applied");
    cr_expect_eq(overtaken.ended_ms, 1000);
    cr_expect(isnan(overtaken.measured));
    cr_assert_eq(vx_db_tuning_finish(db, job, 1, "kept", 4000, -0.77, 0.02, &err), VX_OK);
    struct vx_tuning_list list;
    cr_assert_eq(vx_db_tuning_list(db, job, 0, 10, &list, &err), VX_OK);
    cr_assert_eq(list.n, 2);
    cr_expect_str_eq(list.v[0].outcome, "kept");
    cr_expect_eq(list.v[0].ended_ms, 4000);
    cr_expect_float_eq(list.v[0].measured, -0.77, 1e-12);
    cr_expect_str_eq(list.v[1].outcome, "trial");
    cr_expect(isnan(list.v[1].measured));
    vx_tuning_list_release(&list);
    struct vx_tuning got;
    cr_expect_eq(vx_db_tuning_get(db, job, 3, &got, &err), VX_E_NOT_FOUND);
    cr_expect_eq(vx_db_tuning_finish(db, job, 3, "kept", 1, 0, 0, &err), VX_E_NOT_FOUND);
    snprintf(row.who, sizeof row.who, "somebody");
    cr_expect_lt(vx_db_tuning_add(db, &row, &n, &err), 0);
    struct vx_event_list events;
    cr_assert_eq(vx_db_events_since(db, job, 0, 100, &events, &err), VX_OK);
    int tunings = 0;
    for (size_t i = 0; i < events.n; i++) {
        tunings += strcmp(events.v[i].type, "tuning") == 0;
    }
    cr_expect_eq(tunings, 4); /* two begun, one overtaken, one ended */
    cr_expect_not_null(strstr(events.v[events.n - 1].data, "\"outcome\":\"kept\""), "%s",
                       events.v[events.n - 1].data);
    vx_event_list_release(&events);
    vx_db_close(db);
    fixture_close(&f);
}
