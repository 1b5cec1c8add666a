/* Items through three stages that overlap: while the second works on one item, the first makes the
 * next and the third finishes the one before. At most three items are alive, of which one is ahead
 * of the second stage, and their estimated memory stays within a budget; one item always goes on,
 * however large. Items keep their order in every stage. Thread: the second stage runs on the
 * caller's, the others on one of their own each. */
#ifndef VX_INFER_PIPELINE_H
#define VX_INFER_PIPELINE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;

struct vx_pipeline {
    size_t n_items;
    uint64_t memory_bytes;                    /* budget of all items alive; 0: no limit */
    uint64_t (*cost)(void *ctx, size_t item); /* bytes it needs at most; NULL: 0 */
    /* load: what the first stage made of the item. Negative: no further item is begun, what is
     * waiting is dropped, and vx_pipeline_run returns this code and error. */
    int (*first)(void *ctx, size_t item, void **ret_load, struct vx_err *err);
    int (*second)(void *ctx, size_t item, void *load, struct vx_err *err);
    int (*third)(void *ctx, size_t item, void *load, struct vx_err *err);
    void (*drop)(void *load); /* once for every load that was made; any thread */
    const atomic_bool *stop;  /* set by anyone: as after an error, VX_E_CANCELLED; NULL: never */
    void *ctx;
};

int vx_pipeline_run(const struct vx_pipeline *pipeline, struct vx_err *err);

#endif
