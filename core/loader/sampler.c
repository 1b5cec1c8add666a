#include "loader/sampler.h"

#include "augment/draws.h"
#include "base/err.h"
#include "base/rng.h"
#include "loader/window.h"
#include "session/schedule.h"

#include <math.h>

static bool quarantined(const struct vx_recipe_view *r, uint32_t case_index, uint32_t stream,
                        uint64_t k, uint32_t j) {
    for (size_t i = 0; i < r->n_quarantines; i++) {
        const struct vx_quarantine *q = &r->quarantines[i];
        bool reached = k > q->from_k[stream] || (k == q->from_k[stream] && j >= q->from_j[stream]);
        if (q->case_index == case_index && reached) {
            return true;
        }
    }
    return false;
}

/* What a stream's cases are drawn from. */
struct pot {
    const struct vx_recipe_view *r;
    const uint32_t *list; /* NULL: the window of stretch */
    uint64_t stretch;
    uint32_t n;
};

static uint32_t in_pot(const struct pot *p, uint32_t i) {
    return p->list ? p->list[i] : vx_window_case(p->r, p->stretch, i);
}

static bool any_left(const struct pot *p, uint32_t stream, uint64_t k, uint32_t j) {
    for (uint32_t i = 0; i < p->n; i++) {
        if (!p->r->n_quarantines || !quarantined(p->r, in_pot(p, i), stream, k, j)) {
            return true;
        }
    }
    return false;
}

int vx_sample_case(const struct vx_recipe_view *r, uint32_t stream, uint64_t k, uint32_t j,
                   uint32_t *ret_case) {
    bool train = stream == VX_STREAM_TRAIN;
    struct pot pot = {r, train ? r->train : r->val, 0, (uint32_t)(train ? r->n_train : r->n_val)};
    if (train && r->window_cases) {
        uint64_t stretch = vx_window_stretch(r, k);
        struct pot window = {r, NULL, stretch, vx_window_size(r, stretch)};
        /* a window whose cases are all out leaves the stretch to the others */
        pot = any_left(&window, stream, k, j) ? window : pot;
    }
    if (!any_left(&pot, stream, k, j)) {
        return VX_E_NOT_FOUND;
    }
    struct vx_rng rng = vx_rng_at(r->seed, stream, (uint32_t)k, j, VX_PURPOSE_CASE);
    uint32_t pick;
    do {
        pick = in_pot(&pot, vx_rng_below(&rng, pot.n));
    } while (quarantined(r, pick, stream, k, j));
    *ret_case = pick;
    return VX_OK;
}

bool vx_sample_forced(const struct vx_recipe_view *r, uint32_t j) {
    /* rint: halves go to even, as Python rounds */
    return j >= rint(r->batch * (1.0 - r->oversample));
}

/* The class whose voxel decides the place; -1: none, place at random. */
static int32_t choose_class(const struct vx_recipe_view *r, const struct vx_sample_source *src,
                            bool forced, struct vx_rng *rng) {
    bool has_annotated = src->annotated >= 0 && src->n_locations[src->annotated] > 0;
    if (!forced) {
        return r->has_ignore && has_annotated ? src->annotated : -1;
    }
    uint32_t eligible = 0;
    for (uint32_t c = 0; c < src->n_classes; c++) {
        eligible += (int32_t)c != src->annotated && src->n_locations[c] > 0;
    }
    if (eligible == 0) {
        return has_annotated ? src->annotated : -1;
    }
    uint32_t pick = vx_rng_below(rng, eligible);
    for (uint32_t c = 0;; c++) {
        if ((int32_t)c != src->annotated && src->n_locations[c] > 0 && pick-- == 0) {
            return (int32_t)c;
        }
    }
}

/* Division by two towards minus infinity. */
static int64_t floor_half(int64_t x) {
    return x >= 0 ? x / 2 : -((1 - x) / 2);
}

int vx_sample_place(const struct vx_recipe_view *r, uint32_t stream, uint64_t k, uint32_t j,
                    const struct vx_sample_source *src, struct vx_place *ret, struct vx_err *err) {
    const struct vx_aug_policy *p = r->policy;
    const int32_t *size = stream == VX_STREAM_TRAIN ? p->initial : p->patch;
    int64_t lo[3], hi[3];
    for (int i = 0; i < 3; i++) {
        int64_t need = size[i] - p->patch[i];
        if (need + src->shape[i] < size[i]) {
            need = size[i] - src->shape[i];
        }
        lo[i] = floor_half(-need);
        hi[i] = src->shape[i] + need / 2 + need % 2 - size[i];
    }
    struct vx_rng rng = vx_rng_at(r->seed, stream, (uint32_t)k, j, VX_PURPOSE_POSITION);
    struct vx_place place = {.forced_class = -1};
    bool forced = vx_sample_forced(r, j);
    int32_t class_index = choose_class(r, src, forced, &rng);
    int32_t voxel[3] = {0, 0, 0};
    if (class_index >= 0) {
        int64_t n = src->n_locations[class_index];
        uint32_t pick = vx_rng_below(&rng, n > UINT32_MAX ? UINT32_MAX : (uint32_t)n);
        int rc = src->location(src->ctx, (uint32_t)class_index, pick, voxel, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    for (int i = 0; i < 3; i++) {
        int64_t start;
        if (class_index >= 0) {
            start = voxel[i] - size[i] / 2;
            start = start < lo[i] ? lo[i] : start;
        } else {
            start = lo[i] + vx_rng_below(&rng, (uint32_t)(hi[i] - lo[i] + 1));
        }
        place.lo[i] = (int32_t)start;
        place.size[i] = size[i];
    }
    place.forced_class = forced ? class_index : -1;
    *ret = place;
    return VX_OK;
}
