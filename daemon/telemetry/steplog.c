#include "daemon/telemetry/steplog.h"

#include "session/timeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WARM = 20 };

_Static_assert((int)VX_TUNE_PHASES == (int)VX_PHASE_COUNT, "the same parts of a step");
_Static_assert((int)VX_TUNE_WAIT_LOADER == (int)VX_PHASE_WAIT_LOADER &&
                   (int)VX_TUNE_COMPUTE == (int)VX_PHASE_COMPUTE &&
                   (int)VX_TUNE_VALIDATE == (int)VX_PHASE_VALIDATE,
               "in the same order");

static const struct vx_steplog_entry *at(const struct vx_steplog *log, uint64_t i) {
    return &log->v[i % VX_STEPLOG_STEPS];
}

static uint64_t first(const struct vx_steplog *log) {
    return log->n > VX_STEPLOG_STEPS ? log->n - VX_STEPLOG_STEPS : 0;
}

static double seconds_of(const struct vx_tune_step *s) {
    double sum = 0;
    for (int p = 0; p < VX_TUNE_PHASES; p++) {
        sum += s->phase[p];
    }
    return sum;
}

void vx_steplog_restarted(struct vx_steplog *log) {
    log->n = 0;
    log->trend = (struct vx_trend){0};
}

static void learn(struct vx_steplog *log) {
    double seconds = seconds_of(&at(log, log->n - 1)->step);
    log->mean = log->mean > 0 ? log->mean + (seconds - log->mean) / 200 : seconds;
    if (log->n <= WARM) {
        return;
    }
    double compute = 0;
    for (uint64_t i = log->n - WARM; i < log->n; i++) {
        compute += at(log, i)->step.phase[VX_TUNE_COMPUTE] / WARM;
    }
    log->compute_best = log->compute_best > 0 ? fmin(log->compute_best, compute) : compute;
}

void vx_steplog_add(struct vx_steplog *log, const struct vx_step_record *r) {
    struct vx_steplog_entry *e = &log->v[log->n % VX_STEPLOG_STEPS];
    uint64_t wall = 0;
    for (int p = 0; p < VX_TUNE_PHASES; p++) {
        wall += r->phase_ns[p];
        e->step.phase[p] = (double)r->phase_ns[p] * 1e-9;
    }
    e->end_ns = r->start_ns + wall;
    e->depth = r->depth;
    if (log->n++ > 0) {
        learn(log);
        vx_trend_add(&log->trend, e->end_ns, (double)wall * 1e-9);
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const double *sorted, uint32_t n, double share) {
    return sorted[(uint32_t)fmin(floor(share * n), n - 1.0)];
}

static void spread(double *seconds, double *waits, struct vx_tune_steps *s) {
    double mean = s->wall / s->n, squares = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        squares += (seconds[i] - mean) * (seconds[i] - mean);
    }
    s->deviation = s->n > 1 ? sqrt(squares / (s->n - 1)) : 0;
    qsort(seconds, s->n, sizeof *seconds, ascending);
    qsort(waits, s->n, sizeof *waits, ascending);
    s->p50 = percentile(seconds, s->n, 0.50);
    s->p95 = percentile(seconds, s->n, 0.95);
    s->p99 = percentile(seconds, s->n, 0.99);
    s->wait_p50 = percentile(waits, s->n, 0.50);
}

void vx_steplog_window(const struct vx_steplog *log, uint64_t from_ns, uint64_t to_ns,
                       struct vx_tune_steps *ret) {
    struct vx_tune_steps s = {0};
    double *seconds = malloc(2 * VX_STEPLOG_STEPS * sizeof *seconds);
    double *waits = seconds ? seconds + VX_STEPLOG_STEPS : NULL;
    uint64_t oldest = first(log) ? first(log) : 1; /* the first step of all is not counted */
    for (uint64_t i = log->n; seconds && i > oldest; i--) {
        const struct vx_steplog_entry *e = at(log, i - 1);
        if (e->end_ns > to_ns) {
            continue;
        }
        if (e->end_ns <= from_ns) {
            break;
        }
        for (int p = 0; p < VX_TUNE_PHASES; p++) {
            s.phase[p] += e->step.phase[p];
        }
        seconds[s.n] = seconds_of(&e->step);
        waits[s.n] = e->step.phase[VX_TUNE_WAIT_LOADER];
        s.wall += seconds[s.n++];
        s.depth += e->depth;
    }
    if (s.n) {
        s.depth /= s.n;
        spread(seconds, waits, &s);
    }
    free(seconds);
    s.compute_best = log->compute_best;
    *ret = s;
}

enum { SHORTEST_RHYTHM = 512 };

bool vx_steplog_period(const struct vx_steplog *log, struct vx_tune_period *ret) {
    uint64_t from = first(log) ? first(log) : 1;
    size_t n = log->n > from ? (size_t)(log->n - from) : 0;
    struct vx_tune_step *steps = n ? malloc(n * sizeof *steps) : NULL;
    for (size_t i = 0; steps && i < n; i++) {
        steps[i] = at(log, from + i)->step;
    }
    /* the last ones first: a rhythm of now, whatever happened before */
    bool found = false;
    for (size_t last = SHORTEST_RHYTHM; steps && !found; last *= 2) {
        size_t taken = last < n ? last : n;
        found = vx_tune_find_period(steps + n - taken, taken, ret);
        if (taken == n) {
            break;
        }
    }
    free(steps);
    return found;
}

double vx_steplog_slope(const struct vx_steplog *log) {
    double mean, growth = vx_trend_growth(&log->trend, &mean);
    return mean > 0 ? growth / mean : 0;
}
