#include "loader/pool.h"

#include "augment/policy.h"
#include "base/budget.h"
#include "loader/maker.h"
#include "loader/recipe.h"
#include "session/control.h"
#include "session/ring.h"

static uint32_t at_most(uint64_t x, uint32_t most) {
    return x > most ? most : (uint32_t)x;
}

void vx_pool_plan(const struct vx_recipe *recipe, const struct vx_pool_limits *limits,
                  uint32_t workers_asked, struct vx_pool_plan *ret) {
    const struct vx_recipe_view *r = vx_recipe_view(recipe);
    const uint32_t size[3] = {(uint32_t)r->policy->patch[0], (uint32_t)r->policy->patch[1],
                              (uint32_t)r->policy->patch[2]};
    struct vx_pool_plan p = {0};
    p.slot_bytes = vx_ring_slot_bytes(r->policy->channels, size);
    p.worker_bytes = vx_maker_bytes(recipe);
    uint32_t cores = limits->cores ? limits->cores : 1;
    uint32_t spare = cores > limits->trainer_threads ? cores - limits->trainer_threads : 1;
    p.workers = at_most(workers_asked ? workers_asked : spare, VX_WORKERS_MAX);
    p.workers_max = at_most(cores > p.workers ? cores : p.workers, VX_WORKERS_MAX);
    for (;;) {
        p.slots = vx_ring_plan(p.slot_bytes, p.workers_max, r->batch, 0);
        p.ring_bytes = p.slots * p.slot_bytes;
        if (!limits->memory_bytes || p.workers_max == 1 ||
            p.ring_bytes + p.workers_max * p.worker_bytes <= limits->memory_bytes) {
            break;
        }
        p.workers_max--;
    }
    p.workers = p.workers < p.workers_max ? p.workers : p.workers_max;
    p.window = p.slots;
    *ret = p;
}

bool vx_pool_cpus(const struct vx_cpus *allowed, uint32_t cores, uint32_t trainer_threads,
                  uint32_t workers, struct vx_cpus *ret) {
    uint32_t n = vx_cpus_count(allowed), wanted = trainer_threads + workers;
    *ret = *allowed;
    if (trainer_threads == 0 || n < wanted || cores < wanted) {
        return false;
    }
    for (uint32_t c = 0, left = trainer_threads; left > 0 && c < VX_CPUS_MAX; c++) {
        if (vx_cpus_has(allowed, c)) {
            ret->bits[c / 64] &= ~(1ull << c % 64);
            left--;
        }
    }
    return true;
}

static bool working(const struct vx_pool_worker *w) {
    return w->alive && !w->leaving;
}

int vx_pool_balance(const struct vx_pool_worker *workers, uint32_t n, uint32_t wanted) {
    uint32_t have = 0;
    for (uint32_t i = 0; i < n; i++) {
        have += working(&workers[i]);
    }
    return (int)wanted - (int)have;
}

int vx_pool_free_entry(const struct vx_pool_worker *workers, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (!workers[i].alive) {
            return (int)i;
        }
    }
    return -1;
}

int vx_pool_pick_leaver(const struct vx_pool_worker *workers, uint32_t n) {
    int youngest = -1;
    for (uint32_t i = 0; i < n; i++) {
        if (working(&workers[i]) &&
            (youngest < 0 || workers[i].started_ns > workers[youngest].started_ns)) {
            youngest = (int)i;
        }
    }
    return youngest;
}
