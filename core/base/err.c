#include "base/err.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

const char *vx_status_text(int code) {
    switch (code) {
#define VX_X(name, value, text)                                                                    \
    case value:                                                                                    \
        return text;
        VX_STATUS_LIST(VX_X)
#undef VX_X
    default:
        return "unknown status";
    }
}

const char *vx_status_word(int code) {
    switch (code) {
    case VX_OK:
        return "ok";
    case VX_E_NOMEM:
        return "out_of_memory";
    case VX_E_INVALID:
        return "invalid_value";
    case VX_E_IO:
        return "io_error";
    case VX_E_NOT_FOUND:
        return "not_found";
    case VX_E_EXISTS:
        return "exists";
    case VX_E_CORRUPT:
        return "damaged_data";
    case VX_E_UNSUPPORTED:
        return "not_supported";
    case VX_E_LIMIT:
        return "limit_exceeded";
    case VX_E_STATE:
        return "wrong_state";
    case VX_E_BUSY:
        return "in_use";
    case VX_E_CANCELLED:
        return "cancelled";
    case VX_E_TIMEOUT:
        return "timed_out";
    case VX_E_DEVICE:
        return "device_error";
    case VX_E_FULL:
        return "no_space_left";
    case VX_E_PERM:
        return "not_permitted";
    default:
        return "internal_error";
    }
}

/* Bytes of the well-formed UTF-8 character at p (RFC 3629: no overlong forms, no surrogates, at
 * most U+10FFFF), or 0. */
static size_t utf8_bytes(const unsigned char *p) {
    if (p[0] < 0x80) {
        return 1;
    }
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    uint32_t c = p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) { /* also where the text ends */
            return 0;
        }
        c = c << 6 | (p[i] & 0x3fu);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    bool proper = p[0] >= 0xc0 && p[0] < 0xf8 && c >= least[n] && c <= 0x10ffff;
    return proper && (c < 0xd800 || c > 0xdfff) ? n : 0;
}

/* Names from files end up in these texts, and the texts in JSON and logs: whatever is not UTF-8 (a
 * character cut by the text's end, too) or a control character becomes '?'. */
static void tidy(char *text) {
    unsigned char *p = (unsigned char *)text;
    while (*p) {
        size_t n = utf8_bytes(p);
        if (n == 0 || *p < ' ' || *p == 0x7f) {
            *p = '?';
            n = 1;
        }
        p += n;
    }
}

static void fill(struct vx_err *err, int code, const char *reason, const char *fmt, va_list ap) {
    memset(err, 0, sizeof *err);
    err->code = code;
    snprintf(err->reason, sizeof err->reason, "%s", reason ? reason : vx_status_word(code));
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    tidy(err->text);
}

int vx_fail(struct vx_err *err, int code, const char *reason, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        fill(err, code, reason, fmt, ap);
        va_end(ap);
    }
    return code;
}

static int code_of_errno(int errnum) {
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        return VX_E_FULL;
    case ENOENT:
        return VX_E_NOT_FOUND;
    case EEXIST:
    case ENOTEMPTY:
        return VX_E_EXISTS;
    case ENOMEM:
        return VX_E_NOMEM;
    case EACCES:
    case EPERM:
    case EROFS:
        return VX_E_PERM;
    default:
        return VX_E_IO;
    }
}

int vx_fail_errno(struct vx_err *err, int errnum, const char *where, const char *fmt, ...) {
    int code = code_of_errno(errnum);
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        fill(err, code, NULL, fmt, ap);
        va_end(ap);
        err->native = errnum;
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(errnum));
        if (where) {
            snprintf(err->where, sizeof err->where, "%s", where);
            tidy(err->where);
        }
    }
    return code;
}

int vx_err_at(struct vx_err *err, const char *fmt, ...) {
    if (!err) {
        return VX_E_INTERNAL;
    }
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->where, sizeof err->where, fmt, ap);
    va_end(ap);
    tidy(err->where);
    return err->code;
}

int vx_err_prefix(struct vx_err *err, const char *fmt, ...) {
    if (!err) {
        return VX_E_INTERNAL;
    }
    char old[sizeof err->text];
    memcpy(old, err->text, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->text) {
        size_t room = sizeof err->text - (size_t)n;
        snprintf(err->text + n, room, ": %.*s", (int)(room > 3 ? room - 3 : 0), old);
    }
    tidy(err->text);
    return err->code;
}
