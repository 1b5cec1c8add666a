/* The order in which a job consumes samples: epoch by epoch, first the training batches, then the
 * validation batches.
 *
 * q numbers all samples of a job from 0 in that order; k numbers the batches of one stream from 0
 * over the whole job. Pure functions. Thread: any. */
#ifndef VX_SESSION_SCHEDULE_H
#define VX_SESSION_SCHEDULE_H

#include <stdint.h>

enum vx_stream { VX_STREAM_TRAIN = 0, VX_STREAM_VAL = 1 };

struct vx_sample_schedule {
    uint32_t batch;            /* samples per batch, >= 1 */
    uint32_t train_iterations; /* batches per epoch, >= 1 */
    uint32_t val_iterations;   /* batches per epoch, >= 0 */
    uint32_t epochs;           /* >= 1 */
};

struct vx_sample_ref {
    uint32_t stream; /* enum vx_stream */
    uint32_t epoch;
    uint64_t k; /* batch within the stream, over the whole job */
    uint32_t j; /* sample within the batch */
};

/* Which sample is number q; q may lie past the end (the formula goes on). */
struct vx_sample_ref vx_sample_at(const struct vx_sample_schedule *s, uint64_t q);
/* The q of sample 0 of batch k of a stream; the inverse of vx_sample_at. VX_STREAM_VAL: only where
 * val_iterations is not 0. A job resumed at train batch k starts with
 * vx_sample_q(s, VX_STREAM_TRAIN, k). */
uint64_t vx_sample_q(const struct vx_sample_schedule *s, uint32_t stream, uint64_t k);
/* One past the last q of the job. */
uint64_t vx_sample_end(const struct vx_sample_schedule *s);

#endif
