/* What the device itself loses, and what may be said of a healthy run. */
#include "tune/judge/judge.h"

bool judge_h2d(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret) {
    double share = w->step.wall > 0 ? w->step.phase[VX_TUNE_H2D] / w->step.wall : 0;
    if (w->step.n == 0 || share < TUNE_WAIT_WARNING) {
        return false;
    }
    tune_begin(ret, VX_VERDICT_H2D_BOUND, share);
    tune_figure(ret, "h2d_ratio", "ratio", share);
    tune_figure(ret, "step_seconds", "s", s->step);
    ret->action = VX_ACTION_ADVISE;
    ret->gain = share;
    return true;
}

bool judge_launch(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret) {
    if (!(w->have & VX_TUNE_HAVE_GPU) || w->step.n == 0 || w->step.wall <= 0 ||
        w->device.launch_gap < 0.10) {
        return false;
    }
    double share = w->device.launch_gap * w->step.phase[VX_TUNE_COMPUTE] / w->step.wall;
    if (share < TUNE_WAIT_WARNING) {
        return false;
    }
    tune_begin(ret, VX_VERDICT_LAUNCH_BOUND, share);
    tune_figure(ret, "launch_gap_ratio", "ratio", w->device.launch_gap);
    tune_figure(ret, "step_seconds", "s", s->step);
    ret->action = VX_ACTION_ADVISE;
    ret->gain = share;
    return true;
}

bool judge_throttled(const struct vx_tune_window *w, const struct shares *s,
                     struct vx_verdict *ret) {
    const struct vx_tune_device *d = &w->device;
    if (!(w->have & VX_TUNE_HAVE_GPU) || !(d->throttled_thermal || d->throttled_power) ||
        w->step.n == 0 || w->step.compute_best <= 0) {
        return false;
    }
    double compute = w->step.phase[VX_TUNE_COMPUTE] / w->step.n;
    double lost = compute - w->step.compute_best;
    if (lost < 0.05 * w->step.compute_best) {
        return false; /* the clocks say so, the steps do not */
    }
    tune_begin(ret, VX_VERDICT_GPU_THROTTLED, lost / s->step);
    tune_figure(ret, "compute_seconds", "s", compute);
    tune_figure(ret, "compute_seconds_best", "s", w->step.compute_best);
    tune_figure(ret, "power_ratio", "ratio", d->power_ratio);
    tune_figure(ret, "thermal", "1", d->throttled_thermal);
    ret->action = VX_ACTION_ADVISE;
    ret->gain = lost / s->step;
    return true;
}

/* Fewer workers would do: cores and memory for others. */
static bool surplus(const struct vx_tune_window *w, const struct shares *s) {
    return s->wanted < w->loader.workers && s->busy < TUNE_SURPLUS_BUSY &&
           s->wait < TUNE_WAIT_WARNING / 2;
}

/* Its samples in the time that the pool needs for them, if that is longer; besides, copying grows
 * with the batch, and the rest of a step does not. */
static double step_of_largest(const struct vx_tune_window *w, const struct shares *s) {
    const struct vx_tune_device *d = &w->device;
    const double *phase = w->step.phase;
    double fed = d->largest_batch * s->sample_quiet / (w->loader.workers ? w->loader.workers : 1);
    double step = d->largest_batch_step > fed ? d->largest_batch_step : fed;
    double times = w->step.batch ? (double)d->largest_batch / w->step.batch : 1;
    double rest = w->step.wall - phase[VX_TUNE_WAIT_LOADER] - phase[VX_TUNE_COMPUTE];
    return step + (rest + (times - 1) * phase[VX_TUNE_H2D]) / w->step.n;
}

bool judge_healthy(const struct vx_tune_window *w, const struct shares *s, struct vx_verdict *ret) {
    if (w->step.n == 0 || s->wait >= TUNE_WAIT_WARNING) {
        return false;
    }
    const struct vx_tune_device *d = &w->device;
    tune_begin(ret, VX_VERDICT_GPU_BOUND, 0);
    ret->severity = VX_SEVERITY_HEALTHY;
    tune_figure(ret, "loader_wait_ratio", "ratio", s->wait);
    tune_figure(ret, "accelerator_utilisation", "ratio",
                w->step.phase[VX_TUNE_COMPUTE] / w->step.wall);
    tune_figure(ret, "step_seconds", "s", s->step);
    tune_figure(ret, "workers", "1", w->loader.workers);
    tune_figure(ret, "workers_wanted", "1", s->wanted);
    if (w->have & VX_TUNE_HAVE_GPU && d->largest_batch > w->step.batch) {
        tune_figure(ret, "largest_batch", "1", d->largest_batch);
        if (d->largest_batch_step > 0) {
            tune_figure(ret, "largest_batch_utilisation", "ratio",
                        d->largest_batch_step / step_of_largest(w, s));
        }
        ret->action = VX_ACTION_ADVISE;
        ret->to = d->largest_batch;
    }
    if (surplus(w, s)) {
        ret->action = VX_ACTION_WORKERS;
        ret->from = w->loader.workers;
        ret->to = s->wanted;
    }
    return true;
}
