/* From records to verdicts and decisions: one session made up second by second. */
#include "daemon/telemetry/diagnosis.h"

#include "augment/policy.h"
#include "base/err.h"
#include "base/own.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1000000000ull

struct story {
    struct vx_diagnosis d;
    struct vx_timeline timeline;
    uint64_t now_ns, step_end_ns, samples;
    double step, wait; /* seconds of a step, and of its waiting */
    double busy;       /* of the workers' time */
    struct vx_host host;
    uint32_t began, ended;       /* gathered */
    struct vx_decision decision; /* the last that was not nothing */
};

static struct story *open_story(enum vx_tune_mode mode) {
    struct story *s = calloc(1, sizeof *s);
    struct vx_err err = {0};
    cr_assert_eq(vx_timeline_create(&s->timeline, &err), VX_OK);
    const struct vx_session_facts facts = {.batch = 2, .slots = 16, .trainer_cores = 1};
    const struct vx_tuner_limits limits = {{1, 1, 0, 0}, {8, 64, 1, 3}};
    const uint32_t setting[VX_KNOBS] = {1, 16, 0, 0};
    s->now_ns = s->step_end_ns = 1000 * SECOND;
    vx_diagnosis_init(&s->d, &facts, &limits, setting, mode, s->now_ns);
    s->host = (struct vx_host){.has = VX_HOST_CPU | VX_HOST_PSI | VX_HOST_MEMORY,
                               .seconds = 1,
                               .cores = 8,
                               .own_cores = 2,
                               .memory_total = 32ull << 30,
                               .memory_available = 20ull << 30};
    return s;
}

static void close_story(struct story *s) {
    vx_timeline_close(&s->timeline);
    free(s);
}

/* One second: the steps that end in it, the workers' counters, a look. */
static void second(struct story *s) {
    s->now_ns += SECOND;
    while (s->step_end_ns + (uint64_t)(s->step * 1e9) <= s->now_ns) {
        struct vx_step_record r = {.start_ns = s->step_end_ns};
        r.phase_ns[VX_PHASE_WAIT_LOADER] = (uint64_t)(s->wait * 1e9);
        r.phase_ns[VX_PHASE_COMPUTE] = (uint64_t)((s->step - s->wait) * 1e9);
        vx_steplog_add(&s->d.steps, &r);
        s->step_end_ns += (uint64_t)(s->step * 1e9);
        vx_pulse_take(&s->d.pulse, VX_STEP_TRAINING, s->step_end_ns);
        s->samples += 2;
    }
    uint64_t working = (uint64_t)((double)(s->now_ns - 1000 * SECOND) * s->busy);
    struct vx_worker_record r = {.pid = 4000000,
                                 .state = VX_WORKER_AUGMENTING,
                                 .samples = s->samples,
                                 .augment_ns = {working},
                                 .cpu_ns = working,
                                 .wait_ns = s->now_ns - 1000 * SECOND - working};
    vx_timeline_set_worker(&s->timeline, 0, &r);
    vx_poollog_look(&s->d.pool, &s->timeline, "/nowhere", s->now_ns);
    struct vx_diagnosis_news news;
    vx_diagnosis_look(&s->d, &s->host, s->now_ns, &news);
    s->began |= news.began;
    s->ended |= news.ended;
    if (news.decision.kind != VX_DECISION_NONE) {
        s->decision = news.decision;
    }
}

static void seconds(struct story *s, int n) {
    for (int i = 0; i < n; i++) {
        second(s);
    }
}

