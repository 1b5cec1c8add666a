/* The tuner on machines with a closed form: where it ends, how often it changes, what it takes
 * back. */
#include "machine.h"
#include "tune/tuner.h"

#include "base/rng.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define MAX_CHANGES 64

struct run {
    struct machine m;
    struct vx_tuner t;
    struct vx_decision log[MAX_CHANGES];
    int n;
    double now;
};

static void start(struct run *r, const struct machine *m, uint32_t most) {
    const struct vx_tuner_limits limits = {{1, 1, 0, VX_TUNE_TIER_OPEN},
                                           {most, 512, 1, VX_TUNE_TIER_RAM}};
    const uint32_t setting[VX_KNOBS] = {m->workers, m->slots, m->keep_open, VX_TUNE_TIER_OPEN};
    *r = (struct run){.m = *m};
    vx_tuner_init(&r->t, VX_TUNE_AUTO, &limits, setting);
}

static void apply(struct run *r, const struct vx_decision *d) {
    if (d->kind == VX_DECISION_NONE) {
        return;
    }
    cr_assert_lt(r->n, MAX_CHANGES);
    r->log[r->n++] = *d;
    r->m.workers = r->t.setting[VX_KNOB_WORKERS];
    r->m.slots = r->t.setting[VX_KNOB_PREFETCH];
    r->m.keep_open = r->t.setting[VX_KNOB_KEEP_OPEN];
    if (r->t.setting[VX_KNOB_TIER] > VX_TUNE_TIER_KEEP) {
        r->m.sample_other = 0.001;
    }
    for (enum vx_tune_knob k = 0; k < VX_KNOBS; k++) {
        vx_tuner_stands(&r->t, k, r->t.setting[k], r->now);
    }
}

/* One tick a second. The wiggle of a window is its own draw, as the mean of many noisy steps is. */
static void pass(struct run *r, double seconds, uint64_t seed) {
    struct vx_rng rng = vx_rng_at(seed, 0, 0, (uint32_t)r->now, 3);
    for (double end = r->now + seconds; r->now < end; r->now += 1) {
        struct vx_tune_window w;
        struct vx_verdict v[VX_VERDICTS];
        struct vx_decision d;
        double wiggle = (double)vx_rng_uniform(&rng, -1, 1);
        machine_window(&r->m, 1000, 0, &w); /* as the daemon cuts it */
        double most = fmax(10, 14 * w.step.wall / w.step.n);
        double span = fmin(r->now - vx_tuner_window_start(&r->t), most);
        machine_window(&r->m, fmax(span, 0.5), 0, &w);
        wiggle /= sqrt(w.step.n + 1.0);
        machine_window(&r->m, fmax(span, 0.5), wiggle, &w);
        vx_tuner_tick(&r->t, r->now, &w, v, vx_tune_judge(&w, v), &d);
        apply(r, &d);
    }
}

static int count(const struct run *r, enum vx_decision_kind kind) {
    int n = 0;
    for (int i = 0; i < r->n; i++) {
        n += r->log[i].kind == kind;
    }
    return n;
}

static struct machine starved(double step, double sample) {
    return (struct machine){.cores = 16,
                            .step = step,
                            .sample_cpu = sample / 10,
                            .sample_other = 0,
                            .batch = 2,
                            .workers = 1,
                            .slots = 24,
                            .noise = 0.1};
}

/* --- one verdict, and windows as they are told --- */

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

