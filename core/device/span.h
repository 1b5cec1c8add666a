/* Buffers in one piece of memory, placed by the steps in which they are used. Private to this room:
 * backends plan the memory of a program with it. Thread: any. */
#ifndef VX_DEVICE_SPAN_H
#define VX_DEVICE_SPAN_H

#include <stddef.h>

struct vx_err;

struct vx_span {
    size_t bytes, offset;
    int first, last; /* steps that use it; first < 0: unused, it gets no place */
};

/* Gives every used span its offset; spans whose steps do not meet may share bytes. Placed by size,
 * largest first, each at the lowest offset that is free over its steps, which for U-Nets comes
 * close to the largest sum of spans alive at one step. *ret_total: bytes up to the end of the last
 * one. */
int vx_place_spans(struct vx_span *spans, int n, size_t alignment, size_t *ret_total,
                   struct vx_err *err);

#endif
