/* POST /v1/jobs. The order of refusals: the spec by itself, the key that came before, the data set,
 * what only the daemon knows (results that exist), the queue. The answer comes when the job is on
 * the disk. */
#include "api/handlers.h"
#include "base/hash.h"
#include "base/own.h"
#include "db/job.h"
#include "spec/spec.h"

#include <stdlib.h>
#include <string.h>

struct submit {
    struct vx_job_new job;
    struct vx_job_spec spec; /* job's strings point into it */
    char *text;              /* canonical spec; owned */
    char fold[16];
    char key[128], scope[96],
        digest[VX_SHA256_HEX]; /* of the Idempotency-Key; key is "" without one */
    int64_t id;
    bool replayed;
};

static void free_submit(void *arg) {
    struct submit *s = arg;
    free(s->text);
    free(s);
}

static struct vx_idem idem_of(const struct submit *s) {
    return (struct vx_idem){.scope = s->scope, .key = s->key, .digest = s->digest};
}

/* Store thread. The key is looked up again: two requests with the same one may have been under way
 * together. */
static int submit_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct submit *s = arg;
    struct vx_idem idem = idem_of(s);
    if (s->key[0]) {
        int rc = vx_db_idem_find(db, &idem, &s->id, err);
        s->replayed = rc == VX_OK;
        if (rc != VX_E_NOT_FOUND) {
            return rc;
        }
    }
    int rc = vx_db_job_insert(db, &s->job, &s->id, err);
    return rc == VX_OK && s->key[0] ? vx_db_idem_store(db, &idem, s->id, err) : rc;
}

/* Fills s from the parsed spec. */
static int make_job(struct submit *s, int64_t max_unfinished, struct vx_err *err) {
    vx_auto_json json_t *canonical = vx_spec_to_json(&s->spec);
    s->text = canonical ? vx_json_canonical(canonical) : NULL;
    if (!s->text) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    bool predict = s->spec.type == VX_JOB_PREDICT; /* its folds stand in the spec */
    if (s->spec.fold < 0) {
        snprintf(s->fold, sizeof s->fold, "all");
    } else {
        snprintf(s->fold, sizeof s->fold, "%d", s->spec.fold);
    }
    s->job = (struct vx_job_new){.type = vx_job_type_word(s->spec.type),
                                 .spec = s->text,
                                 .spec_version = VX_SPEC_VERSION,
                                 .dataset = s->spec.dataset,
                                 .configuration = s->spec.configuration,
                                 .fold = predict ? NULL : s->fold,
                                 .results_name = s->spec.results.name,
                                 .priority = s->spec.priority,
                                 .max_unfinished = max_unfinished};
    return VX_OK;
}

/* Idempotency-Key into s; false where it is not acceptable. */
static bool take_key(struct vx_req *r, struct submit *s) {
    const char *key = vx_header(r, "Idempotency-Key");
    if (!key) {
        return true;
    }
    size_t len = strlen(key);
    for (size_t i = 0; i < len; i++) {
        if (key[i] < 0x21 || key[i] > 0x7e) {
            return false;
        }
    }
    if (len == 0 || len >= sizeof s->key) {
        return false;
    }
    memcpy(s->key, key, len + 1);
    /* All who hold the token are one caller, wherever they come from; on the Unix socket the uid is
     * known. */
    snprintf(s->scope, sizeof s->scope, "POST /v1/jobs %s",
             r->caller.trusted_peer ? r->caller.key : "token");
    vx_sha256_hex(s->text, strlen(s->text), s->digest);
    return true;
}

/* Takes s over. */
static enum MHD_Result answer(struct vx_req *r, struct submit *s) {
    struct vx_err err = {0};
    int64_t seen = 0;
    const struct vx_api_hooks *h = &r->api->config.hooks;
    bool known = false;
    int rc = VX_OK;
    if (s->key[0]) {
        struct vx_idem idem = idem_of(s);
        rc = vx_db_idem_find(r->api->reader, &idem, &seen, &err);
        known = rc == VX_OK;
        rc = rc == VX_E_NOT_FOUND ? VX_OK : rc;
    }
    /* A request that was answered before is answered again, whatever has changed since. */
    if (rc == VX_OK && !known && h->job_check) {
        rc = h->job_check(h->arg, &s->job, &err);
    }
    if (rc != VX_OK) {
        free_submit(s);
        return rc == VX_E_NOT_FOUND ? vx_problem_status(r, 422, &err) : vx_problem_err(r, &err);
    }
    return vx_req_submit(r, submit_op, s, free_submit);
}

enum MHD_Result vx_h_job_submit(struct vx_req *r) {
    struct vx_json_problems problems = {0};
    struct vx_err err = {0};
    bool dry = false;
    if (!vx_query_bool(r, "dry_run", &dry, &err)) {
        return vx_problem_status(r, 400, &err);
    }
    if (dry) {
        return vx_problem(r, 501, "dry_run_not_available",
                          "this version does not know dry_run yet");
    }
    struct submit *s = calloc(1, sizeof *s);
    if (!s) {
        return vx_problem(r, 500, "out_of_memory", "out of memory");
    }
    if (vx_spec_parse(r->json, &s->spec, &problems) != VX_OK) {
        free_submit(s);
        return vx_problem_list(r, &problems);
    }
    if (make_job(s, r->api->config.limits.unfinished_jobs, &err) != VX_OK) {
        free_submit(s);
        return vx_problem_err(r, &err);
    }
    if (!take_key(r, s)) {
        free_submit(s);
        return vx_problem(r, 400, "invalid_header",
                          "an Idempotency-Key has 1 to 127 visible ASCII characters");
    }
    return answer(r, s);
}

enum MHD_Result vx_h_job_submitted(struct vx_req *r) {
    const struct submit *s = r->task_arg;
    if (r->task_rc != VX_OK) {
        return vx_problem_err(r, &r->task_err);
    }
    const struct vx_api_hooks *h = &r->api->config.hooks;
    if (!s->replayed && h->job_submitted) {
        h->job_submitted(h->arg, s->id);
    }
    struct vx_job job;
    struct vx_err err = {0};
    if (vx_db_job_get(r->api->reader, s->id, &job, &err) != VX_OK) {
        return vx_problem_err(r, &err);
    }
    json_t *doc = vx_job_to_json(r->api, &job, true);
    vx_job_release(&job);
    vx_req_header(r, MHD_HTTP_HEADER_LOCATION, "/v1/jobs/%lld", (long long)s->id);
    if (s->replayed) {
        vx_req_header(r, "Idempotent-Replayed", "true");
    }
    return vx_reply_json(r, 201, doc);
}
