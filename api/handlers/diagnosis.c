/* What a job waits for, how it went, and what was tuned. */
#include "api/handlers.h"
#include "base/clock.h"
#include "base/own.h"
#include "db/job.h"
#include "db/sample.h"
#include "db/tuning.h"

#include <math.h>
#include <string.h>

/* VX_OK and the job's state; else the error. */
static int state_of(struct vx_req *r, enum vx_job_state *ret, struct vx_err *err) {
    struct vx_job job;
    int rc = vx_db_job_get(r->api->reader, r->id, &job, err);
    if (rc == VX_OK) {
        *ret = job.state;
        vx_job_release(&job);
    }
    return rc;
}

enum MHD_Result vx_h_job_bottleneck(struct vx_req *r) {
    const struct vx_api_hooks *h = &r->api->config.hooks;
    struct vx_err err = {0};
    enum vx_job_state state;
    if (state_of(r, &state, &err) != VX_OK) {
        return vx_problem_err(r, &err);
    }
    const char *language = vx_header(r, MHD_HTTP_HEADER_ACCEPT_LANGUAGE);
    json_t *o = h->bottleneck ? h->bottleneck(h->arg, r->id, language) : NULL;
    if (!o) {
        /* nothing is measured while nothing runs, and nothing is made up */
        o = json_pack("{s:n, s:[], s:n, s:[]}", "healthy", "verdicts", "window", "evidence");
    }
    json_object_set_new(o, "job", json_integer((json_int_t)r->id));
    json_object_set_new(o, "state", json_string(vx_job_state_word(state)));
    vx_req_header(r, MHD_HTTP_HEADER_VARY, "Accept-Language");
    return vx_reply_json(r, 200, o);
}

/* The stored figures with their time. */
static json_t *sample_to_json(const struct vx_sample_row *row) {
    char at[32];
    json_t *o = json_loads(row->data, 0, NULL);
    if (!o) {
        return json_null();
    }
    json_object_set_new(o, "at", json_string(vx_iso8601(row->ts_ms, at, sizeof at)));
    json_object_set_new(o, "ts_ms", json_integer((json_int_t)row->ts_ms));
    return o;
}

enum MHD_Result vx_h_job_telemetry(struct vx_req *r) {
    struct vx_err err = {0};
    enum vx_job_state state;
    int64_t since = 0, step = 10, limit = 1000;
    if (!vx_query_int(r, "since", 0, INT64_MAX, &since, &err) ||
        !vx_query_int(r, "step", 1, 60, &step, &err) ||
        !vx_query_int(r, "limit", 1, 5000, &limit, &err)) {
        return vx_problem_status(r, 400, &err);
    }
    if (vx_db_sample_keep_ms((int)step) < 0) {
        return vx_problem(r, 400, "invalid_parameter", "step must be 1, 10 or 60 (seconds)");
    }
    struct vx_sample_list list;
    if (state_of(r, &state, &err) != VX_OK ||
        vx_db_samples(r->api->reader, r->id, (int)step, since, (int)limit, &list, &err) != VX_OK) {
        return vx_problem_err(r, &err);
    }
    json_t *samples = json_array();
    for (size_t i = 0; i < list.n; i++) {
        json_array_append_new(samples, sample_to_json(&list.v[i]));
        since = list.v[i].ts_ms;
    }
    vx_sample_list_release(&list);
    return vx_reply_json(r, 200,
                         json_pack("{s:I, s:o, s:I}", "step", (json_int_t)step, "samples", samples,
                                   "next_since", (json_int_t)since));
}

static json_t *real_or_null(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *tuning_to_json(const struct vx_tuning *t) {
    char at[32], ended[32];
    return json_pack("{s:i, s:s, s:o, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "n", t->n,
                     "at", vx_iso8601(t->ts_ms, at, sizeof at), "ended_at",
                     t->ended_ms ? json_string(vx_iso8601(t->ended_ms, ended, sizeof ended))
                                 : json_null(),
                     "who", t->who, "knob", t->knob, "from", t->from_value, "to", t->to_value,
                     "why", t->why, "outcome", t->outcome, "predicted", real_or_null(t->predicted),
                     "measured", real_or_null(t->measured), "noise", real_or_null(t->noise));
}

enum MHD_Result vx_h_job_tuning(struct vx_req *r) {
    struct vx_err err = {0};
    enum vx_job_state state;
    int64_t after = 0, limit = 200;
    if (!vx_query_int(r, "after", 0, INT32_MAX, &after, &err) ||
        !vx_query_int(r, "limit", 1, 1000, &limit, &err)) {
        return vx_problem_status(r, 400, &err);
    }
    struct vx_tuning_list list;
    if (state_of(r, &state, &err) != VX_OK ||
        vx_db_tuning_list(r->api->reader, r->id, (int)after, (int)limit, &list, &err) != VX_OK) {
        return vx_problem_err(r, &err);
    }
    json_t *changes = json_array();
    for (size_t i = 0; i < list.n; i++) {
        json_array_append_new(changes, tuning_to_json(&list.v[i]));
    }
    vx_tuning_list_release(&list);
    return vx_reply_json(r, 200, json_pack("{s:o}", "changes", changes));
}