Test(daemon_diagnosis, a_starved_device) {
    struct story *s = open_story(VX_TUNE_AUTO);
    s->step = 0.1;
    s->wait = 0.06;
    s->busy = 1;
    seconds(s, 4);
    cr_expect_eq(s->began, 1u << VX_VERDICT_AUGMENT_BOUND);
    cr_expect_eq(s->decision.kind, VX_DECISION_CHANGE);
    cr_expect_eq(s->decision.to, 3); /* 2 x 50 ms / (0.85 x 40 ms) */
    cr_expect_eq(s->d.verdict[0].severity, VX_SEVERITY_SEVERE);
    cr_expect_float_eq(s->d.window.step.wall / s->d.window.step.n, 0.1, 1e-6);
    /* the change helps: steps without a wait */
    s->step = 0.041;
    s->wait = 0.001;
    s->busy = 0.8;
    seconds(s, 8);
    cr_expect_eq(s->decision.kind, VX_DECISION_KEPT);
    cr_expect_float_eq(s->decision.measured, -0.59, 0.01, "%g", s->decision.measured);
    seconds(s, 10);
    cr_expect_eq(s->ended, 1u << VX_VERDICT_AUGMENT_BOUND);
    cr_expect(s->began & 1u << VX_VERDICT_GPU_BOUND);
    close_story(s);
}

Test(daemon_diagnosis, one_bad_second_is_no_verdict) {
    struct story *s = open_story(VX_TUNE_OFF);
    s->step = 0.05;
    s->busy = 0.5;
    seconds(s, 20);
    cr_expect_eq(s->began, 1u << VX_VERDICT_GPU_BOUND);
    s->step = 0.1;
    s->wait = 0.05;
    seconds(s, 1); /* a twentieth of the window: 5 % and more for a look or two */
    s->step = 0.05;
    s->wait = 0;
    seconds(s, 15);
    cr_expect_eq(s->ended, 0);
    close_story(s);
}

Test(daemon_diagnosis, lost_workers_are_said_at_once_and_forgotten_after_a_minute) {
    struct story *s = open_story(VX_TUNE_AUTO);
    s->step = 0.05;
    s->busy = 0.5;
    seconds(s, 10);
    vx_diagnosis_lost(&s->d, "oom_kill", "case_007", s->now_ns);
    seconds(s, 1);
    cr_expect(s->began & 1u << VX_VERDICT_WORKER_LOST);
    vx_auto_json json_t *json = vx_diagnosis_json(&s->d, VX_ENGLISH);
    const json_t *first = json_array_get(json_object_get(json, "verdicts"), 0);
    cr_expect_str_eq(json_string_value(json_object_get(first, "code")), "worker_lost");
    cr_expect_not_null(strstr(json_string_value(json_object_get(first, "text")), "case_007"));
    cr_expect_not_null(strstr(json_string_value(json_object_get(first, "text")), "oom_kill"));
    seconds(s, 75);
    cr_expect(s->ended & 1u << VX_VERDICT_WORKER_LOST);
    close_story(s);
}

Test(daemon_diagnosis, a_hang) {
    struct story *s = open_story(VX_TUNE_AUTO);
    s->step = 0.05;
    s->busy = 0.5;
    seconds(s, 10);
    s->step = 1e6;
    seconds(s, 29);
    cr_expect_not(s->began & 1u << VX_VERDICT_HANG);
    seconds(s, 3);
    cr_expect(s->began & 1u << VX_VERDICT_HANG);
    close_story(s);
}

/* A laptop that slept, a machine that was moved to another host: the clock goes on by an hour. */
Test(daemon_diagnosis, a_clock_that_jumps_ahead_is_no_hang) {
    struct story *s = open_story(VX_TUNE_OFF);
    s->step = 0.05;
    s->busy = 0.5;
    seconds(s, 20);
    s->now_ns += 3600 * SECOND;
    s->step_end_ns += 3600 * SECOND; /* the step in work takes an hour, by the clock */
    double longest = (double)s->d.pulse.seen[VX_STEP_TRAINING].longest_ns;
    uint64_t last = s->d.pulse.last_ns;
    struct vx_diagnosis_news news;
    vx_diagnosis_look(&s->d, &s->host, s->now_ns, &news);
    cr_expect_eq(news.began, 0, "%x", news.began);
    cr_expect_float_eq(s->d.window.step.since_last, 0, 1.1, "%g", s->d.window.step.since_last);
    seconds(s, 20);
    cr_expect_gt(s->d.pulse.last_ns, last);
    cr_expect_eq(s->began & 1u << VX_VERDICT_HANG, 0);
    cr_expect_float_eq((double)s->d.pulse.seen[VX_STEP_TRAINING].longest_ns, longest, 1e9,
                       "the hour is not learnt");
    cr_expect_eq(s->d.window.step.deadline, 30);
    s->step = 1e6; /* and a real one is still found */
    seconds(s, 33);
    cr_expect(s->began & 1u << VX_VERDICT_HANG);
    close_story(s);
}

