#include "api/handlers.h"
#include "db/job.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_DEFAULT 50
#define PAGE_MAX     500

static json_t *make_document(struct vx_req *r, int64_t id, struct vx_err *err) {
    struct vx_job job;
    if (vx_db_job_get(r->api->reader, id, &job, err) != VX_OK) {
        return NULL;
    }
    json_t *doc = vx_job_to_json(r->api, &job, true);
    vx_job_release(&job);
    return doc;
}

enum MHD_Result vx_h_job_get(struct vx_req *r) {
    return vx_reply_rendered(r, r->id, make_document);
}

/* "running,queued" into bits. */
static bool parse_states(const char *text, unsigned *ret, struct vx_err *err) {
    unsigned states = 0;
    for (const char *p = text; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        char word[16];
        size_t len = strcspn(p, ",");
        int state = -1;
        if (len < sizeof word) {
            memcpy(word, p, len);
            word[len] = '\0';
            state = vx_job_state_parse(word);
        }
        if (state < 0) {
            vx_fail(
                err, VX_E_INVALID, "invalid_parameter",
                "the query parameter state must be a list of states, for example running,queued");
            return false;
        }
        states |= 1u << state;
    }
    *ret = states;
    return true;
}

enum MHD_Result vx_h_jobs_list(struct vx_req *r) {
    struct vx_err err = {0};
    int64_t limit = PAGE_DEFAULT, cursor = 0;
    struct vx_job_query query = {.dataset = vx_query(r, "dataset")};
    const char *states = vx_query(r, "state");
    if (!vx_query_int(r, "limit", 1, PAGE_MAX, &limit, &err) ||
        !vx_query_int(r, "cursor", 1, INT64_MAX, &cursor, &err) ||
        (states && !parse_states(states, &query.states, &err))) {
        return vx_problem_status(r, 400, &err);
    }
    query.limit = (int)limit + 1; /* one more tells whether there is a next page */
    query.before_id = cursor;
    struct vx_job_list list;
    if (vx_db_job_list(r->api->reader, &query, &list, &err) != VX_OK) {
        return vx_problem_err(r, &err);
    }
    size_t shown = list.n > (size_t)limit ? (size_t)limit : list.n;
    json_t *jobs = json_array();
    for (size_t i = 0; i < shown; i++) {
        json_array_append_new(jobs, vx_job_to_json(r->api, &list.v[i], false));
    }
    json_t *next =
        list.n > shown ? json_sprintf("%lld", (long long)list.v[shown - 1].id) : json_null();
    vx_job_list_release(&list);
    return vx_reply_tagged(r, json_pack("{s:o, s:o}", "jobs", jobs, "next_cursor", next));
}

struct cancel {
    int64_t id;
    enum vx_job_state before, after;
};

static int cancel_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct cancel *c = arg;
    struct vx_job job;
    int rc = vx_db_job_get(db, c->id, &job, err);
    if (rc != VX_OK) {
        return rc;
    }
    c->before = job.state;
    vx_job_release(&job);
    return vx_db_job_cancel(db, c->id, &c->after, err);
}

enum MHD_Result vx_h_job_cancel(struct vx_req *r) {
    struct cancel *c = calloc(1, sizeof *c);
    if (!c) {
        return vx_problem(r, 500, "out_of_memory", "out of memory");
    }
    c->id = r->id;
    return vx_req_submit(r, cancel_op, c, free);
}

enum MHD_Result vx_h_job_cancelled(struct vx_req *r) {
    const struct cancel *c = r->task_arg;
    if (r->task_rc != VX_OK) {
        return vx_problem_err(r, &r->task_err);
    }
    const struct vx_api_hooks *h = &r->api->config.hooks;
    if (c->before != c->after && h->cancel_requested) {
        h->cancel_requested(h->arg, c->id);
    }
    struct vx_job job;
    struct vx_err err = {0};
    if (vx_db_job_get(r->api->reader, c->id, &job, &err) != VX_OK) {
        return vx_problem_err(r, &err);
    }
    json_t *doc = vx_job_to_json(r->api, &job, true);
    bool under_way = job.state == VX_JOB_CANCELLING;
    vx_job_release(&job);
    return vx_reply_json(r, under_way ? 202 : 200, doc);
}
