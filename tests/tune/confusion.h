/* Machines drawn at random with one thing wrong, or nothing. What is wrong is known because the
 * draw made it so, and it is checked: without it the simulated device does not wait. */
#ifndef TESTS_TUNE_CONFUSION_H
#define TESTS_TUNE_CONFUSION_H

#include "tune/from_sim.h"
#include "tune/verdict.h"

#include <stdbool.h>
#include <stdint.h>

/* Of the kind `truth`, from this seed; false where the draw came out ambiguous (between healthy and
 * ill, or with two causes) and another seed is to be taken. */
bool draw_window(enum vx_verdict_code truth, uint64_t seed, struct vx_tune_window *ret);
/* The kinds that can be drawn. */
extern const enum vx_verdict_code drawn_kinds[];
extern const int n_drawn_kinds;

#endif
