/* Bottleneck, time series and tuning log over HTTP. */
#include "api/support.h"

#include "db/sample.h"
#include "db/tuning.h"

#include <math.h>
#include <string.h>

Test(api_diagnosis, bottleneck_of_a_running_job_and_of_one_that_does_not_run) {
    struct server *s = server_start(NULL);
    submit(s);
    submit(s);
    struct reply r = GET(s, "/v1/jobs/1/bottleneck");
    cr_assert_eq(r.status, 200);
    cr_expect_eq(json_integer_value(json_object_get(r.json, "job")), 1);
    cr_expect_str_eq(json_string_value(json_object_get(r.json, "state")), "queued");
    const json_t *first = json_array_get(json_object_get(r.json, "verdicts"), 0);
    cr_expect_str_eq(json_string_value(json_object_get(first, "text")), "augment");
    reply_free(&r);
    r = request(s, "GET", "/v1/jobs/1/bottleneck", "Accept-Language: zh\r\n", NULL);
    first = json_array_get(json_object_get(r.json, "verdicts"), 0);
    cr_expect_str_eq(json_string_value(json_object_get(first, "text")), "增强");
    reply_free(&r);
    r = GET(s, "/v1/jobs/2/bottleneck");
    cr_assert_eq(r.status, 200);
    cr_expect(json_is_null(json_object_get(r.json, "healthy")));
    cr_expect(json_is_null(json_object_get(r.json, "window")));
    cr_expect_eq(json_array_size(json_object_get(r.json, "verdicts")), 0);
    reply_free(&r);
    EXPECT_PROBLEM(GET(s, "/v1/jobs/3/bottleneck"), 404, "job_not_found");
    server_free(s);
}

static int fill_op(struct vx_db *db, void *arg, struct vx_err *err) {
    (void)arg;
    for (int i = 1; i <= 3; i++) {
        char data[] = "{\"steps\": 7}";
        struct vx_sample_row row = {1, 10, 1000 * i, data};
        int rc = vx_db_sample_add(db, &row, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    struct vx_tuning t = {.job_id = 1,
                          .ts_ms = 1000,
                          .who = "tuner",
                          .knob = "workers",
                          .from_value = "1",
                          .to_value = "2",
                          .why = "augment_bound",
                          .outcome = "trial",
                          .predicted = -0.5,
                          .measured = NAN,
                          .noise = NAN};
    return vx_db_tuning_add(db, &t, NULL, err);
}

Test(api_diagnosis, series_and_log) {
    struct server *s = server_start(NULL);
    submit(s);
    struct vx_err err = {0};
    cr_assert_eq(vx_store_call(s->store, fill_op, NULL, &err), VX_OK, "%s", err.text);
    struct reply r = GET(s, "/v1/jobs/1/telemetry?since=1000&limit=1");
    cr_assert_eq(r.status, 200);
    const json_t *samples = json_object_get(r.json, "samples");
    cr_assert_eq(json_array_size(samples), 1);
    const json_t *one = json_array_get(samples, 0);
    cr_expect_eq(json_integer_value(json_object_get(one, "steps")), 7);
    cr_expect_eq(json_integer_value(json_object_get(one, "ts_ms")), 2000);
    cr_expect_str_eq(json_string_value(json_object_get(one, "at")), "1970-01-01T00:00:02.000Z");
    cr_expect_eq(json_integer_value(json_object_get(r.json, "next_since")), 2000);
    reply_free(&r);
    r = GET(s, "/v1/jobs/1/telemetry?step=60");
    cr_expect_eq(json_array_size(json_object_get(r.json, "samples")), 0);
    reply_free(&r);
    EXPECT_PROBLEM(GET(s, "/v1/jobs/1/telemetry?step=5"), 400, "invalid_parameter");
    EXPECT_PROBLEM(GET(s, "/v1/jobs/9/telemetry"), 404, "job_not_found");
    r = GET(s, "/v1/jobs/1/tuning");
    const json_t *change = json_array_get(json_object_get(r.json, "changes"), 0);
    cr_expect_str_eq(json_string_value(json_object_get(change, "to")), "2");
    cr_expect_float_eq(json_real_value(json_object_get(change, "predicted")), -0.5, 1e-12);
    cr_expect(json_is_null(json_object_get(change, "measured")));
    cr_expect(json_is_null(json_object_get(change, "ended_at")));
    reply_free(&r);
    r = GET(s, "/v1/jobs/1/tuning?after=1");
    cr_expect_eq(json_array_size(json_object_get(r.json, "changes")), 0);
    reply_free(&r);
    server_free(s);
}
