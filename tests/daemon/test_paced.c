/* The pretended device: ends are moments fixed at the start, one run waits behind another, and what
 * it idles is counted. */
#include "daemon/bench/paced.h"

#include "base/clock.h"
#include "base/err.h"
#include "device/device.h"
#include "device/oplist.h"

#include <criterion/criterion.h>
#include <time.h>

#define STEP_MS 20.0

static struct vx_device *device;
static struct vx_state *state;
static struct vx_program *program;
static uint64_t runs_seen;

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

static uint64_t run(void) {
    uint64_t ticket = 0;
    const struct vx_run_input in = {0};
    cr_assert_eq(vx_program_run(program, &in, &ticket, NULL), VX_OK);
    return ticket;
}

/* Milliseconds since start when that run has ended. */
static double end_of(uint64_t ticket, uint64_t start) {
    cr_assert_eq(vx_program_wait(program, ticket, NULL, NULL), VX_OK);
    return (double)(vx_now_ns() - start) * 1e-6;
}

Test(daemon_paced, runs_queue_and_end_when_they_must) {
    setup(0);
    uint64_t start = vx_now_ns();
    uint64_t one = run(), two = run();
    double first = end_of(one, start), second = end_of(two, start);
    cr_assert(first >= STEP_MS && first < 2 * STEP_MS, "%.2f ms", first);
    cr_assert(second >= 2 * STEP_MS && second < 3 * STEP_MS, "%.2f ms", second);
    cr_assert_eq(vx_paced_idle_ns(), 0);
    cr_assert_eq(runs_seen, 2);
}

Test(daemon_paced, idling_is_counted_and_late_callers_lose_nothing) {
    setup(0);
    uint64_t start = vx_now_ns();
    end_of(run(), start);
    nap(30);
    uint64_t three = run(), four = run();
    double idle = (double)vx_paced_idle_ns() * 1e-6;
    cr_assert(idle >= 30 && idle < 60, "%.2f ms", idle);
    nap(3 * STEP_MS); /* both have ended meanwhile */
    uint64_t late = vx_now_ns();
    end_of(three, start);
    cr_assert_lt(end_of(four, late), STEP_MS / 2);
    struct vx_run_result r;
    cr_assert_eq(vx_program_wait(program, 1, &r, NULL), VX_E_STATE, "long forgotten");
}

Test(daemon_paced, a_step_that_grows) {
    setup(3600); /* its own length again in every second */
    uint64_t start = vx_now_ns();
    struct vx_run_result r;
    cr_assert_eq(vx_program_wait(program, run(), &r, NULL), VX_OK);
    cr_assert_float_eq((double)(r.ended_ns - start) * 1e-6, STEP_MS, 5);
    nap(500);
    uint64_t before = vx_now_ns();
    cr_assert_eq(vx_program_wait(program, run(), &r, NULL), VX_OK);
    double ms = (double)(r.ended_ns - before) * 1e-6;
    double told = STEP_MS * (1 + (double)(before - start) * 1e-9);
    cr_assert(ms >= told - 1 && ms < told + 10, "%.2f ms, not %.2f", ms, told);
}
