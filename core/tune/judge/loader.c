/* Why samples come too late: one cause, the one that more of the workers' time points at. */
#include "tune/judge/judge.h"

#include <math.h>

static void common_figures(const struct vx_tune_window *w, const struct shares *s,
                           struct vx_verdict *v) {
    tune_figure(v, "loader_wait_ratio", "ratio", s->wait);
    tune_figure(v, "step_seconds", "s", s->step);
    tune_figure(v, "sample_seconds", "s", s->sample);
    tune_figure(v, "workers", "1", w->loader.workers);
}

/* --- reading --- */

/* Warm in a while by itself: what was not read yet fits beside everything else, soon enough. */
static bool warms_by_itself(const struct vx_tune_window *w, double *ret_seconds) {
    const struct vx_tune_loader *l = &w->loader;
    const uint32_t needed = VX_TUNE_HAVE_IO | VX_TUNE_HAVE_MEMORY;
    if ((w->have & needed) != needed || !l->bytes_device || !l->store_cold_bytes ||
        l->store_cold_bytes > w->host.memory_available / 10 * 9) {
        return false;
    }
    double pace = (double)l->bytes_device / w->seconds;
    *ret_seconds = (double)l->store_cold_bytes / pace;
    return *ret_seconds <= TUNE_COLD_SECONDS;
}

/* Where the store should go: memory where it fits, else a faster folder (the daemon knows which).
 */
static void better_tier(const struct vx_tune_window *w, const struct shares *s,
                        struct vx_verdict *v) {
    const struct vx_tune_loader *l = &w->loader;
    bool fits = w->have & VX_TUNE_HAVE_MEMORY && l->store_bytes &&
                l->store_bytes <= w->host.memory_available / 2;
    v->from = l->tier;
    v->to = fits ? VX_TUNE_TIER_RAM : VX_TUNE_TIER_STAGED;
    v->action = l->tier == VX_TUNE_TIER_RAM || v->to <= v->from ? VX_ACTION_ADVISE : VX_ACTION_TIER;
    v->gain = v->action == VX_ACTION_TIER ? tune_gain(s, 1 / fmax(1 - s->reading, 0.01)) : 0;
}

static void judge_reading(const struct vx_tune_window *w, const struct shares *s,
                          struct vx_verdict *v) {
    const struct vx_tune_loader *l = &w->loader;
    double seconds = 0, samples = (double)(l->samples ? l->samples : 1);
    if (s->opening >= TUNE_OPEN_SHARE && !l->keep_files_open && l->tier == VX_TUNE_TIER_OPEN) {
        tune_begin(v, VX_VERDICT_OPEN_BOUND, s->wait);
        common_figures(w, s, v);
        tune_figure(v, "opens_per_sample", "1", (double)l->opens / samples);
        tune_figure(v, "open_ratio", "ratio", s->opening * s->reading);
        v->action = VX_ACTION_KEEP_OPEN;
        v->to = 1;
        v->gain = tune_gain(s, 1 / fmax(1 - s->opening * s->reading, 0.01));
        return;
    }
    if (warms_by_itself(w, &seconds)) {
        tune_begin(v, VX_VERDICT_READ_BOUND_COLD, s->wait);
        v->action = VX_ACTION_WAIT;
        v->to = seconds;
        v->gain = tune_gain(s, 1 / fmax(1 - s->reading, 0.01));
    } else {
        tune_begin(v, VX_VERDICT_READ_BOUND, s->wait);
        better_tier(w, s, v);
        v->lacking = ~w->have & (VX_TUNE_HAVE_IO | VX_TUNE_HAVE_STORAGE);
    }
    common_figures(w, s, v);
    tune_figure(v, "read_ratio", "ratio", s->reading);
    tune_figure(v, "bytes_per_sample", "bytes", (double)l->bytes_read / samples);
    if (w->have & VX_TUNE_HAVE_IO) {
        tune_figure(v, "from_device_ratio", "ratio", s->device);
        tune_figure(v, "device_bytes_per_second", "bytes/s", (double)l->bytes_device / w->seconds);
    }
}

/* --- cores --- */

/* Others hold the cores, and with them gone ours would do. */
static bool neighbours_fault(const struct vx_tune_window *w, const struct shares *s) {
    if (!(w->have & VX_TUNE_HAVE_FOREIGN) || w->host.cores <= 0) {
        return false;
    }
    double foreign = w->host.foreign_cores / w->host.cores;
    /* without them every worker had a core: the share of the loss that is theirs */
    double ours = (w->loader.workers * s->each + w->host.trainer_cores) / w->host.cores - 1;
    return foreign >= TUNE_FOREIGN_SHARE && foreign > ours;
}

