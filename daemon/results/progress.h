/* progress.png of a fold folder: loss, pseudo Dice, learning rate and epoch seconds over the
 * epochs, as nnU-Net draws them. Thread: any. */
#ifndef VX_DAEMON_RESULTS_PROGRESS_H
#define VX_DAEMON_RESULTS_PROGRESS_H

#include <stddef.h>

struct vx_err;

/* One epoch; NaN where a figure is missing. */
struct vx_progress_point {
    int epoch;
    double train_loss, val_loss, dice, ema, lr, seconds;
};

int vx_progress_write(const char *path, const struct vx_progress_point *points, size_t n,
                      struct vx_err *err);

#endif
