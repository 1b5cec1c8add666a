/* Turns verdicts into changes of knobs, one at a time, and keeps only what helps.
 *
 * A change is tried: after it the pool gets time to settle, then the mean step is compared with
 * that before, the noise of both estimated. What was meant to make steps faster stays where it did
 * by more than the noise; what was meant to give cores or memory back stays where steps did not get
 * slower. Where the noise hides which, steps are counted for longer, before the change and after
 * it, up to VX_MEASURE_WINDOWS windows; what noise hides even then stays only where a quarter of
 * the gain that was predicted was measured. Workers go to N* first (verdict.h), by ones after that,
 * and are given back only where fewer were enough for half a minute on end. A change that was taken
 * back is not tried again for a while, each time twice as long.
 *
 * Where the store is read from is asked for rather than turned: the session may decide otherwise,
 * and then copies. The trial waits for its answer (vx_tuner_stands) and for the copying
 * (vx_tuner_filling); what was not granted is taken back and not asked for again in this job.
 *
 * Nothing ever passes the limits; where they shrink below what is set (another job came), the tuner
 * follows at once and without a trial. A knob that a person turned stays as it was turned for ten
 * minutes, even beyond the tuner's limits; only memory about to run out is a reason to touch it.
 *
 * No clock and no side effects: the caller passes the time and applies what comes back. Thread: one
 * at a time per tuner. */
#ifndef VX_TUNE_TUNER_H
#define VX_TUNE_TUNER_H

#include "tune/measure.h"
#include "tune/verdict.h"
#include "tune/window.h"

#include <stdbool.h>
#include <stdint.h>

enum vx_tune_mode { VX_TUNE_AUTO, VX_TUNE_ADVISE, VX_TUNE_OFF };
enum vx_tune_knob { VX_KNOB_WORKERS, VX_KNOB_PREFETCH, VX_KNOB_KEEP_OPEN, VX_KNOB_TIER, VX_KNOBS };
/* "workers", "prefetch", "keep_files_open", "cache". */
const char *vx_knob_word(enum vx_tune_knob knob);
/* "none", "advised", "changed", "forced", "kept", "reverted", "ended". */
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
    VX_DECISION_ENDED,    /* the trial ends unjudged: something else was turned meanwhile */
    VX_DECISION_KINDS
};

struct vx_decision {
    enum vx_decision_kind kind;
    enum vx_tune_knob knob;
    uint32_t from, to;
    enum vx_verdict_code why;
    double predicted; /* relative change of the mean step: -0.3 = 30 % shorter */
    double measured;  /* the same, of kept and reverted ones; NaN where nothing was measured */
    double noise;     /* two standard errors of measured */
};

struct vx_tuner {
    enum vx_tune_mode mode;
    struct vx_tuner_limits limits;
    uint32_t setting[VX_KNOBS];
    double settled_at;      /* seconds; windows that begin earlier mix old and new */
    double quiet_until;     /* cool-down */
    double relieved_until;  /* the same after memory ran short */
    struct vx_measure seen; /* since settled_at */
    bool on_trial;
    struct vx_decision trial;
    bool for_speed;              /* the trial must gain; else it must not lose */
    double before, before_error; /* mean step and its standard error */
    bool ended;                  /* the trial did, and nobody was told */
    bool refused;                /* the session does not grant what is on trial */
    uint32_t lacks;              /* bits 1u << enum vx_tune_tier: not to be had */
    bool filling;
    struct {
        bool open; /* not confirmed yet */
        double at;
        uint32_t had;
    } asked[VX_KNOBS];
    double surplus_since;              /* fewer workers were enough from here on; 0: they are not */
    uint32_t surplus_to;               /* the most that were wanted since */
    double hands_off[VX_KNOBS];        /* a person turned it: until when it is left alone */
    double blocked_until[VX_KNOBS][2]; /* per direction: down, up */
    double block[VX_KNOBS][2];         /* seconds of the next block */
};

void vx_tuner_init(struct vx_tuner *t, enum vx_tune_mode mode, const struct vx_tuner_limits *limits,
                   const uint32_t setting[VX_KNOBS]);
void vx_tuner_limit(struct vx_tuner *t, const struct vx_tuner_limits *limits);
/* The session says where a knob stands: an answer to what the tuner asked for, or a change that it
 * did not ask for, which no trial survives. Of the tier only what the session has decided. */
void vx_tuner_stands(struct vx_tuner *t, enum vx_tune_knob knob, uint32_t value, double now);
/* It was a person who turned the knob. To be called before vx_tuner_stands. */
void vx_tuner_hand(struct vx_tuner *t, enum vx_tune_knob knob, double now);
/* Whether the store is being copied to the tier that it is to be read from, or that is still being
 * decided. */
void vx_tuner_filling(struct vx_tuner *t, bool filling, double now);
/* There is no such tier here: it is not asked for, but the next best. */
void vx_tuner_lacks(struct vx_tuner *t, enum vx_tune_tier tier);
/* Windows for vx_tuner_tick should begin no earlier than this. */
double vx_tuner_window_start(const struct vx_tuner *t);
/* now: seconds, any origin, growing. window: of the time since vx_tuner_window_start, at most some
 * ten seconds; verdicts: vx_tune_judge of it. To be called about once a second. */
void vx_tuner_tick(struct vx_tuner *t, double now, const struct vx_tune_window *window,
                   const struct vx_verdict *verdicts, int n, struct vx_decision *ret);

#endif
