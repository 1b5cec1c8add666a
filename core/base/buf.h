/* A growing text buffer, always NUL-terminated. After the first failed allocation it stays in the
 * failed state and every further call is ignored, so that a caller checks once at the end. Thread:
 * one at a time. */
#ifndef VX_BASE_BUF_H
#define VX_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct vx_buf {
    char *data; /* owned; NULL while empty */
    size_t len, cap;
    bool failed;
};

#define VX_BUF_INIT                                                                                \
    { NULL, 0, 0, false }

void vx_buf_release(struct vx_buf *b);
void vx_buf_clear(struct vx_buf *b);
void vx_buf_add(struct vx_buf *b, const void *data, size_t len);
void vx_buf_puts(struct vx_buf *b, const char *text);
void vx_buf_printf(struct vx_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Hands the text over (caller frees) and leaves the buffer empty; NULL where an allocation failed.
 */
char *vx_buf_take(struct vx_buf *b, size_t *ret_len);

#endif
