#include "base/err.h"

#include <errno.h>
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

static void fill(struct vx_err *err, int code, const char *reason, const char *fmt, va_list ap) {
    memset(err, 0, sizeof *err);
    err->code = code;
    snprintf(err->reason, sizeof err->reason, "%s", reason ? reason : vx_status_word(code));
    vsnprintf(err->text, sizeof err->text, fmt, ap);
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
    return err->code;
}
