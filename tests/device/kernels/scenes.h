/* What the parity program runs on both machines: kernels over arrays named by index. */
#ifndef VX_TESTS_KERNELS_SCENES_H
#define VX_TESTS_KERNELS_SCENES_H

#include "device/kernels/table.h"

enum scene_type {
    SCENE_BF16,
    SCENE_FLOAT,
    SCENE_LABELS,
    SCENE_TARGETS,
    SCENE_RESULT,
    SCENE_SCRATCH
};

enum { SCENE_ARRAYS = 12 };

struct scene_array {
    enum scene_type type;
    size_t count; /* elements; bytes for SCENE_SCRATCH */
    bool compared;
};

struct scene {
    const char *name;
    int n, channels, size[3], classes;
    struct scene_array arrays[SCENE_ARRAYS];
    int n_arrays;
    int (*run)(const struct scene *s, const struct kernel_table *k, void *const *p);
    double bytes; /* that must cross the device's memory, per run */
};

/* The scenes, at a size that a CPU can follow, or, where large, at that of the 128^3 plan. Returns
 * how many. */
int scenes_make(bool large, struct scene *ret, int most);
size_t scene_array_bytes(const struct scene_array *a);
/* Repeatable content. */
void scene_array_fill(const struct scene_array *a, int classes, uint64_t seed, void *ret);

#endif
