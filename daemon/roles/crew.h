/* A crew of threads that works through numbered items under a memory budget: cases of a data set
 * side by side. Thread: one call at a time; `work` runs on the crew's threads, `done` on one of
 * them at a time. */
#ifndef VX_DAEMON_ROLES_CREW_H
#define VX_DAEMON_ROLES_CREW_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;

struct vx_crew {
    size_t n_items;
    int threads;           /* at least 1 */
    uint64_t memory_bytes; /* budget for all items under way; 0: no limit. One item always runs */
    uint64_t (*cost)(void *ctx, size_t item); /* bytes an item needs at most; NULL: 0 */
    /* Negative: no further item is begun, and vx_crew_run returns this code and error. */
    int (*work)(void *ctx, size_t item, struct vx_err *err);
    void (*done)(void *ctx, size_t n_done); /* after each finished item; NULL: nobody asks */
    const atomic_bool
        *stop; /* set by anyone: no further item is begun, VX_E_CANCELLED; NULL: never */
    void *ctx;
};

int vx_crew_run(const struct vx_crew *crew, struct vx_err *err);

#endif
