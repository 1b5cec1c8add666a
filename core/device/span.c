#include "device/span.h"

#include "base/err.h"

#include <stdlib.h>

static size_t align_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

static int by_size(const void *a, const void *b) {
    const struct vx_span *x = *(struct vx_span *const *)a;
    const struct vx_span *y = *(struct vx_span *const *)b;
    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? 1 : -1;
    }
    return x < y ? -1 : 1;
}

static int by_offset(const void *a, const void *b) {
    const struct vx_span *x = *(struct vx_span *const *)a;
    const struct vx_span *y = *(struct vx_span *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Lowest offset where s fits beside the n placed spans (sorted by offset). */
static size_t lowest_gap(struct vx_span *const *placed, int n, const struct vx_span *s,
                         size_t alignment) {
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        const struct vx_span *other = placed[i];
        if (other->first > s->last || other->last < s->first) {
            continue;
        }
        if (other->offset >= at + s->bytes) {
            break;
        }
        size_t end = align_up(other->offset + other->bytes, alignment);
        at = end > at ? end : at;
    }
    return at;
}

int vx_place_spans(struct vx_span *spans, int n, size_t alignment, size_t *ret_total,
                   struct vx_err *err) {
    struct vx_span **order = calloc(2 * (size_t)n + 1, sizeof(struct vx_span *));
    if (!order) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to plan a program");
    }
    struct vx_span **placed = order + n;
    int used = 0;
    for (int i = 0; i < n; i++) {
        if (spans[i].first >= 0) {
            order[used++] = &spans[i];
        }
    }
    qsort(order, (size_t)used, sizeof *order, by_size);
    size_t total = 0;
    for (int i = 0; i < used; i++) {
        order[i]->offset = lowest_gap(placed, i, order[i], alignment);
        placed[i] = order[i];
        qsort(placed, (size_t)i + 1, sizeof *placed, by_offset);
        size_t end = order[i]->offset + order[i]->bytes;
        total = end > total ? end : total;
    }
    free(order);
    *ret_total = total;
    return VX_OK;
}
