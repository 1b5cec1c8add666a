#include "tune/confusion.h"

#include "base/rng.h"

#include <math.h>

#define GIB 1073741824.0

const enum vx_verdict_code drawn_kinds[] = {VX_VERDICT_GPU_BOUND,
                                            VX_VERDICT_AUGMENT_BOUND,
                                            VX_VERDICT_AUGMENT_SATURATED,
                                            VX_VERDICT_READ_BOUND,
                                            VX_VERDICT_READ_BOUND_COLD,
                                            VX_VERDICT_OPEN_BOUND,
                                            VX_VERDICT_NEIGHBOUR_CONTENTION,
                                            VX_VERDICT_MEMORY_PRESSURE};
const int n_drawn_kinds = sizeof drawn_kinds / sizeof *drawn_kinds;

static double uniform(struct vx_rng *r, double lo, double hi) {
    return lo + (hi - lo) * (double)vx_rng_unit(r);
}

/* Evenly over the orders of magnitude. */
static double spread(struct vx_rng *r, double lo, double hi) {
    return lo * pow(hi / lo, (double)vx_rng_unit(r));
}

/* A machine with nothing wrong: workers with a core each, a bit more than the device needs. */
static struct sim_machine healthy(struct vx_rng *r, uint64_t seed) {
    struct sim_machine m = {.memory_limit = spread(r, 16, 512) * GIB,
                            .worker_bytes = spread(r, 0.03, 0.5) * GIB,
                            .store_bytes = spread(r, 1, 400) * GIB,
                            .cases_read = 1,
                            .caches = true};
    struct sim_config *c = &m.config;
    m.memory_available = m.memory_limit * uniform(r, 0.4, 0.9);
    c->seed = seed;
    c->batch = 2 + (unsigned)(spread(r, 1, 8)) - 1;
    c->cpu = (struct sim_cost){
        SIM_BIMODAL, spread(r, 0.003, 0.3), uniform(r, 0.1, 0.5), uniform(r, 2, 20), NULL, 0};
    c->workers = 1 + (unsigned)spread(r, 1, 16);
    /* load 0.45 to 0.8 of the pool */
    c->step.mean = c->batch * c->cpu.mean / c->workers / uniform(r, 0.45, 0.8);
    c->slots = 2 * c->workers + c->batch + (unsigned)uniform(r, 2, 16);
    c->cores = c->workers + 1 + floor(uniform(r, 0, 8));
    c->bytes = spread(r, 1e5, 3e7);
    c->cache_hits = 1;
    c->disk_bandwidth = spread(r, 1e8, 5e9);
    return m;
}

/* The wait's share over a long run, without the first seconds. */
static double wait_of(const struct sim_machine *m, double neighbour) {
    struct sim *s = sim_create(&m->config);
    if (!s) {
        return -1;
    }
    struct sim_totals a, b;
    sim_set_neighbour(s, neighbour);
    sim_steps(s, 60);
    sim_totals(s, &a);
    sim_steps(s, 400);
    sim_totals(s, &b);
    sim_free(s);
    return (b.wait - a.wait) / (b.now - a.now);
}

/* The window of ten seconds and more that the daemon would see. */
static bool observe(const struct sim_machine *m, double neighbour, struct vx_tune_window *ret) {
    struct sim *s = sim_create(&m->config);
    if (!s) {
        return false;
    }
    sim_set_neighbour(s, neighbour);
    sim_steps(s, 40);
    window_from_sim(s, m, fmin(fmax(10, 14 * m->config.step.mean), 300), ret);
    sim_free(s);
    return true;
}

static bool ill(double wait) {
    return wait >= 0.08;
}

static bool well(double wait) {
    return wait >= 0 && wait < 0.035;
}

/* --- what can be wrong --- */

static bool too_few_workers(struct vx_rng *r, struct sim_machine *m) {
    unsigned enough = m->config.workers;
    if (enough < 2) {
        return false;
    }
    m->config.workers = 1 + (unsigned)uniform(r, 0, enough - 1.01);
    m->config.cores = enough + 1 + floor(uniform(r, 0, 4));
    return true;
}

