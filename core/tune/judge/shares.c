/* What every judge asks of a window, and the parts of a verdict. */
#include "tune/judge/judge.h"

#include <math.h>

static double ratio(double part, double whole) {
    return whole > 0 ? part / whole : 0;
}

static double clamp01(double x) {
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

uint32_t vx_tune_workers_wanted(uint32_t batch, double sample, double step_rest) {
    if (!(sample > 0) || !(step_rest > 0)) {
        return 1;
    }
    double n = ceil((double)batch * sample / (0.85 * step_rest) - 1e-9);
    return n < 1 ? 1 : n > 1e6 ? 1000000 : (uint32_t)n;
}

/* No core is free: the kernel says so in one of its ways, or the arithmetic does. */
static bool cpu_short(const struct vx_tune_window *w, const struct shares *s) {
    bool queue = w->have & VX_TUNE_HAVE_SCHEDSTAT && s->runqueue >= TUNE_RUNQUEUE_SHARE;
    bool throttled = w->have & VX_TUNE_HAVE_CGROUP && w->host.throttled >= 0.10;
    bool computes = w->loader.cpu > 0.5 * (w->loader.open + w->loader.read + w->loader.decompress +
                                           w->loader.augment);
    /* workers that mostly sleep, and do not queue, find a core even on a full machine */
    bool sleeps = w->have & VX_TUNE_HAVE_SCHEDSTAT && !computes;
    bool full = w->host.cores > 0 && s->idle_cores < TUNE_IDLE_CORES && !sleeps;
    bool crowded = w->loader.workers > s->room && s->busy > 0.8 && computes;
    return queue || throttled || full || crowded;
}

void tune_shares(const struct vx_tune_window *w, struct shares *ret) {
    const struct vx_tune_loader *l = &w->loader;
    const struct vx_tune_host *h = &w->host;
    double work = l->open + l->read + l->decompress + l->augment;
    /* a worker that wakes up from waiting for a slot stands in the queue as well: only time off the
     * cores while it worked counts */
    double queue = w->have & VX_TUNE_HAVE_SCHEDSTAT ? fmin(l->runqueue, fmax(work - l->cpu, 0)) : 0;
    double wait = w->step.phase[VX_TUNE_WAIT_LOADER];
    double foreign = w->have & VX_TUNE_HAVE_FOREIGN ? h->foreign_cores : 0;
    double left = h->cores - h->trainer_cores;
    /* what a worker does without a core is reading or sleeping only where the queue is known */
    bool told = w->have & VX_TUNE_HAVE_SCHEDSTAT && work > queue;
    double each = told ? fmin(fmax(l->cpu / (work - queue), 0.05), 1) : 1;
    struct shares s = {
        .wait = ratio(wait, w->step.wall),
        .step = ratio(w->step.wall, w->step.n),
        .step_rest = ratio(w->step.wall - wait, w->step.n),
        .sample = ratio(work, (double)l->samples),
        .sample_quiet = ratio(work - queue, (double)l->samples),
        .busy = clamp01(ratio(work, work + l->wait_slot)),
        .reading = ratio(l->open + l->read, work),
        .opening = ratio(l->open, l->open + l->read),
        .runqueue = clamp01(ratio(queue, work)),
        .device = w->have & VX_TUNE_HAVE_IO
                      ? clamp01(ratio((double)l->bytes_device, (double)l->bytes_read))
                      : 0,
        .idle_cores = fmax(h->cores - h->own_cores - foreign, 0),
        .each = each,
        .room = left < 1.5 * each ? 1 : (uint32_t)(left / each + 0.5),
    };
    s.wanted = vx_tune_workers_wanted(w->step.batch, s.sample_quiet, s.step_rest);
    s.cpu_short = cpu_short(w, &s);
    *ret = s;
}

void tune_begin(struct vx_verdict *v, enum vx_verdict_code code, double cost) {
    *v = (struct vx_verdict){.code = code, .cost = clamp01(cost)};
    v->severity = cost >= TUNE_WAIT_SEVERE    ? VX_SEVERITY_SEVERE
                  : cost >= TUNE_WAIT_WARNING ? VX_SEVERITY_WARNING
                                              : VX_SEVERITY_NOTE;
}

void tune_figure(struct vx_verdict *v, const char *name, const char *unit, double value) {
    if (v->n_figures < VX_VERDICT_FIGURES) {
        v->figure[v->n_figures++] = (struct vx_figure){name, unit, value};
    }
}

double tune_gain(const struct shares *s, double times) {
    if (!(s->step > 0) || !(times > 1)) {
        return 0;
    }
    double made = s->step / times; /* the pool's pace, when it was what everybody waited for */
    double after = made > s->step_rest ? made : s->step_rest;
    return clamp01(1 - after / s->step);
}
