/* What happened or is about to: lost workers, damaged entries, hangs, spikes, slow growth, memory.
 */
#include "tune/judge/judge.h"

#include <math.h>

bool judge_lost(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret) {
    if (w->event.workers_lost == 0) {
        return false;
    }
    /* each death costs the sample in work and the time to come back; the wait shows how much */
    tune_begin(ret, VX_VERDICT_WORKER_LOST, fmax(s->wait, TUNE_WAIT_WARNING));
    tune_figure(ret, "workers_lost", "1", w->event.workers_lost);
    tune_figure(ret, "workers", "1", w->loader.workers);
    tune_figure(ret, "loader_wait_ratio", "ratio", s->wait);
    ret->action = VX_ACTION_ADVISE;
    ret->lacking = ~w->have & VX_TUNE_HAVE_CGROUP;
    return true;
}

bool judge_corrupt(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret) {
    if (w->event.corrupt_entries == 0) {
        return false;
    }
    tune_begin(ret, VX_VERDICT_CACHE_CORRUPT, fmax(s->wait, TUNE_WAIT_WARNING));
    tune_figure(ret, "entries", "1", w->event.corrupt_entries);
    ret->action = VX_ACTION_REBUILD;
    return true;
}

bool judge_hang(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret) {
    (void)s;
    if (w->step.deadline <= 0 || w->step.since_last <= w->step.deadline) {
        return false;
    }
    tune_begin(ret, VX_VERDICT_HANG, 1);
    tune_figure(ret, "seconds_without_step", "s", w->step.since_last);
    tune_figure(ret, "deadline_seconds", "s", w->step.deadline);
    ret->action = VX_ACTION_RESTART;
    return true;
}

bool judge_period(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret) {
    const struct vx_tune_events *e = &w->event;
    if (e->period_steps < 2 || e->period_share < 0.03) {
        return false;
    }
    tune_begin(ret, VX_VERDICT_PERIODIC_STALL, e->period_share);
    tune_figure(ret, "period_steps", "steps", e->period_steps);
    tune_figure(ret, "spike_seconds", "s", e->period_spike);
    tune_figure(ret, "spike_ratio", "ratio", e->period_share);
    tune_figure(ret, "step_seconds", "s", s->step);
    if (e->period_phase == VX_TUNE_WAIT_LOADER) {
        ret->action = VX_ACTION_PREFETCH;
        ret->from = w->loader.slots;
        ret->to = 2.0 * w->loader.slots;
    } else {
        ret->action = VX_ACTION_ADVISE;
    }
    ret->gain = e->period_share;
    return true;
}

bool judge_drift(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret) {
    bool slower = w->event.step_slope >= TUNE_STEP_SLOPE;
    bool fatter = w->event.rss_slope > 0;
    if (!slower && !fatter) {
        return false;
    }
    tune_begin(ret, VX_VERDICT_DRIFT, slower ? w->event.step_slope : 0);
    if (ret->severity == VX_SEVERITY_SEVERE && w->event.step_slope < 0.5) {
        ret->severity = VX_SEVERITY_WARNING; /* per hour, not of this step */
    }
    tune_figure(ret, "step_growth_per_hour", "ratio", w->event.step_slope);
    tune_figure(ret, "rss_bytes_per_hour", "bytes", w->event.rss_slope);
    tune_figure(ret, "step_seconds", "s", s->step);
    ret->action = VX_ACTION_ADVISE;
    return true;
}

/* Close to the end of memory by one of four signs. Standing still for memory while much of it is
 * free is somebody else's, in a group of his own. */
static bool memory_is_short(const struct vx_tune_window *w) {
    const struct vx_tune_host *h = &w->host;
    bool stalls = w->have & VX_TUNE_HAVE_PSI && h->psi_memory >= TUNE_PSI_MEMORY;
    if (!(w->have & VX_TUNE_HAVE_MEMORY)) {
        return stalls;
    }
    double worker = (double)h->worker_bytes, limit = (double)h->memory_limit;
    double available = (double)h->memory_available;
    stalls = stalls && available < 0.5 * limit;
    bool little = available < fmax(2 * worker, 0.05 * limit);
    bool swapping = h->swap_in >= TUNE_SWAP_IN;
    bool soon =
        h->available_trend < 0 && available / -h->available_trend < 120 && available < 0.25 * limit;
    return stalls || little || swapping || soon;
}

bool judge_memory(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret) {
    if (!memory_is_short(w)) {
        return false;
    }
    const struct vx_tune_host *h = &w->host;
    tune_begin(ret, VX_VERDICT_MEMORY_PRESSURE,
               fmax(fmax(s->wait, h->psi_memory), TUNE_WAIT_SEVERE));
    if (w->have & VX_TUNE_HAVE_MEMORY) {
        tune_figure(ret, "memory_available", "bytes", (double)h->memory_available);
        tune_figure(ret, "memory_limit", "bytes", (double)h->memory_limit);
    }
    if (h->worker_bytes) {
        tune_figure(ret, "worker_bytes", "bytes", (double)h->worker_bytes);
    }
    if (w->have & VX_TUNE_HAVE_PSI) {
        tune_figure(ret, "psi_memory_ratio", "ratio", h->psi_memory);
    }
    tune_figure(ret, "swap_in_bytes_per_second", "bytes/s", h->swap_in);
    ret->lacking = ~w->have & (VX_TUNE_HAVE_PSI | VX_TUNE_HAVE_MEMORY | VX_TUNE_HAVE_CGROUP);
    bool fewer = w->loader.workers > 1;
    ret->action = fewer ? VX_ACTION_WORKERS : VX_ACTION_ADVISE;
    ret->from = w->loader.workers;
    ret->to = fewer ? w->loader.workers - 1 : w->loader.workers;
    return true;
}
