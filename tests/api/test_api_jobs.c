#include "api/support.h"

#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *str(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static int64_t num(const json_t *o, const char *key) {
    return json_integer_value(json_object_get(o, key));
}

Test(api_jobs, a_submitted_job_can_be_read_back) {
    struct server *s = server_start(NULL);
    struct reply r = POST(
        s, "/v1/jobs",
        "{\"type\":\"train\",\"dataset\":\"Dataset004_Hippocampus\",\"fold\":3,\"priority\":5}");
    cr_assert_eq(r.status, 201, "%s", r.body);
    cr_assert_str_eq(reply_header(&r, "Location"), "/v1/jobs/1");
    cr_assert_str_eq(reply_header(&r, "Content-Type"), "application/json");
    cr_assert_str_eq(reply_header(&r, "X-Content-Type-Options"), "nosniff");
    cr_assert_str_eq(str(r.json, "state"), "queued");
    cr_assert_str_eq(str(r.json, "type"), "train");
    cr_assert_eq(num(r.json, "fold"), 3);
    cr_assert_eq(num(r.json, "priority"), 5);
    cr_assert(json_is_null(json_object_get(r.json, "started_at")));
    cr_assert_str_eq(str(json_object_get(r.json, "spec"), "dataset"), "Dataset004_Hippocampus");
    cr_assert_str_eq(str(json_object_get(r.json, "links"), "events"), "/v1/jobs/1/events");
    cr_assert_eq(s->submitted, 1);
    struct reply again = GET(s, "/v1/jobs/1");
    cr_assert_eq(again.status, 200);
    cr_assert_str_eq(again.body, r.body);
    reply_free(&r), reply_free(&again);
    server_free(s);
}

Test(api_jobs, etag_changes_with_the_job_only) {
    struct server *s = server_start(NULL);
    submit(s);
    struct reply r = GET(s, "/v1/jobs/1");
    char header[128];
    snprintf(header, sizeof header, "If-None-Match: \"other\", %s\r\n", reply_header(&r, "ETag"));
    reply_free(&r);
    r = request(s, "GET", "/v1/jobs/1", header, NULL);
    cr_assert_eq(r.status, 304);
    cr_assert_eq(r.body_len, 0);
    reply_free(&r);
    move_job(s, 1, (const char *const[]){"preparing", NULL});
    r = request(s, "GET", "/v1/jobs/1", header, NULL);
    cr_assert_eq(r.status, 200);
    reply_free(&r);
    server_free(s);
}

/* Documents are kept for 100 ms (api/rendered.h): never past a commit, never for another job in the
 * same place. */
Test(api_jobs, a_kept_document_is_never_stale_and_never_of_another_job) {
    static const char *const states[] = {"preparing", "ready", "running", "succeeded"};
    struct server *s = server_start(NULL);
    for (int i = 0; i < 17; i++) {
        submit(s);
    }
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        move_job(s, 1, (const char *const[]){states[i], NULL});
        for (int again = 0; again < 2; again++) {
            struct reply one = GET(s, "/v1/jobs/1"), other = GET(s, "/v1/jobs/17");
            cr_assert_str_eq(json_string_value(json_object_get(one.json, "state")), states[i]);
            cr_assert_eq(num(one.json, "id"), 1);
            cr_assert_eq(num(other.json, "id"), 17);
            cr_assert_str_eq(json_string_value(json_object_get(other.json, "state")), "queued");
            reply_free(&one), reply_free(&other);
            one = GET(s, "/v1/jobs/1"); /* made a moment ago: kept by now */
            cr_assert_str_eq(json_string_value(json_object_get(one.json, "state")), states[i]);
            reply_free(&one);
        }
        struct reply kept = GET(s, "/v1/jobs/1"); /* so that the next move finds one to outdate */
        reply_free(&kept);
    }
    server_free(s);
}

Test(api_jobs, live_progress_is_shown_while_the_job_is_active) {
    struct server *s = server_start(NULL);
    submit(s);
    submit(s);
    struct reply r = GET(s, "/v1/jobs/2");
    cr_assert_eq(num(json_object_get(r.json, "progress"), "epoch"), 7);
    reply_free(&r);
    r = GET(s, "/v1/jobs/1");
    cr_assert(json_is_null(json_object_get(r.json, "progress")));
    reply_free(&r);
    server_free(s);
}

