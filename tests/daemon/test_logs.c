/* From step and worker records to windows. */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "daemon/telemetry/poollog.h"
#include "daemon/telemetry/pulse.h"
#include "daemon/telemetry/steplog.h"
#include "daemon/telemetry/trend.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS     1000000ull
#define SECOND 1000000000ull

static struct vx_steplog steps;

/* A step of wait + compute, one after the other from 100 s on. */
static uint64_t add(uint64_t start_ns, uint64_t wait_ms, uint64_t compute_ms) {
    struct vx_step_record r = {.start_ns = start_ns, .depth = 3};
    r.phase_ns[VX_PHASE_WAIT_LOADER] = wait_ms * MS;
    r.phase_ns[VX_PHASE_COMPUTE] = compute_ms * MS;
    vx_steplog_add(&steps, &r);
    return start_ns + (wait_ms + compute_ms) * MS;
}

Test(daemon_steplog, a_window_has_the_steps_that_ended_in_it) {
    uint64_t t = add(100 * SECOND, 0, 5000); /* the first one is slow for reasons of its own */
    uint64_t from = t;
    for (int i = 0; i < 40; i++) {
        t = add(t, i % 2 ? 10 : 0, 90);
    }
    struct vx_tune_steps s;
    vx_steplog_window(&steps, from, t, &s);
    cr_assert_eq(s.n, 40);
    cr_expect_float_eq(s.wall, 40 * 0.095, 1e-9);
    cr_expect_float_eq(s.phase[VX_TUNE_WAIT_LOADER], 0.2, 1e-9);
    cr_expect_float_eq(s.p50, 0.1, 1e-9);
    cr_expect_float_eq(s.p99, 0.1, 1e-9);
    cr_expect_float_eq(s.deviation, 0.005 * 1.0127, 1e-5, "%g", s.deviation); /* sqrt(40 / 39) */
    cr_expect_float_eq(s.compute_best, 0.09, 1e-9);
    cr_expect_eq(s.depth, 3);
    vx_steplog_window(&steps, from, t - 95 * MS, &s);
    cr_expect_eq(s.n, 39);
    vx_steplog_window(&steps, 0, t, &s);
    cr_expect_eq(s.n, 40, "the first step is in no window");
    vx_steplog_window(&steps, t, t + 7 * SECOND, &s);
    cr_expect_eq(s.n, 0);
}

Test(daemon_pulse, the_deadline_of_each_state_is_learnt) {
    struct vx_pulse p = {0};
    uint64_t t = 100 * SECOND;
    cr_expect_eq(vx_pulse_silence(&p, t), 0);
    for (int i = 0; i < 20; i++) {
        vx_pulse_take(&p, VX_STEP_TRAINING, t += 50 * MS);
        vx_pulse_take(&p, VX_STEP_TRAINING, t); /* looked at again: no new beat */
    }
    cr_expect_eq(vx_pulse_deadline(&p), 0);
    vx_pulse_take(&p, VX_STEP_TRAINING, t += 50 * MS);
    cr_expect_eq(vx_pulse_deadline(&p), 30);
    vx_pulse_take(&p, VX_STEP_TRAINING, t += 8 * SECOND); /* slow once, slow again perhaps */
    cr_expect_eq(vx_pulse_deadline(&p), 80);
    cr_expect_eq(vx_pulse_silence(&p, t + 7 * SECOND), 7);
    /* whole cases: another state, with a history of its own */
    vx_pulse_take(&p, VX_STEP_TOTAL, t += 60 * SECOND);
    cr_expect_eq(vx_pulse_deadline(&p), 0);
    for (int i = 0; i < 2; i++) {
        vx_pulse_take(&p, VX_STEP_TOTAL, t += 40 * SECOND);
    }
    cr_expect_eq(vx_pulse_deadline(&p), 400);
    vx_pulse_excuse(&p, 90 * SECOND);
    cr_expect_eq(vx_pulse_silence(&p, t + 100 * SECOND), 10);
    cr_expect_eq(vx_pulse_silence(&p, t + 80 * SECOND), 0);
    vx_pulse_take(&p, VX_STEP_TOTAL, t += 130 * SECOND); /* 40 of its own */
    cr_expect_eq(vx_pulse_deadline(&p), 400);
    cr_expect_eq(vx_pulse_silence(&p, t + 10 * SECOND), 10);
    vx_pulse_take(&p, VX_STEP_DONE, t);
    vx_pulse_take(&p, VX_STEP_DONE, ++t);
    cr_expect_eq(vx_pulse_deadline(&p), 0);
}

