/* What can be refused from the headers alone, in this order: caller, route, token, method, query,
 * Accept, body. */
#include "api/auth.h"
#include "api/router.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct query_check {
    const struct vx_route *route;
    char unknown[81];
};

static enum MHD_Result check_name(void *cls, enum MHD_ValueKind kind, const char *key,
                                  const char *value) {
    (void)kind, (void)value;
    struct query_check *q = cls;
    for (size_t i = 0; i < 5 && q->route->query[i]; i++) {
        if (strcmp(q->route->query[i], key) == 0) {
            return MHD_YES;
        }
    }
    snprintf(q->unknown, sizeof q->unknown, "%s", *key ? key : "(empty)");
    return MHD_NO;
}

static int check_query(struct vx_req *r, struct vx_err *err) {
    struct query_check q = {r->route, ""};
    MHD_get_connection_values(r->conn, MHD_GET_ARGUMENT_KIND, check_name, &q);
    if (q.unknown[0]) {
        vx_fail(err, VX_E_INVALID, "unknown_parameter", "the query parameter %s is not known here",
                q.unknown);
        return 400;
    }
    return VX_OK;
}

/* Whether one media range of Accept covers type; a range with q=0 does not. */
static bool range_covers(const char *range, size_t len, const char *type) {
    size_t end = strcspn(range, ";");
    end = end < len ? end : len;
    for (const char *p = range + end; p < range + len; p++) {
        if (strncasecmp(p, "q=0", 3) == 0 && strspn(p + 3, ".0") >= (size_t)(range + len - p - 3)) {
            return false;
        }
    }
    while (end > 0 && range[end - 1] == ' ') {
        end--;
    }
    size_t major = strcspn(type, "/") + 1;
    return (end == 3 && memcmp(range, "*/*", 3) == 0) ||
           (end == strlen(type) && strncasecmp(range, type, end) == 0) ||
           (end == major + 1 && strncasecmp(range, type, major) == 0 && range[major] == '*');
}

static bool accepts(const char *accept, const char *type) {
    for (const char *p = accept; *p;) {
        p += strspn(p, " ,\t");
        size_t len = strcspn(p, ",");
        if (len && range_covers(p, len, type)) {
            return true;
        }
        p += len;
    }
    return false;
}

static int check_accept(struct vx_req *r, struct vx_err *err) {
    const char *accept = vx_header(r, MHD_HTTP_HEADER_ACCEPT), *type = r->route->produces;
    if (accept && *accept && type && !accepts(accept, type)) {
        vx_fail(err, VX_E_UNSUPPORTED, "not_acceptable",
                "this is %s, which the Accept header does not allow", type);
        return 406;
    }
    return VX_OK;
}

static bool is_json(const char *type) {
    size_t len = type ? strcspn(type, ";") : 0;
    while (len > 0 && type[len - 1] == ' ') {
        len--;
    }
    return len == 16 && strncasecmp(type, "application/json", 16) == 0;
}

static int check_body(struct vx_req *r, struct vx_err *err) {
    const char *length = vx_header(r, MHD_HTTP_HEADER_CONTENT_LENGTH);
    bool chunked = vx_header(r, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
    int64_t bytes = 0;
    bool has_body = chunked || (length && strcmp(length, "0") != 0);
    if (length && !vx_parse_int(length, 0, (int64_t)r->api->config.limits.body_bytes, &bytes)) {
        vx_fail(err, VX_E_LIMIT, "body_too_large", "a body has at most %zu bytes",
                r->api->config.limits.body_bytes);
        return 413;
    }
    if (!(r->route->flags & (VX_ROUTE_BODY | VX_ROUTE_NO_BODY))) {
        return VX_OK;
    }
    if (r->route->flags & VX_ROUTE_BODY && !has_body) {
        vx_fail(err, VX_E_INVALID, "body_missing", "a JSON object is expected as the body");
        return 400;
    }
    const char *type = vx_header(r, MHD_HTTP_HEADER_CONTENT_TYPE);
    /* curl -d says form-urlencoded where nothing else was asked for: people type that, and mean
     * JSON. A browser can send it across sites, so with a cookie it is refused. */
    bool form = type && strncasecmp(type, "application/x-www-form-urlencoded", 33) == 0;
    if (has_body && !is_json(type) && !(form && !r->caller.by_cookie)) {
        vx_fail(err, VX_E_UNSUPPORTED, "unsupported_media_type",
                "send the body as Content-Type: application/json");
        return 415;
    }
    return VX_OK;
}

static int no_route(const char *allow, struct vx_req *r, struct vx_err *err) {
    if (allow[0]) {
        vx_req_header(r, MHD_HTTP_HEADER_ALLOW, "%s", allow);
        vx_fail(err, VX_E_INVALID, "method_not_allowed", "%s is not possible here; %s is",
                r->method, allow);
        return 405;
    }
    vx_fail(err, VX_E_NOT_FOUND, "not_found",
            "there is nothing at this path; /openapi.yaml lists what there is");
    return 404;
}

/* Work is taken only by a daemon that is up and not on its way down. */
static int check_ready(struct vx_req *r, struct vx_err *err) {
    const struct vx_api_hooks *h = &r->api->config.hooks;
    char why[256] = "the daemon is stopping";
    if (!r->api->draining && (!h->ready || h->ready(h->arg, why, sizeof why))) {
        return VX_OK;
    }
    vx_fail(err, VX_E_STATE, "not_ready", "%s; try again later", why);
    return 503;
}

static int check_route(struct vx_req *r, struct vx_err *err) {
    static int (*const checks[])(struct vx_req *, struct vx_err *) = {check_query, check_accept,
                                                                      check_body};
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        int rc = checks[i](r, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    return strcmp(r->route->method, "GET") != 0 ? check_ready(r, err) : VX_OK;
}

int vx_admit(struct vx_req *r, struct vx_err *err) {
    char allow[64];
    int rc = vx_auth_caller(r, err);
    if (rc != VX_OK) {
        return rc;
    }
    r->route =
        vx_router_find(r->method, r->path, &r->id, r->name, sizeof r->name, allow, sizeof allow);
    if (!r->route || !(r->route->flags & VX_ROUTE_OPEN)) {
        rc = vx_auth_token(r, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    return r->route ? check_route(r, err) : no_route(allow, r, err);
}
