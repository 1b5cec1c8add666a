/* Turns verdicts into changes of knobs, one at a time, and keeps only what helps.
 *
 * A change is tried: after it the pool gets time to settle, then the mean step is compared with
 * that before, the noise of both estimated. What was meant to make steps faster stays where it did
 * by more than the noise, and is taken back otherwise; what was meant to give cores or memory back
 * stays where steps did not get slower. Workers go to N* first (verdict.h), by ones after that. A
 * change that was taken back is not tried again for a while, each time twice as long. Another tier
 * is not judged before the store is there; one that cannot be had is taken back. Nothing ever
 * passes the limits; where they shrink below what is set (another job came), the tuner follows at
 * once and without a trial.
 *
 * No clock and no side effects: the caller passes the time and applies what comes back. Thread: one
 * at a time per tuner. */
#ifndef VX_TUNE_TUNER_H
#define VX_TUNE_TUNER_H

#include "tune/verdict.h"
#include "tune/window.h"

#include <stdbool.h>
#include <stdint.h>

enum vx_tune_mode { VX_TUNE_AUTO, VX_TUNE_ADVISE, VX_TUNE_OFF };
enum vx_tune_knob { VX_KNOB_WORKERS, VX_KNOB_PREFETCH, VX_KNOB_KEEP_OPEN, VX_KNOB_TIER, VX_KNOBS };
/* "workers", "prefetch", "keep_files_open", "cache". */
const char *vx_knob_word(enum vx_tune_knob knob);
/* "none", "advised", "changed", "forced", "kept", "reverted". */
const char *vx_decision_word(unsigned kind);

struct vx_tuner_limits {
    uint32_t lo[VX_KNOBS], hi[VX_KNOBS]; /* inclusive; lo = hi: the knob is not the tuner's */
};

enum vx_decision_kind {
    VX_DECISION_NONE,
    VX_DECISION_ADVISE,   /* what mode auto would have changed */
    VX_DECISION_CHANGE,   /* apply; it is on trial */
    VX_DECISION_FORCED,   /* apply; the limits leave no choice */
    VX_DECISION_KEPT,     /* the change on trial stays */
    VX_DECISION_REVERTED, /* apply: `to` is the value from before the trial */
    VX_DECISION_KINDS
};

struct vx_decision {
    enum vx_decision_kind kind;
    enum vx_tune_knob knob;
    uint32_t from, to;
    enum vx_verdict_code why;
    double predicted; /* relative change of the mean step: -0.3 = 30 % shorter */
    double measured;  /* the same, of kept and reverted ones */
    double noise;     /* two standard errors of measured */
};

struct vx_tuner {
    enum vx_tune_mode mode;
    struct vx_tuner_limits limits;
    uint32_t setting[VX_KNOBS];
    double changed_at; /* seconds; windows that begin before settled_at mix old and new */
    double settled_at;
    double quiet_until; /* cool-down */
    bool on_trial;
    struct vx_decision trial;
    bool for_speed;                    /* the trial must gain; else it must not lose */
    double before, before_error;       /* mean step and its standard error */
    double blocked_until[VX_KNOBS][2]; /* per direction: down, up */
    double block[VX_KNOBS][2];         /* seconds of the next block */
    bool filling;                      /* the store is on its way to the tier */
    bool refused;                      /* the tier on trial was not to be had */
    double tier_from[VX_TUNE_TIERS];   /* when a tier may be asked for; INFINITY: never */
};

void vx_tuner_init(struct vx_tuner *t, enum vx_tune_mode mode, const struct vx_tuner_limits *limits,
                   const uint32_t setting[VX_KNOBS]);
void vx_tuner_limit(struct vx_tuner *t, const struct vx_tuner_limits *limits);
/* Somebody else turned a knob: no trial survives that. */
void vx_tuner_override(struct vx_tuner *t, enum vx_tune_knob knob, uint32_t value, double now);
/* What the store is read from now, by nobody's hand: what came of a tier that was asked for. */
void vx_tuner_came(struct vx_tuner *t, uint32_t tier, double now);
/* Said before every tick: whether the store is still on its way to the tier that was asked for. */
void vx_tuner_filling(struct vx_tuner *t, bool filling, double now);
/* There is no such tier here. */
void vx_tuner_lacks(struct vx_tuner *t, enum vx_tune_tier tier);
/* Windows for vx_tuner_tick should begin no earlier than this. */
double vx_tuner_window_start(const struct vx_tuner *t);
/* now: seconds, any origin, growing. window: of the time since vx_tuner_window_start, at most some
 * ten seconds; verdicts: vx_tune_judge of it. To be called about once a second. */
void vx_tuner_tick(struct vx_tuner *t, double now, const struct vx_tune_window *window,
                   const struct vx_verdict *verdicts, int n, struct vx_decision *ret);

#endif
