/* Event streams, data sets, health, the end. */
#include "api/support.h"

#include "base/clock.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *str(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static int stream_open(const struct server *s, int64_t id, const char *headers) {
    int fd = client_connect(s);
    vx_auto_free char *text =
        vx_strf("GET /v1/jobs/%lld/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                "Authorization: Bearer " TOKEN "\r\n%s\r\n",
                (long long)id, headers);
    client_send(fd, text);
    return fd;
}

/* Reads until text has been seen; what was read is appended to buf. */
static void read_until(int fd, struct vx_buf *buf, const char *text) {
    char block[4096];
    while (!buf->data || !strstr(buf->data, text)) {
        ssize_t n = recv(fd, block, sizeof block, 0);
        cr_assert_gt(n, 0, "the stream ended before \"%s\": %s", text, buf->data ? buf->data : "");
        vx_buf_add(buf, block, (size_t)n);
    }
}

Test(api_events, as_json) {
    struct server *s = server_start(NULL);
    int64_t id = submit(s);
    move_job(s, id, (const char *const[]){"preparing", "ready", NULL});
    struct reply r = GET(s, "/v1/jobs/1/events?follow=false&limit=2");
    cr_assert_eq(r.status, 200);
    const json_t *list = json_object_get(r.json, "events");
    cr_assert_eq(json_array_size(list), 2);
    cr_assert_str_eq(str(json_array_get(list, 1), "type"), "state");
    cr_assert_str_eq(str(json_object_get(json_array_get(list, 1), "data"), "state"), "preparing");
    char path[96];
    snprintf(path, sizeof path, "/v1/jobs/1/events?follow=false&after=%lld",
             (long long)json_integer_value(json_object_get(r.json, "next_after")));
    reply_free(&r);
    r = GET(s, path);
    list = json_object_get(r.json, "events");
    cr_assert_eq(json_array_size(list), 1);
    cr_assert_str_eq(str(json_object_get(json_array_get(list, 0), "data"), "state"), "ready");
    reply_free(&r);
    EXPECT_PROBLEM(GET(s, "/v1/jobs/1/events?follow=maybe"), 400, "invalid_parameter");
    EXPECT_PROBLEM(GET(s, "/v1/jobs/5/events"), 404, "job_not_found");
    EXPECT_PROBLEM(request(s, "GET", "/v1/jobs/1/events", "Last-Event-ID: x\r\n", NULL), 400,
                   "invalid_header");
    server_free(s);
}

Test(api_events, stream_replays_then_follows_then_ends_with_the_job) {
    struct server *s = server_start(NULL);
    int64_t id = submit(s);
    struct vx_buf seen = VX_BUF_INIT;
    int fd = stream_open(s, id, "");
    read_until(fd, &seen, "\"state\":\"queued\"");
    cr_assert(strstr(seen.data, "Content-Type: text/event-stream"));
    cr_assert(strstr(seen.data, "event: state\ndata: {\"id\":"));
    move_job(s, id, (const char *const[]){"preparing", NULL});
    read_until(fd, &seen, "\"state\":\"preparing\"");
    move_job(s, id, (const char *const[]){"ready", "running", "succeeded", NULL});
    read_until(fd, &seen, "\"state\":\"succeeded\"");
    read_until(fd, &seen, "\r\n0\r\n"); /* the last chunk */
    close(fd);
    vx_buf_release(&seen);
    server_free(s);
}

Test(api_events, last_event_id_resumes_without_gap_or_repetition) {
    struct server *s = server_start(NULL);
    int64_t id = submit(s);
    move_job(s, id, (const char *const[]){"preparing", "ready", "running", "failed", NULL});
    struct vx_event_list list;
    struct vx_db *reader = NULL;
    cr_assert_eq(vx_db_reader_open(s->db_path, &reader, NULL), VX_OK);
    cr_assert_eq(vx_db_events_since(reader, id, 0, 100, &list, NULL), VX_OK);
    cr_assert_eq(list.n, 5);
    char header[64];
    snprintf(header, sizeof header, "Last-Event-ID: %lld\r\n", (long long)list.v[2].id);
    struct reply r = client_finish(stream_open(s, id, header));
    cr_assert_eq(r.status, 200);
    cr_assert_not(strstr(r.body, "\"state\":\"ready\""));
    const char *running = strstr(r.body, "\"state\":\"running\""),
               *failed = strstr(r.body, "\"state\":\"failed\"");
    cr_assert(running && failed && running < failed, "%s", r.body);
    reply_free(&r);
    snprintf(header, sizeof header, "Last-Event-ID: %lld\r\n", (long long)list.v[4].id);
    r = client_finish(stream_open(s, id, header));
    cr_assert_eq(r.status, 204, "tells a browser not to come back");
    reply_free(&r);
    vx_event_list_release(&list);
    vx_db_close(reader);
    server_free(s);
}