Test(daemon_steplog, slow_growth_and_rhythm) {
    uint64_t t = add(100 * SECOND, 0, 1);
    for (int i = 0; i < 4000; i++) { /* 13 minutes; a step grows from 200 to 210 ms */
        t = add(t, i % 50 == 0 ? 1000 : 0, 200 + (uint64_t)(i / 400));
    }
    double hours = (double)(t - 100 * SECOND) * 1e-9 / 3600;
    double slope = vx_steplog_slope(&steps);
    cr_expect_float_eq(slope, 9 / 204.5 / hours, 0.02, "%g for %g", slope, 9 / 204.5 / hours);
    struct vx_tune_period p;
    cr_assert(vx_steplog_period(&steps, &p));
    cr_expect_eq(p.steps, 50);
    cr_expect_eq(p.phase, VX_TUNE_WAIT_LOADER);
    vx_steplog_restarted(&steps);
    cr_expect_eq(vx_steplog_slope(&steps), 0);
}

/* Of steps this short the log itself holds 80 seconds. */
Test(daemon_steplog, slow_growth_of_fast_steps) {
    uint64_t t = add(100 * SECOND, 0, 1), from = t;
    while (t < from + 900 * SECOND) { /* 20 % an hour */
        struct vx_step_record r = {.start_ns = t};
        r.phase_ns[VX_PHASE_COMPUTE] = 20 * MS + (t - from) / 900000; /* to 21 ms */
        vx_steplog_add(&steps, &r);
        t += r.phase_ns[VX_PHASE_COMPUTE];
    }
    double slope = vx_steplog_slope(&steps);
    cr_expect_float_eq(slope, 4 / 20.5, 0.005, "%g", slope);
}

/* --- growth --- */

/* A figure over `minutes`, one value a second, told by f of the time in hours; noise of +-1. */
static double growth_of(double (*f)(double hours), int minutes) {
    struct vx_trend t = {0};
    uint32_t noise = 1;
    for (uint64_t i = 0; i < (uint64_t)minutes * 60; i++) {
        noise = noise * 1664525u + 1013904223u;
        vx_trend_add(&t, (1000 + i) * SECOND,
                     f((double)i / 3600) + (double)(noise >> 16) / 32768 - 1);
    }
    return vx_trend_growth(&t, NULL);
}

static double steady(double hours) {
    return 100 + 0 * hours;
}
static double linear(double hours) {
    return 100 + 40 * hours;
}
static double linear_a_little(double hours) {
    return 100 + 6 * hours;
}
static double step_up(double hours) {
    return hours < 0.15 ? 100 : 130;
}
static double levels_off(double hours) {
    return 130 - 30 / (1 + 60 * hours);
}
static double falls(double hours) {
    return 100 - 40 * hours;
}
static double grows_lately(double hours) {
    return hours < 2 ? 100 : 100 + 50 * (hours - 2);
}

Test(daemon_trend, growth_that_goes_on_and_nothing_else) {
    cr_expect_float_eq(growth_of(linear, 11), 40, 4, "%g", growth_of(linear, 11));
    cr_expect_float_eq(growth_of(linear, 60), 40, 0.5, "%g", growth_of(linear, 60));
    cr_expect_eq(growth_of(linear, 9), 0, "too early");
    cr_expect_eq(growth_of(linear_a_little, 20), 0, "too little so far");
    cr_expect_float_eq(growth_of(linear_a_little, 60), 6, 0.5);
    cr_expect_eq(growth_of(steady, 60), 0);
    cr_expect_eq(growth_of(step_up, 15), 0);
    cr_expect_eq(growth_of(step_up, 20), 0);
    cr_expect_eq(growth_of(step_up, 40), 0);
    cr_expect_eq(growth_of(levels_off, 30), 0);
    cr_expect_eq(growth_of(falls, 60), 0);
    cr_expect_float_eq(growth_of(grows_lately, 180), 50, 1, "an hour ago is forgotten");
}

