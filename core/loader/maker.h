/* Makes one sample into caller's arrays: case, place, draws, partial read, augmentation. The heart
 * of a worker, also used alone (tests, benchmarks). A pure function of (recipe, stream, k, j) and
 * the store. Thread: one per maker. */
#ifndef VX_LOADER_MAKER_H
#define VX_LOADER_MAKER_H

#include "loader/recipe.h"
#include "loader/sampler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_cache;
struct vx_maker;
struct vx_pretence;

struct vx_made {
    uint32_t case_index;
    struct vx_place place;
    bool forced, spatial;
};

enum vx_making {
    VX_MAKING_CASE, /* the case is known; opening it and choosing the place */
    VX_MAKING_IMAGE,
    VX_MAKING_LABEL,
    VX_MAKING_AUGMENT,
};

/* What happened since the maker was created; only grows. */
struct vx_maker_times {
    uint64_t read_ns; /* opening and reading files */
    uint64_t open_ns; /* part of it */
    uint64_t decompress_ns;
    uint64_t augment_ns[16]; /* augment/policy.h, enum vx_transform */
    uint64_t bytes_read, opens;
    uint64_t bytes_decoded, bytes_held, stage_faults; /* cache/cache.h */
};

/* recipe and cache are borrowed. Allocates all buffers; memory is touched only as far as samples
 * need it. */
int vx_maker_create(const struct vx_recipe *recipe, struct vx_cache *cache, struct vx_maker **ret,
                    struct vx_err *err);
/* NULL is fine. Returns NULL. */
struct vx_maker *vx_maker_free(struct vx_maker *m);

/* image [C][patch], label [patch] (>= 0). *ret_case is set as soon as the case is known, also when
 * reading it fails. on_stage (NULL allowed) is called as each stage of the work begins. */
int vx_maker_make(struct vx_maker *m, uint32_t stream, uint64_t k, uint32_t j, float *image,
                  int16_t *label, uint32_t *ret_case, struct vx_made *ret,
                  void (*on_stage)(void *ctx, enum vx_making stage, uint32_t case_index), void *ctx,
                  struct vx_err *err);
/* The case's files may have been replaced: they are opened anew when it is drawn next. */
void vx_maker_forget(struct vx_maker *m, uint32_t case_index);
/* Goes on by another recipe that differs in its quarantines only; borrowed like the first. */
void vx_maker_follow(struct vx_maker *m, const struct vx_recipe *recipe);
/* From now on samples are read, and augmented in pretence only; p is borrowed. */
void vx_maker_pretend(struct vx_maker *m, const struct vx_pretence *p);
void vx_maker_times(const struct vx_maker *m, struct vx_maker_times *ret);
/* Private memory in bytes that a maker of this recipe may touch. */
size_t vx_maker_bytes(const struct vx_recipe *recipe);

#endif
