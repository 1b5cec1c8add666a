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
