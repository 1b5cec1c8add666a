/* The simulator where the answer can be computed by hand. */
#include "sim/model.h"

#include <criterion/criterion.h>
#include <math.h>

/* Runs some steps, then measures the given number. */
static struct sim_window measure(const struct sim_config *c, uint64_t warm, uint64_t steps) {
    struct sim *s = sim_create(c);
    struct sim_totals before, after;
    struct sim_window w;
    cr_assert(s);
    sim_steps(s, warm);
    sim_totals(s, &before);
    sim_steps(s, steps);
    sim_totals(s, &after);
    cr_assert_eq(after.steps - before.steps, steps);
    sim_window(&before, &after, c->workers, &w);
    sim_free(s);
    return w;
}

static struct sim_config constant(unsigned workers, double sample, unsigned batch, double step) {
    return (struct sim_config){.workers = workers,
                               .slots = 4 * workers + 2 * batch,
                               .batch = batch,
                               .cpu = {.mean = sample},
                               .step = {.mean = step},
                               .seed = 1};
}

static void near(double got, double want, double within) {
    cr_assert(fabs(got - want) <= within, "%.6g is not %.6g within %.2g", got, want, within);
}

Test(sim, constant_costs_wait_for_what_the_workers_lack) {
    /* two workers make a batch of two in 10 ms */
    struct sim_config c = constant(2, 0.010, 2, 0.008);
    struct sim_window w = measure(&c, 50, 1000);
    near(w.seconds_per_step, 0.010, 1e-9);
    near(w.wait_share, 0.2, 1e-9);
    near(w.utilisation, 1, 1e-9);
    near(w.samples_per_second, 200, 1e-6);
    c = constant(2, 0.010, 2, 0.0125);
    w = measure(&c, 50, 1000);
    near(w.seconds_per_step, 0.0125, 1e-9);
    near(w.wait_share, 0, 1e-9);
    near(w.utilisation, 0.8, 1e-3);
    near(w.sample_seconds, 0.010, 1e-9);
}

Test(sim, sleeping_workers_need_no_core) {
    struct sim_config c = constant(4, 0.005, 2, 0.001);
    c.sleep = 0.055;
    c.cores = 1;
    struct sim_window w = measure(&c, 50, 1000);
    /* all four compute together, 20 ms, then all sleep */
    near(w.samples_per_second, 4 / 0.075, 1e-3);
}

/* One worker, one sample a step, exponential on both sides: the samples that are made and not yet
 * done with are a birth and death process on 0 .. S, and the device idles in state 0. */
Test(sim, exponential_costs_are_a_finite_queue) {
    for (int i = 0; i < 3; i++) {
        const double load[] = {0.6, 0.8, 1.0};
        const unsigned slots[] = {3, 4, 9};
        double rho = 1 / load[i]; /* samples made in the time of a step */
        struct sim_config c = constant(1, load[i], 1, 1);
        c.cpu.kind = c.step.kind = SIM_EXPONENTIAL;
        c.slots = slots[i];
        double empty = rho == 1 ? 1.0 / (slots[i] + 1) : (1 - rho) / (1 - pow(rho, slots[i] + 1));
        near(measure(&c, 100, 200000).wait_share, empty, 0.004);
    }
}

Test(sim, cores_are_shared_equally) {
    struct sim_config c = constant(4, 0.010, 2, 0.001);
    c.cores = 2;
    struct sim_window w = measure(&c, 50, 1000);
    near(w.samples_per_second, 200, 1e-3);
    near(w.sample_seconds, 0.020, 1e-6);
    /* a trainer on the CPU takes its share: 2 threads and 2 workers on 2 cores, nothing else to
     * wait for: a step of 10 ms on two threads is 20 ms of cores, a batch 20 ms more */
    c = constant(2, 0.010, 2, 0.010);
    c.cores = 2;
    c.trainer_threads = 2;
    w = measure(&c, 50, 1000);
    near(w.seconds_per_step, 0.020, 1e-4);
}

Test(sim, a_neighbour_takes_cores) {
    struct sim_config c = constant(2, 0.010, 2, 0.001);
    c.cores = 2;
    struct sim *s = sim_create(&c);
    struct sim_totals t[3];
    struct sim_window w;
    sim_advance(s, 1);
    sim_totals(s, &t[0]);
    sim_set_neighbour(s, 2); /* four threads on two cores */
    sim_advance(s, 10);
    sim_totals(s, &t[1]);
    sim_set_neighbour(s, 0);
    sim_advance(s, 10);
    sim_totals(s, &t[2]);
    sim_window(&t[0], &t[1], 2, &w);
    near(w.samples_per_second, 100, 0.5);
    near(t[1].neighbour - t[0].neighbour, 10, 1e-6);
    sim_window(&t[1], &t[2], 2, &w);
    near(w.samples_per_second, 200, 0.5);
    near(t[2].neighbour - t[1].neighbour, 0, 1e-9);
    sim_free(s);
}

