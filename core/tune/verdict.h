/* What a window of measurements says: ranked verdicts, each with its evidence, what to do about it
 * and what that is predicted to gain.
 *
 * Pure functions of the window; the thresholds stand in judge/judge.h with where they come from.
 * Text for people is made by tune/text.h. Thread: any. */
#ifndef VX_TUNE_VERDICT_H
#define VX_TUNE_VERDICT_H

#include <stdint.h>

struct vx_tune_window;

#define VX_VERDICT_LIST(X)                                                                         \
    X(GPU_BOUND, "gpu_bound")                                                                      \
    X(AUGMENT_BOUND, "augment_bound")                                                              \
    X(AUGMENT_SATURATED, "augment_saturated")                                                      \
    X(READ_BOUND_COLD, "read_bound_cold")                                                          \
    X(READ_BOUND, "read_bound")                                                                    \
    X(OPEN_BOUND, "open_bound")                                                                    \
    X(MEMORY_PRESSURE, "memory_pressure")                                                          \
    X(NEIGHBOUR_CONTENTION, "neighbour_contention")                                                \
    X(H2D_BOUND, "h2d_bound")                                                                      \
    X(LAUNCH_BOUND, "launch_bound")                                                                \
    X(GPU_THROTTLED, "gpu_throttled")                                                              \
    X(PERIODIC_STALL, "periodic_stall")                                                            \
    X(WORKER_LOST, "worker_lost")                                                                  \
    X(HANG, "hang")                                                                                \
    X(DRIFT, "drift")                                                                              \
    X(CACHE_CORRUPT, "cache_corrupt")

enum vx_verdict_code {
#define VX_X(name, word) VX_VERDICT_##name,
    VX_VERDICT_LIST(VX_X)
#undef VX_X
        VX_VERDICTS
};
/* "gpu_bound", ...; "?" for numbers out of range. */
const char *vx_verdict_word(enum vx_verdict_code code);

enum vx_severity {
    VX_SEVERITY_HEALTHY = 0, /* nothing is wrong */
    VX_SEVERITY_NOTE,        /* worth knowing, costs little */
    VX_SEVERITY_WARNING,     /* costs 5 % of the wall time or more */
    VX_SEVERITY_SEVERE       /* costs 20 % or more, or endangers the job */
};
const char *vx_severity_word(enum vx_severity severity);

/* What helps. The knobs are the tuner's to turn; the rest is for people or other parts. */
enum vx_action {
    VX_ACTION_NONE = 0,
    VX_ACTION_WORKERS,   /* from -> to */
    VX_ACTION_PREFETCH,  /* samples ahead, from -> to */
    VX_ACTION_KEEP_OPEN, /* keep files open */
    VX_ACTION_TIER,      /* from -> to: enum vx_tune_tier */
    VX_ACTION_WAIT,      /* clears by itself; to: seconds */
    VX_ACTION_ADVISE,    /* people: the verdict's text says what */
    VX_ACTION_RESTART,   /* loader, then trainer */
    VX_ACTION_REBUILD    /* one entry of the prepared store */
};
const char *vx_action_word(enum vx_action action);

#define VX_VERDICT_FIGURES 9

struct vx_figure {
    const char *name; /* static text, as in the API */
    const char *unit; /* static text: "ratio", "s", "bytes", "1", ... */
    double value;
};

struct vx_verdict {
    enum vx_verdict_code code;
    enum vx_severity severity;
    double cost; /* share of the wall time that this takes, 0 to 1; ranks the verdicts */
    enum vx_action action;
    double from, to;  /* of the action */
    double gain;      /* predicted share of the step that the action saves; 0: none can be told */
    uint32_t lacking; /* enum vx_tune_evidence that would have made this surer and is not there */
    int n_figures;
    struct vx_figure figure[VX_VERDICT_FIGURES];
};

/* Fills ret, worst first, at most one of each code, at least one. Returns how many. A window
 * without steps (n = 0) can only say hang, worker_lost, cache_corrupt and memory_pressure, or
 * nothing: then 0. */
int vx_tune_judge(const struct vx_tune_window *window, struct vx_verdict ret[VX_VERDICTS]);

/* Workers that a step of `step_rest` seconds (without waiting) needs for `batch` samples of
 * `sample` working seconds: ceil(batch x sample / (0.85 x step_rest)), at least 1. At a load of 1.0
 * a queue still waits 2 to 10 % of the time; 0.85 leaves room. */
uint32_t vx_tune_workers_wanted(uint32_t batch, double sample, double step_rest);

#endif
