#include "plan/mt19937.h"

/* Constants: Matsumoto and Nishimura, 1998. */
void vx_mt_seed(struct vx_mt19937 *mt, uint32_t seed) {
    mt->state[0] = seed;
    for (uint32_t i = 1; i < 624; i++) {
        mt->state[i] = 1812433253u * (mt->state[i - 1] ^ (mt->state[i - 1] >> 30)) + i;
    }
    mt->index = 624;
}

static void refill(struct vx_mt19937 *mt) {
    for (int i = 0; i < 624; i++) {
        uint32_t y = (mt->state[i] & 0x80000000u) | (mt->state[(i + 1) % 624] & 0x7fffffffu);
        mt->state[i] = mt->state[(i + 397) % 624] ^ (y >> 1) ^ ((y & 1u) ? 0x9908b0dfu : 0u);
    }
    mt->index = 0;
}

uint32_t vx_mt_u32(struct vx_mt19937 *mt) {
    if (mt->index >= 624) {
        refill(mt);
    }
    uint32_t y = mt->state[mt->index++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

uint64_t vx_mt_interval(struct vx_mt19937 *mt, uint64_t max) {
    if (max == 0) {
        return 0;
    }
    uint64_t mask = max;
    for (int shift = 1; shift < 64; shift *= 2) {
        mask |= mask >> shift;
    }
    for (;;) {
        uint64_t x;
        if (max <= 0xffffffffu) {
            x = vx_mt_u32(mt) & mask;
        } else {
            uint64_t high = vx_mt_u32(mt);
            x = (high << 32 | vx_mt_u32(mt)) & mask;
        }
        if (x <= max) {
            return x;
        }
    }
}

void vx_mt_shuffle(struct vx_mt19937 *mt, int64_t *values, size_t n) {
    for (size_t i = n; i-- > 1;) {
        size_t j = (size_t)vx_mt_interval(mt, i);
        int64_t saved = values[i];
        values[i] = values[j];
        values[j] = saved;
    }
}

uint64_t vx_mt_below(struct vx_mt19937 *mt, uint64_t n) {
    return vx_mt_interval(mt, n - 1);
}
