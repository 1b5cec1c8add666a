/* The CUDA kernels' source, run on the CPU: device/cuda/kernels/ *.cu compiled by gcc, so every
 * launcher of device/cuda/kernels.h works on host memory here, block by block, phase by phase.
 * Nothing of it says that a GPU gets there too; see core/device/cuda/README.md. Thread: one. */
#ifndef VX_TESTS_KERNELS_FIXTURE_H
#define VX_TESTS_KERNELS_FIXTURE_H

#include "device/cuda/kernels.h"
#include "ref/ops.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In which order the blocks of a launch, and the threads of a block within a phase, come. */
enum host_order {
    HOST_IN_ORDER,
    HOST_BLOCKS_BACKWARDS,
    HOST_THREADS_BACKWARDS,
    HOST_MIXED,    /* both scattered */
    HOST_TOGETHER, /* all blocks side by side, phase by phase */
    HOST_ORDERS
};

void host_set_order(enum host_order order);
/* How often a block took itself for the last of its kind since the last call: twice where once is
 * right would go unseen, as the second result is right. */
int host_claims(void);

/* Repeatable; zero mean, unit variance, not quite normal. */
double host_draw(uint64_t *state);

float host_from_bf16(uint16_t bits);
uint16_t host_to_bf16(float x);

/* bfloat16 [N][D][H][W][pitch], the view starting at channel offset of pitch; filled with a
 * pattern that shows whether anything outside the view was written. */
struct host_tensor {
    int n, channels, padded;
    int64_t voxels;
    struct vx_cuda_view view;
    uint16_t *all; /* owned */
    size_t count;
    int offset;
};

struct host_tensor host_tensor_new(int n, int channels, int padded, int64_t voxels, int pitch,
                                   int offset);
void host_tensor_free(struct host_tensor *t);
float host_tensor_at(const struct host_tensor *t, int n, int c, int64_t voxel);
/* mean + scale * draws in the real channels, zeros in the padded ones; and the same, rounded, to
 * plain (may be NULL), [N][C][voxel]. */
void host_tensor_fill(struct host_tensor *t, double mean, double scale, uint64_t seed,
                      double *plain);
/* True where everything outside the view still holds the pattern and padded channels are 0. */
bool host_tensor_intact(const struct host_tensor *t);

/* Zeroed head, the rest a pattern; owned. */
void *host_workspace(size_t bytes);
/* The counters are back at 0. */
bool host_workspace_clean(const void *workspace);

struct ref_tensor host_ref_tensor(const int shape[5]);
void host_ref_free(struct ref_tensor *t);

/* Largest magnitude. */
double host_largest(const double *x, size_t count);

/* Largest |got - want| / (2^-8 |want| + slack): at most 1 where got is want rounded to bfloat16,
 * but for slack. */
double host_rounding_error(const struct host_tensor *got, const double *want, double slack);

#endif
