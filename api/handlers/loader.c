/* The live knobs of a running job's loader: what they are, and turning them. Only the form is
 * checked here; how far a knob may go is the daemon's to say. */
#include "api/handlers.h"
#include "base/own.h"
#include "db/job.h"
#include "db/tuning.h"
#include "spec/spec.h"

#include <stdlib.h>
#include <string.h>

/* "auto" or a whole number of at least least. */
static void check_number(const json_t *body, const char *key, json_int_t least,
                         struct vx_json_problems *ps) {
    const json_t *v = json_object_get(body, key);
    const char *text = json_string_value(v);
    char at[32];
    snprintf(at, sizeof at, "/%s", key);
    if (v && !json_is_integer(v) && !(text && strcmp(text, "auto") == 0)) {
        vx_json_problem(ps, at, "wrong_type", "must be a whole number or \"auto\"");
    } else if (json_is_integer(v) &&
               (json_integer_value(v) < least || json_integer_value(v) > INT32_MAX)) {
        vx_json_problem(ps, at, "out_of_range", "must be at least %d", (int)least);
    }
}

static void check_wish(const json_t *body, struct vx_json_problems *ps) {
    static const char *const keys[] = {"workers", "prefetch", "keep_files_open", "cache", NULL};
    vx_json_only_keys(body, "", keys, ps);
    check_number(body, "workers", 1, ps);
    check_number(body, "prefetch", 2, ps);
    const json_t *open = json_object_get(body, "keep_files_open");
    const char *text = json_string_value(open);
    if (open && !json_is_boolean(open) && !(text && strcmp(text, "auto") == 0)) {
        vx_json_problem(ps, "/keep_files_open", "wrong_type", "must be true, false or \"auto\"");
    }
    const json_t *cache = json_object_get(body, "cache");
    text = json_string_value(cache);
    bool known = false;
    for (size_t i = 0; text && vx_spec_caches[i]; i++) {
        known |= strcmp(text, vx_spec_caches[i]) == 0;
    }
    if (cache && !known) {
        vx_json_problem(ps, "/cache", "invalid_value",
                        "must be auto, open, keep, warm, stage or memory");
    }
}

/* VX_OK where the job runs by its stored state. */
static int check_running(struct vx_req *r, struct vx_err *err) {
    struct vx_job job;
    int rc = vx_db_job_get(r->api->reader, r->id, &job, err);
    if (rc != VX_OK) {
        return rc;
    }
    enum vx_job_state state = job.state;
    vx_job_release(&job);
    if (vx_job_state_final(state)) {
        return vx_fail(err, VX_E_STATE, "job_ended", "job %lld has ended (%s): its loader is gone",
                       (long long)r->id, vx_job_state_word(state));
    }
    if (state != VX_JOB_RUNNING || !r->api->config.hooks.loader) {
        return vx_fail(err, VX_E_STATE, "job_not_running",
                       "job %lld is %s: its loader runs while the job does", (long long)r->id,
                       vx_job_state_word(state));
    }
    return VX_OK;
}

static enum MHD_Result answer(struct vx_req *r, const json_t *wish) {
    const struct vx_api_hooks *h = &r->api->config.hooks;
    struct vx_err err = {0};
    json_t *loader = NULL;
    bool changed = false;
    int rc = check_running(r, &err);
    if (rc == VX_OK) {
        rc = h->loader(h->arg, r->id, wish, &changed, &loader, &err);
    }
    if (rc != VX_OK) {
        return rc == VX_E_LIMIT ? vx_problem_status(r, 422, &err) : vx_problem_err(r, &err);
    }
    return vx_reply_json(r, changed ? 202 : 200, loader);
}

/* The knob back to what it was before a change of the tuning log. New reference; NULL where the
 * row's knob cannot be asked for. */
static json_t *wish_of_row(const struct vx_tuning *row) {
    const char *from = row->from_value;
    json_t *value = NULL;
    if (strcmp(row->knob, "workers") == 0 || strcmp(row->knob, "prefetch") == 0) {
        value = json_integer(strtoll(from, NULL, 10));
    } else if (strcmp(row->knob, "keep_files_open") == 0) {
        value = json_boolean(strcmp(from, "true") == 0);
    } else if (strcmp(row->knob, "cache") == 0) {
        value = json_string(from);
    }
    return value ? json_pack("{s:o}", row->knob, value) : NULL;
}

enum MHD_Result vx_h_job_tuning_revert(struct vx_req *r) {
    struct vx_err err = {0};
    struct vx_tuning row;
    int64_t n;
    if (!vx_parse_int(r->name, 1, INT32_MAX, &n)) {
        return vx_problem(r, 404, "tuning_not_found", "there is no tuning \"%.40s\"", r->name);
    }
    if (vx_db_tuning_get(r->api->reader, r->id, (int)n, &row, &err) != VX_OK) {
        return vx_problem_err(r, &err);
    }
    vx_auto_json json_t *wish = wish_of_row(&row);
    if (!wish || strcmp(row.outcome, "advised") == 0) {
        return vx_problem(r, 409, "nothing_to_revert", "tuning %lld of job %lld changed nothing",
                          (long long)n, (long long)r->id);
    }
    return answer(r, wish);
}

enum MHD_Result vx_h_job_loader(struct vx_req *r) {
    return answer(r, NULL);
}

enum MHD_Result vx_h_job_loader_turn(struct vx_req *r) {
    struct vx_json_problems problems = {0};
    check_wish(r->json, &problems);
    return problems.n ? vx_problem_list(r, &problems) : answer(r, r->json);
}
