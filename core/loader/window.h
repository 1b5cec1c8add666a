/* The rolling window of sharded epochs: which training cases batch k may show. For data sets that
 * neither memory holds nor a disk can keep up with: a subset of the cases per stretch of epochs,
 * resident in memory, rotating.
 *
 * The stretches of a training are counted from 0. m of them in a row, m = ceil(cases / window),
 * make a cycle, in which every case is in exactly one window: the order of a cycle is a permutation
 * drawn anew for each, cut into m parts whose sizes differ by one at most. So every case is in
 * equally many windows whenever a cycle is full, and no window holds a case twice. The permutation
 * is keyed (a Feistel network with cycle walking: Black and Rogaway, Ciphers with Arbitrary Finite
 * Domains, 2002), so that the case at a place is found without making the others. A function of
 * (seed, k) and the recipe. Thread: any. */
#ifndef VX_LOADER_WINDOW_H
#define VX_LOADER_WINDOW_H

#include "loader/recipe.h"

#include <stdint.h>

/* The stretch that training batch k lies in; 0 always where the recipe has no window. */
uint64_t vx_window_stretch(const struct vx_recipe_view *r, uint64_t k);
/* Cases in a stretch's window; all training cases where the recipe has no window. */
uint32_t vx_window_size(const struct vx_recipe_view *r, uint64_t stretch);
/* Case index of the i-th of them, i < vx_window_size. */
uint32_t vx_window_case(const struct vx_recipe_view *r, uint64_t stretch, uint32_t i);

/* Where i lands in the permutation of 0 .. n - 1 with this key; n >= 1. Public for tests. */
uint32_t vx_window_permute(uint64_t seed, uint64_t cycle, uint32_t n, uint32_t i);

#endif
