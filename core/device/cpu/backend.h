/* The CPU backend's table, for the registry, and what tests and benchmarks may ask of a program
 * beyond device.h. Nothing else includes files of this folder. */
#ifndef VX_DEVICE_CPU_BACKEND_H
#define VX_DEVICE_CPU_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

struct vx_device_api;
struct vx_program;

extern const struct vx_device_api vx_cpu_device_api;

/* One step of a compiled program. */
struct vx_cpu_step_info {
    char name[64];              /* e.g. "conv 3 backward weights" (number of the op) */
    const char *implementation; /* oneDNN's name; "own..." for this folder's kernels */
    uint64_t ns, runs;          /* summed over all runs */
};

/* Step 0, 1, ... of a "cpu" program; false past the last. The text is owned by the program. */
bool vx_cpu_program_step(const struct vx_program *program, int index, struct vx_cpu_step_info *ret);

#endif