Test(api_jobs, list_pages_by_cursor_and_filters) {
    struct server *s = server_start(NULL);
    for (int i = 0; i < 5; i++) {
        submit(s);
    }
    move_job(s, 4, (const char *const[]){"cancelled", NULL});
    struct reply r = GET(s, "/v1/jobs?limit=2");
    cr_assert_eq(num(json_array_get(json_object_get(r.json, "jobs"), 0), "id"), 5);
    cr_assert_eq(json_array_size(json_object_get(r.json, "jobs")), 2);
    cr_assert_str_eq(str(r.json, "next_cursor"), "4");
    cr_assert_null(json_object_get(json_array_get(json_object_get(r.json, "jobs"), 0), "spec"));
    reply_free(&r);
    r = GET(s, "/v1/jobs?limit=3&cursor=4");
    cr_assert_eq(num(json_array_get(json_object_get(r.json, "jobs"), 2), "id"), 1);
    cr_assert(json_is_null(json_object_get(r.json, "next_cursor")));
    reply_free(&r);
    r = GET(s, "/v1/jobs?state=cancelled,failed");
    cr_assert_eq(json_array_size(json_object_get(r.json, "jobs")), 1);
    reply_free(&r);
    r = GET(s, "/v1/jobs?dataset=Dataset005_Other");
    cr_assert_eq(json_array_size(json_object_get(r.json, "jobs")), 0);
    reply_free(&r);
    EXPECT_PROBLEM(GET(s, "/v1/jobs?state=queued,bogus"), 400, "invalid_parameter");
    EXPECT_PROBLEM(GET(s, "/v1/jobs?limit=0"), 400, "invalid_parameter");
    EXPECT_PROBLEM(GET(s, "/v1/jobs?limit=1e3"), 400, "invalid_parameter");
    EXPECT_PROBLEM(GET(s, "/v1/jobs?limit=99999999999999999999"), 400, "invalid_parameter");
    EXPECT_PROBLEM(GET(s, "/v1/jobs?colour=red"), 400, "unknown_parameter");
    server_free(s);
}

Test(api_jobs, bad_bodies_are_refused_with_pointers) {
    struct server *s = server_start(NULL);
    EXPECT_PROBLEM(POST(s, "/v1/jobs", "{\"type\":"), 400, "malformed_json");
    EXPECT_PROBLEM(POST(s, "/v1/jobs", "[1]"), 400, "not_an_object");
    EXPECT_PROBLEM(POST(s, "/v1/jobs", "{\"type\":\"train\",\"type\":\"train\"}"), 400,
                   "malformed_json");
    EXPECT_PROBLEM(POST(s, "/v1/jobs", "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]"), 400,
                   "json_too_deep");
    EXPECT_PROBLEM(POST(s, "/v1/jobs", ""), 400, "body_missing");
    EXPECT_PROBLEM(request(s, "POST", "/v1/jobs", "Content-Type: text/plain\r\n", SPEC), 415,
                   "unsupported_media_type");
    struct reply r =
        POST(s, "/v1/jobs", "{\"type\":\"train\",\"colour\":1,\"fold\":-7,\"priority\":\"x\"}");
    cr_assert_eq(r.status, 422);
    cr_assert_str_eq(str(r.json, "code"), "invalid_request");
    bool colour = false, fold = false, priority = false, dataset = false;
    size_t i;
    json_t *e;
    json_array_foreach(json_object_get(r.json, "errors"), i, e) {
        colour |=
            strcmp(str(e, "pointer"), "/colour") == 0 && strcmp(str(e, "code"), "unknown_key") == 0;
        fold |= strcmp(str(e, "pointer"), "/fold") == 0;
        priority |= strcmp(str(e, "pointer"), "/priority") == 0 &&
                    strcmp(str(e, "code"), "wrong_type") == 0;
        dataset |= strcmp(str(e, "pointer"), "/dataset") == 0;
    }
    cr_assert(colour && fold && priority && dataset, "%s", r.body);
    reply_free(&r);
    cr_assert_eq(s->submitted, 0);
    server_free(s);
}

Test(api_jobs, what_only_the_daemon_knows_refuses_too) {
    struct server *s = server_start(NULL);
    struct reply r = POST(s, "/v1/jobs", "{\"type\":\"train\",\"dataset\":\"Dataset077_Nothing\"}");
    cr_assert_eq(r.status, 422);
    cr_assert_str_eq(str(r.json, "code"), "unknown_dataset");
    cr_assert_str_eq(str(json_array_get(json_object_get(r.json, "errors"), 0), "pointer"),
                     "/dataset");
    reply_free(&r);
    s->result_exists = 1;
    EXPECT_PROBLEM(POST(s, "/v1/jobs", SPEC), 409, "result_exists");
    s->result_exists = 0;
    EXPECT_PROBLEM(POST(s, "/v1/jobs?dry_run=true", SPEC), 501, "dry_run_not_available");
    EXPECT_PROBLEM(POST(s, "/v1/jobs?dry_run=yes", SPEC), 400, "invalid_parameter");
    EXPECT_PROBLEM(GET(s, "/v1/jobs/1"), 404, "job_not_found");
    server_free(s);
}

