/* One figure over the last hour, for its slow growth. Kept are medians of ten seconds each: a spike
 * or a burst is no trend. Thread: one at a time. */
#ifndef VX_DAEMON_TELEMETRY_TREND_H
#define VX_DAEMON_TELEMETRY_TREND_H

#include <stdint.h>

#define VX_TREND_BINS   360
#define VX_TREND_VALUES 64 /* at most, of one bin */

struct vx_trend {
    struct {
        uint64_t ns; /* mean time of its values */
        double median;
    } v[VX_TREND_BINS]; /* by bin; n ever closed */
    uint64_t n;
    struct {
        uint64_t began_ns, sum_ns; /* sum of the times since began_ns */
        double value[VX_TREND_VALUES];
        uint32_t n;
    } open;
};

/* All zero is an empty one. ns: CLOCK_MONOTONIC, ascending; a value of the past is left out. */
void vx_trend_add(struct vx_trend *t, uint64_t ns, double value);
/* Growth per hour in the figure's unit, and the figure's mean (NULL allowed). 0 unless it is more
 * than three standard errors, goes on in each half of the time (a step up is no trend, nor is what
 * levels off), and has come to 3 % of the mean. Needs ten minutes. */
double vx_trend_growth(const struct vx_trend *t, double *ret_mean);

#endif
