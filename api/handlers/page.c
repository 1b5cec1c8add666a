/* The dashboard, its files, and the contract: all of them part of the program. */
#include "api/assets.h"
#include "api/handlers.h"

#include <string.h>

/* Only our own files run, and they may talk to nobody else; nobody may frame the page. */
static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'";

static enum MHD_Result send_asset(struct vx_req *r, const char *name) {
    const struct vx_asset *a = vx_asset_find(name);
    if (!a) {
        return vx_problem(r, 404, "not_found", "the page has no such file");
    }
    vx_req_header(r, "Content-Security-Policy", "%s", policy);
    vx_req_header(r, "Referrer-Policy", "no-referrer");
    /* Asked again each time: a new build may have other files. */
    vx_req_header(r, MHD_HTTP_HEADER_ETAG, "%s", a->tag);
    vx_req_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
    const char *known = vx_header(r, MHD_HTTP_HEADER_IF_NONE_MATCH);
    if (known && strstr(known, a->tag) && !r->caller.set_cookie) {
        return vx_reply_static(r, 304, NULL, "", 0);
    }
    return vx_reply_static(r, 200, a->type, a->data, a->len);
}

enum MHD_Result vx_h_page(struct vx_req *r) {
    return send_asset(r, "index.html");
}

enum MHD_Result vx_h_openapi(struct vx_req *r) {
    return send_asset(r, "openapi.yaml");
}

enum MHD_Result vx_h_asset(struct vx_req *r) {
    return strcmp(r->name, "index.html") == 0 ? vx_problem(r, 404, "not_found", "the page is at /")
                                              : send_asset(r, r->name);
}
