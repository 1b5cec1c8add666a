/* Inside core/tune: shares of a window, thresholds, and the judges. */
#ifndef VX_TUNE_JUDGE_JUDGE_H
#define VX_TUNE_JUDGE_JUDGE_H

#include "tune/verdict.h"
#include "tune/window.h"

#include <stdbool.h>

/* Waiting below 5 % of the step is healthy, 20 % severe: the limits of TensorFlow's profiler, and
 * what nnU-Net's own benchmark pays over dummy data on a healthy machine (5 to 9 %). */
#define TUNE_WAIT_WARNING 0.05
#define TUNE_WAIT_SEVERE  0.20
/* A worker's time is spent reading rather than computing from here on. */
#define TUNE_READ_SHARE 0.40
/* ... and of the reading, opening. */
#define TUNE_OPEN_SHARE 0.50
/* Part of their working time that workers stand in the run queue where cores are short. */
#define TUNE_RUNQUEUE_SHARE 0.12
/* Fewer idle cores than this: there is none for another worker. */
#define TUNE_IDLE_CORES 0.5
/* Foreign processes that use less than this part of the cores are not the cause. */
#define TUNE_FOREIGN_SHARE 0.20
/* The kernel's own measure of standing still for memory. */
#define TUNE_PSI_MEMORY 0.05
/* Bytes a second from swap that are not just the odd page. */
#define TUNE_SWAP_IN 1e6
/* A cold cache that needs longer than this to warm is a slow disk. */
#define TUNE_COLD_SECONDS 3600.0
/* Growth that matters: of a step per hour. */
#define TUNE_STEP_SLOPE 0.05
/* Surplus workers are given back when they would be busy less than this. */
#define TUNE_SURPLUS_BUSY 0.60

/* What the judges ask of a window, computed once. */
struct shares {
    double wait;         /* of the wall time, for the loader */
    double step;         /* mean seconds of a step */
    double step_rest;    /* without waiting */
    double sample;       /* working seconds of a worker per sample */
    double sample_quiet; /* without standing in the run queue: what it costs with a core at hand */
    double busy;         /* share of the workers' time in which they work */
    double reading;      /* open and read, share of the working time */
    double opening;      /* open, share of open and read */
    double runqueue;     /* share of the working time */
    double device;       /* of the bytes read, those from the device */
    double idle_cores;   /* that nobody uses */
    uint32_t wanted;     /* workers, with sample_quiet */
    double each;         /* of a core that a worker needs: one that reads or sleeps needs less */
    uint32_t room;       /* so many workers the cores have room for, at least 1 */
    bool cpu_short;      /* no core is free for another worker */
};

void tune_shares(const struct vx_tune_window *w, struct shares *ret);

/* A verdict under way: severity from the cost. */
void tune_begin(struct vx_verdict *v, enum vx_verdict_code code, double cost);
void tune_figure(struct vx_verdict *v, const char *name, const char *unit, double value);
/* Share of the step that is saved where the pool makes samples `times` as fast. */
double tune_gain(const struct shares *s, double times);

/* Each: true where the verdict applies. */
bool judge_loader(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret);
bool judge_memory(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret);
bool judge_h2d(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret);
bool judge_launch(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret);
bool judge_throttled(const struct vx_tune_window *w, const struct shares *s,
                     struct vx_verdict *ret);
bool judge_healthy(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret);
bool judge_period(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret);
bool judge_lost(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret);
bool judge_hang(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret);
bool judge_drift(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret);
bool judge_corrupt(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret);

#endif
