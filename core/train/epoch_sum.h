/* Sums of the epoch in progress. They are part of a checkpoint, so that an epoch continued by
 * another process ends with the same figures. Private to this room. Thread: one at a time. */
#ifndef VX_TRAIN_EPOCH_SUM_H
#define VX_TRAIN_EPOCH_SUM_H

#include "train/history.h"

#include <jansson.h>
#include <stdint.h>

struct vx_err;

struct vx_epoch_sum {
    uint32_t epoch;
    uint32_t train_done, val_done; /* batches whose figures are in the sums */
    double train_loss, val_loss;   /* sums over batches */
    int64_t tp[64], fp[64], fn[64];
    double start_time;    /* seconds since 1970; 0 before the first batch */
    uint64_t phase_ns[8]; /* index: enum vx_phase; their sum is the time spent on the epoch */
};

void vx_epoch_sum_start(struct vx_epoch_sum *sum, uint32_t epoch);
/* The figures of the finished epoch, but for best_ema, learning_rate and end_time; previous_ema NaN
 * before the first. */
void vx_epoch_sum_finish(const struct vx_epoch_sum *sum, int classes, double previous_ema,
                         struct vx_train_epoch *ret);

json_t *vx_epoch_sum_to_json(const struct vx_epoch_sum *sum, int classes);
int vx_epoch_sum_from_json(const json_t *json, int classes, struct vx_epoch_sum *ret,
                           struct vx_err *err);

#endif
