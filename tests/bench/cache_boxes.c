#include "cache_boxes.h"

#include "augment/augment.h"
#include "base/err.h"
#include "base/own.h"
#include "cache/cache.h"
#include "loader/sampler.h"
#include "session/schedule.h"

#include <string.h>

enum { BATCH = 2 };

static int make_recipe(struct bench_boxes *b, const int32_t patch[3], struct vx_err *err) {
    size_t n = vx_cache_n_cases(b->cache);
    vx_auto_free const char **names = calloc(n, sizeof *names);
    vx_auto_free uint32_t *all = calloc(n, sizeof *all);
    vx_auto_cache_case struct vx_cache_case *first = NULL;
    int rc = vx_cache_case_open(b->cache, vx_cache_case_name(b->cache, 0), &first, err);
    if (rc != VX_OK) {
        return rc;
    }
    for (uint32_t i = 0; i < n; i++) {
        names[i] = vx_cache_case_name(b->cache, i);
        all[i] = i;
    }
    struct vx_recipe_params p = {.dataset = "Dataset000_Bench",
                                 .cache_key = vx_cache_key_hex(b->cache),
                                 .seed = 1,
                                 .cases = names,
                                 .n_cases = n,
                                 .train = all,
                                 .n_train = n,
                                 .val = all,
                                 .n_val = n,
                                 .dims = 3,
                                 .channels = (uint32_t)vx_cache_case_info(first)->n_channels,
                                 .batch = BATCH,
                                 .patch = {patch[0], patch[1], patch[2]}};
    return vx_recipe_create(&p, &b->recipe, err);
}

int bench_boxes_open(const char *store_dir, const int32_t patch[3], struct bench_boxes *ret,
                     struct vx_err *err) {
    struct bench_boxes b = {0};
    int rc = vx_cache_open(store_dir, &b.cache, err);
    if (rc == VX_OK) {
        rc = make_recipe(&b, patch, err);
    }
    if (rc == VX_OK) {
        rc = vx_cases_init(&b.cases, b.cache, vx_recipe_view(b.recipe), 4096, err);
    }
    if (rc != VX_OK) {
        bench_boxes_close(&b);
        return rc;
    }
    *ret = b;
    return VX_OK;
}

void bench_boxes_close(struct bench_boxes *b) {
    if (b->cases.entry) {
        vx_cases_release(&b->cases);
    }
    vx_recipe_free(b->recipe);
    vx_cache_free(b->cache);
    memset(b, 0, sizeof *b);
}

int bench_box_draw(struct bench_boxes *b, uint64_t q, struct bench_box *ret, struct vx_err *err) {
    const struct vx_recipe_view *r = vx_recipe_view(b->recipe);
    uint64_t k = q / BATCH;
    uint32_t j = (uint32_t)(q % BATCH);
    struct bench_box box = {0};
    struct vx_place place;
    struct vx_aug_params a;
    struct vx_aug_box seen;
    int rc = vx_sample_case(r, VX_STREAM_TRAIN, k, j, &box.case_index);
    if (rc == VX_OK) {
        rc = vx_cases_get(&b->cases, box.case_index, &box.opened, err);
    }
    if (rc == VX_OK) {
        rc = vx_sample_place(r, VX_STREAM_TRAIN, k, j, &box.opened->source, &place, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    vx_aug_draw(r->policy, r->seed, VX_STREAM_TRAIN, k, j, &a);
    vx_aug_source_box(r->policy, &a, &seen);
    for (int i = 0; i < 3; i++) {
        box.initial_lo[i] = place.lo[i];
        box.initial_hi[i] = place.lo[i] + place.size[i];
        box.lo[i] = place.lo[i] + seen.lo[i];
        box.hi[i] = box.lo[i] + seen.size[i];
    }
    *ret = box;
    return VX_OK;
}
