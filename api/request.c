#include "api/request.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

/* Bytes past the limit that are read and dropped, so that a client which sends all before it reads
 * sees the reply. */
#define BODY_GRACE (1 << 20)

static struct vx_req *req_create(struct vx_listener *listener, struct MHD_Connection *conn,
                                 const char *url, const char *method) {
    struct vx_req *r = calloc(1, sizeof *r);
    if (!r) {
        return NULL;
    }
    r->listener = listener;
    r->api = listener->api;
    r->conn = conn;
    r->start_ns = vx_now_ns();
    snprintf(r->method, sizeof r->method, "%s", method);
    /* A longer path fits no route; cut, it must not fit one either. */
    snprintf(r->path, sizeof r->path, "%s", strlen(url) < sizeof r->path ? url : "/(too long)");
    r->api->active_requests++;
    return r;
}

static enum MHD_Result refuse(struct vx_req *r) {
    return vx_problem_status(r, r->refused, &r->refusal);
}

static bool body_coming(struct vx_req *r) {
    const char *length = vx_header(r, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return (length && strcmp(length, "0") != 0) || vx_header(r, MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

static enum MHD_Result take_body(struct vx_req *r, const char *data, size_t *size) {
    size_t limit = r->api->config.limits.body_bytes;
    r->body_seen += *size;
    if (r->body_seen > limit + BODY_GRACE) {
        return MHD_NO; /* closes the connection: no reply is possible within a body */
    }
    if (r->body_seen > limit && !r->refused) {
        r->refused = 413;
        vx_fail(&r->refusal, VX_E_LIMIT, "body_too_large", "a body has at most %zu bytes", limit);
    }
    if (!r->refused) {
        vx_buf_add(&r->body, data, *size);
    }
    *size = 0;
    return MHD_YES;
}

/* The body of a route that takes JSON; 0, or the status to refuse with. */
static int parse_body(struct vx_req *r) {
    if (r->route->flags & VX_ROUTE_NO_BODY && r->body.len == 0) {
        return 0;
    }
    int rc = vx_json_parse(r->body.data ? r->body.data : "", r->body.len,
                           r->api->config.limits.body_bytes, r->api->config.limits.json_depth,
                           &r->json, &r->refusal);
    if (rc != VX_OK) {
        return 400;
    }
    if (!json_is_object(r->json)) {
        vx_fail(&r->refusal, VX_E_INVALID, "not_an_object", "the body must be a JSON object");
        return 400;
    }
    if (r->route->flags & VX_ROUTE_NO_BODY && json_object_size(r->json) > 0) {
        vx_fail(&r->refusal, VX_E_INVALID, "unknown_key", "no key is known in this body");
        return 422;
    }
    return 0;
}

static enum MHD_Result dispatch(struct vx_req *r) {
    if (!r->refused && r->route->flags & (VX_ROUTE_BODY | VX_ROUTE_NO_BODY)) {
        r->refused = parse_body(r);
    }
    return r->refused ? refuse(r) : r->route->handle(r);
}

enum MHD_Result vx_req_access(void *cls, struct MHD_Connection *conn, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **state) {
    (void)version;
    struct vx_req *r = *state;
    if (!r) {
        r = req_create(cls, conn, url, method);
        if (!r) {
            return MHD_NO;
        }
        *state = r;
        r->refused = vx_admit(r, &r->refusal);
        /* An early reply makes libmicrohttpd drop the connection: good where a body would follow,
         * and only there. */
        return r->refused && body_coming(r) ? refuse(r) : MHD_YES;
    }
    if (*size > 0) {
        return take_body(r, data, size);
    }
    switch (r->phase) {
    case VX_REQ_HEADERS_SEEN:
        r->phase = VX_REQ_RUNNING;
        return dispatch(r);
    case VX_REQ_FINISHING:
        return r->route->finish(r);
    default:
        return MHD_YES; /* suspended: a store operation is under way */
    }
}

void vx_req_completed(void *cls, struct MHD_Connection *conn, void **state,
                      enum MHD_RequestTerminationCode why) {
    (void)cls, (void)conn, (void)why;
    struct vx_req *r = *state;
    if (!r) {
        return;
    }
    double seconds = (double)(vx_now_ns() - r->start_ns) * 1e-9;
    vx_meter_add(r->api->meter, r->route, r->status ? r->status : 499, r->is_stream ? -1 : seconds);
    if (r->status == 500 || r->status == 507) {
        vx_log_warn("api", "request method=%s path=\"%s\" status=%d", r->method, r->path,
                    r->status);
    }
    r->api->active_requests--;
    if (r->task_free) {
        r->task_free(r->task_arg);
    }
    json_decref(r->json);
    vx_buf_release(&r->body);
    free(r);
    *state = NULL;
}