Test(api_jobs, the_queue_has_a_limit) {
    struct server *s = server_start(&(struct vx_api_limits){.unfinished_jobs = 2});
    submit(s);
    submit(s);
    struct reply r = POST(s, "/v1/jobs", SPEC);
    cr_assert_eq(r.status, 429);
    cr_assert_str_eq(str(r.json, "code"), "queue_full");
    cr_assert_str_eq(reply_header(&r, "Retry-After"), "5");
    reply_free(&r);
    move_job(s, 1, (const char *const[]){"cancelled", NULL});
    cr_assert_eq(submit(s), 3);
    server_free(s);
}

#define KEYED "Content-Type: application/json\r\nIdempotency-Key: abc\r\n"

Test(api_jobs, an_idempotency_key_makes_one_job) {
    struct server *s = server_start(NULL);
    struct reply first = request(s, "POST", "/v1/jobs", KEYED, SPEC);
    cr_assert_eq(first.status, 201);
    cr_assert_null(reply_header(&first, "Idempotent-Replayed"));
    s->result_exists = 1; /* has changed since: the answer is the old one */
    struct reply second = request(s, "POST", "/v1/jobs", KEYED, " " SPEC);
    cr_assert_eq(second.status, 201, "%s", second.body);
    cr_assert_str_eq(reply_header(&second, "Idempotent-Replayed"), "true");
    cr_assert_str_eq(reply_header(&second, "Location"), "/v1/jobs/1");
    cr_assert_str_eq(second.body, first.body);
    reply_free(&first), reply_free(&second);
    s->result_exists = 0;
    EXPECT_PROBLEM(
        request(s, "POST", "/v1/jobs", KEYED,
                "{\"type\":\"train\",\"dataset\":\"Dataset004_Hippocampus\",\"fold\":1}"),
        409, "idempotency_key_reused");
    EXPECT_PROBLEM(request(s, "POST", "/v1/jobs",
                           "Content-Type: application/json\r\nIdempotency-Key: a b\r\n", SPEC),
                   400, "invalid_header");
    cr_assert_eq(s->submitted, 1);
    server_free(s);
}

static void *post_keyed(void *arg) {
    struct reply r = request(arg, "POST", "/v1/jobs", KEYED, SPEC);
    intptr_t id = r.status == 201 ? (intptr_t)num(r.json, "id") : -r.status;
    reply_free(&r);
    return (void *)id;
}

Test(api_jobs, the_same_key_at_the_same_time_makes_one_job) {
    struct server *s = server_start(NULL);
    pthread_t threads[16];
    for (int i = 0; i < 16; i++) {
        pthread_create(&threads[i], NULL, post_keyed, s);
    }
    for (int i = 0; i < 16; i++) {
        void *id = NULL;
        pthread_join(threads[i], &id);
        cr_assert_eq((intptr_t)id, 1);
    }
    cr_assert_eq(s->submitted, 1);
    server_free(s);
}

Test(api_jobs, cancel_is_asynchronous_and_idempotent) {
    struct server *s = server_start(NULL);
    submit(s);
    submit(s);
    move_job(s, 2, (const char *const[]){"preparing", "ready", "running", NULL});
    for (int i = 0; i < 2; i++) {
        struct reply r = request(s, "POST", "/v1/jobs/1/cancel", "", NULL);
        cr_assert_eq(r.status, 200, "%s", r.body);
        cr_assert_str_eq(str(r.json, "state"), "cancelled");
        cr_assert_str_eq(str(json_object_get(r.json, "reason"), "code"), "cancelled_by_user");
        reply_free(&r);
        r = POST(s, "/v1/jobs/2/cancel", "{}");
        cr_assert_eq(r.status, 202);
        cr_assert_str_eq(str(r.json, "state"), "cancelling");
        reply_free(&r);
    }
    cr_assert_eq(s->cancelled, 2, "once for each job");
    move_job(s, 2, (const char *const[]){"cancelled", NULL});
    struct reply r = POST(s, "/v1/jobs/2/cancel", "");
    cr_assert_eq(r.status, 200);
    reply_free(&r);
    EXPECT_PROBLEM(POST(s, "/v1/jobs/9/cancel", ""), 404, "job_not_found");
    EXPECT_PROBLEM(POST(s, "/v1/jobs/1/cancel", "{\"force\":true}"), 422, "unknown_key");
    server_free(s);
}

