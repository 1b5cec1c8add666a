#include "tune/from_sim.h"

#include <math.h>

static void add_workers(const struct sim_totals *a, const struct sim_totals *b,
                        const struct sim_machine *m, struct vx_tune_window *w) {
    struct vx_tune_loader *l = &w->loader;
    double latency = m->config.disk_latency, missed = 0;
    for (int i = 0; i < SIM_WORKERS; i++) {
        const struct sim_worker_totals *x = &a->worker[i], *y = &b->worker[i];
        l->samples += y->samples - x->samples;
        l->read += y->read - x->read;
        l->augment += y->compute - x->compute + y->sleep - x->sleep;
        l->cpu += y->cpu - x->cpu;
        l->runqueue += (y->compute - x->compute) - (y->cpu - x->cpu);
        l->wait_slot += y->slot_wait - x->slot_wait;
        l->bytes_device += (uint64_t)(y->bytes - x->bytes);
    }
    if (m->config.bytes > 0) {
        missed = (double)l->bytes_device / m->config.bytes;
    }
    l->bytes_read = (uint64_t)((double)l->samples * m->config.bytes);
    /* what the simulator calls latency is what opening costs */
    l->open = fmin(missed * latency, l->read);
    l->read -= l->open;
    l->opens = (uint64_t)missed;
}

/* Whole steps for at least so many seconds, as a timeline has them; returns the deviation of a
 * step, whose device takes them to be even. */
static double run(struct sim *s, double seconds) {
    struct sim_totals t;
    double n = 0, sum = 0, squares = 0;
    sim_totals(s, &t);
    for (double end = t.now + seconds; t.now < end; sim_totals(s, &t)) {
        size_t n_waits;
        sim_steps(s, 1);
        const double *waits = sim_waits(s, &n_waits);
        for (size_t i = 0; i < n_waits; i++) {
            n++;
            sum += waits[i];
            squares += waits[i] * waits[i];
        }
    }
    return n > 1 ? sqrt(fmax(squares - sum * sum / n, 0) / (n - 1)) : 0;
}

void window_from_sim(struct sim *s, const struct sim_machine *m, double seconds,
                     struct vx_tune_window *ret) {
    struct sim_totals a, b;
    sim_totals(s, &a);
    double deviation = run(s, seconds);
    sim_totals(s, &b);
    struct vx_tune_window w = {.have = VX_TUNE_HAVE_SCHEDSTAT | VX_TUNE_HAVE_IO |
                                       VX_TUNE_HAVE_FOREIGN | VX_TUNE_HAVE_MEMORY |
                                       VX_TUNE_HAVE_STORAGE,
                               .seconds = b.now - a.now,
                               .warm = true};
    w.step.n = (uint32_t)(b.steps - a.steps);
    w.step.batch = m->config.batch;
    w.step.wall = w.seconds;
    w.step.phase[VX_TUNE_WAIT_LOADER] = fmin(b.wait - a.wait, w.seconds);
    w.step.phase[VX_TUNE_COMPUTE] = w.seconds - w.step.phase[VX_TUNE_WAIT_LOADER];
    w.step.deviation = deviation;
    w.step.depth = w.step.n ? (b.depth - a.depth) / w.step.n : 0;
    w.loader.workers = m->config.workers;
    w.loader.slots = m->config.slots;
    add_workers(&a, &b, m, &w);
    double cores = m->config.cores > 0 ? m->config.cores : m->cores;
    w.loader.store_bytes = (uint64_t)m->store_bytes;
    w.loader.store_cold_bytes = (uint64_t)(m->store_bytes * (m->caches ? 1 - m->cases_read : 1));
    w.host.cores = cores;
    w.host.trainer_cores = 0;
    w.host.own_cores = w.loader.cpu / w.seconds;
    w.host.foreign_cores = (b.neighbour - a.neighbour) / w.seconds;
    w.host.foreign_pid = w.host.foreign_cores > 0.1 ? 4711 : 0;
    w.host.memory_limit = (uint64_t)m->memory_limit;
    w.host.memory_available = (uint64_t)m->memory_available;
    w.host.worker_bytes = (uint64_t)m->worker_bytes;
    *ret = w;
}
