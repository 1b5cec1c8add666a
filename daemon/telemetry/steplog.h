/* The training steps of one session, the last few thousand of them: windows, percentiles and rhythm
 * come from here. Thread: one at a time (the telemetry thread). */
#ifndef VX_DAEMON_TELEMETRY_STEPLOG_H
#define VX_DAEMON_TELEMETRY_STEPLOG_H

#include "daemon/telemetry/trend.h"
#include "tune/period.h"
#include "tune/window.h"

#include <stdbool.h>
#include <stdint.h>

struct vx_step_record;

#define VX_STEPLOG_STEPS 4096

struct vx_steplog_entry {
    uint64_t end_ns;
    struct vx_tune_step step; /* seconds */
    uint32_t depth;
};

struct vx_steplog {
    struct vx_steplog_entry v[VX_STEPLOG_STEPS];
    uint64_t n;            /* ever added */
    double compute_best;   /* smallest mean compute of WARM successive steps; 0: too few yet */
    double mean;           /* of all but the first, decaying over some hundred steps */
    struct vx_trend trend; /* of their seconds: an hour of fast steps is more than v holds */
};

/* A training step; records of other streams are not for here. */
void vx_steplog_add(struct vx_steplog *log, const struct vx_step_record *r);
/* The trainer was restarted: its first step is slow again and counts for nothing. */
void vx_steplog_restarted(struct vx_steplog *log);

/* Steps that ended in (from_ns, to_ns], without the very first. batch is the caller's. */
void vx_steplog_window(const struct vx_steplog *log, uint64_t from_ns, uint64_t to_ns,
                       struct vx_tune_steps *ret);
/* Over all that the log holds. */
bool vx_steplog_period(const struct vx_steplog *log, struct vx_tune_period *ret);
/* Relative growth of a step per hour where trend.h calls it one; else 0. */
double vx_steplog_slope(const struct vx_steplog *log);

#endif
