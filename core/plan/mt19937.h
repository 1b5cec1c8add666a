/* numpy.random.RandomState as far as nnU-Net's rules need it: MT19937 seeded by init_genrand,
 * bounded integers by masked rejection, Fisher-Yates shuffles. Frozen by numpy, so splits and draws
 * can be reproduced. Thread: one at a time. */
#ifndef VX_PLAN_MT19937_H
#define VX_PLAN_MT19937_H

#include <stddef.h>
#include <stdint.h>

struct vx_mt19937 {
    uint32_t state[624];
    int index;
};

void vx_mt_seed(struct vx_mt19937 *mt, uint32_t seed);
uint32_t vx_mt_u32(struct vx_mt19937 *mt);
/* Uniform in [0, max], as RandomState.shuffle and permutation draw it (random_interval): one 32-bit
 * word per try for max < 2^32, two (high word first) above. */
uint64_t vx_mt_interval(struct vx_mt19937 *mt, uint64_t max);
/* RandomState.shuffle / permutation of n indices: for i = n - 1 .. 1 swap(i, interval(i)). */
void vx_mt_shuffle(struct vx_mt19937 *mt, int64_t *values, size_t n);
/* RandomState.randint(0, n) (legacy default dtype, masked rejection), also behind choice(n,
 * replace=True). */
uint64_t vx_mt_below(struct vx_mt19937 *mt, uint64_t n);

#endif
