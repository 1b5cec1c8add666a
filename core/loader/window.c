#include "loader/window.h"

#include "augment/draws.h"
#include "base/rng.h"

enum { ROUNDS = 6 };

/* Half of the bits of the smallest domain of an even number of bits that holds 0 .. n - 1. */
static unsigned half_bits(uint32_t n) {
    unsigned bits = 1;
    while (bits < 16 && (uint64_t)1 << (2 * bits) < n) {
        bits++;
    }
    return bits;
}

static uint32_t encipher(uint64_t seed, uint64_t cycle, unsigned bits, uint32_t x) {
    uint32_t mask = (1u << bits) - 1, left = x >> bits, right = x & mask;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct vx_rng rng = vx_rng_at(seed, (uint32_t)cycle, right, round, VX_PURPOSE_WINDOW);
        uint32_t next = left ^ (vx_rng_u32(&rng) & mask);
        left = right;
        right = next;
    }
    return left << bits | right;
}

uint32_t vx_window_permute(uint64_t seed, uint64_t cycle, uint32_t n, uint32_t i) {
    unsigned bits = half_bits(n);
    uint32_t x = i;
    do { /* walks the cycle that x lies on until it is back inside; four steps at most on average */
        x = encipher(seed, cycle, bits, x);
    } while (x >= n);
    return x;
}

/* Stretches in a cycle. */
static uint32_t parts(const struct vx_recipe_view *r) {
    return ((uint32_t)r->n_train + r->window_cases - 1) / r->window_cases;
}

uint64_t vx_window_stretch(const struct vx_recipe_view *r, uint64_t k) {
    return r->window_cases ? k / r->window_batches : 0;
}

/* First place of part p of m in the cycle. */
static uint32_t part_begin(uint32_t n, uint32_t m, uint32_t p) {
    return (uint32_t)((uint64_t)n * p / m);
}

uint32_t vx_window_size(const struct vx_recipe_view *r, uint64_t stretch) {
    uint32_t n = (uint32_t)r->n_train;
    if (!r->window_cases) {
        return n;
    }
    uint32_t m = parts(r), p = (uint32_t)(stretch % m);
    return part_begin(n, m, p + 1) - part_begin(n, m, p);
}

uint32_t vx_window_case(const struct vx_recipe_view *r, uint64_t stretch, uint32_t i) {
    if (!r->window_cases) {
        return r->train[i];
    }
    uint32_t n = (uint32_t)r->n_train, m = parts(r);
    uint32_t place = part_begin(n, m, (uint32_t)(stretch % m)) + i;
    return r->train[vx_window_permute(r->seed, stretch / m, n, place)];
}
