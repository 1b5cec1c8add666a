/* The memory of a program: one mapping, made when the program is compiled.
 *
 * Pages are touched at once: a first touch during a step costs 10 us a page on some virtual
 * machines. */
#include "device/cpu/internal.h"

#include "base/err.h"
#include "device/span.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Two cache lines: starts of large buffers differ, so they do not fight for the same sets. */
enum { ALIGNMENT = 128, HUGE_PAGE = 2 << 20 };

static size_t align_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

int cpu_make_arena(struct cpu_program *p, struct vx_err *err) {
    size_t total = 0;
    int rc = vx_place_spans(p->buffers, p->n_buffers, ALIGNMENT, &total, err);
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
