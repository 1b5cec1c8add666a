#include "api/handlers.h"
#include "base/clock.h"
#include "db/job.h"

#include <string.h>

static json_t *time_or_null(int64_t ms) {
    char at[32];
    return ms ? json_string(vx_iso8601(ms, at, sizeof at)) : json_null();
}

static json_t *parsed_or_null(const char *text) {
    json_t *value = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    return value ? value : json_null();
}

/* What the daemon knows now, over what was stored last. */
static json_t *progress_of(struct vx_api *api, const struct vx_job *job) {
    json_t *progress = parsed_or_null(job->progress);
    const struct vx_api_hooks *h = &api->config.hooks;
    json_t *live =
        h->progress && !vx_job_state_final(job->state) ? h->progress(h->arg, job->id) : NULL;
    if (json_is_object(live) && json_is_object(progress)) {
        json_object_update(progress, live);
        json_decref(live);
        return progress;
    }
    if (json_is_object(live)) {
        json_decref(progress);
        return live;
    }
    json_decref(live);
    return progress;
}

/* "0" is shown as 0, "all" as it is. */
static json_t *fold_of(const struct vx_job *job) {
    int64_t n = 0;
    if (vx_parse_int(job->fold, 0, 1000000, &n)) {
        return json_integer(n);
    }
    return job->fold[0] ? json_string(job->fold) : json_null();
}

static json_t *text_or_null(const char *text) {
    return text[0] ? json_string(text) : json_null();
}

static void add_details(json_t *o, const struct vx_job *job) {
    static const char *const links[] = {"events", "epochs", "log", "artifacts", "cancel"};
    json_object_set_new(o, "spec", parsed_or_null(job->spec));
    json_object_set_new(o, "spec_version", json_integer(job->spec_version));
    json_object_set_new(o, "result", parsed_or_null(job->result));
    json_t *map = json_object();
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        json_object_set_new(map, links[i],
                            json_sprintf("/v1/jobs/%lld/%s", (long long)job->id, links[i]));
    }
    json_object_set_new(o, "links", map);
}

json_t *vx_job_to_json(struct vx_api *api, const struct vx_job *job, bool full) {
    json_t *reason = json_null();
    if (job->reason_code[0]) {
        reason = json_pack("{s:s, s:s}", "code", job->reason_code, "message", job->reason_message);
    }
    json_t *o = json_object();
    json_object_set_new(o, "id", json_integer(job->id));
    json_object_set_new(o, "type", json_string(job->type));
    json_object_set_new(o, "state", json_string(vx_job_state_word(job->state)));
    json_object_set_new(o, "phase", text_or_null(job->phase));
    json_object_set_new(o, "reason", reason);
    json_object_set_new(o, "dataset", text_or_null(job->dataset));
    json_object_set_new(o, "configuration", text_or_null(job->configuration));
    json_object_set_new(o, "fold", fold_of(job));
    json_object_set_new(o, "results_name", text_or_null(job->results_name));
    json_object_set_new(o, "priority", json_integer(job->priority));
    json_object_set_new(o, "crashes", json_integer(job->crashes));
    json_object_set_new(o, "checkpoint_step",
                        job->checkpoint_k < 0 ? json_null() : json_integer(job->checkpoint_k));
    json_object_set_new(o, "created_at", time_or_null(job->created_ms));
    json_object_set_new(o, "updated_at", time_or_null(job->updated_ms));
    json_object_set_new(o, "started_at", time_or_null(job->started_ms));
    json_object_set_new(o, "finished_at", time_or_null(job->finished_ms));
    json_object_set_new(o, "progress", progress_of(api, job));
    if (full) {
        add_details(o, job);
    }
    return o;
}
