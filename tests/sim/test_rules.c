/* Rules of the design, held against the simulator: one sample a slot, how many slots, how many
 * workers. Costs are bimodal as augmentation's are: 36 % of the samples are rotated or scaled. */

#include "session/ring.h"
#include "sim/model.h"

#include <criterion/criterion.h>
#include <math.h>

static struct sim_config training(unsigned workers, unsigned batch, unsigned slots, double ratio,
                                  double load) {
    struct sim_config c = {.workers = workers,
                           .slots = slots,
                           .batch = batch,
                           .cpu = {SIM_BIMODAL, 0.1, 0.36, ratio, NULL, 0},
                           .seed = 5};
    c.step.mean = batch * c.cpu.mean / workers / load;
    return c;
}

static double wait_percent(const struct sim_config *c) {
    struct sim *s = sim_create(c);
    struct sim_totals before, after;
    struct sim_window w;
    cr_assert(s);
    sim_steps(s, 200);
    sim_totals(s, &before);
    sim_steps(s, 12000);
    sim_totals(s, &after);
    sim_window(&before, &after, c->workers, &w);
    sim_free(s);
    return 100 * w.wait_share;
}

/* design.md 3.4: load 0.7, 6 workers, memory for 8 batches: 8.6 % against 0.02 %. */
Test(sim_rules, a_sample_is_the_better_unit) {
    struct sim_config batches = training(6, 2, 8, 12, 0.7), samples = training(6, 2, 16, 12, 0.7);
    batches.batch_is_unit = true;
    batches.copies = samples.copies = true;
    double by_batch = wait_percent(&batches), by_sample = wait_percent(&samples);
    cr_assert(fabs(by_batch - 8.6) < 0.5, "%.2f %%", by_batch);
    cr_assert(by_sample < 0.02, "%.3f %%", by_sample);
    /* and with the engine's trainer, which holds the batch that runs and the one that waits */
    batches.copies = samples.copies = false;
    by_batch = wait_percent(&batches);
    by_sample = wait_percent(&samples);
    cr_assert(by_batch > 12 && by_sample < 0.2, "%.2f %% %.3f %%", by_batch, by_sample);
}

/* Ours: a rotated or scaled sample costs about four plain ones. */
#define OWN_RATIO  4
#define PEER_RATIO 18 /* batchgeneratorsv2's, at 128^3 */

/* The ring's plan keeps the wait below 1 % at the load that the tuner aims at, whatever the batch
 * and the number of workers. What design.md 3.4 asks for at least, 2 * workers + batch, does not:
 * the trainer holds two batches. */
Test(sim_rules, the_planned_slots_keep_the_device_busy) {
    static const unsigned batches[] = {1, 2, 4, 9}, pools[] = {1, 2, 3, 6, 12};
    for (size_t b = 0; b < 4; b++) {
        for (size_t w = 0; w < 5; w++) {
            unsigned slots = vx_ring_plan(1 << 20, pools[w], batches[b], 0);
            struct sim_config c = training(pools[w], batches[b], slots, OWN_RATIO, 0.85);
            cr_expect_leq(wait_percent(&c), 1, "batch %u, %u workers", batches[b], pools[w]);
        }
    }
    struct sim_config least = training(2, 9, 2 * 2 + 9, OWN_RATIO, 0.85);
    cr_expect_geq(wait_percent(&least), 30);
    least = training(12, 2, 2 * 12 + 2, PEER_RATIO, 0.85);
    cr_expect_geq(wait_percent(&least), 5);
    least.slots = vx_ring_plan(1 << 20, 12, 2, 0);
    cr_expect_leq(wait_percent(&least), 0.1);
}

/* design.md 3.7: N = ceil(batch * sample / (0.85 * step)). With N workers the device waits less
 * than 1 %; with one fewer it waits what the rule expects: a queue's part where the load stays
 * below 1, the missing part of the batch where it does not. */
Test(sim_rules, workers_wanted_are_enough_and_needed) {
    static const double offered[] = {0.6, 1.5, 2.4, 3.3, 5.0, 9.3}; /* batch * sample / step */
    for (size_t i = 0; i < sizeof offered / sizeof offered[0]; i++) {
        double step = 2 * 0.1 / offered[i];
        unsigned n = sim_workers_wanted(2, 0.1, step);
        cr_expect_eq(n, (unsigned)ceil(offered[i] / 0.85));
        struct sim_config c = training(n, 2, vx_ring_plan(1 << 20, n, 2, 0), OWN_RATIO, 1);
        c.step.mean = step;
        cr_expect_leq(wait_percent(&c), 1, "%.1f: %u workers", offered[i], n);
        if (n > 1) {
            double load = offered[i] / (n - 1);
            c.workers = n - 1;
            c.slots = vx_ring_plan(1 << 20, n - 1, 2, 0);
            double wait = wait_percent(&c), missing = load > 1 ? 100 * (1 - 1 / load) : 0;
            cr_expect_geq(wait, missing - 0.5, "%.1f: %u workers", offered[i], n - 1);
            cr_expect_leq(wait, missing + 7, "%.1f: %u workers", offered[i], n - 1);
        }
    }
}

/* At a load of 1 a queue still waits, with the planned slots at most 3 points longer than with a
 * ring without end. */
Test(sim_rules, a_full_load_leaves_some_waiting) {
    static const unsigned batches[] = {1, 2, 9}, pools[] = {2, 3, 6};
    for (size_t b = 0; b < 3; b++) {
        for (size_t w = 0; w < 3; w++) {
            unsigned slots = vx_ring_plan(1 << 20, pools[w], batches[b], 0);
            struct sim_config c = training(pools[w], batches[b], slots, OWN_RATIO, 1);
            double wait = wait_percent(&c);
            c.slots = 50000;
            double optimum = wait_percent(&c);
            cr_expect_leq(wait, optimum + 3, "batch %u, %u workers: %.2f, %.2f %%", batches[b],
                          pools[w], wait, optimum);
            cr_expect_geq(wait, optimum - 0.01);
        }
    }
}
