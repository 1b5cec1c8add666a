/* A toy machine with a closed form: workers that share cores, a device that waits for the slower of
 * the two. Enough to see whether the tuner finds its way; tests/sim has the real queueing. */
#ifndef TESTS_TUNE_MACHINE_H
#define TESTS_TUNE_MACHINE_H

#include "tune/window.h"

#include <math.h>

struct machine {
    double cores, foreign; /* foreign: cores that others take */
    double step;           /* seconds of a step that waits for nothing */
    double sample_cpu;     /* seconds of a core per sample */
    double sample_other;   /* seconds per sample off the cores: reading, sleeping */
    double open;           /* of sample_other, opening; gone with keep_open */
    uint32_t batch, workers, slots;
    bool keep_open;
    double noise; /* relative, of a step */
};

static inline void machine_window(const struct machine *m, double seconds, double wiggle,
                                  struct vx_tune_window *ret) {
    double free_cores = fmax(m->cores - m->foreign, 0.05);
    /* each worker wants a core for part of its time */
    double other = m->sample_other - (m->keep_open ? m->open : 0);
    double share = m->sample_cpu / (m->sample_cpu + other + 1e-12);
    double wanted = m->workers * share;
    double slow = fmax(wanted / free_cores, 1);
    double sample = m->sample_cpu * slow + other;
    double made = m->batch * sample / m->workers; /* seconds between batches */
    double step = fmax(m->step, made) * (1 + wiggle * m->noise);
    double n = floor(seconds / step);
    struct vx_tune_window w = {
        .have = VX_TUNE_HAVE_SCHEDSTAT | VX_TUNE_HAVE_IO | VX_TUNE_HAVE_FOREIGN |
                VX_TUNE_HAVE_MEMORY | VX_TUNE_HAVE_CGROUP | VX_TUNE_HAVE_PSI,
        .seconds = seconds,
        .warm = true,
    };
    w.step.n = (uint32_t)n;
    w.step.batch = m->batch;
    w.step.wall = n * step;
    w.step.phase[VX_TUNE_COMPUTE] = n * m->step;
    w.step.phase[VX_TUNE_WAIT_LOADER] = fmax(w.step.wall - n * m->step, 0);
    w.step.deviation = m->noise * step;
    w.loader.workers = m->workers;
    w.loader.slots = m->slots;
    w.loader.samples = (uint64_t)(n * m->batch);
    double samples = n * m->batch, opening = m->keep_open ? 0 : m->open;
    w.loader.open = samples * opening;
    w.loader.read = samples * (other - opening);
    w.loader.augment = samples * m->sample_cpu * slow;
    w.loader.cpu = samples * m->sample_cpu;
    w.loader.runqueue = samples * m->sample_cpu * (slow - 1);
    w.loader.opens = (uint64_t)samples;
    w.loader.bytes_read = (uint64_t)(samples * 1e5);
    w.loader.keep_files_open = m->keep_open;
    w.loader.wait_slot =
        fmax(m->workers * w.step.wall - w.loader.open - w.loader.read - w.loader.augment, 0);
    w.host.cores = m->cores;
    w.host.foreign_cores = m->foreign;
    w.host.own_cores = fmin(w.loader.cpu / fmax(w.step.wall, 1e-9), free_cores);
    w.host.memory_limit = 64ull << 30;
    w.host.memory_available = 48ull << 30;
    w.host.worker_bytes = 200ull << 20;
    *ret = w;
}

#endif
