/* What happened in each finished epoch, in nnU-Net's logger names: mean_fg_dice, ema_fg_dice,
 * dice_per_class_or_region, train_losses, val_losses, lrs, epoch_start_timestamps,
 * epoch_end_timestamps. Thread: one at a time. */
#ifndef VX_TRAIN_HISTORY_H
#define VX_TRAIN_HISTORY_H

#include <jansson.h>
#include <stdint.h>

struct vx_err;

struct vx_train_epoch {
    uint32_t epoch;              /* from 0 */
    int classes;                 /* including background */
    double train_loss, val_loss; /* means over the epoch's batches; val_loss NaN without any */
    double dice[64]; /* pseudo-Dice of class c + 1 over the epoch's validation batches, c < classes
                        - 1; NaN where neither predicted nor present */
    double mean_fg_dice; /* mean of those that are not NaN; NaN where all are */
    double ema_fg_dice;  /* 0.9 x previous + 0.1 x mean_fg_dice */
    double best_ema;     /* highest so far, this epoch included */
    double learning_rate;
    double start_time, end_time; /* seconds since 1970 */
    double seconds;              /* of work, summed over the processes that ran parts of it */
    uint64_t phase_ns[8];        /* index: enum vx_phase (session/timeline.h) */
    double loader_wait_ratio;    /* wait_loader / all phases */
};

struct vx_history {
    struct vx_train_epoch *epochs; /* owned */
    uint32_t n, cap;
};

void vx_history_release(struct vx_history *h);
int vx_history_add(struct vx_history *h, const struct vx_train_epoch *epoch, struct vx_err *err);
/* Object of the eight lists above, plus best_ema, epoch_seconds, loader_wait_ratio and
 * phase_ns (list of lists). Numbers round-trip exactly; NaN is null. New reference; NULL when out
 * of memory. */
json_t *vx_history_to_json(const struct vx_history *h);
/* The inverse; classes is the network's. VX_E_CORRUPT names the list. ret must be empty. */
int vx_history_from_json(const json_t *json, int classes, struct vx_history *ret,
                         struct vx_err *err);

#endif