static bool too_few_cores(struct vx_rng *r, struct sim_machine *m) {
    unsigned enough = m->config.workers;
    double cores = floor(enough * uniform(r, 0.2, 0.7));
    if (cores < 1) {
        return false;
    }
    m->config.cores = cores;
    /* as many workers as cores, or too many */
    m->config.workers = (unsigned)cores + (unsigned)uniform(r, 0, 2 * cores);
    m->config.slots = 2 * m->config.workers + m->config.batch + 4;
    return true;
}

static double neighbour_threads(struct vx_rng *r, struct sim_machine *m) {
    m->config.cores = m->config.workers + floor(uniform(r, 0, 2));
    return ceil(m->config.cores * uniform(r, 1, 3));
}

/* Reading takes `times` the computing of a sample. */
static void slow_reading(struct vx_rng *r, struct sim_machine *m) {
    double read = m->config.cpu.mean * uniform(r, 2, 12);
    m->config.cache_hits = uniform(r, 0, 0.3);
    m->config.disk_bandwidth = m->config.bytes * m->config.workers / read;
    m->config.disk_latency = 0.05 * read;
}

bool draw_window(enum vx_verdict_code truth, uint64_t seed, struct vx_tune_window *ret) {
    struct vx_rng r = vx_rng_at(seed, 7, (uint32_t)truth, 0, 1);
    struct sim_machine m = healthy(&r, seed);
    if (!well(wait_of(&m, 0))) {
        return false;
    }
    double neighbour = 0;
    switch (truth) {
    case VX_VERDICT_GPU_BOUND:
        break;
    case VX_VERDICT_AUGMENT_BOUND:
        if (!too_few_workers(&r, &m)) {
            return false;
        }
        break;
    case VX_VERDICT_AUGMENT_SATURATED:
        if (!too_few_cores(&r, &m)) {
            return false;
        }
        break;
    case VX_VERDICT_NEIGHBOUR_CONTENTION:
        neighbour = neighbour_threads(&r, &m);
        if (!well(wait_of(&m, 0))) {
            return false;
        }
        break;
    case VX_VERDICT_READ_BOUND:
        slow_reading(&r, &m);
        m.store_bytes = m.memory_available * uniform(&r, 1.5, 10); /* it will never fit */
        m.caches = false;
        break;
    case VX_VERDICT_READ_BOUND_COLD:
        slow_reading(&r, &m);
        m.store_bytes = m.memory_available * uniform(&r, 0.05, 0.7);
        m.cases_read = uniform(&r, 0, 0.6);
        break;
    case VX_VERDICT_OPEN_BOUND:
        m.config.cache_hits = uniform(&r, 0, 0.2);
        m.config.disk_latency = m.config.cpu.mean * uniform(&r, 3, 12);
        m.config.disk_bandwidth = m.config.bytes * m.config.workers * 40 / m.config.disk_latency;
        break;
    case VX_VERDICT_MEMORY_PRESSURE:
        m.memory_available = m.worker_bytes * uniform(&r, 0.1, 1.8);
        break;
    default:
        return false;
    }
    double wait = wait_of(&m, neighbour);
    bool wanted = truth == VX_VERDICT_GPU_BOUND         ? well(wait)
                  : truth == VX_VERDICT_MEMORY_PRESSURE ? true
                                                        : ill(wait);
    if (!wanted || !observe(&m, neighbour, ret)) {
        return false;
    }
    if (truth == VX_VERDICT_READ_BOUND_COLD) {
        /* cold means that it ends: within the hour at the pace that the disk has */
        double pace = (double)ret->loader.bytes_device / ret->seconds;
        return pace > 0 && (double)ret->loader.store_cold_bytes / pace < 3000;
    }
    if (truth == VX_VERDICT_READ_BOUND && ret->loader.bytes_device == 0) {
        return false;
    }
    return true;
}
