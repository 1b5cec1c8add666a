/* Spikes that come back every so many steps: checkpoints, epoch ends, a big case, a cron job.
 * Thread: any; pure. */
#ifndef VX_TUNE_PERIOD_H
#define VX_TUNE_PERIOD_H

#include "tune/window.h"

#include <stdbool.h>
#include <stddef.h>

/* One step's parts in seconds. */
struct vx_tune_step {
    double phase[VX_TUNE_PHASES];
};

struct vx_tune_period {
    double steps;             /* between spikes, median */
    double share;             /* of the wall time that the spikes take beyond an ordinary step */
    double spike;             /* seconds of a spike, mean */
    enum vx_tune_phase phase; /* that grows most in them */
};

/* steps: successive ones, oldest first. A spike is longer than twice the median step, stands out of
 * the ordinary scatter, and is not small beside the others. Four of them at one distance (give or
 * take a twentieth, or one step) are a period when they fill three quarters of its beats from the
 * first to now and are half of the time that all spikes cost. False where there is none, or no
 * memory to look. */
bool vx_tune_find_period(const struct vx_tune_step *steps, size_t n, struct vx_tune_period *ret);

/* Least-squares slope of y over x with its standard error; both 0 where n < 3. */
void vx_tune_slope(const double *x, const double *y, size_t n, double *ret_slope,
                   double *ret_error);

#endif
