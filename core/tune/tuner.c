/* See tuner.h. */
#include "tune/tuner.h"

#include <math.h>
#include <string.h>

enum { DOWN, UP };

/* Enough steps for a mean: many, or fewer over a longer time. */
enum { MANY_STEPS = 20, FEW_STEPS = 8 };
#define MANY_SECONDS   3.0
#define FEW_SECONDS    9.5 /* a window has ten, and more where fourteen steps need them */
#define SETTLE_SECONDS 2.0
#define COOL_SECONDS   5.0
#define BLOCK_SECONDS  60.0
#define BLOCK_MOST     3600.0
/* A gain smaller than this is not worth a process, a loss smaller than this not a change back. */
#define LEAST_GAIN 0.01

const char *vx_knob_word(enum vx_tune_knob knob) {
    static const char *const words[] = {"workers", "prefetch", "keep_files_open", "cache"};
    return (unsigned)knob < VX_KNOBS ? words[knob] : "?";
}

const char *vx_decision_word(unsigned kind) {
    static const char *const words[] = {"none", "advised", "changed", "forced", "kept", "reverted"};
    return kind < VX_DECISION_KINDS ? words[kind] : "?";
}

void vx_tuner_init(struct vx_tuner *t, enum vx_tune_mode mode, const struct vx_tuner_limits *limits,
                   const uint32_t setting[VX_KNOBS]) {
    *t = (struct vx_tuner){.mode = mode, .limits = *limits};
    memcpy(t->setting, setting, sizeof t->setting);
    for (int k = 0; k < VX_KNOBS; k++) {
        t->block[k][DOWN] = t->block[k][UP] = BLOCK_SECONDS;
    }
}

void vx_tuner_limit(struct vx_tuner *t, const struct vx_tuner_limits *limits) {
    t->limits = *limits;
}

/* Time for the ring to turn over with the new setting. */
static void begin_settling(struct vx_tuner *t, double now, const struct vx_tune_window *w) {
    double step = w && w->step.n ? w->step.wall / w->step.n : 0;
    double rounds = w && w->step.batch ? (double)w->loader.slots / w->step.batch + 1 : 1;
    t->changed_at = now;
    t->settled_at = now + SETTLE_SECONDS + fmin(step * rounds, 10 * SETTLE_SECONDS);
}

void vx_tuner_override(struct vx_tuner *t, enum vx_tune_knob knob, uint32_t value, double now) {
    t->setting[knob] = value;
    t->on_trial = false;
    begin_settling(t, now, NULL);
    t->quiet_until = t->settled_at + BLOCK_SECONDS; /* who turned it meant it */
}

static void set_tier(struct vx_tuner *t, uint32_t tier) {
    t->setting[VX_KNOB_TIER] = tier;
    if (tier <= VX_TUNE_TIER_KEEP) {
        t->setting[VX_KNOB_KEEP_OPEN] = tier == VX_TUNE_TIER_KEEP;
    }
}

void vx_tuner_came(struct vx_tuner *t, uint32_t tier, double now) {
    if (tier == t->setting[VX_KNOB_TIER] || tier >= VX_TUNE_TIERS) {
        return;
    }
    t->refused = t->on_trial && t->trial.knob == VX_KNOB_TIER;
    set_tier(t, tier);
    begin_settling(t, now, NULL);
}

void vx_tuner_filling(struct vx_tuner *t, bool filling, double now) {
    if (t->filling && !filling) {
        begin_settling(t, now, NULL);
    }
    t->filling = filling;
}

void vx_tuner_lacks(struct vx_tuner *t, enum vx_tune_tier tier) {
    t->tier_from[tier] = INFINITY;
}

double vx_tuner_window_start(const struct vx_tuner *t) {
    return t->settled_at;
}

static bool enough(const struct vx_tune_window *w) {
    return (w->step.n >= MANY_STEPS && w->seconds >= MANY_SECONDS) ||
           (w->step.n >= FEW_STEPS && w->seconds >= FEW_SECONDS);
}

/* Mean step and its standard error; steps are not independent of each other, which the factor 2
 * stands for. */
static double mean_step(const struct vx_tune_window *w, double *ret_error) {
    *ret_error = 2 * w->step.deviation / sqrt((double)w->step.n);
    return w->step.wall / w->step.n;
}

