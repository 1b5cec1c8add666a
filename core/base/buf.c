#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void vx_buf_release(struct vx_buf *b) {
    free(b->data);
    *b = (struct vx_buf)VX_BUF_INIT;
}

void vx_buf_clear(struct vx_buf *b) {
    b->len = 0;
    b->failed = false;
    if (b->data) {
        b->data[0] = '\0';
    }
}

static bool reserve(struct vx_buf *b, size_t extra) {
    if (b->failed) {
        return false;
    }
    size_t need = b->len + extra + 1;
    if (need <= b->cap) {
        return true;
    }
    size_t cap = b->cap ? b->cap * 2 : 256;
    while (cap < need) {
        cap *= 2;
    }
    char *data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void vx_buf_add(struct vx_buf *b, const void *data, size_t len) {
    if (reserve(b, len)) {
        memcpy(b->data + b->len, data, len);
        b->len += len;
        b->data[b->len] = '\0';
    }
}

void vx_buf_puts(struct vx_buf *b, const char *text) {
    vx_buf_add(b, text, strlen(text));
}

void vx_buf_printf(struct vx_buf *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

char *vx_buf_take(struct vx_buf *b, size_t *ret_len) {
    if (b->failed || !reserve(b, 0)) {
        vx_buf_release(b);
        return NULL;
    }
    b->data[b->len] = '\0';
    char *data = b->data;
    if (ret_len) {
        *ret_len = b->len;
    }
    *b = (struct vx_buf)VX_BUF_INIT;
    return data;
}
