/* See tuner.h. */
#include "tune/tuner.h"

#include <math.h>
#include <string.h>

enum { DOWN, UP };

#define SETTLE_SECONDS 2.0
#define COOL_SECONDS   5.0
#define BLOCK_SECONDS  60.0
#define BLOCK_MOST     3600.0
/* A gain smaller than this is not worth a process; twice as much may be lost by giving one back. */
#define LEAST_GAIN 0.01
#define MOST_LOSS  (2 * LEAST_GAIN)
/* Losses that noise could hide must be smaller than this before a trial ends early. */
#define HIDDEN_LOSS 0.05
/* In one window of uneven samples fewer workers may seem enough by chance. */
#define SURPLUS_SECONDS 30.0
/* Workers that never wait for a slot while the device is fed live on what the ring had in stock. */
#define BUSY_MOST 0.95
/* A person's setting is left alone for so long. */
#define HAND_SECONDS 600.0
/* The session takes a wish up within a second; where to read from takes a look at every case. */
#define REPORT_SECONDS 5.0
#define ANSWER_SECONDS 120.0
/* Then the copying is judged by what it did so far. */
#define FILL_SECONDS 600.0

const char *vx_knob_word(enum vx_tune_knob knob) {
    static const char *const words[] = {"workers", "prefetch", "keep_files_open", "cache"};
    return (unsigned)knob < VX_KNOBS ? words[knob] : "?";
}

const char *vx_decision_word(unsigned kind) {
    static const char *const words[] = {"none", "advised",  "changed", "forced",
                                        "kept", "reverted", "ended"};
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
    double settled = now + SETTLE_SECONDS + fmin(step * rounds, 10 * SETTLE_SECONDS);
    t->settled_at = fmax(t->settled_at, settled);
    t->seen.n = 0;
    t->surplus_since = 0;
}

static void end_trial(struct vx_tuner *t) {
    t->ended |= t->on_trial;
    t->on_trial = t->refused = false;
}

/* --- what the session says --- */

void vx_tuner_stands(struct vx_tuner *t, enum vx_tune_knob knob, uint32_t value, double now) {
    bool tier = knob == VX_KNOB_TIER, open = t->asked[knob].open;
    if (value == t->setting[knob]) {
        t->asked[knob].open = false;
        if (open) {
            begin_settling(t, now, NULL);
        }
        return;
    }
    if (open && tier && t->on_trial && t->trial.knob == VX_KNOB_TIER) {
        t->refused = true;
        return;
    }
    if (open && !tier && now < t->asked[knob].at + REPORT_SECONDS && value == t->asked[knob].had) {
        return; /* told before it was done */
    }
    t->asked[knob].open = false;
    t->setting[knob] = value;
    if (tier && value < VX_TUNE_TIERS) {
        t->lacks &= ~(1u << value); /* it can be had after all */
    }
    end_trial(t);
    begin_settling(t, now, NULL);
}

void vx_tuner_hand(struct vx_tuner *t, enum vx_tune_knob knob, double now) {
    bool files = knob == VX_KNOB_KEEP_OPEN || knob == VX_KNOB_TIER; /* names of one thing */
    for (enum vx_tune_knob k = 0; k < VX_KNOBS; k++) {
        if (k == knob || (files && (k == VX_KNOB_KEEP_OPEN || k == VX_KNOB_TIER))) {
            t->hands_off[k] = now + HAND_SECONDS;
        }
    }
    t->quiet_until = fmax(t->quiet_until, now + BLOCK_SECONDS); /* who turned it wants to see */
}

void vx_tuner_filling(struct vx_tuner *t, bool filling, double now) {
    if (t->filling && !filling) {
        begin_settling(t, now, NULL);
    }
    t->filling = filling;
}

void vx_tuner_lacks(struct vx_tuner *t, enum vx_tune_tier tier) {
    t->lacks |= 1u << tier;
}

double vx_tuner_window_start(const struct vx_tuner *t) {
    return t->settled_at;
}

static uint32_t within(const struct vx_tuner *t, enum vx_tune_knob k, double value) {
    double lo = t->limits.lo[k], hi = t->limits.hi[k];
    return (uint32_t)(value < lo ? lo : value > hi ? hi : value);
}

static void apply(struct vx_tuner *t, const struct vx_decision *d, double now,
                  const struct vx_tune_window *w) {
    uint32_t had[VX_KNOBS];
    memcpy(had, t->setting, sizeof had);
    t->setting[d->knob] = d->to;
    /* open and kept files are tiers and a knob of their own: two names of one thing */
    if (d->knob == VX_KNOB_KEEP_OPEN && t->setting[VX_KNOB_TIER] <= VX_TUNE_TIER_KEEP) {
        t->setting[VX_KNOB_TIER] = d->to ? VX_TUNE_TIER_KEEP : VX_TUNE_TIER_OPEN;
    } else if (d->knob == VX_KNOB_TIER && d->to <= VX_TUNE_TIER_KEEP) {
        t->setting[VX_KNOB_KEEP_OPEN] = d->to == VX_TUNE_TIER_KEEP;
    }
    for (int k = 0; k < VX_KNOBS; k++) {
        if (t->setting[k] != had[k]) {
            t->asked[k].open = true;
            t->asked[k].at = now;
            t->asked[k].had = had[k];
        }
    }
    begin_settling(t, now, w);
}

