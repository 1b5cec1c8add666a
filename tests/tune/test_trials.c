/* How a change is tried, kept and taken back: one verdict, and windows with steps as they are told.
 */
#include "tune/tuner.h"
#include "tune/window.h"

#include <criterion/criterion.h>
#include <math.h>

struct told {
    struct vx_tuner t;
    struct vx_tune_window w;
    struct vx_verdict v;
    int n; /* verdicts: 0 or 1 */
    double now;
    struct vx_decision d; /* the last that was not nothing */
};

static void tell_of(struct told *s, enum vx_verdict_code code, enum vx_action action, double to,
                    double gain) {
    const struct vx_tuner_limits limits = {{1, 1, 0, 0}, {8, 16, 1, VX_TUNE_TIER_RAM}};
    const uint32_t setting[VX_KNOBS] = {2, 16, 0, VX_TUNE_TIER_OPEN};
    *s = (struct told){.v = {.code = code, .action = action, .to = to, .gain = gain}, .n = 1};
    s->w = (struct vx_tune_window){.warm = true,
                                   .step = {.batch = 2, .deviation = 0.001},
                                   .loader = {.slots = 16, .augment = 5, .wait_slot = 5}};
    vx_tuner_init(&s->t, VX_TUNE_AUTO, &limits, setting);
}

/* Seconds of even steps, until a decision. */
static enum vx_decision_kind steps_of(struct told *s, double step, double seconds) {
    for (double end = s->now + seconds; s->now < end;) {
        struct vx_decision d;
        s->now += 1;
        double span = fmin(s->now - vx_tuner_window_start(&s->t), fmax(10, 14 * step));
        s->w.seconds = s->w.step.wall = fmax(span, 0);
        s->w.step.n = (uint32_t)(s->w.seconds / step);
        s->w.step.wall = s->w.step.n * step;
        vx_tuner_tick(&s->t, s->now, &s->w, &s->v, s->n, &d);
        if (d.kind != VX_DECISION_NONE) {
            s->d = d;
            return d.kind;
        }
    }
    return VX_DECISION_NONE;
}

/* --- trials --- */

/* Files kept open are a knob and a tier: one decision, and nothing to follow afterwards. */
Test(tune_trials, kept_files_are_one_thing) {
    struct told s;
    tell_of(&s, VX_VERDICT_OPEN_BOUND, VX_ACTION_KEEP_OPEN, 1, 0.5);
    cr_assert_eq(steps_of(&s, 0.1, 60), VX_DECISION_CHANGE);
    cr_expect_eq(s.t.setting[VX_KNOB_KEEP_OPEN], 1);
    cr_expect_eq(s.t.setting[VX_KNOB_TIER], VX_TUNE_TIER_KEEP);
    /* it gains nothing and is taken back, both of it */
    cr_assert_eq(steps_of(&s, 0.1, 200), VX_DECISION_REVERTED);
    cr_expect_eq(s.t.setting[VX_KNOB_KEEP_OPEN], 0);
    cr_expect_eq(s.t.setting[VX_KNOB_TIER], VX_TUNE_TIER_OPEN);
}

/* Steps of half a second were too few for ten seconds and too fast for twelve. */
Test(tune_trials, steps_of_any_length_are_tuned) {
    for (double step = 0.01; step < 30; step *= 1.07) {
        struct told s;
        tell_of(&s, VX_VERDICT_AUGMENT_BOUND, VX_ACTION_WORKERS, 4, 0.5);
        cr_expect_eq(steps_of(&s, step, fmax(10, 14 * step)), VX_DECISION_CHANGE, "%g s", step);
        cr_expect_eq(steps_of(&s, step / 2, fmax(60, 60 * step)), VX_DECISION_KEPT, "%g s", step);
        cr_expect_float_eq(s.d.measured, -0.5, 0.05, "%g of %g s", s.d.measured, step);
    }
}

/* The sixth worker of five gains 17 %, and a step varies by half of itself. */
Test(tune_trials, what_noise_hides_is_measured_for_longer) {
    struct told s;
    tell_of(&s, VX_VERDICT_AUGMENT_BOUND, VX_ACTION_WORKERS, 13, 0.54);
    s.t.setting[VX_KNOB_WORKERS] = 7; /* of 8 */
    s.w.step.deviation = 0.07;
    cr_assert_eq(steps_of(&s, 0.14, 25), VX_DECISION_NONE); /* nothing could be seen yet */
    cr_assert_eq(steps_of(&s, 0.14, 45), VX_DECISION_CHANGE);
    cr_expect_float_eq(s.d.predicted, -1 / 8.0, 1e-9, "%g", s.d.predicted);
    cr_assert_eq(steps_of(&s, 0.14 * 7 / 8, 90), VX_DECISION_KEPT);
    cr_expect_float_eq(s.d.measured, -1 / 8.0, 0.01, "%g", s.d.measured);
    cr_expect_lt(s.d.noise, 0.125);
}

