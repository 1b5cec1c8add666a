/* The boxes that training samples look at, drawn as a worker draws them, for the cache benchmark.
 */
#ifndef TESTS_BENCH_CACHE_BOXES_H
#define TESTS_BENCH_CACHE_BOXES_H

#include "loader/cases.h"

#include <stdint.h>

struct vx_err;

struct bench_boxes {
    struct vx_cache *cache;   /* owned, as all here */
    struct vx_recipe *recipe; /* every case a training case, batch 2 */
    struct vx_cases cases;
};

struct bench_box {
    uint32_t case_index;
    struct vx_open_case *opened;          /* valid until the next draw */
    int64_t lo[3], hi[3];                 /* what the drawn transform samples: what is read */
    int64_t initial_lo[3], initial_hi[3]; /* the enlarged patch, which nnU-Net reads */
};

int bench_boxes_open(const char *store_dir, const int32_t patch[3], struct bench_boxes *ret,
                     struct vx_err *err);
void bench_boxes_close(struct bench_boxes *b);
/* Sample q: case, place (reads a location where foreground is forced), transform. */
int bench_box_draw(struct bench_boxes *b, uint64_t q, struct bench_box *ret, struct vx_err *err);

#endif