Test(daemon_trend, bursts_gaps_and_a_clock_that_jumps) {
    struct vx_trend t = {0};
    for (uint64_t i = 0; i < 900;
         i++) { /* a burst in one second of ten, and nothing for a minute */
        double value = 100 + (double)i / 90 + (i % 10 == 3 ? 1e6 : 0);
        if (i < 300 || i >= 360) {
            vx_trend_add(&t, (1000 + i) * SECOND, value);
        }
    }
    double mean, growth = vx_trend_growth(&t, &mean);
    cr_expect_float_eq(growth, 40, 0.5, "%g", growth);
    cr_expect_float_eq(mean, 105, 0.5, "%g", mean);
    uint64_t n = t.n;
    vx_trend_add(&t, 10 * SECOND, 1e9);   /* back */
    vx_trend_add(&t, 5000 * SECOND, 155); /* ahead */
    cr_expect_eq(t.n, n + 1);
    cr_expect_lt(vx_trend_growth(&t, NULL), 60);
}

/* --- the pool --- */

static char root[64];

static void put(const char *path, const char *text) {
    vx_auto_free char *full = vx_strf("%s%s", root, path), *dir = strdup(full);
    *strrchr(dir, '/') = '\0';
    cr_assert_eq(vx_mkdirs(dir, 0755, NULL), VX_OK);
    vx_auto_fclose FILE *f = fopen(full, "we");
    fputs(text, f);
}

static void worker(struct vx_timeline *t, uint32_t w, int pid, uint64_t samples, bool left) {
    struct vx_worker_record r = {.pid = pid,
                                 .samples = samples,
                                 .read_ns = samples * 3 * MS,
                                 .open_ns = samples * MS,
                                 .augment_ns = {samples * 40 * MS, samples * 2 * MS},
                                 .wait_ns = samples * 5 * MS,
                                 .cpu_ns = samples * 20 * MS,
                                 .bytes_read = samples * 1000,
                                 .rss_anon = 1 << 20,
                                 .state = left ? VX_WORKER_LEFT : VX_WORKER_AUGMENTING};
    vx_timeline_set_worker(t, w, &r);
}

