/* What happened to a job: its events and its epochs. */
#include "api/handlers.h"
#include "base/clock.h"
#include "db/epoch.h"
#include "db/event.h"
#include "db/job.h"

#include <math.h>
#include <string.h>

static json_t *parsed(const char *text) {
    json_t *value = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    return value ? value : json_null();
}

static json_t *event_to_json(const struct vx_event *e) {
    char at[32];
    return json_pack("{s:I, s:I, s:s, s:s, s:o}", "id", (json_int_t)e->id, "job",
                     (json_int_t)e->job_id, "at", vx_iso8601(e->ts_ms, at, sizeof at), "type",
                     e->type, "data", parsed(e->data));
}

static enum MHD_Result events_json(struct vx_req *r, int64_t after, int64_t limit) {
    struct vx_event_list list;
    struct vx_err err = {0};
    if (vx_db_events_since(r->api->reader, r->id, after, (int)limit, &list, &err) != VX_OK) {
        return vx_problem_err(r, &err);
    }
    json_t *events = json_array();
    for (size_t i = 0; i < list.n; i++) {
        json_array_append_new(events, event_to_json(&list.v[i]));
        after = list.v[i].id;
    }
    vx_event_list_release(&list);
    return vx_reply_json(
        r, 200, json_pack("{s:o, s:I}", "events", events, "next_after", (json_int_t)after));
}

/* VX_OK and whether the job has ended; else the error. */
static int job_ended(struct vx_req *r, bool *ret, struct vx_err *err) {
    struct vx_job job;
    int rc = vx_db_job_get(r->api->reader, r->id, &job, err);
    if (rc == VX_OK) {
        *ret = vx_job_state_final(job.state);
        vx_job_release(&job);
    }
    return rc;
}

enum MHD_Result vx_h_job_events(struct vx_req *r) {
    struct vx_err err = {0};
    bool follow = true, ended = false;
    int64_t after = 0, limit = 200;
    if (!vx_query_bool(r, "follow", &follow, &err) ||
        !vx_query_int(r, "after", 0, INT64_MAX, &after, &err) ||
        !vx_query_int(r, "limit", 1, 1000, &limit, &err)) {
        return vx_problem_status(r, 400, &err);
    }
    const char *last = vx_header(r, "Last-Event-ID");
    if (follow && last && !vx_parse_int(last, 0, INT64_MAX, &after)) {
        return vx_problem(r, 400, "invalid_header", "Last-Event-ID must be the id of an event");
    }
    if (job_ended(r, &ended, &err) != VX_OK) {
        return vx_problem_err(r, &err);
    }
    if (!follow) {
        return events_json(r, after, limit);
    }
    struct vx_event_list rest;
    if (ended && vx_db_events_since(r->api->reader, r->id, after, 1, &rest, NULL) == VX_OK) {
        bool nothing = rest.n == 0;
        vx_event_list_release(&rest);
        if (nothing) {
            /* 204 is how an EventSource is told not to come back. */
            return vx_reply_static(r, 204, NULL, "", 0);
        }
    }
    return vx_stream_start(r, r->id, after);
}

static json_t *real_or_null(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *epoch_to_json(const struct vx_epoch *e) {
    char at[32];
    json_t *o = json_object();
    json_object_set_new(o, "epoch", json_integer(e->epoch));
    json_object_set_new(o, "at", json_string(vx_iso8601(e->ts_ms, at, sizeof at)));
    json_object_set_new(o, "train_loss", real_or_null(e->train_loss));
    json_object_set_new(o, "val_loss", real_or_null(e->val_loss));
    json_object_set_new(o, "dice", parsed(e->dice));
    json_object_set_new(o, "ema", real_or_null(e->ema));
    json_object_set_new(o, "lr", real_or_null(e->lr));
    json_object_set_new(o, "seconds", real_or_null(e->seconds));
    json_object_set_new(o, "loader_wait", real_or_null(e->loader_wait));
    json_object_set_new(o, "phases", parsed(e->phases));
    return o;
}

enum MHD_Result vx_h_job_epochs(struct vx_req *r) {
    struct vx_err err = {0};
    bool ended = false;
    int64_t from = 0, limit = 1000;
    if (!vx_query_int(r, "from", 0, INT32_MAX, &from, &err) ||
        !vx_query_int(r, "limit", 1, 10000, &limit, &err)) {
        return vx_problem_status(r, 400, &err);
    }
    struct vx_epoch_list list;
    if (job_ended(r, &ended, &err) != VX_OK ||
        vx_db_epochs(r->api->reader, r->id, (int)from, (int)limit, &list, &err) != VX_OK) {
        return vx_problem_err(r, &err);
    }
    json_t *epochs = json_array();
    for (size_t i = 0; i < list.n; i++) {
        json_array_append_new(epochs, epoch_to_json(&list.v[i]));
    }
    vx_epoch_list_release(&list);
    return vx_reply_tagged(r, json_pack("{s:o}", "epochs", epochs));
}