Test(tune_trials, what_does_not_show_in_the_end_is_taken_back) {
    struct told s;
    tell_of(&s, VX_VERDICT_AUGMENT_BOUND, VX_ACTION_WORKERS, 4, 0.5);
    s.w.step.deviation = 0.05;
    cr_assert_eq(steps_of(&s, 0.1, 70), VX_DECISION_CHANGE);
    double began = s.now;
    cr_assert_eq(steps_of(&s, 0.0995, 100), VX_DECISION_REVERTED);
    cr_expect_gt(s.now - began, 50, "%g s", s.now - began);
    cr_expect_eq(s.t.setting[VX_KNOB_WORKERS], 2);
    cr_expect_eq(steps_of(&s, 0.1, 45), VX_DECISION_NONE); /* not at once again */
}

/* Within the noise to the end: a quarter of what was predicted is 3.75 %. */
Test(tune_trials, some_of_what_was_predicted_is_enough_in_the_end) {
    static const struct {
        double after;
        enum vx_decision_kind kind;
    } table[] = {{0.096, VX_DECISION_KEPT}, {0.097, VX_DECISION_REVERTED}};
    for (size_t i = 0; i < 2; i++) {
        struct told s;
        tell_of(&s, VX_VERDICT_AUGMENT_BOUND, VX_ACTION_WORKERS, 3, 0.15);
        s.w.step.deviation = 0.2;
        cr_assert_eq(steps_of(&s, 0.1, 70), VX_DECISION_CHANGE);
        cr_assert_eq(steps_of(&s, table[i].after, 100), table[i].kind);
        cr_expect_gt(s.d.noise, -s.d.measured, "%g", s.d.noise);
    }
}

/* One of two workers seems enough in some windows: too few to give it back by. */
Test(tune_trials, a_worker_is_not_given_back_by_chance) {
    struct told s;
    tell_of(&s, VX_VERDICT_GPU_BOUND, VX_ACTION_WORKERS, 1, 0);
    for (int i = 0; i < 10; i++) {
        s.n = 1;
        cr_expect_eq(steps_of(&s, 0.1, 25), VX_DECISION_NONE);
        s.n = 0;
        cr_expect_eq(steps_of(&s, 0.1, 2), VX_DECISION_NONE);
    }
    s.n = 1;
    cr_expect_eq(steps_of(&s, 0.1, 40), VX_DECISION_CHANGE);
    cr_expect_eq(s.t.setting[VX_KNOB_WORKERS], 1);
}

/* Fifty samples in stock feed the device for minutes after too much was given back. */
Test(tune_trials, living_on_stock_is_not_enough) {
    struct told s;
    tell_of(&s, VX_VERDICT_GPU_BOUND, VX_ACTION_WORKERS, 1, 0);
    cr_assert_eq(steps_of(&s, 0.1, 60), VX_DECISION_CHANGE);
    s.w.loader.augment = 10; /* the worker that is left never waits for a slot */
    s.w.loader.wait_slot = 0;
    cr_expect_eq(steps_of(&s, 0.1, 60), VX_DECISION_REVERTED);
    cr_expect_eq(s.t.setting[VX_KNOB_WORKERS], 2);
}

/* --- where data are read from --- */

Test(tune_trials, a_tier_is_judged_once_it_is_there) {
    struct told s;
    tell_of(&s, VX_VERDICT_READ_BOUND, VX_ACTION_TIER, VX_TUNE_TIER_RAM, 0.5);
    cr_assert_eq(steps_of(&s, 0.1, 60), VX_DECISION_CHANGE);
    cr_expect_eq(s.d.knob, VX_KNOB_TIER);
    cr_expect_eq(steps_of(&s, 0.1, 60), VX_DECISION_NONE); /* the session looks at every case */
    vx_tuner_stands(&s.t, VX_KNOB_TIER, VX_TUNE_TIER_RAM, s.now);
    vx_tuner_filling(&s.t, true, s.now);
    cr_expect_eq(steps_of(&s, 0.1, 300), VX_DECISION_NONE); /* and copies it */
    vx_tuner_filling(&s.t, false, s.now);
    double filled = s.now;
    cr_assert_eq(steps_of(&s, 0.05, 60), VX_DECISION_KEPT);
    cr_expect_geq(vx_tuner_window_start(&s.t), filled, "of the time before: %g", filled);
    cr_expect_float_eq(s.d.measured, -0.5, 0.01, "%g", s.d.measured);
    cr_expect_eq(s.t.setting[VX_KNOB_TIER], VX_TUNE_TIER_RAM);
}

