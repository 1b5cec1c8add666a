/* Rules of the design, held against the simulator: one sample a slot, how many slots, how many
 * workers. Costs are bimodal as augmentation's are: 36 % of the samples are rotated or scaled. */

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
    sim_steps(s, 40000);
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
