/* Two looks at a timeline, and what lies between them as figures. */
#include "augment/policy.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/own.h"
#include "daemon/bench/figures.h"
#include "session/timeline.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

static struct vx_timeline timeline;

static double figure(const json_t *json, const char *object, const char *key) {
    const json_t *o = object ? json_object_get(json, object) : json;
    cr_assert(json_is_number(json_object_get(o, key)), "no %s", key);
    return json_number_value(json_object_get(o, key));
}

static void worker(uint32_t w, int32_t pid, uint64_t samples, uint64_t wait_ms) {
    struct vx_worker_record r = {.pid = pid,
                                 .samples = samples,
                                 .state = VX_WORKER_AUGMENTING,
                                 .read_ns = samples * 3000000,
                                 .open_ns = samples * 1000000,
                                 .decompress_ns = samples * 500000,
                                 .wait_ns = wait_ms * 1000000,
                                 .cpu_ns = samples * 6000000,
                                 .bytes_read = samples * 4096,
                                 .opens = samples};
    r.augment_ns[VX_T_GAMMA] = samples * 2000000;
    vx_timeline_set_worker(&timeline, w, &r);
}

static void steps(int n, uint64_t wait_ms, uint64_t compute_ms) {
    struct vx_progress p = {0};
    vx_timeline_progress(&timeline, &p);
    for (int i = 0; i < n; i++) {
        struct vx_step_record r = {.depth = 3};
        r.phase_ns[VX_PHASE_WAIT_LOADER] = wait_ms * 1000000;
        r.phase_ns[VX_PHASE_COMPUTE] = compute_ms * 1000000;
        vx_timeline_add_step(&timeline, &r);
        p.phase_ns[VX_PHASE_WAIT_LOADER] += wait_ms * 1000000;
        p.phase_ns[VX_PHASE_COMPUTE] += compute_ms * 1000000;
        p.steps[0]++;
    }
    vx_timeline_set_progress(&timeline, &p);
}

Test(daemon_figures, a_stretch_is_the_difference_of_two_looks) {
    static struct vx_bench_mark before, after;
    struct vx_bench_steps s = {0};
    struct vx_err err = {0};
    cr_assert_eq(vx_timeline_create(&timeline, &err), VX_OK);
    worker(0, 100, 50, 1000);
    worker(1, 101, 70, 2000);
    steps(30, 500, 500); /* before: counts for nothing */
    vx_bench_steps_begin(&s, &timeline);
    vx_bench_mark(&timeline, 7000000, 2, &before);
    steps(60, 10, 30);
    vx_bench_steps_collect(&s, &timeline);
    steps(40, 35, 30);
    vx_bench_steps_collect(&s, &timeline);
    worker(0, 100, 150, 1500);
    worker(1, 999, 20, 100); /* another process in the same place */
    vx_bench_mark(&timeline, 1007000000, 2, &after);
    after.now_ns = before.now_ns + 5000000000u;
    vx_auto_json json_t *json = vx_bench_figures(&before, &after, &s, 2);
    cr_assert(json);
    cr_expect_eq(s.n, 100);
    cr_expect_float_eq(figure(json, NULL, "steps"), 100, 1e-9);
    cr_expect_float_eq(figure(json, "step_ms", "mean"), (60 * 40 + 40 * 65) / 100.0, 1e-9);
    cr_expect_float_eq(figure(json, "wait_ms", "p50"), 10, 1e-9);
    cr_expect_float_eq(figure(json, "wait_ms", "p95"), 35, 1e-9);
    cr_expect_float_eq(figure(json, NULL, "wait_share"), 2000.0 / 5000, 1e-9);
    cr_expect_float_eq(figure(json, NULL, "accelerator_utilisation"), 0.6, 1e-9);
    cr_expect_float_eq(figure(json, NULL, "device_idle_share"), 0.2, 1e-9);
    cr_expect_float_eq(figure(json, NULL, "samples_per_second"), 40, 1e-9);
    cr_expect_float_eq(figure(json, NULL, "depth"), 3, 1e-9);
    /* 100 samples of worker 0 and the 20 of the newcomer; only worker 0 was there all along */
    cr_expect_float_eq(figure(json, "sample_ms", "open"), 1, 1e-9);
    cr_expect_float_eq(figure(json, "sample_ms", "read"), 2, 1e-9);
    cr_expect_float_eq(figure(json, "sample_ms", "augment"), 2, 1e-9);
    cr_expect_float_eq(figure(json, "sample_ms", "cpu"), 6, 1e-9);
    cr_expect_float_eq(figure(json, "sample_ms", "busy"), 45, 1e-9); /* (5 - 0.5) s / 100 */
    cr_expect_float_eq(figure(json, "transform_ms", "gamma"), 2, 1e-9);
    cr_expect_float_eq(figure(json, NULL, "bytes_per_sample"), 4096, 1e-9);
    cr_expect_eq(json_array_size(json_object_get(json, "workers")), 1);
    vx_bench_steps_release(&s);
    vx_timeline_close(&timeline);
}

Test(daemon_figures, nothing_measured_is_no_figure) {
    static struct vx_bench_mark before, after;
    struct vx_bench_steps s = {0};
    cr_assert_eq(vx_timeline_create(&timeline, NULL), VX_OK);
    vx_bench_mark(&timeline, 0, 1, &before);
    vx_bench_mark(&timeline, 0, 1, &after);
    cr_expect_null(vx_bench_figures(&before, &after, &s, 2));
    vx_timeline_close(&timeline);
}

/* A wait under way belongs to the time before the look. */
Test(daemon_figures, a_wait_under_way_counts) {
    static struct vx_bench_mark mark;
    struct vx_worker_record r = {.pid = 1, .state = VX_WORKER_WAITING};
    struct timespec nap = {0, 30000000};
    cr_assert_eq(vx_timeline_create(&timeline, NULL), VX_OK);
    vx_timeline_set_worker(&timeline, 0, &r);
    nanosleep(&nap, NULL);
    vx_bench_mark(&timeline, 0, 1, &mark);
    cr_expect_geq(mark.worker[0].wait_ns, 30000000);
    vx_timeline_close(&timeline);
}

/* The first look at a worker's record finds nothing; it is there a moment later. */
static void *late(void *arg) {
    (void)arg;
    struct timespec nap = {0, 3000000};
    nanosleep(&nap, NULL);
    worker(0, 100, 50, 0);
    return NULL;
}

Test(daemon_figures, a_record_being_written_is_waited_for) {
    static struct vx_bench_mark mark;
    pthread_t thread;
    cr_assert_eq(vx_timeline_create(&timeline, NULL), VX_OK);
    cr_assert_eq(pthread_create(&thread, NULL, late, NULL), 0);
    vx_bench_mark(&timeline, 0, 1, &mark);
    pthread_join(thread, NULL);
    cr_expect_eq(mark.worker[0].samples, 50);
    vx_timeline_close(&timeline);
}