Test(tune_trials, a_tier_that_fills_for_ever_is_judged_as_it_is) {
    struct told s;
    tell_of(&s, VX_VERDICT_READ_BOUND, VX_ACTION_TIER, VX_TUNE_TIER_RAM, 0.5);
    cr_assert_eq(steps_of(&s, 0.1, 60), VX_DECISION_CHANGE);
    vx_tuner_stands(&s.t, VX_KNOB_TIER, VX_TUNE_TIER_RAM, s.now);
    vx_tuner_filling(&s.t, true, s.now);
    cr_expect_eq(steps_of(&s, 0.1, 590), VX_DECISION_NONE);
    cr_expect_eq(steps_of(&s, 0.1, 100), VX_DECISION_REVERTED);
}

/* The budget is too small for memory and there is no folder to stage to: asked once each. */
Test(tune_trials, a_tier_that_is_not_granted_is_not_asked_for_again) {
    struct told s;
    tell_of(&s, VX_VERDICT_READ_BOUND, VX_ACTION_TIER, VX_TUNE_TIER_RAM, 0.5);
    for (uint32_t tier = VX_TUNE_TIER_RAM; tier > VX_TUNE_TIER_KEEP; tier--) {
        cr_assert_eq(steps_of(&s, 0.1, 200), VX_DECISION_CHANGE);
        cr_expect_eq(s.d.to, tier);
        vx_tuner_stands(&s.t, VX_KNOB_TIER, VX_TUNE_TIER_KEEP, s.now); /* the next best */
        cr_assert_eq(steps_of(&s, 0.1, 1), VX_DECISION_REVERTED);
        cr_expect_eq(s.d.from, tier);
        cr_expect_eq(s.d.to, VX_TUNE_TIER_OPEN);
        cr_expect(isnan(s.d.measured));
        vx_tuner_stands(&s.t, VX_KNOB_TIER, VX_TUNE_TIER_OPEN, s.now);
        cr_expect_eq(s.t.setting[VX_KNOB_TIER], VX_TUNE_TIER_OPEN);
    }
    for (double hours = s.now + 2 * 3600; s.now < hours;) {
        if (steps_of(&s, 0.1, 600) == VX_DECISION_CHANGE) {
            cr_expect_eq(s.d.to, VX_TUNE_TIER_KEEP, "%u", s.d.to); /* the session knows how */
            vx_tuner_stands(&s.t, VX_KNOB_TIER, VX_TUNE_TIER_KEEP, s.now);
            vx_tuner_stands(&s.t, VX_KNOB_KEEP_OPEN, 1, s.now);
        }
    }
}

Test(tune_trials, no_tier_is_asked_for_that_is_not_there) {
    struct told s;
    tell_of(&s, VX_VERDICT_READ_BOUND, VX_ACTION_TIER, VX_TUNE_TIER_STAGED, 0.5);
    vx_tuner_lacks(&s.t, VX_TUNE_TIER_STAGED);
    cr_expect_eq(steps_of(&s, 0.1, 600), VX_DECISION_NONE);
    s.v.to = VX_TUNE_TIER_RAM;
    cr_expect_eq(steps_of(&s, 0.1, 60), VX_DECISION_CHANGE);
    cr_expect_eq(s.d.to, VX_TUNE_TIER_RAM);
}

/* Also where that began before the tuner looked: the store is on its way already. */
Test(tune_trials, nothing_is_asked_for_while_the_store_is_on_its_way) {
    struct told s;
    tell_of(&s, VX_VERDICT_READ_BOUND, VX_ACTION_TIER, VX_TUNE_TIER_RAM, 0.5);
    vx_tuner_filling(&s.t, true, s.now);
    cr_expect_eq(steps_of(&s, 0.1, 300), VX_DECISION_NONE);
    vx_tuner_filling(&s.t, false, s.now);
    cr_expect_eq(steps_of(&s, 0.1, 60), VX_DECISION_CHANGE);
}

Test(tune_trials, a_session_that_does_not_answer_is_not_waited_for) {
    struct told s;
    tell_of(&s, VX_VERDICT_READ_BOUND, VX_ACTION_TIER, VX_TUNE_TIER_STAGED, 0.5);
    cr_assert_eq(steps_of(&s, 0.1, 60), VX_DECISION_CHANGE);
    double asked = s.now;
    cr_expect_eq(steps_of(&s, 0.1, 300), VX_DECISION_REVERTED);
    cr_expect_float_eq(s.now - asked, 120, 2, "%g s", s.now - asked);
}

