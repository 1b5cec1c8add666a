/* How long a step takes, and how sure that is. */
#include "tune/measure.h"
#include "tune/window.h"

#include <criterion/criterion.h>

static struct vx_tune_window window(double seconds, double step, double deviation) {
    struct vx_tune_window w = {.seconds = seconds};
    w.step.n = (uint32_t)(seconds / step);
    w.step.wall = w.step.n * step;
    w.step.deviation = deviation;
    return w;
}

Test(tune_measure, windows_that_overlap_count_once) {
    struct vx_measure m = {0};
    for (double now = 4; now <= 40; now++) { /* each second the last ten */
        struct vx_tune_window w = window(now < 10 ? now : 10, 0.1, 0);
        vx_measure_take(&m, now, &w);
    }
    cr_expect_eq(m.n, 4); /* up to 4, 14, 24 and 34 s */
    cr_expect_float_eq(m.until, 34, 1e-9);
    cr_expect_eq(m.window[0].n, 40);
    cr_expect_not(vx_measure_full(&m));
}

Test(tune_measure, the_newest_windows_count) {
    struct vx_measure m = {0};
    double error;
    for (int i = 1; i <= 2 * VX_MEASURE_WINDOWS; i++) {
        struct vx_tune_window w = window(10, i <= VX_MEASURE_WINDOWS ? 0.2 : 0.1, 0);
        vx_measure_take(&m, 10.0 * i, &w);
    }
    cr_expect(vx_measure_full(&m));
    cr_expect_float_eq(vx_measure_step(&m, &error), 0.1, 1e-9);
    cr_expect_float_eq(error, 0, 1e-9);
}

Test(tune_measure, few_windows_go_by_their_steps_many_by_their_means) {
    struct vx_measure m = {0};
    double error;
    for (int i = 1; i <= 4; i++) { /* means of 0.1 and 0.125 s in turn */
        struct vx_tune_window w = window(10, i % 2 ? 0.1 : 0.125, 0.05);
        vx_measure_take(&m, 10.0 * i, &w);
        if (i == 1) {
            cr_expect_float_eq(vx_measure_step(&m, &error), 0.1, 1e-9);
            cr_expect_float_eq(error, 2 * 0.05 / 10, 1e-9, "%g", error); /* of 100 steps */
        }
    }
    /* 360 steps of 40 s; between the windows there is more than their steps would make */
    cr_expect_float_eq(vx_measure_step(&m, &error), 40 / 360.0, 1e-9);
    cr_expect_float_eq(error, 1.5 * 0.00717, 2e-4, "%g", error);
}

Test(tune_measure, enough_steps_come_in_time_whatever_they_take) {
    for (double step = 0.001; step < 30; step *= 1.05) {
        double seconds = 14 * step > 10 ? 14 * step : 10;
        struct vx_tune_window w = window(seconds, step, 0);
        cr_expect(vx_measure_enough(&w), "steps of %g s", step);
    }
    struct vx_tune_window w = window(2, 0.01, 0), one = window(30, 29, 0);
    cr_expect_not(vx_measure_enough(&w)); /* many steps of one moment */
    cr_expect_not(vx_measure_enough(&one));
}