Test(daemon_diagnosis, a_clock_that_jumps_back_changes_nothing) {
    struct story *s = open_story(VX_TUNE_OFF);
    s->step = 0.05;
    s->busy = 0.5;
    seconds(s, 20);
    struct vx_diagnosis_news news;
    vx_diagnosis_look(&s->d, &s->host, s->now_ns - 500 * SECOND, &news);
    cr_expect_eq(news.began | news.ended, 0);
    cr_expect_eq(news.decision.kind, VX_DECISION_NONE);
    seconds(s, 20);
    cr_expect_eq(s->began, 1u << VX_VERDICT_GPU_BOUND);
    cr_expect_eq(s->ended, 0);
    cr_expect_float_eq(s->d.window.step.wall / s->d.window.step.n, 0.05, 1e-6);
    close_story(s);
}

/* No PSI, no control group: what can be said of memory is, what is lacking is named, and no figure
 * stands for what nobody measured. */
Test(daemon_diagnosis, memory_is_short_on_an_old_kernel) {
    struct story *s = open_story(VX_TUNE_OFF);
    s->step = 0.1;
    s->busy = 0.5;
    s->host.has = VX_HOST_CPU | VX_HOST_MEMORY;
    s->host.memory_available = 1ull << 30;
    seconds(s, 5);
    vx_auto_json json_t *json = vx_diagnosis_json(&s->d, VX_ENGLISH);
    const json_t *v = json_array_get(json_object_get(json, "verdicts"), 0);
    cr_expect_str_eq(json_string_value(json_object_get(v, "code")), "memory_pressure");
    const json_t *evidence = json_object_get(v, "evidence");
    cr_expect_eq(json_number_value(json_object_get(evidence, "memory_available")), 1ull << 30);
    cr_expect_null(json_object_get(evidence, "psi_memory_ratio"));
    cr_expect_null(json_object_get(evidence, "worker_bytes"));
    const json_t *lacking = json_object_get(v, "lacking");
    cr_expect_eq(json_array_size(lacking), 2);
    cr_expect_str_eq(json_string_value(json_array_get(lacking, 0)), "psi");
    cr_expect_str_eq(json_string_value(json_array_get(lacking, 1)), "cgroup");
    close_story(s);
}

Test(daemon_diagnosis, slow_steps_get_a_longer_window) {
    struct story *s = open_story(VX_TUNE_OFF);
    s->step = 2;
    s->wait = 1;
    s->busy = 1;
    seconds(s, 60);
    cr_expect_geq(s->d.window.step.n, 13, "%u", s->d.window.step.n);
    cr_expect_eq(s->d.verdict[0].code, VX_VERDICT_AUGMENT_BOUND);
    close_story(s);
}