static uint32_t within(const struct vx_tuner *t, enum vx_tune_knob k, double value) {
    double lo = t->limits.lo[k], hi = t->limits.hi[k];
    return (uint32_t)(value < lo ? lo : value > hi ? hi : value);
}

static void apply(struct vx_tuner *t, const struct vx_decision *d, double now,
                  const struct vx_tune_window *w) {
    t->setting[d->knob] = d->to;
    /* open and kept files are tiers and a knob of their own: two names of one thing */
    if (d->knob == VX_KNOB_KEEP_OPEN && t->setting[VX_KNOB_TIER] <= VX_TUNE_TIER_KEEP) {
        t->setting[VX_KNOB_TIER] = d->to ? VX_TUNE_TIER_KEEP : VX_TUNE_TIER_OPEN;
    } else if (d->knob == VX_KNOB_TIER) {
        set_tier(t, d->to);
    }
    begin_settling(t, now, w);
}

/* --- the end of a trial --- */

static void take_back(struct vx_tuner *t, double now, const struct vx_tune_window *w,
                      struct vx_decision *d) {
    d->kind = VX_DECISION_REVERTED;
    d->from = t->trial.to;
    d->to = within(t, d->knob, t->trial.from);
    apply(t, d, now, w);
    t->quiet_until = t->settled_at + COOL_SECONDS;
}

/* The tier that was asked for is not to be had: nothing was measured of it. */
static void answer_refusal(struct vx_tuner *t, double now, const struct vx_tune_window *w,
                           struct vx_decision *ret) {
    *ret = t->trial;
    ret->measured = ret->noise = (double)NAN;
    t->tier_from[t->trial.to] = now + BLOCK_MOST;
    t->on_trial = false;
    take_back(t, now, w, ret);
}

static void finish(struct vx_tuner *t, double now, const struct vx_tune_window *w,
                   struct vx_decision *ret) {
    double error, after = mean_step(w, &error);
    double change = t->before > 0 ? (after - t->before) / t->before : 0;
    double noise = t->before > 0 ? 2 * hypot(error, t->before_error) / t->before : 1;
    bool stays = t->for_speed ? -change > fmax(noise, LEAST_GAIN)
                              : change < fmax(noise, LEAST_GAIN) + LEAST_GAIN;
    struct vx_decision d = t->trial;
    int way = d.to > d.from ? UP : DOWN;
    d.measured = change;
    d.noise = noise;
    t->on_trial = false;
    if (stays) {
        d.kind = VX_DECISION_KEPT;
        t->quiet_until = now + COOL_SECONDS;
        t->block[d.knob][way] = BLOCK_SECONDS;
    } else {
        take_back(t, now, w, &d);
        t->blocked_until[d.knob][way] = now + t->block[d.knob][way];
        t->block[d.knob][way] = fmin(2 * t->block[d.knob][way], BLOCK_MOST);
    }
    *ret = d;
}

/* --- the next change --- */

/* The knob that a verdict asks for; false where it is not one of the tuner's. */
static bool knob_of(const struct vx_verdict *v, enum vx_tune_knob *ret) {
    switch (v->action) {
    case VX_ACTION_WORKERS:
        *ret = VX_KNOB_WORKERS;
        return true;
    case VX_ACTION_PREFETCH:
        *ret = VX_KNOB_PREFETCH;
        return true;
    case VX_ACTION_KEEP_OPEN:
        *ret = VX_KNOB_KEEP_OPEN;
        return true;
    case VX_ACTION_TIER:
        *ret = VX_KNOB_TIER;
        return true;
    default:
        return false;
    }
}

/* The tier that was meant, or the next best that can be had; what is set where there is none. */
static uint32_t tier_to_be_had(const struct vx_tuner *t, double now, uint32_t to) {
    while (to > VX_TUNE_TIER_KEEP && now < t->tier_from[to]) {
        to--;
    }
    return to > VX_TUNE_TIER_KEEP && !t->filling ? to : t->setting[VX_KNOB_TIER];
}