/* --- the end of a trial --- */

static void take_back(struct vx_tuner *t, double now, const struct vx_tune_window *w,
                      struct vx_decision *d) {
    int way = d->to > d->from ? UP : DOWN;
    d->kind = VX_DECISION_REVERTED;
    d->from = t->trial.to;
    d->to = within(t, d->knob, t->trial.from);
    t->on_trial = false;
    apply(t, d, now, w);
    t->quiet_until = t->settled_at + COOL_SECONDS;
    t->blocked_until[d->knob][way] = now + t->block[d->knob][way];
    t->block[d->knob][way] = fmin(2 * t->block[d->knob][way], BLOCK_MOST);
}

static void keep(struct vx_tuner *t, double now, struct vx_decision *d) {
    d->kind = VX_DECISION_KEPT;
    t->on_trial = false;
    t->quiet_until = now + COOL_SECONDS;
    t->block[d->knob][d->to > d->from ? UP : DOWN] = BLOCK_SECONDS;
}

/* The pool lives on what the ring had in stock: the steps do not show yet that it is too small. */
static bool overdrawn(const struct vx_tuner *t, const struct vx_tune_window *w) {
    const struct vx_tune_loader *l = &w->loader;
    double work = l->open + l->read + l->decompress + l->augment;
    return t->trial.why == VX_VERDICT_GPU_BOUND && work > BUSY_MOST * (work + l->wait_slot);
}

/* Where noise hides the change to the end the verdict's word counts too. */
static bool as_predicted(const struct vx_tuner *t, double change) {
    return t->trial.predicted < 0 && -change > fmax(-t->trial.predicted / 4, LEAST_GAIN);
}

enum finding { UNCLEAR, GOOD, BAD };

static enum finding judge_trial(const struct vx_tuner *t, const struct vx_tune_window *w,
                                double change, double noise) {
    bool last = vx_measure_full(&t->seen);
    if (t->for_speed) {
        bool gains = -change > fmax(noise, LEAST_GAIN) || (last && as_predicted(t, change));
        return gains ? GOOD : change > noise || last ? BAD : UNCLEAR;
    }
    if (overdrawn(t, w) || change > fmax(noise, MOST_LOSS)) {
        return BAD;
    }
    return change + noise < HIDDEN_LOSS ? GOOD : !last ? UNCLEAR : change < MOST_LOSS ? GOOD : BAD;
}

static void finish(struct vx_tuner *t, double now, const struct vx_tune_window *w,
                   struct vx_decision *ret) {
    struct vx_decision d = t->trial;
    double error, after = vx_measure_step(&t->seen, &error);
    d.measured = t->before > 0 ? (after - t->before) / t->before : 0;
    d.noise = t->before > 0 ? 2 * hypot(error, t->before_error) / t->before : 1;
    enum finding found = judge_trial(t, w, d.measured, d.noise);
    if (found == UNCLEAR) {
        return;
    }
    if (found == GOOD) {
        keep(t, now, &d);
    } else {
        take_back(t, now, w, &d);
    }
    *ret = d;
}

/* Not granted: the wish is withdrawn, and there is no use in asking again. */
static void give_up(struct vx_tuner *t, double now, const struct vx_tune_window *w,
                    struct vx_decision *ret) {
    struct vx_decision d = t->trial;
    d.measured = d.noise = NAN;
    t->refused = false;
    take_back(t, now, w, &d);
    vx_tuner_lacks(t, (enum vx_tune_tier)t->trial.to);
    *ret = d;
}