Test(daemon_diagnosis, what_the_host_does_not_say_is_not_there) {
    struct story *s = open_story(VX_TUNE_OFF);
    s->step = 0.1;
    s->wait = 0.05;
    s->busy = 1;
    s->host.has = 0;
    seconds(s, 5);
    cr_expect_eq(s->d.window.have, 0);
    vx_auto_json json_t *json = vx_diagnosis_json(&s->d, VX_ENGLISH);
    cr_expect_eq(json_array_size(json_object_get(json, "evidence")), 0);
    const json_t *window = json_object_get(json, "window");
    cr_expect_null(json_object_get(window, "psi_cpu"));
    cr_expect_null(json_object_get(window, "runqueue_ratio"));
    const json_t *first = json_array_get(json_object_get(json, "verdicts"), 0);
    cr_expect_eq(json_array_size(json_object_get(first, "lacking")), 1); /* schedstat */
    close_story(s);
}

/* A store of 1000 MB of which 800 are cold, read at 50 MB a look. */
static uint64_t cold_after_ten_looks(uint64_t stays) {
    static struct vx_diagnosis d;
    memset(&d, 0, sizeof d);
    d.facts.store_bytes = 1000000000;
    uint64_t cold = 800000000;
    for (int i = 0; i < 10; i++) {
        vx_diagnosis_cold(&d, cold);
        d.pool.now.bytes_device += 50000000;
        cold -= stays;
    }
    return d.store_cold_bytes;
}

Test(daemon_diagnosis, what_is_read_must_stay_to_count_as_cold) {
    cr_expect_eq(cold_after_ten_looks(50000000), 350000000);
    cr_expect_eq(cold_after_ten_looks(20000000), 620000000); /* other files are read too */
    cr_expect_eq(cold_after_ten_looks(0), 0);                /* no memory left to keep it in */
    cr_expect_eq(cold_after_ten_looks(5000000), 0);
}

Test(daemon_diagnosis, a_worker_needs_what_workers_take) {
    struct story *s = open_story(VX_TUNE_OFF);
    s->step = 0.05;
    seconds(s, 12);
    s->d.pool.now.workers = 3;
    s->d.pool.now.rss_anon = 600 << 20;
    struct vx_tune_window w;
    cr_assert(vx_diagnosis_window(&s->d, s->now_ns - 5 * SECOND, s->now_ns, &w));
    cr_expect_eq(w.host.worker_bytes, 200u << 20);
    s->d.pool.now.workers = 0;
    cr_assert(vx_diagnosis_window(&s->d, s->now_ns - 5 * SECOND, s->now_ns, &w));
    cr_expect_eq(w.host.worker_bytes, 0);
    close_story(s);
}

/* Steps of 100 ms that compute 90 of them, on a GPU that is looked at every second. */
static struct story *on_a_gpu(struct vx_device_look *look) {
    struct story *s = open_story(VX_TUNE_OFF);
    s->step = 0.1;
    s->wait = 0.01;
    s->d.facts.sample_bytes = 2e9;
    *look = (struct vx_device_look){.have = VX_TUNE_HAVE_GPU | VX_TUNE_HAVE_GPM,
                                    .device = {.memory_free = 30000000000},
                                    .active = 0.9,
                                    .own_bytes = 6000000000};
    return s;
}

static void gpu_seconds(struct story *s, const struct vx_device_look *look, int n) {
    for (int i = 0; i < n; i++) {
        vx_diagnosis_device(&s->d, look);
        second(s);
    }
}

Test(daemon_diagnosis, the_batch_that_fits_the_memory_left) {
    struct vx_device_look look;
    struct story *s = on_a_gpu(&look);
    const struct vx_tune_device *d = &s->d.window.device;
    gpu_seconds(s, &look, 12);
    cr_expect_eq(d->largest_batch, 2 + 9); /* 27 GB of 3 GB each */
    cr_expect_float_eq(d->largest_batch_step, 0.09 * 11 / 2, 1e-6, "%g", d->largest_batch_step);
    look.own_bytes = 1000000000; /* the trainer has only begun: the plan knows better */
    gpu_seconds(s, &look, 1);
    cr_expect_eq(d->largest_batch, 2 + 13);
    look.own_bytes = 0; /* the pids of another container */
    gpu_seconds(s, &look, 1);
    cr_expect_eq(d->largest_batch, 2 + 13);
    s->d.facts.sample_bytes = 0; /* nor a plan: nothing is made up */
    gpu_seconds(s, &look, 1);
    cr_expect_eq(d->largest_batch, 0);
    s->d.facts.sample_bytes = 2e9;
    look.device.memory_free = 2000000000; /* none fits */
    gpu_seconds(s, &look, 1);
    cr_expect_eq(d->largest_batch, 0);
    cr_expect_eq(d->largest_batch_step, 0);
    look.device.memory_free = 30000000000;
    look.have = VX_TUNE_HAVE_GPM; /* the chip does not say */
    gpu_seconds(s, &look, 1);
    cr_expect_eq(d->largest_batch, 0);
    close_story(s);
}

