/* How a kernel is written once and run twice: on a GPU, and on a CPU by a test. Private to this
 * room.
 *
 * A kernel is a function name(phase, arguments, block, thread, registers, shared) and its number of
 * phases; a barrier stands between two phases, and nothing else orders the threads of a block.
 * nvcc makes a __global__ function of it, in which the phases are unrolled. gcc (VX_ON_HOST, see
 * tests/device/kernels) makes loops over blocks, phases and threads, in orders that the test may
 * turn round: what depends on a missing barrier or on the order of blocks then changes its bits.
 * Both compilers round alike: no contraction, vx_fma where one rounding is meant. C subset only. */
#ifndef VX_DEVICE_CUDA_KERNELS_PHASES_H
#define VX_DEVICE_CUDA_KERNELS_PHASES_H

#include "base/rng.h"
#include "device/cuda/kernels.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { VX_THREADS = 256 }; /* of a block */

#ifdef __CUDACC__

#define VX_INLINE static __host__ __device__ __forceinline__
#define VX_UNROLL _Pragma("unroll")

/* at_least: blocks that should fit on one multiprocessor, which bounds the registers. */
#define VX_KERNEL(name, arguments, registers, sharing, phases, at_least)                           \
    static __global__ void __launch_bounds__(VX_THREADS, at_least)                                 \
        name##_kernel(const __grid_constant__ arguments a) {                                       \
        __shared__ sharing shared;                                                                 \
        registers r;                                                                               \
        VX_UNROLL for (int phase = 0; phase < (phases); phase++) {                                 \
            name(phase, &a, (int)blockIdx.x, (int)threadIdx.x, &r, &shared);                       \
            if (phase + 1 < (phases)) {                                                            \
                __syncthreads();                                                                   \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    static int name##_launch(const arguments *a, int64_t blocks, struct CUstream_st *stream) {     \
        if (blocks < 1 || blocks > INT32_MAX) {                                                    \
            return blocks == 0 ? (int)cudaSuccess : (int)cudaErrorInvalidValue;                    \
        }                                                                                          \
        name##_kernel<<<(unsigned)blocks, VX_THREADS, 0, stream>>>(*a);                            \
        return (int)cudaGetLastError();                                                            \
    }

#else

#define VX_INLINE static inline
#define VX_UNROLL _Pragma("GCC unroll 8")

#include <stdlib.h>

/* The test's: block and thread that come i-th; whether all blocks end a phase before the next. */
int64_t vx_host_block(int64_t i, int64_t blocks);
int vx_host_thread(int i);
bool vx_host_together(void);
/* Told whenever a block finds itself the last. */
void vx_host_claim(void);

/* Registers and shared memory start as NaNs: a read of what nobody wrote shows. */
#define VX_KERNEL(name, arguments, registers, sharing, phases, at_least)                           \
    struct name##_block {                                                                          \
        registers r[VX_THREADS];                                                                   \
        sharing shared;                                                                            \
    };                                                                                             \
    static void name##_phase(const arguments *a, int phase, int64_t block,                         \
                             struct name##_block *b) {                                             \
        for (int t = 0; t < VX_THREADS; t++) {                                                     \
            int thread = vx_host_thread(t);                                                        \
            name(phase, a, (int)block, thread, &b->r[thread], &b->shared);                         \
        }                                                                                          \
    }                                                                                              \
    static int name##_launch(const arguments *a, int64_t blocks, struct CUstream_st *stream) {     \
        int64_t at_once = vx_host_together() ? blocks : 1;                                         \
        struct name##_block *b = malloc((size_t)at_once * sizeof *b);                              \
        (void)stream;                                                                              \
        for (int64_t i = 0; b && i < blocks; i += at_once) {                                       \
            memset(b, 0xff, (size_t)at_once * sizeof *b);                                          \
            for (int phase = 0; phase < (phases); phase++) {                                       \
                for (int64_t j = i; j < i + at_once; j++) {                                        \
                    name##_phase(a, phase, vx_host_block(j, blocks), &b[j - i]);                   \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        free(b);                                                                                   \
        return blocks > 0 && !b;                                                                   \
    }

#endif

/* For kernels that share nothing, or keep nothing between phases. */
struct vx_nothing {
    int unused;
};

enum { VX_BAD_VALUE = 1 }; /* cudaErrorInvalidValue */

/* Makes this thread's writes visible to other blocks, before its block arrives. */
VX_INLINE void vx_publish(void) {
#ifdef __CUDA_ARCH__
    __threadfence();
#endif
}

/* By one thread, a barrier after vx_publish: true in the last of `total` blocks, which may then
 * read what the others published, with vx_fresh. Leaves the counter at 0. */
VX_INLINE bool vx_arrive(uint32_t *counter, uint32_t total) {
#ifdef __CUDA_ARCH__
    __threadfence();
    bool last = atomicAdd(counter, 1u) == total - 1;
    __threadfence();
#else
    bool last = (*counter)++ == total - 1;
#ifndef __CUDACC__
    if (last) {
        vx_host_claim();
    }
#endif
#endif
    if (last) {
        *counter = 0;
    }
    return last;
}

/* A number that another block of this launch wrote. */
VX_INLINE float vx_fresh(const float *p) {
#ifdef __CUDA_ARCH__
    return __ldcg(p);
#else
    return *p;
#endif
}

VX_INLINE double vx_fresh_double(const double *p) {
#ifdef __CUDA_ARCH__
    return __ldcg(p);
#else
    return *p;
#endif
}

VX_INLINE int64_t vx_at_most(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* True where 16 bytes at a time may be moved from and to the view. */
VX_INLINE bool vx_view_fits(const struct vx_cuda_view *view) {
    return (uintptr_t)view->data % 16 == 0 && view->pitch % VX_CUDA_LANES == 0;
}

VX_INLINE int64_t vx_pieces(int64_t count, int64_t size) {
    return (count + size - 1) / size;
}

#endif