Test(api_jobs, log_and_its_tail) {
    struct server *s = server_start(NULL);
    submit(s);
    struct reply r = GET(s, "/v1/jobs/1/log");
    cr_assert_eq(r.status, 200);
    cr_assert_str_eq(r.body, "");
    reply_free(&r);
    vx_auto_free char *dir = vx_strf("%s/jobs/1", s->dir), *path = vx_strf("%s/log.txt", dir);
    cr_assert_eq(vx_mkdirs(dir, 0700, NULL), VX_OK);
    cr_assert_eq(vx_write_file_atomic(path, "one\ntwo\nthree\n", 14, 0600, NULL), VX_OK);
    r = GET(s, "/v1/jobs/1/log");
    cr_assert_str_eq(r.body, "one\ntwo\nthree\n");
    cr_assert_str_eq(reply_header(&r, "Content-Type"), "text/plain; charset=utf-8");
    reply_free(&r);
    r = GET(s, "/v1/jobs/1/log?tail=2");
    cr_assert_str_eq(r.body, "two\nthree\n");
    reply_free(&r);
    r = GET(s, "/v1/jobs/1/log?tail=50");
    cr_assert_str_eq(r.body, "one\ntwo\nthree\n");
    reply_free(&r);
    EXPECT_PROBLEM(GET(s, "/v1/jobs/1/log?tail=0"), 400, "invalid_parameter");
    EXPECT_PROBLEM(GET(s, "/v1/jobs/2/log"), 404, "job_not_found");
    server_free(s);
}

Test(api_jobs, artifacts_stay_beneath_the_job) {
    struct server *s = server_start(NULL);
    submit(s);
    vx_auto_free char *dir = vx_strf("%s/jobs/1/validation", s->dir),
                      *file = vx_strf("%s/summary.json", dir),
                      *link = vx_strf("%s/jobs/1/out", s->dir),
                      *hidden = vx_strf("%s/jobs/1/.lock", s->dir),
                      *plans = vx_strf("%s/jobs/1/plans.json", s->dir),
                      *fifo = vx_strf("%s/jobs/1/pipe", s->dir);
    cr_assert_eq(vx_mkdirs(dir, 0700, NULL), VX_OK);
    cr_assert_eq(vx_write_file_atomic(file, "{\"dice\":1}", 10, 0600, NULL), VX_OK);
    cr_assert_eq(vx_write_file_atomic(plans, "{}", 2, 0600, NULL), VX_OK);
    cr_assert_eq(vx_write_file_atomic(hidden, "x", 1, 0600, NULL), VX_OK);
    cr_assert_eq(symlink("/etc", link), 0);
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    struct reply r = GET(s, "/v1/jobs/1/artifacts");
    cr_assert_eq(r.status, 200);
    const json_t *list = json_object_get(r.json, "artifacts");
    cr_assert_eq(json_array_size(list), 2, "%s", r.body);
    cr_assert_str_eq(str(json_array_get(list, 0), "name"), "plans.json");
    cr_assert_str_eq(str(json_array_get(list, 1), "name"), "validation/summary.json");
    cr_assert_eq(num(json_array_get(list, 1), "bytes"), 10);
    reply_free(&r);
    r = GET(s, "/v1/jobs/1/artifacts/validation/summary.json");
    cr_assert_eq(r.status, 200);
    cr_assert_str_eq(r.body, "{\"dice\":1}");
    reply_free(&r);
    static const char *const bad[] = {
        "..%2f..%2fvoxeld.db",
        "../../voxeld.db",
        "out/passwd",
        "%2fetc%2fpasswd",
        "validation/../../1/plans.json",
        ".lock",
        "validation",
        "pipe",
        "nothing",
        "validation//../.lock",
    };
    for (size_t i = 0; i < VX_COUNTOF(bad); i++) {
        char path[128];
        snprintf(path, sizeof path, "/v1/jobs/1/artifacts/%s", bad[i]);
        r = GET(s, path);
        cr_assert_eq(r.status, 404, "%s: %d", bad[i], r.status);
        reply_free(&r);
    }
    r = GET(s, "/v1/jobs/1/artifacts/validation%2Fsummary.json");
    cr_assert_eq(r.status, 200);
    reply_free(&r);
    server_free(s);
}

static int epoch_op(struct vx_db *db, void *arg, struct vx_err *err) {
    return vx_db_epoch_add(db, arg, err);
}

