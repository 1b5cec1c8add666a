#include "api/request.h"
#include "base/hash.h"
#include "base/own.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void vx_req_header(struct vx_req *r, const char *name, const char *fmt, ...) {
    if (r->n_headers == VX_REQ_HEADERS) {
        return;
    }
    snprintf(r->headers[r->n_headers].name, sizeof r->headers[0].name, "%s", name);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(r->headers[r->n_headers].value, sizeof r->headers[0].value, fmt, ap);
    va_end(ap);
    /* A cut value would say something else: rather none. */
    if (n >= 0 && (size_t)n < sizeof r->headers[0].value) {
        r->n_headers++;
    }
}

enum MHD_Result vx_reply(struct vx_req *r, int status, const char *type,
                         struct MHD_Response *response) {
    if (!response) {
        return MHD_NO;
    }
    if (type) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    }
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    bool cached = false;
    for (size_t i = 0; i < r->n_headers; i++) {
        MHD_add_response_header(response, r->headers[i].name, r->headers[i].value);
        cached |= strcmp(r->headers[i].name, MHD_HTTP_HEADER_CACHE_CONTROL) == 0;
    }
    if (!cached) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    }
    if (r->caller.set_cookie) {
        char cookie[256];
        snprintf(cookie, sizeof cookie, "voxeld_%d=%s; Path=/; HttpOnly; SameSite=Strict",
                 r->api->port, r->api->config.token);
        MHD_add_response_header(response, MHD_HTTP_HEADER_SET_COOKIE, cookie);
    }
    r->status = status;
    enum MHD_Result queued = MHD_queue_response(r->conn, (unsigned)status, response);
    MHD_destroy_response(response);
    return queued;
}

enum MHD_Result vx_reply_buf(struct vx_req *r, int status, const char *type, struct vx_buf *text) {
    size_t len = 0;
    char *data = vx_buf_take(text, &len);
    if (!data) {
        vx_buf_release(text);
        static const char empty[] = "";
        return vx_reply(r, len == 0 ? status : 500, type,
                        MHD_create_response_from_buffer(0, (void *)empty, MHD_RESPMEM_PERSISTENT));
    }
    return vx_reply(r, status, type,
                    MHD_create_response_from_buffer(len, data, MHD_RESPMEM_MUST_FREE));
}

static enum MHD_Result reply_text(struct vx_req *r, int status, const char *type, char *text) {
    return vx_reply(r, status, type,
                    MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE));
}

/* The JSON text of a reply, ending in a newline so that curl leaves the prompt alone. Drops the
 * reference. */
static char *dump(json_t *value) {
    char *text =
        value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(value);
    size_t len = text ? strlen(text) : 0;
    char *line = text ? realloc(text, len + 2) : NULL;
    if (!line) {
        free(text);
        return NULL;
    }
    memcpy(line + len, "\n", 2);
    return line;
}

enum MHD_Result vx_reply_json(struct vx_req *r, int status, json_t *value) {
    char *text = dump(value);
    if (!text) {
        return vx_problem(r, 500, "out_of_memory", "out of memory");
    }
    return reply_text(r, status, "application/json", text);
}

/* Whether an If-None-Match list names the tag (weak comparison, RFC 9110 section 13.1.2). */
static bool tag_listed(const char *list, const char *tag) {
    if (!list) {
        return false;
    }
    if (strcmp(list, "*") == 0) {
        return true;
    }
    for (const char *at = strstr(list, tag); at; at = strstr(at + 1, tag)) {
        char after = at[strlen(tag)];
        if (after == '\0' || after == ',' || after == ' ') {
            return true;
        }
    }
    return false;
}

static void tag_of(const char *text, size_t len, char tag[24]) {
    char hex[VX_SHA256_HEX];
    vx_sha256_hex(text, len, hex);
    snprintf(tag, 24, "\"%.16s\"", hex);
}

/* text is copied or taken over as memory says; a 304 leaves it alone. */
static enum MHD_Result reply_with_tag(struct vx_req *r, char *text, size_t len, const char *tag,
                                      enum MHD_ResponseMemoryMode memory) {
    vx_req_header(r, MHD_HTTP_HEADER_ETAG, "%s", tag);
    vx_req_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
    if (tag_listed(vx_header(r, MHD_HTTP_HEADER_IF_NONE_MATCH), tag)) {
        if (memory == MHD_RESPMEM_MUST_FREE) {
            free(text);
        }
        return vx_reply(r, 304, NULL,
                        MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT));
    }
    return vx_reply(r, 200, "application/json", MHD_create_response_from_buffer(len, text, memory));
}

enum MHD_Result vx_reply_tagged(struct vx_req *r, json_t *value) {
    char *text = dump(value), tag[24];
    if (!text) {
        return vx_problem(r, 500, "out_of_memory", "out of memory");
    }
    size_t len = strlen(text);
    tag_of(text, len, tag);
    return reply_with_tag(r, text, len, tag, MHD_RESPMEM_MUST_FREE);
}

enum MHD_Result vx_reply_rendered(struct vx_req *r, int64_t id,
                                  json_t *(*make)(struct vx_req *r, int64_t id,
                                                  struct vx_err *err)) {
    uint64_t commits;
    const struct vx_rendered *kept =
        vx_rendered_find(r->api->rendered, r->api->config.store, id, &commits);
    if (!kept) {
        struct vx_err err = {0};
        json_t *value = make(r, id, &err);
        if (!value) {
            return vx_problem_err(r, &err);
        }
        char *text = dump(value), tag[24];
        if (!text) {
            return vx_problem(r, 500, "out_of_memory", "out of memory");
        }
        size_t len = strlen(text);
        tag_of(text, len, tag);
        kept = vx_rendered_put(r->api->rendered, id, commits, text, len, tag);
    }
    return reply_with_tag(r, kept->text, kept->len, kept->tag, MHD_RESPMEM_MUST_COPY);
}

enum MHD_Result vx_reply_static(struct vx_req *r, int status, const char *type, const void *data,
                                size_t len) {
    return vx_reply(
        r, status, type,
        MHD_create_response_from_buffer(len, (void *)(uintptr_t)data, MHD_RESPMEM_PERSISTENT));
}
