/* Problem documents (RFC 9457): type about:blank, title the status's phrase, detail for people,
 * code for programs. */
#include "api/request.h"

#include <stdarg.h>
#include <stdlib.h>

const char *vx_http_phrase(int status) {
    const char *phrase = MHD_get_reason_phrase_for((unsigned)status);
    return phrase ? phrase : "Unknown";
}

static json_t *pack(int status, const char *code, const char *detail) {
    return json_pack("{s:s, s:s, s:i, s:s, s:s}", "type", "about:blank", "title",
                     vx_http_phrase(status), "status", status, "code", code, "detail", detail);
}

static json_t *document(int status, const char *code, const char *detail) {
    json_t *doc = pack(status, code, detail);
    if (doc) {
        return doc;
    }
    /* The detail quotes something that is not UTF-8: a path, a name from the request. */
    char plain[640];
    snprintf(plain, sizeof plain, "%s", detail);
    for (char *p = plain; *p; p++) {
        *p = *p & 0x80 ? '?' : *p;
    }
    return pack(status, code, plain);
}

/* Takes the reference over. */
static enum MHD_Result send_document(struct vx_req *r, int status, json_t *doc) {
    char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    struct vx_buf out = VX_BUF_INIT;
    /* Out of memory: the status says it already. */
    vx_buf_puts(&out, text ? text : "{\"type\":\"about:blank\",\"code\":\"internal_error\"}");
    vx_buf_puts(&out, "\n");
    free(text);
    return vx_reply_buf(r, status, "application/problem+json", &out);
}

enum MHD_Result vx_problem(struct vx_req *r, int status, const char *code, const char *fmt, ...) {
    char detail[640];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
    return send_document(r, status, document(status, code, detail));
}

static int status_of(int code) {
    switch (code) {
    case VX_E_INVALID:
    case VX_E_CORRUPT:
    case VX_E_UNSUPPORTED:
        return 422;
    case VX_E_NOT_FOUND:
        return 404;
    case VX_E_EXISTS:
    case VX_E_STATE:
    case VX_E_BUSY:
        return 409;
    case VX_E_LIMIT:
        return 429;
    case VX_E_FULL:
        return 507;
    case VX_E_PERM:
        return 403;
    default:
        return 500;
    }
}

enum MHD_Result vx_problem_status(struct vx_req *r, int status, const struct vx_err *err) {
    const char *code = err->reason[0] ? err->reason : vx_status_word(err->code);
    json_t *doc = document(status, code, err->text);
    if (doc && err->where[0] == '/' && (status == 422 || status == 409)) {
        json_object_set_new(doc, "errors",
                            json_pack("[{s:s, s:s, s:s}]", "pointer", err->where, "code", code,
                                      "detail", err->text));
    }
    if (status == 429 || status == 503) {
        vx_req_header(r, MHD_HTTP_HEADER_RETRY_AFTER, "5");
    }
    return send_document(r, status, doc);
}

enum MHD_Result vx_problem_err(struct vx_req *r, const struct vx_err *err) {
    return vx_problem_status(r, status_of(err->code), err);
}

enum MHD_Result vx_problem_list(struct vx_req *r, const struct vx_json_problems *ps) {
    size_t shown = ps->n < VX_JSON_MAX_PROBLEMS ? ps->n : VX_JSON_MAX_PROBLEMS;
    char detail[400];
    if (ps->n == 1) {
        snprintf(detail, sizeof detail, "%s %s",
                 ps->list[0].pointer[0] ? ps->list[0].pointer : "the body", ps->list[0].text);
    } else {
        snprintf(detail, sizeof detail, "%zu values are not acceptable; errors names %zu of them",
                 ps->n, shown);
    }
    json_t *list = json_array();
    for (size_t i = 0; i < shown; i++) {
        const struct vx_json_problem *p = &ps->list[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "pointer", p->pointer, "code",
                                              p->code, "detail", p->text));
    }
    json_t *doc = document(422, "invalid_request", detail);
    json_object_set_new(doc, "errors", list);
    return send_document(r, 422, doc);
}