static bool propose(const struct vx_tuner *t, double now, const struct vx_verdict *v,
                    struct vx_decision *ret) {
    enum vx_tune_knob k;
    if (!knob_of(v, &k)) {
        return false;
    }
    uint32_t from = t->setting[k];
    uint32_t to = within(t, k, v->to);
    if (v->code == VX_VERDICT_GPU_BOUND && k == VX_KNOB_WORKERS && to + 1 < from) {
        to = from - (from - to + 1) / 2; /* back by halves: nothing is gained by haste */
    }
    if (k == VX_KNOB_TIER) {
        to = tier_to_be_had(t, now, to);
    }
    bool urgent = v->code == VX_VERDICT_MEMORY_PRESSURE;
    if (to == from || (urgent && now < t->quiet_until) ||
        (!urgent && now < t->blocked_until[k][to > from ? UP : DOWN])) {
        return false;
    }
    *ret = (struct vx_decision){
        .knob = k, .from = from, .to = to, .why = v->code, .predicted = -v->gain};
    return true;
}

/* Limits that shrank below what is set: followed, not tried. */
static bool must_follow(struct vx_tuner *t, struct vx_decision *ret) {
    for (int k = 0; k < VX_KNOBS; k++) {
        uint32_t to = within(t, (enum vx_tune_knob)k, t->setting[k]);
        if (to != t->setting[k]) {
            *ret = (struct vx_decision){.kind = VX_DECISION_FORCED,
                                        .knob = (enum vx_tune_knob)k,
                                        .from = t->setting[k],
                                        .to = to,
                                        .why = VX_VERDICT_NEIGHBOUR_CONTENTION};
            return true;
        }
    }
    return false;
}

static void begin_trial(struct vx_tuner *t, double now, const struct vx_tune_window *w,
                        struct vx_decision *d) {
    d->kind = VX_DECISION_CHANGE;
    t->before = mean_step(w, &t->before_error);
    t->for_speed = d->why != VX_VERDICT_GPU_BOUND && d->why != VX_VERDICT_AUGMENT_SATURATED;
    apply(t, d, now, w);
    t->trial = *d;
    t->on_trial = true;
    t->refused = false;
}

/* Memory comes first, with few steps or none, and without a trial: speed is no reason to be
 * killed. */
static bool relieve(struct vx_tuner *t, double now, const struct vx_tune_window *w,
                    const struct vx_verdict *verdicts, int n, struct vx_decision *ret) {
    struct vx_decision d;
    for (int i = 0; i < n; i++) {
        if (verdicts[i].code == VX_VERDICT_MEMORY_PRESSURE && now >= t->settled_at &&
            propose(t, now, &verdicts[i], &d)) {
            d.kind = t->mode == VX_TUNE_ADVISE ? VX_DECISION_ADVISE : VX_DECISION_FORCED;
            if (d.kind == VX_DECISION_FORCED) {
                t->on_trial = false;
                apply(t, &d, now, w);
                /* what the memory had no room for is not what speed soon asks for again */
                double *block = &t->block[d.knob][UP];
                *block = fmin(4 * *block, BLOCK_MOST);
                t->blocked_until[d.knob][UP] = now + *block;
            }
            t->quiet_until = fmax(now, t->settled_at) + BLOCK_SECONDS;
            *ret = d;
            return true;
        }
    }
    return false;
}

void vx_tuner_tick(struct vx_tuner *t, double now, const struct vx_tune_window *w,
                   const struct vx_verdict *verdicts, int n, struct vx_decision *ret) {
    *ret = (struct vx_decision){.kind = VX_DECISION_NONE};
    if (t->mode == VX_TUNE_OFF) {
        return;
    }
    if (must_follow(t, ret)) {
        t->on_trial = false;
        apply(t, ret, now, w);
        t->quiet_until = t->settled_at + COOL_SECONDS;
        return;
    }
    if (relieve(t, now, w, verdicts, n, ret)) {
        return;
    }
    if (t->on_trial && t->refused) {
        answer_refusal(t, now, w, ret);
        return;
    }
    bool under_way = t->filling && t->on_trial && t->trial.knob == VX_KNOB_TIER;
    if (under_way || now < t->settled_at || !w->warm || !enough(w)) {
        return;
    }
    if (t->on_trial) {
        finish(t, now, w, ret);
        return;
    }
    for (int i = 0; i < n && now >= t->quiet_until; i++) {
        struct vx_decision d;
        if (propose(t, now, &verdicts[i], &d)) {
            if (t->mode == VX_TUNE_ADVISE) {
                d.kind = VX_DECISION_ADVISE;
                t->quiet_until = now + BLOCK_SECONDS;
            } else {
                begin_trial(t, now, w, &d);
            }
            *ret = d;
            return;
        }
    }
}