/* The session has not answered yet where it will read from, or copies: nothing to measure. */
static bool under_way(struct vx_tuner *t, double now) {
    double asked = t->asked[VX_KNOB_TIER].at;
    if (!t->on_trial || t->trial.knob != VX_KNOB_TIER || t->refused) {
        return false;
    }
    if (t->asked[VX_KNOB_TIER].open) {
        t->refused = now >= asked + ANSWER_SECONDS;
        return !t->refused;
    }
    return t->filling && now < asked + FILL_SECONDS;
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

/* Of the gain that the verdict predicts what is left where the limits allow fewer workers. */
static double gain_of(const struct vx_verdict *v, uint32_t from, uint32_t to) {
    bool fewer = v->action == VX_ACTION_WORKERS && to > from && to < v->to;
    return fewer ? fmin(v->gain, 1 - (double)from / to) : v->gain;
}

/* The tier that was meant, or the next best that can be had; what is set where there is none. */
static uint32_t tier_to_be_had(const struct vx_tuner *t, uint32_t to) {
    while (to > VX_TUNE_TIER_KEEP && t->lacks >> to & 1u) {
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
    bool urgent = v->code == VX_VERDICT_MEMORY_PRESSURE, surplus = v->code == VX_VERDICT_GPU_BOUND;
    uint32_t from = t->setting[k];
    uint32_t to = within(t, k, surplus ? t->surplus_to : v->to);
    if (surplus && to + 1 < from) {
        to = from - (from - to + 1) / 2; /* back by halves: nothing is gained by haste */
    }
    if (k == VX_KNOB_TIER) {
        to = tier_to_be_had(t, to);
    }
    if (to == from || (urgent && now < t->relieved_until) ||
        (surplus && !(t->surplus_since > 0 && now - t->surplus_since >= SURPLUS_SECONDS)) ||
        (!urgent && now < fmax(t->blocked_until[k][to > from ? UP : DOWN], t->hands_off[k]))) {
        return false;
    }
    *ret = (struct vx_decision){
        .knob = k, .from = from, .to = to, .why = v->code, .predicted = -gain_of(v, from, to)};
    return true;
}

static void watch_surplus(struct vx_tuner *t, double now, const struct vx_verdict *verdicts,
                          int n) {
    uint32_t to = t->setting[VX_KNOB_WORKERS];
    for (int i = 0; i < n; i++) {
        if (verdicts[i].code == VX_VERDICT_GPU_BOUND && verdicts[i].action == VX_ACTION_WORKERS) {
            to = (uint32_t)verdicts[i].to;
        }
    }
    if (to >= t->setting[VX_KNOB_WORKERS]) {
        t->surplus_since = 0;
    } else if (!(t->surplus_since > 0)) {
        t->surplus_since = now;
        t->surplus_to = to;
    } else if (to > t->surplus_to) {
        t->surplus_to = to;
    }
}

/* Limits that shrank below what is set: followed, not tried. */
static bool must_follow(struct vx_tuner *t, double now, struct vx_decision *ret) {
    for (int k = 0; k < VX_KNOBS; k++) {
        uint32_t to = within(t, (enum vx_tune_knob)k, t->setting[k]);
        if (to != t->setting[k] && now >= t->hands_off[k]) {
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

/* Whether the steps before are known well enough to see a change by, as well as they ever will. */
static bool well_known(const struct vx_tuner *t, const struct vx_decision *d) {
    double error, mean = vx_measure_step(&t->seen, &error);
    double seen = d->predicted < 0 ? fmax(-d->predicted / 2, MOST_LOSS) : HIDDEN_LOSS;
    return vx_measure_full(&t->seen) || 2 * error <= seen * mean;
}

static void begin_trial(struct vx_tuner *t, double now, const struct vx_tune_window *w,
                        struct vx_decision *d) {
    d->kind = VX_DECISION_CHANGE;
    t->before = vx_measure_step(&t->seen, &t->before_error);
    t->for_speed = d->why != VX_VERDICT_GPU_BOUND &&
                   (d->why != VX_VERDICT_AUGMENT_SATURATED || d->to > d->from);
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
                end_trial(t);
                apply(t, &d, now, w);
                /* what the memory had no room for is not what speed soon asks for again */
                double *block = &t->block[d.knob][UP];
                *block = fmin(4 * *block, BLOCK_MOST);
                t->blocked_until[d.knob][UP] = now + *block;
            }
            t->quiet_until = t->relieved_until = fmax(now, t->settled_at) + BLOCK_SECONDS;
            *ret = d;
            return true;
        }
    }
    return false;
}

static void try_next(struct vx_tuner *t, double now, const struct vx_tune_window *w,
                     const struct vx_verdict *verdicts, int n, struct vx_decision *ret) {
    for (int i = 0; i < n && now >= t->quiet_until; i++) {
        struct vx_decision d;
        if (!propose(t, now, &verdicts[i], &d)) {
            continue;
        }
        if (t->mode == VX_TUNE_ADVISE) {
            d.kind = VX_DECISION_ADVISE;
            t->quiet_until = now + BLOCK_SECONDS;
        } else if (well_known(t, &d)) {
            begin_trial(t, now, w, &d);
        } else {
            return; /* the worst first, once its effect can be seen */
        }
        *ret = d;
        return;
    }
}

void vx_tuner_tick(struct vx_tuner *t, double now, const struct vx_tune_window *w,
                   const struct vx_verdict *verdicts, int n, struct vx_decision *ret) {
    *ret = (struct vx_decision){.kind = VX_DECISION_NONE};
    if (t->mode == VX_TUNE_OFF) {
        return;
    }
    if (t->ended) {
        t->ended = false;
        *ret = t->trial;
        ret->kind = VX_DECISION_ENDED;
        ret->measured = ret->noise = NAN;
        return;
    }
    if (must_follow(t, now, ret)) {
        end_trial(t);
        apply(t, ret, now, w);
        t->quiet_until = t->settled_at + COOL_SECONDS;
        return;
    }
    if (relieve(t, now, w, verdicts, n, ret) || under_way(t, now)) {
        return;
    }
    if (t->refused) {
        give_up(t, now, w, ret);
        return;
    }
    if (now < t->settled_at || !w->warm || !vx_measure_enough(w)) {
        return;
    }
    vx_measure_take(&t->seen, now, w);
    watch_surplus(t, now, verdicts, n);
    if (t->on_trial) {
        finish(t, now, w, ret);
    } else {
        try_next(t, now, w, verdicts, n, ret);
    }
}