/* Workers' share of the cores beside others that run as much as they may. */
static double share_of_cores(const struct vx_tune_window *w, const struct shares *s,
                             double workers) {
    double all = workers * s->each + w->host.foreign_cores + w->host.trainer_cores;
    return workers * fmin(1, w->host.cores / fmax(all, 1e-9));
}

/* Where fewer workers are at it than the job has cores, more of them get more of what is shared. */
static void claim_cores(const struct vx_tune_window *w, const struct shares *s,
                        struct vx_verdict *v) {
    uint32_t now = w->loader.workers;
    uint32_t to = vx_tune_workers_wanted(w->step.batch, s->sample, s->step_rest);
    double alone = tune_gain(s, s->sample / fmax(s->sample_quiet, 1e-9));
    tune_figure(v, "gain_alone", "ratio", alone);
    to = to > s->room ? s->room : to;
    if (now == 0 || to <= now) {
        v->action = VX_ACTION_ADVISE;
        v->gain = alone;
        return;
    }
    v->action = VX_ACTION_WORKERS;
    v->from = now;
    v->to = to;
    v->gain = tune_gain(s, share_of_cores(w, s, to) / share_of_cores(w, s, now));
}

static void runqueue_figure(const struct vx_tune_window *w, const struct shares *s,
                            struct vx_verdict *v) {
    if (w->have & VX_TUNE_HAVE_SCHEDSTAT) {
        tune_figure(v, "runqueue_ratio", "ratio", s->runqueue);
    }
}

static void neighbour(const struct vx_tune_window *w, const struct shares *s,
                      struct vx_verdict *v) {
    tune_begin(v, VX_VERDICT_NEIGHBOUR_CONTENTION, s->wait);
    common_figures(w, s, v);
    tune_figure(v, "foreign_cores", "cores", w->host.foreign_cores);
    if (w->host.foreign_pid) {
        tune_figure(v, "foreign_pid", "1", w->host.foreign_pid);
        tune_figure(v, "foreign_uid", "1", w->host.foreign_uid);
    }
    runqueue_figure(w, s, v);
    claim_cores(w, s, v);
    v->lacking = ~w->have & VX_TUNE_HAVE_SCHEDSTAT;
}

static void saturated(const struct vx_tune_window *w, const struct shares *s,
                      struct vx_verdict *v) {
    tune_begin(v, VX_VERDICT_AUGMENT_SATURATED, s->wait);
    common_figures(w, s, v);
    tune_figure(v, "cores", "cores", w->host.cores);
    tune_figure(v, "workers_wanted", "1", s->wanted);
    runqueue_figure(w, s, v);
    claim_cores(w, s, v);
    if (w->loader.workers > s->room) {
        v->action = VX_ACTION_WORKERS;
        v->from = w->loader.workers;
        v->to = s->room;
        v->gain = 0;
    }
    v->lacking = ~w->have & (VX_TUNE_HAVE_SCHEDSTAT | VX_TUNE_HAVE_FOREIGN);
}

/* A bigger pool is what is missing, and there are cores for it. */
static void bound(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *v) {
    uint32_t now = w->loader.workers, to = s->wanted > now ? s->wanted : now + 1;
    tune_begin(v, VX_VERDICT_AUGMENT_BOUND, s->wait);
    common_figures(w, s, v);
    tune_figure(v, "workers_wanted", "1", s->wanted);
    tune_figure(v, "workers_busy_ratio", "ratio", s->busy);
    tune_figure(v, "idle_cores", "cores", s->idle_cores);
    v->lacking = ~w->have & VX_TUNE_HAVE_SCHEDSTAT;
    if (s->busy < 0.5 && s->wanted <= now) {
        /* enough hands, too little room between them and the trainer: uneven samples */
        v->action = VX_ACTION_PREFETCH;
        v->from = w->loader.slots;
        v->to = fmax(2.0 * v->from, 2.0 * now + w->step.batch);
        return;
    }
    v->action = VX_ACTION_WORKERS;
    v->from = now;
    v->to = to;
    v->gain = tune_gain(s, (double)to / (now ? now : 1));
}

bool judge_loader(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret) {
    if (s->wait < TUNE_WAIT_WARNING || w->step.n == 0 || w->loader.samples == 0) {
        return false;
    }
    if (s->reading >= TUNE_READ_SHARE) {
        judge_reading(w, s, ret);
    } else if (!s->cpu_short) {
        bound(w, s, ret);
    } else if (neighbours_fault(w, s)) {
        neighbour(w, s, ret);
    } else {
        saturated(w, s, ret);
    }
    return true;
}