Test(sim, a_disk_is_a_bound_until_memory_holds_the_cases) {
    struct sim_config c = constant(3, 0.001, 2, 0.001);
    c.bytes = 1 << 20;
    c.disk_bandwidth = 100 << 20;
    /* all three read together, 30 ms, then each computes */
    near(measure(&c, 50, 2000).samples_per_second, 3 / 0.031, 1e-3);
    c.cache_hits = 0.75;
    near(measure(&c, 500, 40000).samples_per_second, 370, 30); /* at most 400 */
    c = constant(1, 0.001, 2, 0.001);
    c.bytes = 1 << 20;
    c.disk_bandwidth = 1 << 30;
    c.disk_latency = 0.004;
    near(measure(&c, 50, 1000).sample_seconds, 0.001 + 0.004 + 1.0 / 1024, 1e-6);
    c.cold_cases = 100; /* a hundred slow samples, then none */
    near(measure(&c, 1000, 1000).sample_seconds, 0.001, 1e-6);
    struct sim_window cold = measure(&c, 0, 10);
    cr_assert_gt(cold.sample_seconds, 0.005);
}

Test(sim, samples_are_consumed_in_order) {
    /* every fourth sample takes 40 ms, the others nothing: two workers can have two of them in work
     * only where the ring reaches four samples ahead */
    const double list[] = {0.040, 0, 0, 0};
    struct sim_config c = constant(2, 0, 1, 0.001);
    c.cpu = (struct sim_cost){.kind = SIM_LIST, .list = list, .n = 4};
    c.slots = 12;
    near(measure(&c, 40, 4000).samples_per_second, 200, 1);
    c.window = 2;
    near(measure(&c, 40, 4000).samples_per_second, 100, 2.5);
}

Test(sim, workers_come_and_go) {
    struct sim_config c = constant(1, 0.010, 2, 0.001);
    struct sim *s = sim_create(&c);
    struct sim_totals a, b;
    struct sim_window w;
    c.slots = 16;
    sim_free(s);
    s = sim_create(&c);
    for (unsigned n = 1; n <= 5; n += 2) {
        sim_set_workers(s, n);
        sim_advance(s, 1);
        sim_totals(s, &a);
        sim_advance(s, 10);
        sim_totals(s, &b);
        sim_window(&a, &b, n, &w);
        near(w.samples_per_second, 100 * n, 0.5);
    }
    sim_set_workers(s, 1);
    sim_advance(s, 1);
    sim_totals(s, &a);
    sim_advance(s, 10);
    sim_totals(s, &b);
    sim_window(&a, &b, 1, &w);
    near(w.samples_per_second, 100, 0.5);
    cr_assert_eq(b.worker[4].samples, a.worker[4].samples);
    sim_free(s);
}

Test(sim, time_adds_up_and_repeats) {
    struct sim_config c = constant(3, 0.010, 2, 0.006);
    c.cpu = (struct sim_cost){SIM_BIMODAL, 0.010, 0.36, 10, NULL, 0};
    c.cores = 2;
    c.sleep = 0.001;
    c.bytes = 1 << 16;
    c.disk_bandwidth = 50 << 20;
    c.disk_latency = 1e-4;
    c.cache_hits = 0.5;
    struct sim_totals t[2];
    for (int i = 0; i < 2; i++) {
        struct sim *s = sim_create(&c);
        size_t n;
        sim_steps(s, 5000);
        sim_totals(s, &t[i]);
        double waits = 0;
        const double *wait = sim_waits(s, &n);
        for (size_t k = 0; k < n; k++) {
            waits += wait[k];
        }
        cr_assert_eq(n, 5000);
        near(waits, t[i].wait, 1e-9);
        sim_free(s);
    }
    cr_assert_eq(t[0].now, t[1].now);
    cr_assert_eq(t[0].wait, t[1].wait);
    for (int i = 0; i < 3; i++) {
        const struct sim_worker_totals *w = &t[0].worker[i];
        double all = w->read + w->compute + w->sleep + w->slot_wait;
        near(all, t[0].now, 0.2); /* less the sample in work */
        cr_assert_eq(w->samples, t[1].worker[i].samples);
    }
}

Test(sim, what_cannot_run_is_refused) {
    struct sim_config c = constant(1, 0.010, 2, 0.001);
    c.slots = 2;
    cr_assert_null(sim_create(&c));
    c = constant(0, 0.010, 2, 0.001);
    cr_assert_null(sim_create(&c));
    c = constant(1, 0.010, 2, 0.001);
    c.cpu = (struct sim_cost){.kind = SIM_LIST};
    cr_assert_null(sim_create(&c));
}
