/* Spikes at a rhythm, and those without one; slopes. */
#include "base/rng.h"
#include "tune/period.h"

#include <criterion/criterion.h>
#include <math.h>

enum { STEPS = 600 };

static struct vx_tune_step steps[STEPS];

/* Steps of 10 ms with a tenth of scatter. */
static void quiet(uint64_t seed) {
    struct vx_rng r = vx_rng_at(seed, 0, 0, 0, 1);
    for (size_t i = 0; i < STEPS; i++) {
        steps[i] = (struct vx_tune_step){{0}};
        steps[i].phase[VX_TUNE_COMPUTE] = 0.01 * (double)vx_rng_uniform(&r, 0.95f, 1.05f);
    }
}

Test(tune_period, every_fiftieth_step) {
    struct vx_tune_period p;
    quiet(1);
    for (size_t i = 17; i < STEPS; i += 50) {
        steps[i].phase[VX_TUNE_CHECKPOINT] = 0.2;
    }
    cr_assert(vx_tune_find_period(steps, STEPS, &p));
    cr_expect_eq(p.steps, 50);
    cr_expect_eq(p.phase, VX_TUNE_CHECKPOINT);
    cr_expect_float_eq(p.share, 12 * 0.2 / (6 + 12 * 0.2), 0.005, "%g", p.share);
    cr_expect_float_eq(p.spike, 0.21, 0.001, "%g", p.spike);
}

Test(tune_period, a_rhythm_that_is_a_step_off_now_and_then) {
    struct vx_tune_period p;
    quiet(2);
    for (size_t i = 0; i < 11; i++) {
        steps[20 + 50 * i + i % 2].phase[VX_TUNE_WAIT_LOADER] = 0.1;
    }
    cr_assert(vx_tune_find_period(steps, STEPS, &p));
    cr_expect_float_eq(p.steps, 50, 1.01, "%g", p.steps);
    cr_expect_eq(p.phase, VX_TUNE_WAIT_LOADER);
}

/* A busy machine makes a step in thirty three times as long; the spikes are far longer. */
Test(tune_period, a_rhythm_among_the_noise_of_a_busy_machine) {
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct vx_tune_period p;
        struct vx_rng r = vx_rng_at(seed, 0, 0, 0, 3);
        quiet(seed);
        for (size_t i = 0; i < STEPS; i++) {
            steps[i].phase[VX_TUNE_OTHER] = vx_rng_unit(&r) < 0.033f ? 0.02 : 0;
        }
        for (size_t i = 17; i < STEPS; i += 50) {
            steps[i].phase[VX_TUNE_CHECKPOINT] = 0.2;
        }
        cr_assert(vx_tune_find_period(steps, STEPS, &p), "seed %d", (int)seed);
        cr_expect_eq(p.steps, 50);
        cr_expect_eq(p.phase, VX_TUNE_CHECKPOINT);
    }
}

/* Three spikes of a quarter of the size come between two of the rhythm, anywhere, and now and then
 * a beat is missing. */
Test(tune_period, a_rhythm_among_large_spikes_without_one) {
    int found = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct vx_tune_period p;
        struct vx_rng r = vx_rng_at(seed, 0, 0, 0, 4);
        quiet(seed);
        for (size_t i = 0; i < STEPS; i++) {
            steps[i].phase[VX_TUNE_OTHER] = vx_rng_unit(&r) < 0.06f ? 0.1 : 0;
        }
        for (size_t i = 17, beat = 0; i < STEPS; i += 50, beat++) {
            steps[i].phase[VX_TUNE_CHECKPOINT] = beat % 6 == 4 ? 0 : 0.6;
        }
        bool one = vx_tune_find_period(steps, STEPS, &p);
        found += one && p.steps == 50 && p.phase == VX_TUNE_CHECKPOINT;
    }
    cr_expect_geq(found, 48, "%d of 50", found);
}

/* Spikes by chance, one step in forty: over many seeds hardly any looks like a rhythm. */
Test(tune_period, chance_has_no_rhythm) {
    int found = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct vx_tune_period p;
        struct vx_rng r = vx_rng_at(seed, 0, 0, 0, 2);
        quiet(seed);
        for (size_t i = 0; i < STEPS; i++) {
            steps[i].phase[VX_TUNE_WAIT_LOADER] = vx_rng_unit(&r) < 0.025f ? 0.1 : 0;
        }
        found += vx_tune_find_period(steps, STEPS, &p);
    }
    cr_expect_leq(found, 1, "%d of 200", found);
}

Test(tune_period, none_where_there_is_nothing) {
    struct vx_tune_period p;
    quiet(3);
    cr_expect_not(vx_tune_find_period(steps, STEPS, &p));
    for (size_t i = 440; i < STEPS; i += 50) {
        steps[i].phase[VX_TUNE_OTHER] = 1; /* four: just enough */
    }
    cr_expect(vx_tune_find_period(steps, STEPS, &p));
    steps[590].phase[VX_TUNE_OTHER] = 0; /* three are not */
    cr_expect_not(vx_tune_find_period(steps, STEPS, &p));
    quiet(3);
    for (size_t i = 10; i < 210; i += 50) {
        steps[i].phase[VX_TUNE_OTHER] = 1; /* long over */
    }
    cr_expect_not(vx_tune_find_period(steps, STEPS, &p));
    cr_expect_not(vx_tune_find_period(steps, 0, &p));
}

Test(tune_period, slope_with_its_error) {
    double x[5] = {0, 1, 2, 3, 4}, y[5] = {1, 3, 5, 7, 9}, slope, error;
    vx_tune_slope(x, y, 5, &slope, &error);
    cr_expect_float_eq(slope, 2, 1e-12);
    cr_expect_float_eq(error, 0, 1e-9);
    double rough[5] = {1, 2, 6, 6, 10}; /* slope 2.2; residuals 0.4, -0.8, 1, -1.2, 0.6 */
    vx_tune_slope(x, rough, 5, &slope, &error);
    cr_expect_float_eq(slope, 2.2, 1e-12);
    cr_expect_float_eq(error, sqrt(3.6 / 3 / 10), 1e-9, "%g", error);
    vx_tune_slope(x, y, 2, &slope, &error);
    cr_expect_eq(slope, 0);
}