Test(api_jobs, epochs_as_json) {
    struct server *s = server_start(NULL);
    submit(s);
    char dice[] = "[0.25,0.75]", phases[] = "{\"compute\":2.5}";
    for (int i = 0; i < 3; i++) {
        struct vx_epoch e = {.job_id = 1,
                             .epoch = i,
                             .train_loss = i == 0 ? (double)NAN : 0.5,
                             .val_loss = -0.25,
                             .ema = 0.5,
                             .lr = 0.01,
                             .seconds = 3,
                             .loader_wait = 0.125,
                             .dice = dice,
                             .phases = phases};
        cr_assert_eq(vx_store_call(s->store, epoch_op, &e, NULL), VX_OK);
    }
    struct reply r = GET(s, "/v1/jobs/1/epochs?from=0");
    const json_t *list = json_object_get(r.json, "epochs");
    cr_assert_eq(json_array_size(list), 3);
    cr_assert(json_is_null(json_object_get(json_array_get(list, 0), "train_loss")));
    const json_t *e = json_array_get(list, 1);
    cr_assert_eq(json_real_value(json_object_get(e, "train_loss")), 0.5);
    cr_assert_eq(json_real_value(json_array_get(json_object_get(e, "dice"), 1)), 0.75);
    cr_assert_eq(json_real_value(json_object_get(json_object_get(e, "phases"), "compute")), 2.5);
    reply_free(&r);
    r = GET(s, "/v1/jobs/1/epochs?from=2&limit=1");
    cr_assert_eq(num(json_array_get(json_object_get(r.json, "epochs"), 0), "epoch"), 2);
    reply_free(&r);
    EXPECT_PROBLEM(GET(s, "/v1/jobs/4/epochs"), 404, "job_not_found");
    server_free(s);
}

#define PATCH(s, path, body) request(s, "PATCH", path, "Content-Type: application/json\r\n", body)

Test(api_jobs, loader_knobs_are_checked_and_turned_while_it_runs) {
    static const char *const running[] = {"preparing", "ready", "running", NULL};
    static const char *const over[] = {"failed", NULL};
    struct server *s = server_start(NULL);
    submit(s);
    EXPECT_PROBLEM(GET(s, "/v1/jobs/1/loader"), 409, "job_not_running");
    EXPECT_PROBLEM(PATCH(s, "/v1/jobs/1/loader", "{\"workers\":3}"), 409, "job_not_running");
    EXPECT_PROBLEM(PATCH(s, "/v1/jobs/9/loader", "{\"workers\":3}"), 404, "job_not_found");
    move_job(s, 1, running);
    struct reply r = GET(s, "/v1/jobs/1/loader");
    cr_assert(r.status == 200 && num(r.json, "workers") == 2 && num(r.json, "job") == 1, "%s",
              r.body);
    reply_free(&r);
    static const char *const bodies[] = {"{\"workers\":3}", "{\"workers\":2}", "{}",
                                         "{\"prefetch\":\"auto\",\"keep_files_open\":false}"};
    for (size_t i = 0; i < VX_COUNTOF(bodies); i++) {
        r = PATCH(s, "/v1/jobs/1/loader", bodies[i]);
        cr_assert_eq(r.status, i == 0 ? 202 : 200, "%s: %d %s", bodies[i], r.status, r.body);
        reply_free(&r);
    }
    r = PATCH(s, "/v1/jobs/1/loader", "{\"workers\":5}");
    cr_assert_eq(r.status, 422);
    const json_t *first = json_array_get(json_object_get(r.json, "errors"), 0);
    cr_assert_str_eq(json_string_value(json_object_get(first, "pointer")), "/workers");
    reply_free(&r);
    static const char *const bad[] = {"{\"workers\":0}",         "{\"workers\":1.5}",
                                      "{\"workers\":\"many\"}",  "{\"prefetch\":1}",
                                      "{\"keep_files_open\":1}", "{\"cache\":\"fast\"}",
                                      "{\"batch_size\":4}"};
    for (size_t i = 0; i < VX_COUNTOF(bad); i++) {
        EXPECT_PROBLEM(PATCH(s, "/v1/jobs/1/loader", bad[i]), 422, "invalid_request");
    }
    s->not_ready = 1;
    EXPECT_PROBLEM(PATCH(s, "/v1/jobs/1/loader", "{}"), 503, "not_ready");
    s->not_ready = 0;
    move_job(s, 1, over);
    EXPECT_PROBLEM(PATCH(s, "/v1/jobs/1/loader", "{\"workers\":3}"), 409, "job_ended");
    server_free(s);
}
