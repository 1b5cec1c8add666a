#include "api/handlers.h"
#include "base/clock.h"
#include "base/own.h"
#include "db/dataset.h"
#include "plan/dataset.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_DEFAULT 100
#define PAGE_MAX     500

static json_t *dataset_to_json(const struct vx_dataset *d) {
    char created[32], updated[32];
    json_t *reason = json_null();
    if (d->reason_code[0]) {
        reason = json_pack("{s:s, s:s}", "code", d->reason_code, "message", d->reason_message);
    }
    return json_pack("{s:s, s:s, s:s, s:o, s:s, s:s}", "name", d->name, "state",
                     vx_dataset_state_word(d->state), "path", d->path, "reason", reason,
                     "created_at", vx_iso8601(d->created_ms, created, sizeof created), "updated_at",
                     vx_iso8601(d->updated_ms, updated, sizeof updated));
}

enum MHD_Result vx_h_datasets_list(struct vx_req *r) {
    struct vx_err err = {0};
    struct vx_dataset_list list;
    int64_t limit = PAGE_DEFAULT;
    if (!vx_query_int(r, "limit", 1, PAGE_MAX, &limit, &err)) {
        return vx_problem_status(r, 400, &err);
    }
    if (vx_db_dataset_list(r->api->reader, vx_query(r, "cursor"), (int)limit + 1, &list, &err) !=
        VX_OK) {
        return vx_problem_err(r, &err);
    }
    size_t shown = list.n > (size_t)limit ? (size_t)limit : list.n;
    json_t *sets = json_array();
    for (size_t i = 0; i < shown; i++) {
        json_array_append_new(sets, dataset_to_json(&list.v[i]));
    }
    json_t *next = list.n > shown ? json_string(list.v[shown - 1].name) : json_null();
    vx_dataset_list_release(&list);
    return vx_reply_tagged(r, json_pack("{s:o, s:o}", "datasets", sets, "next_cursor", next));
}

/* Report and fingerprint can be large: they are put in as the text that they are. */
static enum MHD_Result reply_dataset(struct vx_req *r, int status, const struct vx_dataset *d) {
    vx_auto_json json_t *o = dataset_to_json(d);
    vx_auto_free char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (!text) {
        return vx_problem(r, 500, "internal_error", "the data set's path cannot be shown");
    }
    struct vx_buf out = VX_BUF_INIT;
    vx_buf_add(&out, text, strlen(text) - 1);
    vx_buf_printf(&out, ",\"report\":");
    vx_buf_puts(&out, d->report ? d->report : "null");
    vx_buf_puts(&out, ",\"fingerprint\":");
    vx_buf_puts(&out, d->fingerprint ? d->fingerprint : "null");
    vx_buf_puts(&out, "}\n");
    return vx_reply_buf(r, status, "application/json", &out);
}

static enum MHD_Result with_dataset(struct vx_req *r, const char *name, int status, bool plans) {
    struct vx_dataset d;
    struct vx_err err = {0};
    if (vx_db_dataset_get(r->api->reader, name, &d, &err) != VX_OK) {
        return vx_problem_err(r, &err);
    }
    enum MHD_Result out;
    if (!plans) {
        out = reply_dataset(r, status, &d);
    } else if (d.plans) {
        struct vx_buf text = VX_BUF_INIT;
        vx_buf_puts(&text, d.plans);
        vx_buf_puts(&text, "\n");
        out = vx_reply_buf(r, status, "application/json", &text);
    } else {
        out = vx_problem(r, 404, "plans_not_ready", "%s is %s: it has no plans yet", d.name,
                         vx_dataset_state_word(d.state));
    }
    vx_dataset_release(&d);
    return out;
}

enum MHD_Result vx_h_dataset_get(struct vx_req *r) {
    return with_dataset(r, r->name, 200, false);
}

enum MHD_Result vx_h_dataset_plans(struct vx_req *r) {
    return with_dataset(r, r->name, 200, true);
}

/* ---- registering ---- */

struct registering {
    char name[128];
    char path[1024];
    bool already;
};

static int register_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct registering *a = arg;
    int rc = vx_db_dataset_register(db, a->name, a->path, err);
    a->already = rc == VX_E_EXISTS;
    return a->already ? VX_OK : rc;
}

enum MHD_Result vx_h_dataset_submit(struct vx_req *r) {
    static const char *const keys[] = {"name", "path", NULL};
    struct vx_json_problems problems = {0};
    struct vx_err err = {0};
    char name[128] = "", asked[1024] = "";
    vx_json_only_keys(r->json, "", keys, &problems);
    if (!vx_json_get_string(r->json, "", "name", name, sizeof name, &problems)) {
        if (!json_object_get(r->json, "name")) {
            vx_json_problem(&problems, "/name", "missing", "is required");
        }
    } else if (!vx_dataset_name_ok(name)) {
        vx_json_problem(&problems, "/name", "invalid_value",
                        "must look like Dataset004_Hippocampus");
    }
    bool has_path = vx_json_get_string(r->json, "", "path", asked, sizeof asked, &problems);
    if (problems.n) {
        return vx_problem_list(r, &problems);
    }
    struct registering *a = calloc(1, sizeof *a);
    if (!a) {
        return vx_problem(r, 500, "out_of_memory", "out of memory");
    }
    memcpy(a->name, name, sizeof name);
    const struct vx_api_hooks *h = &r->api->config.hooks;
    int rc = h->dataset_locate
                 ? h->dataset_locate(h->arg, name, has_path ? asked : NULL, a->path, sizeof a->path,
                                     &err)
                 : vx_fail(&err, VX_E_UNSUPPORTED, NULL, "this server registers no data sets");
    if (rc != VX_OK) {
        free(a);
        return vx_problem_status(
            r, rc == VX_E_NOT_FOUND || rc == VX_E_PERM || rc == VX_E_INVALID ? 422 : 500, &err);
    }
    return vx_req_submit(r, register_op, a, free);
}

enum MHD_Result vx_h_dataset_submitted(struct vx_req *r) {
    const struct registering *a = r->task_arg;
    if (r->task_rc != VX_OK) {
        return vx_problem_err(r, &r->task_err);
    }
    const struct vx_api_hooks *h = &r->api->config.hooks;
    if (!a->already && h->dataset_submitted) {
        h->dataset_submitted(h->arg, a->name);
    }
    vx_req_header(r, MHD_HTTP_HEADER_LOCATION, "/v1/datasets/%s", a->name);
    return with_dataset(r, a->name, 202, false);
}
