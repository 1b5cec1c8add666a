/* A stretch of simulated training as the window that verdicts are made of. */
#ifndef TESTS_TUNE_FROM_SIM_H
#define TESTS_TUNE_FROM_SIM_H

#include "sim/model.h"
#include "tune/window.h"

/* What the simulator does not know of the machine that it plays. */
struct sim_machine {
    struct sim_config config; /* as it is now: knobs included */
    double cores;             /* of the budget, where config.cores is 0 */
    double memory_limit, memory_available;
    double worker_bytes, store_bytes;
    double cases_read; /* share of the store that was read at least once; 1: all, or not cached */
    bool caches;       /* what was read stays in memory */
};

/* Runs for some seconds, to the end of a step, and cuts the window. The trainer's steps are taken
 * to be even within it. */
void window_from_sim(struct sim *s, const struct sim_machine *m, double seconds,
                     struct vx_tune_window *ret);

#endif