Test(daemon_poollog, work_between_two_looks) {
    struct vx_timeline t;
    struct vx_err err = {0};
    struct vx_poollog *log = calloc(1, sizeof *log);
    snprintf(root, sizeof root, "/tmp/voxeld-pool-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
    cr_assert_eq(vx_timeline_create(&t, &err), VX_OK);
    worker(&t, 0, 11, 10, false);
    worker(&t, 1, 12, 20, false);
    put("/proc/11/schedstat", "0 1000000000 0\n");
    put("/proc/12/schedstat", "0 0 0\n");
    put("/proc/11/io", "rchar: 1\nread_bytes: 0\n");
    put("/proc/12/io", "rchar: 1\nread_bytes: 5000\n");
    vx_poollog_look(log, &t, root, 10 * SECOND);
    worker(&t, 0, 11, 30, false);
    worker(&t, 1, 13, 5, false); /* another process in the same place: it began at 0 */
    put("/proc/11/schedstat", "0 1500000000 0\n");
    put("/proc/13/schedstat", "0 250000000 0\n");
    put("/proc/13/io", "rchar: 1\nread_bytes: 700\n");
    vx_poollog_look(log, &t, root, 12 * SECOND);
    struct vx_tune_loader l = {0};
    double seconds;
    uint32_t have;
    cr_assert(vx_poollog_window(log, 10 * SECOND, 13 * SECOND, &l, &seconds, &have));
    cr_expect_eq(seconds, 2);
    cr_expect_eq(l.samples, 25);
    cr_expect_eq(l.workers, 2);
    cr_expect_float_eq(l.open, 0.025, 1e-9);
    cr_expect_float_eq(l.read, 0.05, 1e-9);
    cr_expect_float_eq(l.augment, 25 * 0.042, 1e-9);
    cr_expect_float_eq(l.wait_slot, 0.125, 1e-9);
    cr_expect_float_eq(l.cpu, 0.5, 1e-9);
    cr_expect_float_eq(l.runqueue, 0.75, 1e-9);
    cr_expect_eq(l.bytes_device, 700);
    cr_expect_eq(have, VX_TUNE_HAVE_SCHEDSTAT | VX_TUNE_HAVE_IO);
    cr_expect(vx_poollog_window(log, 5 * SECOND, 13 * SECOND, &l, &seconds, &have));
    cr_expect_eq(seconds, 2, "from the oldest look on");
    cr_expect_not(vx_poollog_window(log, 12 * SECOND, 13 * SECOND, &l, &seconds, &have));
    /* one that left is counted no more, and what the kernel hides is said to be hidden */
    worker(&t, 0, 11, 30, true);
    worker(&t, 1, 14, 1, false);
    vx_poollog_look(log, &t, root, 14 * SECOND);
    cr_assert(vx_poollog_window(log, 12 * SECOND, 14 * SECOND, &l, &seconds, &have));
    cr_expect_eq(l.workers, 1);
    cr_expect_eq(l.samples, 1);
    cr_expect_eq(have, 0);
    vx_timeline_close(&t);
    vx_remove_tree(root, NULL);
    free(log);
}

/* Seconds of one worker whose memory grows by 10 kB in each. */
static void growing_worker(struct vx_poollog *log, struct vx_timeline *t, uint64_t from,
                           uint64_t to) {
    for (uint64_t i = from; i < to; i++) {
        struct vx_worker_record r = {
            .pid = 1, .state = VX_WORKER_WAITING, .rss_anon = (100 << 20) + i * 10000 + i % 7};
        vx_timeline_set_worker(t, 0, &r);
        vx_poollog_look(log, t, root, (i + 1) * SECOND);
    }
}

Test(daemon_poollog, memory_that_grows) {
    struct vx_timeline t;
    struct vx_err err = {0};
    struct vx_poollog *log = calloc(1, sizeof *log);
    snprintf(root, sizeof root, "/tmp/voxeld-pool-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
    cr_assert_eq(vx_timeline_create(&t, &err), VX_OK);
    growing_worker(log, &t, 0, 640);
    cr_expect_float_eq(vx_poollog_slope(log), 3.6e7, 1e5, "%g", vx_poollog_slope(log));
    /* a second worker is no growth: it begins anew */
    struct vx_worker_record second = {.pid = 2, .state = VX_WORKER_WAITING, .rss_anon = 80 << 20};
    vx_timeline_set_worker(&t, 1, &second);
    growing_worker(log, &t, 640, 800);
    cr_expect_eq(vx_poollog_slope(log), 0);
    /* the trainer's memory counts, as far as it is its own: 1 GiB, and 1 MiB more each minute */
    log->trainer = 7;
    for (uint64_t minute = 0; minute < 60; minute++) {
        char text[64];
        snprintf(text, sizeof text, "900000 %llu 1000 1 0 1 0\n",
                 (unsigned long long)(1000 + 262144 + minute * 256));
        put("/proc/7/statm", text);
        growing_worker(log, &t, 800 + minute * 60, 860 + minute * 60);
    }
    cr_expect_eq(log->now.trainer_anon, (262144ull + 59 * 256) * (uint64_t)sysconf(_SC_PAGESIZE));
    double per_hour = 3.6e7 + 60.0 * 256 * (double)sysconf(_SC_PAGESIZE);
    cr_expect_float_eq(vx_poollog_slope(log), per_hour, per_hour / 50, "%g, not %g",
                       vx_poollog_slope(log), per_hour);
    vx_timeline_close(&t);
    vx_remove_tree(root, NULL);
    free(log);
}