Test(daemon_diagnosis, a_chip_that_stands_still_in_computing_time) {
    struct vx_device_look look;
    struct story *s = on_a_gpu(&look);
    gpu_seconds(s, &look, 12);
    cr_expect_float_eq(s->d.window.device.launch_gap, 0, 0.02, "%g", s->d.window.device.launch_gap);
    look.active = 0.54; /* of 0.9 */
    gpu_seconds(s, &look, 60);
    double gap = s->d.window.device.launch_gap;
    cr_expect_float_eq(gap, 0.4, 0.02, "%g", gap);
    cr_expect(s->began & 1u << VX_VERDICT_LAUNCH_BOUND);
    look.have = VX_TUNE_HAVE_GPU; /* chips before Hopper do not say */
    gpu_seconds(s, &look, 12);
    cr_expect_eq(s->d.window.device.launch_gap, 0);
    cr_expect(s->ended & 1u << VX_VERDICT_LAUNCH_BOUND);
    look.have |= VX_TUNE_HAVE_GPM;
    gpu_seconds(s, &look, 9); /* not enough looks yet */
    cr_expect_eq(s->d.window.device.launch_gap, 0);
    close_story(s);
}

Test(daemon_diagnosis, limits_that_there_are) {
    struct story *s = open_story(VX_TUNE_OFF);
    s->step = 0.1;
    s->busy = 0.5;
    seconds(s, 3);
    vx_auto_json json_t *json = vx_diagnosis_json(&s->d, VX_ENGLISH);
    const json_t *limits = json_object_get(json, "limits");
    cr_expect_eq(json_object_size(limits), 2);
    cr_expect_eq(json_number_value(json_object_get(limits, "cores")), 8);
    cr_expect_eq(json_integer_value(json_object_get(limits, "memory_bytes")), 32ll << 30);
    s->d.facts.read_limit = 6291456;
    s->d.facts.storage = VX_TUNE_NETWORK;
    s->d.facts.storage_known = true;
    vx_auto_json json_t *more = vx_diagnosis_json(&s->d, VX_ENGLISH);
    limits = json_object_get(more, "limits");
    cr_expect_eq(json_integer_value(json_object_get(limits, "store_read_bytes_per_second")),
                 6291456);
    cr_expect_str_eq(json_string_value(json_object_get(limits, "store_storage")), "network");
    close_story(s);
}

Test(daemon_diagnosis, each_transform) {
    struct story *s = open_story(VX_TUNE_OFF);
    s->step = 0.1;
    s->busy = 0.5;
    seconds(s, 12);
    vx_auto_json json_t *json = vx_diagnosis_json(&s->d, VX_ENGLISH);
    const json_t *transforms = json_object_get(json, "transforms");
    cr_expect_eq(json_object_size(transforms), VX_T_COUNT);
    /* half of a worker's time for 20 samples a second, all of it in the first transform */
    double each = json_number_value(json_object_get(transforms, vx_transform_name(0)));
    cr_expect_float_eq(each, 0.025, 1e-6, "%g", each);
    cr_expect_eq(json_number_value(json_object_get(transforms, vx_transform_name(1))), 0);
    close_story(s);
}