/* At the start of a job the session decides by itself: nobody's hand, and nothing to wait for. */
Test(tune_trials, a_tier_of_the_sessions_own_choice_is_taken_note_of) {
    struct told s;
    tell_of(&s, VX_VERDICT_AUGMENT_BOUND, VX_ACTION_WORKERS, 4, 0.5);
    vx_tuner_stands(&s.t, VX_KNOB_TIER, VX_TUNE_TIER_RAM, 0);
    cr_expect_eq(s.t.setting[VX_KNOB_TIER], VX_TUNE_TIER_RAM);
    cr_expect_eq(steps_of(&s, 0.1, 10), VX_DECISION_CHANGE);
    cr_expect_eq(s.d.knob, VX_KNOB_WORKERS);
}

/* --- hands --- */

Test(tune_trials, what_was_told_before_it_was_done_is_no_hand) {
    struct told s;
    tell_of(&s, VX_VERDICT_AUGMENT_BOUND, VX_ACTION_WORKERS, 4, 0.5);
    cr_assert_eq(steps_of(&s, 0.1, 10), VX_DECISION_CHANGE);
    vx_tuner_stands(&s.t, VX_KNOB_WORKERS, 2, s.now);
    cr_expect_eq(s.t.setting[VX_KNOB_WORKERS], 4);
    vx_tuner_stands(&s.t, VX_KNOB_WORKERS, 4, s.now);
    cr_expect_eq(steps_of(&s, 0.05, 20), VX_DECISION_KEPT);
}

Test(tune_trials, a_knob_turned_by_hand_is_left_alone) {
    struct told s;
    tell_of(&s, VX_VERDICT_AUGMENT_BOUND, VX_ACTION_WORKERS, 4, 0.5);
    cr_assert_eq(steps_of(&s, 0.1, 10), VX_DECISION_CHANGE);
    vx_tuner_stands(&s.t, VX_KNOB_WORKERS, 4, s.now);
    double turned = s.now;
    vx_tuner_hand(&s.t, VX_KNOB_WORKERS, s.now);
    vx_tuner_stands(&s.t, VX_KNOB_WORKERS, 3, s.now);
    cr_expect_eq(steps_of(&s, 0.1, 1), VX_DECISION_ENDED); /* no trial survives that */
    cr_expect_eq(s.d.to, 4);
    cr_expect(isnan(s.d.measured));
    struct vx_tuner_limits less = s.t.limits;
    less.hi[VX_KNOB_WORKERS] = 2; /* another job came; whoever turned it knows */
    vx_tuner_limit(&s.t, &less);
    cr_expect_eq(steps_of(&s, 0.1, 595), VX_DECISION_NONE);
    cr_expect_eq(s.t.setting[VX_KNOB_WORKERS], 3);
    cr_expect_eq(steps_of(&s, 0.1, 60), VX_DECISION_FORCED);
    cr_expect_geq(s.now - turned, 600, "%g s", s.now - turned);
}

Test(tune_trials, other_knobs_are_free_a_minute_after_a_hand) {
    struct told s;
    tell_of(&s, VX_VERDICT_OPEN_BOUND, VX_ACTION_KEEP_OPEN, 1, 0.5);
    vx_tuner_hand(&s.t, VX_KNOB_WORKERS, s.now);
    vx_tuner_stands(&s.t, VX_KNOB_WORKERS, 3, s.now);
    cr_expect_eq(steps_of(&s, 0.1, 59), VX_DECISION_NONE);
    cr_expect_eq(steps_of(&s, 0.1, 20), VX_DECISION_CHANGE);
    tell_of(&s, VX_VERDICT_OPEN_BOUND, VX_ACTION_KEEP_OPEN, 1, 0.5);
    vx_tuner_hand(&s.t, VX_KNOB_TIER, s.now); /* the same thing by another name */
    cr_expect_eq(steps_of(&s, 0.1, 500), VX_DECISION_NONE);
}

Test(tune_trials, memory_is_a_reason_to_touch_what_a_hand_turned) {
    struct told s;
    tell_of(&s, VX_VERDICT_MEMORY_PRESSURE, VX_ACTION_WORKERS, 2, 0);
    vx_tuner_hand(&s.t, VX_KNOB_WORKERS, s.now);
    vx_tuner_stands(&s.t, VX_KNOB_WORKERS, 3, s.now);
    cr_expect_eq(steps_of(&s, 0.1, 10), VX_DECISION_FORCED);
    cr_expect_eq(s.t.setting[VX_KNOB_WORKERS], 2);
}
