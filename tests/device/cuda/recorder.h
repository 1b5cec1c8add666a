/* A GPU that is not there: device/cuda/api.h on the CPU, so that what the backend launches can be
 * checked without one.
 *
 * Every call is checked against what it will read and write by its own arguments: the bytes lie
 * inside one buffer of the program that is in use at that step; what is read has been written, by
 * nobody else since; work on different streams that shares bytes is ordered by events; the device
 * is the thread's that calls. With
 * `execute` the call is then carried out, our kernels from their own source (tests/kernels) and
 * convolutions by the obvious loops; without, memory is address space only, so networks of any size
 * pass. What a stream captures runs when its graph is launched. One recorder per process. */
#ifndef VX_TESTS_DEVICE_CUDA_RECORDER_H
#define VX_TESTS_DEVICE_CUDA_RECORDER_H

#include <stdbool.h>
#include <stddef.h>

struct vx_program;

struct recorder_options {
    bool execute;
    size_t memory;         /* of the device; 0: plenty */
    const char *fail_call; /* name of a call in api.h: it gives fail_code once fail_after of it
                              have passed */
    int fail_after, fail_code;
    bool no_capture; /* capturing a graph fails */
};

/* Makes device "recorded" known and sets its ways; what was seen before is forgotten. */
void recorder_start(const struct recorder_options *options);
/* Other ways from now on, and calls counted anew; what there is stays. */
void recorder_change(const struct recorder_options *options);
/* The program's buffers are looked at from now on; checked at once: those in use at the same step
 * do not overlap. */
void recorder_watch(const struct vx_program *program);
/* Findings; text of the first. */
int recorder_problems(void);
const char *recorder_problem(void);
/* Calls of a name since the start ("norm_forward"); launched: those inside of graphs count once
 * for each launch. */
int recorder_calls(const char *name);
/* Whether the device was last opened for plans that need not be repeatable. */
bool recorder_fast(void);
/* Device memory, page-locked memory, events, streams, plans not given back. */
int recorder_leaks(void);

#endif
