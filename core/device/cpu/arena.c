/* The memory of a program: one mapping, made when the program is compiled.
 *
 * Each buffer is used from one step to another; buffers whose spans do not meet may share bytes.
 * They are placed by size, largest first, each at the lowest offset that is free over its span,
 * which for U-Nets comes close to the largest sum of buffers alive at one step. Pages are touched
 * at once: a first touch during a step costs 10 us a page on some virtual machines. */
#include "device/cpu/internal.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Two cache lines: starts of large buffers differ, so they do not fight for the same sets. */
enum { ALIGNMENT = 128, HUGE_PAGE = 2 << 20 };

static size_t align_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

static int by_size(const void *a, const void *b) {
    const struct cpu_buffer *x = *(struct cpu_buffer *const *)a;
    const struct cpu_buffer *y = *(struct cpu_buffer *const *)b;
    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? 1 : -1;
    }
    return x < y ? -1 : 1;
}

static int by_offset(const void *a, const void *b) {
    const struct cpu_buffer *x = *(struct cpu_buffer *const *)a;
    const struct cpu_buffer *y = *(struct cpu_buffer *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Lowest offset where b fits beside the n placed buffers (sorted by offset). */
static size_t lowest_gap(struct cpu_buffer *const *placed, int n, const struct cpu_buffer *b) {
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        const struct cpu_buffer *other = placed[i];
        if (other->first > b->last || other->last < b->first) {
            continue;
        }
        if (other->offset >= at + b->bytes) {
            break;
        }
        size_t end = align_up(other->offset + other->bytes, ALIGNMENT);
        at = end > at ? end : at;
    }
    return at;
}

static int place(struct cpu_program *p, size_t *ret_total, struct vx_err *err) {
    struct cpu_buffer **order = calloc(2 * (size_t)p->n_buffers + 1, sizeof(struct cpu_buffer *));
    if (!order) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to plan a program");
    }
    struct cpu_buffer **placed = order + p->n_buffers;
    int n = 0;
    for (int i = 0; i < p->n_buffers; i++) {
        if (p->buffers[i].first >= 0) {
            order[n++] = &p->buffers[i];
        }
    }
    qsort(order, (size_t)n, sizeof *order, by_size);
    size_t total = 0;
    for (int i = 0; i < n; i++) {
        order[i]->offset = lowest_gap(placed, i, order[i]);
        placed[i] = order[i];
        qsort(placed, (size_t)i + 1, sizeof *placed, by_offset);
        size_t end = order[i]->offset + order[i]->bytes;
        total = end > total ? end : total;
    }
    free(order);
    *ret_total = total;
    return VX_OK;
}

int cpu_make_arena(struct cpu_program *p, struct vx_err *err) {
    size_t total = 0;
    int rc = place(p, &total, err);
    if (rc != VX_OK) {
        return rc;
    }
    total = align_up(total + 1, HUGE_PAGE);
    /* The kernel would promise more than there is and kill somebody when it is touched. */
    size_t available = cpu_available_memory();
    bool fits = available == 0 || total < available;
    /* One huge page more, so that the start can be aligned to one. */
    void *base = fits ? mmap(NULL, total + HUGE_PAGE, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                      : MAP_FAILED;
    if (base == MAP_FAILED) {
        return vx_fail(err, VX_E_NOMEM, NULL,
                       "this network needs %zu MiB and %zu MiB are available: take a smaller patch "
                       "or batch",
                       total >> 20, available >> 20);
    }
    uintptr_t start = align_up((uintptr_t)base, HUGE_PAGE);
    if (start > (uintptr_t)base) {
        munmap(base, start - (uintptr_t)base);
    }
    if ((uintptr_t)base + HUGE_PAGE > start) {
        munmap((void *)(start + total), (uintptr_t)base + HUGE_PAGE - start);
    }
    p->arena = (unsigned char *)start;
    p->arena_bytes = total;
    /* Advice only: without huge pages everything works, more slowly. */
    madvise(p->arena, total, MADV_HUGEPAGE);
    memset(p->arena, 0, total);
    return VX_OK;
}

void cpu_free_arena(struct cpu_program *p) {
    if (p->arena) {
        munmap(p->arena, p->arena_bytes);
    }
}
