#include "api/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *vx_query(struct vx_req *r, const char *name) {
    return MHD_lookup_connection_value(r->conn, MHD_GET_ARGUMENT_KIND, name);
}

const char *vx_header(struct vx_req *r, const char *name) {
    return MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, name);
}

bool vx_parse_int(const char *text, int64_t lo, int64_t hi, int64_t *out) {
    size_t digits = strspn(text[0] == '-' ? text + 1 : text, "0123456789");
    if (digits == 0 || text[digits + (text[0] == '-')] != '\0') {
        return false;
    }
    errno = 0;
    long long x = strtoll(text, NULL, 10);
    if (errno != 0 || x < lo || x > hi) {
        return false;
    }
    *out = x;
    return true;
}

bool vx_query_int(struct vx_req *r, const char *name, int64_t lo, int64_t hi, int64_t *out,
                  struct vx_err *err) {
    const char *text = vx_query(r, name);
    if (text && !vx_parse_int(text, lo, hi, out)) {
        vx_fail(err, VX_E_INVALID, "invalid_parameter",
                "the query parameter %s must be a whole number from %lld to "
                "%lld",
                name, (long long)lo, (long long)hi);
        return false;
    }
    return true;
}

bool vx_query_bool(struct vx_req *r, const char *name, bool *out, struct vx_err *err) {
    const char *text = vx_query(r, name);
    if (!text) {
        return true;
    }
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
        vx_fail(err, VX_E_INVALID, "invalid_parameter",
                "the query parameter %s must be true or false", name);
        return false;
    }
    *out = strcmp(text, "true") == 0;
    return true;
}