/* Files kept open are a knob and a tier: one decision, and nothing to follow afterwards. */
Test(tune_tuner, kept_files_are_one_thing) {
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
Test(tune_tuner, steps_of_any_length_are_tuned) {
    for (double step = 0.01; step < 30; step *= 1.07) {
        struct told s;
        tell_of(&s, VX_VERDICT_AUGMENT_BOUND, VX_ACTION_WORKERS, 4, 0.5);
        cr_expect_eq(steps_of(&s, step, fmax(10, 14 * step)), VX_DECISION_CHANGE, "%g s", step);
        cr_expect_eq(steps_of(&s, step / 2, fmax(60, 60 * step)), VX_DECISION_KEPT, "%g s", step);
        cr_expect_float_eq(s.d.measured, -0.5, 0.05, "%g of %g s", s.d.measured, step);
    }
}

/* The sixth worker of five gains 17 %, and a step varies by half of itself. */
Test(tune_tuner, what_noise_hides_is_measured_for_longer) {
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

Test(tune_tuner, what_does_not_show_in_the_end_is_taken_back) {
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
Test(tune_tuner, some_of_what_was_predicted_is_enough_in_the_end) {
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
Test(tune_tuner, a_worker_is_not_given_back_by_chance) {
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
Test(tune_tuner, living_on_stock_is_not_enough) {
    struct told s;
    tell_of(&s, VX_VERDICT_GPU_BOUND, VX_ACTION_WORKERS, 1, 0);
    cr_assert_eq(steps_of(&s, 0.1, 60), VX_DECISION_CHANGE);
    s.w.loader.augment = 10; /* the worker that is left never waits for a slot */
    s.w.loader.wait_slot = 0;
    cr_expect_eq(steps_of(&s, 0.1, 60), VX_DECISION_REVERTED);
    cr_expect_eq(s.t.setting[VX_KNOB_WORKERS], 2);
}

/* --- where data are read from --- */

Test(tune_tuner, a_tier_is_judged_once_it_is_there) {
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

Test(tune_tuner, a_tier_that_fills_for_ever_is_judged_as_it_is) {
    struct told s;
    tell_of(&s, VX_VERDICT_READ_BOUND, VX_ACTION_TIER, VX_TUNE_TIER_RAM, 0.5);
    cr_assert_eq(steps_of(&s, 0.1, 60), VX_DECISION_CHANGE);
    vx_tuner_stands(&s.t, VX_KNOB_TIER, VX_TUNE_TIER_RAM, s.now);
    vx_tuner_filling(&s.t, true, s.now);
    cr_expect_eq(steps_of(&s, 0.1, 590), VX_DECISION_NONE);
    cr_expect_eq(steps_of(&s, 0.1, 100), VX_DECISION_REVERTED);
}

/* The budget is too small for memory and there is no folder to stage to: asked once each. */
Test(tune_tuner, a_tier_that_is_not_granted_is_not_asked_for_again) {
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

Test(tune_tuner, no_tier_is_asked_for_that_is_not_there) {
    struct told s;
    tell_of(&s, VX_VERDICT_READ_BOUND, VX_ACTION_TIER, VX_TUNE_TIER_STAGED, 0.5);
    vx_tuner_lacks(&s.t, VX_TUNE_TIER_STAGED);
    cr_expect_eq(steps_of(&s, 0.1, 600), VX_DECISION_NONE);
    s.v.to = VX_TUNE_TIER_RAM;
    cr_expect_eq(steps_of(&s, 0.1, 60), VX_DECISION_CHANGE);
    cr_expect_eq(s.d.to, VX_TUNE_TIER_RAM);
}

/* Also where that began before the tuner looked: the store is on its way already. */
Test(tune_tuner, nothing_is_asked_for_while_the_store_is_on_its_way) {
    struct told s;
    tell_of(&s, VX_VERDICT_READ_BOUND, VX_ACTION_TIER, VX_TUNE_TIER_RAM, 0.5);
    vx_tuner_filling(&s.t, true, s.now);
    cr_expect_eq(steps_of(&s, 0.1, 300), VX_DECISION_NONE);
    vx_tuner_filling(&s.t, false, s.now);
    cr_expect_eq(steps_of(&s, 0.1, 60), VX_DECISION_CHANGE);
}

Test(tune_tuner, a_session_that_does_not_answer_is_not_waited_for) {
    struct told s;
    tell_of(&s, VX_VERDICT_READ_BOUND, VX_ACTION_TIER, VX_TUNE_TIER_STAGED, 0.5);
    cr_assert_eq(steps_of(&s, 0.1, 60), VX_DECISION_CHANGE);
    double asked = s.now;
    cr_expect_eq(steps_of(&s, 0.1, 300), VX_DECISION_REVERTED);
    cr_expect_float_eq(s.now - asked, 120, 2, "%g s", s.now - asked);
}

/* At the start of a job the session decides by itself: nobody's hand, and nothing to wait for. */
Test(tune_tuner, a_tier_of_the_sessions_own_choice_is_taken_note_of) {
    struct told s;
    tell_of(&s, VX_VERDICT_AUGMENT_BOUND, VX_ACTION_WORKERS, 4, 0.5);
    vx_tuner_stands(&s.t, VX_KNOB_TIER, VX_TUNE_TIER_RAM, 0);
    cr_expect_eq(s.t.setting[VX_KNOB_TIER], VX_TUNE_TIER_RAM);
    cr_expect_eq(steps_of(&s, 0.1, 10), VX_DECISION_CHANGE);
    cr_expect_eq(s.d.knob, VX_KNOB_WORKERS);
}

/* --- hands --- */

Test(tune_tuner, what_was_told_before_it_was_done_is_no_hand) {
    struct told s;
    tell_of(&s, VX_VERDICT_AUGMENT_BOUND, VX_ACTION_WORKERS, 4, 0.5);
    cr_assert_eq(steps_of(&s, 0.1, 10), VX_DECISION_CHANGE);
    vx_tuner_stands(&s.t, VX_KNOB_WORKERS, 2, s.now);
    cr_expect_eq(s.t.setting[VX_KNOB_WORKERS], 4);
    vx_tuner_stands(&s.t, VX_KNOB_WORKERS, 4, s.now);
    cr_expect_eq(steps_of(&s, 0.05, 20), VX_DECISION_KEPT);
}

Test(tune_tuner, a_knob_turned_by_hand_is_left_alone) {
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

Test(tune_tuner, other_knobs_are_free_a_minute_after_a_hand) {
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

Test(tune_tuner, memory_is_a_reason_to_touch_what_a_hand_turned) {
    struct told s;
    tell_of(&s, VX_VERDICT_MEMORY_PRESSURE, VX_ACTION_WORKERS, 2, 0);
    vx_tuner_hand(&s.t, VX_KNOB_WORKERS, s.now);
    vx_tuner_stands(&s.t, VX_KNOB_WORKERS, 3, s.now);
    cr_expect_eq(steps_of(&s, 0.1, 10), VX_DECISION_FORCED);
    cr_expect_eq(s.t.setting[VX_KNOB_WORKERS], 2);
}

/* Samples that are mostly sleep, a budget of 16 cores: to N* within a minute, and there it stays.
 */
Test(tune_tuner, goes_to_the_workers_it_needs) {
    static const struct {
        double step;
        uint32_t wanted;
    } table[] = {{0.0475, 3}, {0.0237, 6}, {0.0142, 10}};
    for (size_t i = 0; i < 3; i++) {
        struct machine m = starved(table[i].step, 0.06);
        m.sample_cpu = 0.06;
        struct run r;
        start(&r, &m, 16);
        pass(&r, 60, i);
        cr_expect_eq(r.m.workers, table[i].wanted, "%u workers, wanted %u", r.m.workers,
                     table[i].wanted);
        cr_expect_eq(r.log[0].why, VX_VERDICT_AUGMENT_BOUND);
        int before = r.n;
        pass(&r, 240, i + 10);
        cr_expect_leq(r.n - before, 2, "%d changes afterwards", r.n - before);
    }
}

Test(tune_tuner, from_one_to_two_on_two_cores) {
    struct machine m = {.cores = 2,
                        .step = 0.03,
                        .sample_cpu = 0.025,
                        .sample_other = 0.0005,
                        .batch = 2,
                        .workers = 1,
                        .slots = 12,
                        .noise = 0.05};
    struct run r;
    start(&r, &m, 2);
    pass(&r, 60, 1);
    cr_expect_eq(r.m.workers, 2);
    cr_expect_eq(r.log[0].kind, VX_DECISION_CHANGE);
    cr_expect_eq(r.log[1].kind, VX_DECISION_KEPT);
    cr_expect_lt(r.log[1].measured, -0.3);
}

Test(tune_tuner, too_many_workers_come_down) {
    struct machine m = {.cores = 4,
                        .step = 0.02,
                        .sample_cpu = 0.05,
                        .batch = 2,
                        .workers = 12,
                        .slots = 32,
                        .noise = 0.05};
    struct run r;
    start(&r, &m, 16);
    pass(&r, 60, 1);
    cr_expect_eq(r.m.workers, 4, "%u", r.m.workers);
    cr_expect_eq(r.log[0].why, VX_VERDICT_AUGMENT_SATURATED);
}

Test(tune_tuner, gives_back_what_is_not_needed) {
    struct machine m = starved(0.2, 0.05);
    m.sample_cpu = 0.05;
    m.workers = 8;
    struct run r;
    start(&r, &m, 16);
    pass(&r, 180, 1);
    cr_expect_eq(r.m.workers, 1, "%u", r.m.workers);
    cr_expect_eq(count(&r, VX_DECISION_REVERTED), 0);
}

Test(tune_tuner, what_does_not_help_is_taken_back_and_not_tried_at_once) {
    /* files are opened slowly, and keeping them open changes nothing here: the toy machine is told
     * that they are still opened */
    struct machine m = {.cores = 8,
                        .step = 0.03,
                        .sample_cpu = 0.002,
                        .sample_other = 0.05,
                        .open = 0.045,
                        .batch = 2,
                        .workers = 2,
                        .slots = 16,
                        .noise = 0.02};
    struct run r;
    start(&r, &m, 2);
    int opened = 0;
    double last = -1000, least = 1000;
    for (int i = 0; i < 400; i++) {
        int n = r.n;
        pass(&r, 1, (uint64_t)i);
        r.m.keep_open = false;   /* in vain */
        r.m.sample_other = 0.05; /* and so is every other place of the data */
        if (r.n > n && r.log[n].kind == VX_DECISION_CHANGE && r.log[n].knob == VX_KNOB_KEEP_OPEN) {
            opened++;
            least = fmin(least, r.now - last);
            last = r.now;
        }
    }
    cr_expect_geq(opened, 2);
    cr_expect_leq(opened, 4, "%d tries in 400 s", opened);
    cr_expect_geq(least, 60, "%g s", least);
    cr_expect_eq(count(&r, VX_DECISION_KEPT), 0);
    cr_expect_eq(r.t.setting[VX_KNOB_KEEP_OPEN], 0);
}

Test(tune_tuner, opening_files_is_cured) {
    struct machine m = {.cores = 8,
                        .step = 0.03,
                        .sample_cpu = 0.002,
                        .sample_other = 0.05,
                        .open = 0.045,
                        .batch = 2,
                        .workers = 2,
                        .slots = 16,
                        .noise = 0.05};
    struct run r;
    start(&r, &m, 2);
    pass(&r, 60, 1);
    cr_expect_eq(r.t.setting[VX_KNOB_KEEP_OPEN], 1);
    cr_expect_eq(r.log[0].why, VX_VERDICT_OPEN_BOUND);
    cr_expect_eq(r.log[1].kind, VX_DECISION_KEPT);
}

Test(tune_tuner, limits_are_never_passed_and_followed_at_once) {
    struct machine m = starved(0.0142, 0.06);
    m.sample_cpu = 0.06;
    struct run r;
    start(&r, &m, 4);
    pass(&r, 60, 1);
    cr_expect_eq(r.m.workers, 4);
    struct vx_tuner_limits halved = r.t.limits;
    halved.hi[VX_KNOB_WORKERS] = 2;
    vx_tuner_limit(&r.t, &halved);
    int n = r.n;
    pass(&r, 2, 2);
    cr_expect_eq(r.m.workers, 2);
    cr_expect_eq(r.log[n].kind, VX_DECISION_FORCED);
}

Test(tune_tuner, memory_comes_before_speed) {
    struct machine m = starved(0.0142, 0.06);
    m.sample_cpu = 0.06;
    m.workers = 6;
    struct run r;
    start(&r, &m, 16);
    struct vx_tune_window w;
    struct vx_verdict v[VX_VERDICTS];
    struct vx_decision d;
    machine_window(&r.m, 1, 0, &w);
    w.step.n = 0; /* not a step yet: it does not matter */
    w.host.memory_available = 100 << 20;
    vx_tuner_tick(&r.t, 1, &w, v, vx_tune_judge(&w, v), &d);
    cr_expect_eq(d.kind, VX_DECISION_FORCED);
    cr_expect_eq(d.why, VX_VERDICT_MEMORY_PRESSURE);
    cr_expect_eq(r.t.setting[VX_KNOB_WORKERS], 5);
}

/* A limit that leaves room for four of the ten workers that the device could use. */
Test(tune_tuner, memory_and_speed_do_not_take_turns) {
    struct machine m = starved(0.0142, 0.06);
    m.sample_cpu = 0.06;
    m.workers = 5;
    struct run r;
    start(&r, &m, 16);
    int forced = 0, raised = 0;
    for (int i = 0; i < 600; i++, r.now++) {
        struct vx_tune_window w;
        struct vx_verdict v[VX_VERDICTS];
        struct vx_decision d;
        machine_window(&r.m, 10, 0, &w);
        w.host.memory_available = r.m.workers > 4 ? 100 << 20 : (uint64_t)2 << 30;
        vx_tuner_tick(&r.t, r.now, &w, v, vx_tune_judge(&w, v), &d);
        forced += d.kind == VX_DECISION_FORCED;
        raised += d.kind == VX_DECISION_CHANGE && d.to > d.from;
        r.m.workers = r.t.setting[VX_KNOB_WORKERS];
    }
    cr_expect_geq(forced, 1);
    cr_expect_leq(forced + raised, 4, "%d times fewer, %d times more in ten minutes", forced,
                  raised);
}

Test(tune_tuner, advise_and_off_change_nothing) {
    struct machine m = starved(0.0142, 0.06);
    m.sample_cpu = 0.06;
    struct run r;
    start(&r, &m, 16);
    r.t.mode = VX_TUNE_ADVISE;
    pass(&r, 50, 1);
    cr_expect_eq(r.m.workers, 1);
    cr_expect_eq(r.n, 1);
    cr_expect_eq(r.log[0].kind, VX_DECISION_ADVISE);
    cr_expect_eq(r.log[0].to, 10);
    start(&r, &m, 16);
    r.t.mode = VX_TUNE_OFF;
    pass(&r, 50, 1);
    cr_expect_eq(r.n, 0);
}

Test(tune_tuner, a_hand_on_the_knob_ends_the_trial) {
    struct machine m = starved(0.0142, 0.06);
    m.sample_cpu = 0.06;
    struct run r;
    start(&r, &m, 16);
    while (r.n == 0) {
        pass(&r, 1, 1);
    }
    cr_assert_eq(r.log[0].kind, VX_DECISION_CHANGE);
    vx_tuner_hand(&r.t, VX_KNOB_WORKERS, r.now);
    vx_tuner_stands(&r.t, VX_KNOB_WORKERS, 3, r.now);
    r.m.workers = 3;
    pass(&r, 50, 2);
    cr_expect_eq(r.m.workers, 3); /* whoever turned it meant it */
    cr_expect_eq(count(&r, VX_DECISION_REVERTED), 0);
}

/* Two jobs on one machine, the second half a minute later: both settle. Each sees the other as
 * foreign, and the daemon halves the limits. */
Test(tune_tuner, two_jobs_settle) {
    struct machine m = {.cores = 8,
                        .step = 0.03,
                        .sample_cpu = 0.05,
                        .batch = 2,
                        .workers = 1,
                        .slots = 24,
                        .noise = 0.1};
    struct run a, b;
    start(&a, &m, 8);
    pass(&a, 30, 1);
    struct vx_tuner_limits half = a.t.limits;
    half.hi[VX_KNOB_WORKERS] = 4;
    vx_tuner_limit(&a.t, &half);
    start(&b, &m, 4);
    b.now = 0;
    int changes = a.n;
    for (int i = 0; i < 300; i++) {
        a.m.cores = 8 - fmin(b.m.workers, 4);
        b.m.cores = 8 - fmin(a.m.workers, 4);
        pass(&a, 1, (uint64_t)i);
        pass(&b, 1, (uint64_t)i + 1000);
    }
    cr_expect_eq(a.m.workers, 4, "%u", a.m.workers);
    cr_expect_eq(b.m.workers, 4, "%u", b.m.workers);
    int made = count(&b, VX_DECISION_CHANGE) + count(&b, VX_DECISION_FORCED);
    cr_expect_leq(made, 4, "%d changes of the second job", made);
    cr_expect_leq(a.n - changes, 4 + 4, "%d entries of the first job", a.n - changes);
}
