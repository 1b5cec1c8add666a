/* The pretended device: ends are moments fixed at the start, one run waits behind another, and what
 * it idles is counted. */
#include "daemon/bench/paced.h"

#include "base/clock.h"
#include "base/err.h"
#include "device/device.h"
#include "device/oplist.h"

#include <criterion/criterion.h>
#include <math.h>
#include <sys/resource.h>
#include <time.h>

#define STEP_MS 20.0

static struct vx_device *device;
static struct vx_state *state;
static struct vx_program *program;
static uint64_t runs_seen;
static uint64_t began;

static void on_run(void *ctx, uint64_t runs) {
    *(uint64_t *)ctx = runs;
}

static void setup(double growth) {
    static const struct vx_oplist nothing;
    struct vx_err err = {0};
    struct vx_paced_options o = {.step_ns = (uint64_t)(STEP_MS * 1e6),
                                 .growth = growth,
                                 .on_run = on_run,
                                 .ctx = &runs_seen};
    began = vx_now_ns();
    cr_assert_eq(vx_device_open(VX_PACED_DEVICE, NULL, &device, &err), VX_E_NOT_FOUND,
                 "nobody may train on it");
    cr_assert_eq(vx_paced_register(&o, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_device_open(VX_PACED_DEVICE, NULL, &device, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_state_create(device, &nothing, &state, &err), VX_OK);
    cr_assert_eq(vx_program_compile(state, &nothing, VX_MODE_TRAIN, VX_FP32, &program, &err),
                 VX_OK);
}

static void nap(double ms) {
    struct timespec t = {0, (long)(ms * 1e6)};
    nanosleep(&t, NULL);
}

/* A run, and when it was handed over: between two looks at the clock, however long a busy machine
 * takes from one to the other. All times are milliseconds since the test began. */
struct handed {
    uint64_t ticket;
    double from, to;
};

static double now_ms(void) {
    return (double)(vx_now_ns() - began) * 1e-6;
}

static struct handed run(void) {
    const struct vx_run_input in = {0};
    struct handed h = {.from = now_ms()};
    cr_assert_eq(vx_program_run(program, &in, &h.ticket, NULL), VX_OK);
    h.to = now_ms();
    return h;
}

/* The moment at which it has ended, which nobody is told before. */
static double end_of(const struct handed *h) {
    struct vx_run_result r;
    cr_assert_eq(vx_program_wait(program, h->ticket, &r, NULL), VX_OK);
    double end = (double)(r.ended_ns - began) * 1e-6;
    cr_expect_geq(now_ms(), end);
    return end;
}

/* It took ms from being handed over, or from the end of the run before where that was later. */
static void expect_took(double ms, double before, const struct handed *h, double end) {
    double least = fmax(before, h->from) + ms, most = fmax(before, h->to) + ms;
    cr_expect(end > least - 0.01 && end < most + 0.01, "%.2f, not %.2f to %.2f ms", end, least,
              most);
}

static double idle_ms(void) {
    return (double)vx_paced_idle_ns() * 1e-6;
}

/* How often this thread has gone to sleep. */
static long naps_taken(void) {
    struct rusage u;
    getrusage(RUSAGE_THREAD, &u);
    return u.ru_nvcsw;
}

Test(daemon_paced, runs_queue_and_end_when_they_must) {
    setup(0);
    struct handed one = run(), two = run();
    double first = end_of(&one), second = end_of(&two);
    expect_took(STEP_MS, 0, &one, first);
    expect_took(STEP_MS, first, &two, second);
    double gap = fmax(two.to - first, 0); /* 0, unless something kept us for a whole step */
    cr_expect(idle_ms() <= gap, "%.2f, not at most %.2f ms", idle_ms(), gap);
    cr_expect_eq(runs_seen, 2);
}

Test(daemon_paced, idling_is_counted_and_late_callers_lose_nothing) {
    setup(0);
    struct handed one = run();
    double first = end_of(&one);
    nap(30);
    struct handed three = run();
    double idle = idle_ms();
    cr_expect(idle >= 30 && idle >= three.from - first - 0.01 && idle <= three.to - first + 0.01,
              "%.2f, not %.2f to %.2f ms", idle, three.from - first, three.to - first);
    struct handed four = run();
    while (now_ms() < fmax(three.to + STEP_MS, four.to) + 2 * STEP_MS) {
        nap(STEP_MS); /* both have ended meanwhile */
    }
    long naps = naps_taken();
    vx_program_wait(program, three.ticket, NULL, NULL);
    vx_program_wait(program, four.ticket, NULL, NULL);
    cr_expect_eq(naps_taken(), naps, "what has ended is not waited for");
    double third = end_of(&three), fourth = end_of(&four);
    expect_took(STEP_MS, first, &three, third);
    expect_took(STEP_MS, third, &four, fourth);
    cr_expect_eq(vx_program_wait(program, one.ticket, NULL, NULL), VX_E_STATE, "long forgotten");
}

Test(daemon_paced, a_step_that_grows) {
    setup(3600); /* its own length again in every second since the first run */
    struct handed one = run();
    double first = end_of(&one);
    expect_took(STEP_MS, 0, &one, first);
    nap(500);
    struct handed two = run();
    double end = end_of(&two);
    double least = two.from + STEP_MS * (1 + (two.from - one.to) * 1e-3);
    double most = two.to + STEP_MS * (1 + (two.to - one.from) * 1e-3);
    cr_expect(end > least - 0.01 && end < most + 0.01, "%.2f, not %.2f to %.2f ms", end, least,
              most);
    cr_expect_geq(end - two.from, 1.5 * STEP_MS);
}
