/* How long a step takes under one setting of the knobs, counted window by window for as long as it
 * takes to tell one setting from another. Pure. Thread: any. */
#ifndef VX_TUNE_MEASURE_H
#define VX_TUNE_MEASURE_H

#include <stdbool.h>

struct vx_tune_window;

#define VX_MEASURE_WINDOWS 6

/* The last windows that do not overlap, the newest at the end. Zeroed: none. */
struct vx_measure {
    int n;
    double until; /* end of the newest */
    struct {
        double n, wall, deviation;
    } window[VX_MEASURE_WINDOWS];
};

/* Enough steps for a mean: many, or fewer over a longer time. One of the two holds for steps of any
 * length where windows come with ten seconds or fourteen steps, whichever takes longer. */
bool vx_measure_enough(const struct vx_tune_window *w);
/* Takes up a window that ends now, where it overlaps none that was taken. */
void vx_measure_take(struct vx_measure *m, double now, const struct vx_tune_window *w);
/* As many as there will ever be. */
bool vx_measure_full(const struct vx_measure *m);
/* Mean step in seconds and its standard error. There must be a window. */
double vx_measure_step(const struct vx_measure *m, double *ret_error);

#endif