static int many_events_op(struct vx_db *db, void *arg, struct vx_err *err) {
    (void)arg;
    for (int i = 0; i < 1000; i++) {
        char data[64];
        snprintf(data, sizeof data, "{\"n\":%d,\n \"pad\":\"\"}", i);
        int rc = vx_db_event_add(db, 1, "log", data, NULL, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    return VX_OK;
}

Test(api_events, a_thousand_events_come_in_order_to_many) {
    struct server *s = server_start(NULL);
    submit(s);
    int fds[8];
    for (int i = 0; i < 8; i++) {
        fds[i] = stream_open(s, 1, "");
    }
    cr_assert_eq(vx_store_call(s->store, many_events_op, NULL, NULL), VX_OK);
    move_job(s, 1, (const char *const[]){"cancelled", NULL});
    for (int i = 0; i < 8; i++) {
        struct reply r = client_finish(fds[i]);
        const char *p = r.body;
        for (int n = 0; n < 1000; n++) {
            char want[32];
            snprintf(want, sizeof want, "\"data\":{\"n\":%d,  ", n);
            p = strstr(p, want);
            cr_assert_not_null(p, "stream %d lacks event %d", i, n);
        }
        cr_assert_not_null(strstr(p, "cancelled"));
        reply_free(&r);
    }
    server_free(s);
}

Test(api_events, heartbeats_limits_and_dead_clients) {
    struct server *s =
        server_start(&(struct vx_api_limits){.heartbeat_ms = 50, .streams_per_client = 2});
    submit(s);
    int first = stream_open(s, 1, ""), second = stream_open(s, 1, "");
    struct vx_buf seen = VX_BUF_INIT;
    read_until(first, &seen, ": alive");
    vx_buf_clear(&seen);
    read_until(second, &seen, ": alive");
    struct reply r = client_finish(stream_open(s, 1, ""));
    cr_assert_eq(r.status, 429);
    cr_assert_str_eq(str(r.json, "code"), "too_many_streams");
    reply_free(&r);
    close(first); /* a heartbeat finds out, and its place is free again */
    int third = -1;
    for (int i = 0; i < 100 && third < 0; i++) {
        usleep(20000);
        third = stream_open(s, 1, "");
        char head[16] = "";
        cr_assert_gt(recv(third, head, 15, 0), 0);
        if (strncmp(head, "HTTP/1.1 200", 12) != 0) {
            close(third);
            third = -1;
        }
    }
    cr_assert_geq(third, 0);
    close(second), close(third);
    vx_buf_release(&seen);
    server_free(s);
}

Test(api_datasets, register_list_and_read) {
    struct server *s = server_start(NULL);
    for (int i = 0; i < 2; i++) { /* idempotent while it is registering */
        struct reply r =
            POST(s, "/v1/datasets", "{\"name\":\"Dataset005_Prostate\",\"path\":\"/raw\"}");
        cr_assert_eq(r.status, 202, "%s", r.body);
        cr_assert_str_eq(reply_header(&r, "Location"), "/v1/datasets/Dataset005_Prostate");
        cr_assert_str_eq(str(r.json, "state"), "registering");
        cr_assert_str_eq(str(r.json, "path"), "/raw/Dataset005_Prostate");
        cr_assert(json_is_null(json_object_get(r.json, "report")));
        reply_free(&r);
    }
    cr_assert_eq(s->registered, 1);
    struct reply r = GET(s, "/v1/datasets/Dataset004_Hippocampus");
    cr_assert_eq(json_integer_value(json_object_get(json_object_get(r.json, "report"), "cases")),
                 200);
    reply_free(&r);
    r = GET(s, "/v1/datasets?limit=1");
    cr_assert_eq(json_array_size(json_object_get(r.json, "datasets")), 1);
    cr_assert_str_eq(str(r.json, "next_cursor"), "Dataset004_Hippocampus");
    reply_free(&r);
    r = GET(s, "/v1/datasets?cursor=Dataset004_Hippocampus");
    cr_assert_str_eq(str(json_array_get(json_object_get(r.json, "datasets"), 0), "name"),
                     "Dataset005_Prostate");
    reply_free(&r);
    EXPECT_PROBLEM(GET(s, "/v1/datasets/Dataset004_Hippocampus/plans"), 404, "plans_not_ready");
    EXPECT_PROBLEM(GET(s, "/v1/datasets/Dataset009_Spleen"), 404, "dataset_not_found");
    EXPECT_PROBLEM(POST(s, "/v1/datasets", "{\"name\":\"Dataset999_Missing\"}"), 422,
                   "dataset_folder_not_found");
    static const char *const bad[] = {"{}",
                                      "{\"name\":5}",
                                      "{\"name\":\"Hippocampus\"}",
                                      "{\"name\":\"Dataset004_../x\"}",
                                      "{\"name\":\"Dataset4_X\"}",
                                      "{\"name\":\"Dataset004_X\",\"paht\":\"/a\"}",
                                      "{\"name\":\"Dataset004_X\",\"path\":\"\"}"};
    for (size_t i = 0; i < VX_COUNTOF(bad); i++) {
        EXPECT_PROBLEM(POST(s, "/v1/datasets", bad[i]), 422, "invalid_request");
    }
    server_free(s);
}

static int invalid_op(struct vx_db *db, void *arg, struct vx_err *err) {
    (void)arg;
    struct vx_dataset_change change = {.state = VX_DATASET_INVALID,
                                       .reason_code = "nan",
                                       .reason_message = "a NaN in case_3",
                                       .plans = "{\"plans_name\":\"nnUNetPlans\"}"};
    return vx_db_dataset_update(db, "Dataset004_Hippocampus", &change, err);
}

Test(api_datasets, plans_and_reason_of_an_invalid_one) {
    struct server *s = server_start(NULL);
    cr_assert_eq(vx_store_call(s->store, invalid_op, NULL, NULL), VX_OK);
    struct reply r = GET(s, "/v1/datasets/Dataset004_Hippocampus/plans");
    cr_assert_eq(r.status, 200);
    cr_assert_str_eq(str(r.json, "plans_name"), "nnUNetPlans");
    reply_free(&r);
    r = GET(s, "/v1/datasets/Dataset004_Hippocampus");
    cr_assert_str_eq(str(json_object_get(r.json, "reason"), "message"), "a NaN in case_3");
    reply_free(&r);
    server_free(s);
}

Test(api_system, health_devices_system_metrics) {
    struct server *s = server_start(NULL);
    struct reply r = GET(s, "/readyz");
    cr_assert_eq(r.status, 200);
    reply_free(&r);
    s->not_ready = 1;
    EXPECT_PROBLEM(GET(s, "/readyz"), 503, "not_ready");
    EXPECT_PROBLEM(POST(s, "/v1/jobs", SPEC), 503, "not_ready");
    cr_assert_eq(s->submitted, 0);
    s->not_ready = 0;
    r = GET(s, "/v1/devices");
    cr_assert_str_eq(str(json_array_get(json_object_get(r.json, "devices"), 0), "name"), "cpu:0");
    reply_free(&r);
    r = GET(s, "/v1/system");
    cr_assert_str_eq(str(r.json, "version"), "1.2.3");
    cr_assert_eq(json_integer_value(json_object_get(r.json, "cores")), 2);
    cr_assert_eq(
        json_integer_value(json_object_get(json_object_get(r.json, "http_limits"), "body_bytes")),
        1 << 20);
    reply_free(&r);
    submit(s);
    r = request(s, "GET", "/metrics", "Accept: application/openmetrics-text\r\n", NULL);
    cr_assert_eq(r.status, 200);
    cr_expect_not_null(strstr(reply_header(&r, "Content-Type"), "application/openmetrics-text"));
    cr_expect_str_eq(r.body + r.body_len - 6, "# EOF\n");
    cr_expect_not_null(strstr(r.body, "# TYPE voxeld_http_requests counter\n"), "%s", r.body);
    cr_expect_not_null(strstr(r.body, "\nvoxeld_http_requests_total{"));
    reply_free(&r);
    r = GET(s, "/metrics");
    cr_assert(strstr(r.body, "voxeld_build_info{version=\"1.2.3\",commit=\"abc\"} 1\n"));
    cr_assert(strstr(
        r.body, "voxeld_http_requests_total{method=\"GET\",route=\"/readyz\",code=\"503\"} 1\n"));
    cr_assert(strstr(
        r.body, "voxeld_http_requests_total{method=\"POST\",route=\"/v1/jobs\",code=\"201\"} 1\n"));
    cr_assert(strstr(
        r.body,
        "voxeld_http_request_duration_seconds_count{method=\"GET\",route=\"/v1/system\"} 1\n"));
    cr_assert(strstr(r.body, "voxeld_jobs{state=\"queued\"} 1\n"));
    cr_assert(strstr(r.body, "voxeld_loader_stall_ratio 0.25\n"), "the daemon's own");
    reply_free(&r);
    server_free(s);
}

Test(api_system, page_and_its_files) {
    struct server *s = server_start(NULL);
    static const char *const files[][2] = {
        {"/", "text/html; charset=utf-8"},
        {"/assets/style.css", "text/css; charset=utf-8"},
        {"/assets/app.js", "text/javascript; charset=utf-8"},
        {"/assets/charts.js", "text/javascript; charset=utf-8"},
        {"/assets/chart.min.js", "text/javascript; charset=utf-8"},
        {"/openapi.yaml", "application/yaml"}};
    for (size_t i = 0; i < VX_COUNTOF(files); i++) {
        struct reply r = GET(s, files[i][0]);
        cr_assert_eq(r.status, 200, "%s", files[i][0]);
        cr_assert_str_eq(reply_header(&r, "Content-Type"), files[i][1]);
        cr_assert_gt(r.body_len, 500);
        vx_auto_free char *header = vx_strf("If-None-Match: %s\r\n", reply_header(&r, "ETag"));
        reply_free(&r);
        r = request(s, "GET", files[i][0], header, NULL);
        cr_assert_eq(r.status, 304);
        reply_free(&r);
    }
    struct reply r = GET(s, "/openapi.yaml");
    vx_auto_free char *text = NULL;
    size_t len = 0;
    cr_assert_eq(vx_read_file("openapi.yaml", 1 << 20, &text, &len, NULL), VX_OK);
    cr_assert(r.body_len == len && memcmp(r.body, text, len) == 0);
    reply_free(&r);
    EXPECT_PROBLEM(GET(s, "/assets/index.html"), 404, "not_found");
    EXPECT_PROBLEM(GET(s, "/assets/nothing.js"), 404, "not_found");
    server_free(s);
}

Test(api_stop, ends_streams_and_answers_what_was_asked) {
    struct server *s = server_start(NULL);
    submit(s);
    int stream = stream_open(s, 1, "");
    struct vx_buf seen = VX_BUF_INIT;
    read_until(stream, &seen, "queued");
    int idle = client_connect(s);
    uint64_t start = vx_now_ns();
    server_stop(s);
    cr_assert_lt((double)(vx_now_ns() - start) * 1e-9, 2.0);
    read_until(stream, &seen, "\r\n0\r\n");
    char c;
    cr_assert_eq(recv(idle, &c, 1, 0), 0);
    close(stream), close(idle);
    vx_buf_release(&seen);
    server_free(s);
}

Test(api_stop, start_refuses_what_cannot_work) {
    struct server *s = server_start(NULL);
    struct vx_api *other = NULL;
    struct vx_err err = {0};
    struct vx_api_config config = {
        .store = s->store, .db_path = s->db_path, .host = "127.0.0.1", .token = "short"};
    cr_assert_eq(vx_api_start(NULL, &config, &other, &err), VX_E_INVALID);
    cr_assert_str_eq(err.reason, "bad_token");
    config.token = "has a blank in its middle";
    cr_assert_eq(vx_api_start(NULL, &config, &other, &err), VX_E_INVALID);
    config.token = TOKEN;
    config.db_path = "/nonexistent/voxeld.db";
    cr_assert_lt(vx_api_start(NULL, &config, &other, &err), 0);
    server_free(s);
}
