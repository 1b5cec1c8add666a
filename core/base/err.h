/* Status codes and error details.
 *
 * Functions return VX_OK or a negative VX_E_* code. Functions that touch the outside world also
 * take a `struct vx_err *err` as their last parameter (NULL allowed) and fill it on failure: it
 * becomes the failure reason of a job or the problem document of an HTTP reply. Outputs named ret_x
 * are written only on success. Texts are UTF-8 in one line whatever is put into them: bytes that
 * are not become '?'. Thread: any.
 */
#ifndef VX_BASE_ERR_H
#define VX_BASE_ERR_H

#include <stdarg.h>

#define VX_STATUS_LIST(X)                                                                          \
    X(OK, 0, "ok")                                                                                 \
    X(E_NOMEM, -1, "out of memory")                                                                \
    X(E_INVALID, -2, "invalid value")                                                              \
    X(E_IO, -3, "input/output error")                                                              \
    X(E_NOT_FOUND, -4, "not found")                                                                \
    X(E_EXISTS, -5, "exists already")                                                              \
    X(E_CORRUPT, -6, "damaged data")                                                               \
    X(E_UNSUPPORTED, -7, "not supported")                                                          \
    X(E_LIMIT, -8, "limit exceeded")                                                               \
    X(E_STATE, -9, "not possible in this state")                                                   \
    X(E_BUSY, -10, "in use")                                                                       \
    X(E_CANCELLED, -11, "cancelled")                                                               \
    X(E_TIMEOUT, -12, "timed out")                                                                 \
    X(E_DEVICE, -13, "device error")                                                               \
    X(E_FULL, -14, "no space left")                                                                \
    X(E_PERM, -15, "not permitted")                                                                \
    X(E_INTERNAL, -16, "internal error")

enum vx_status {
#define VX_X(name, value, text) VX_##name = value,
    VX_STATUS_LIST(VX_X)
#undef VX_X
};

struct vx_err {
    int code;        /* VX_E_*; 0 while unset */
    int native;      /* errno, SQLite or oneDNN code; 0 if none */
    char reason[48]; /* stable snake_case word for machines, e.g. "shape_mismatch" */
    char text[512];  /* one sentence for people: what happened and what to do */
    char where[512]; /* file path or JSON pointer the error is about; may be empty */
};

/* Fixed text of a status code; never NULL. */
const char *vx_status_text(int code);
/* snake_case name of a status code ("no_space_left"-like word used when vx_err.reason is empty). */
const char *vx_status_word(int code);

/* Fills err (if not NULL) and returns code, so that callers can `return vx_fail(...)`.
 * reason may be NULL: the status word is used then. */
int vx_fail(struct vx_err *err, int code, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The same from errno: ENOSPC and EDQUOT become VX_E_FULL, ENOENT VX_E_NOT_FOUND, EEXIST
 * VX_E_EXISTS, ENOMEM VX_E_NOMEM, EACCES and EPERM VX_E_PERM, anything else VX_E_IO.
 * strerror(errnum) is appended to the text. */
int vx_fail_errno(struct vx_err *err, int errnum, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Sets err->where (printf style) and returns err->code; for `return vx_fail_at(err, ...)` chains.
 */
int vx_err_at(struct vx_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " in front of err->text and returns err->code. */
int vx_err_prefix(struct vx_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
