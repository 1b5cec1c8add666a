/* Each verdict from a window that has its cause and nothing else, and from windows in which
 * evidence is missing. */

#include "machine.h"
#include "tune/verdict.h"

#include <criterion/criterion.h>
#include <string.h>

/* 8 cores, a 100 ms step, 50 ms a sample, batch 2: two workers would do. */
static struct machine healthy(void) {
    return (struct machine){.cores = 8,
                            .step = 0.1,
                            .sample_cpu = 0.05,
                            .sample_other = 0.002,
                            .batch = 2,
                            .workers = 2,
                            .slots = 12};
}

static struct vx_verdict first(const struct vx_tune_window *w) {
    struct vx_verdict v[VX_VERDICTS];
    int n = vx_tune_judge(w, v);
    cr_assert_gt(n, 0);
    return v[0];
}

static struct vx_verdict judge_machine(const struct machine *m) {
    struct vx_tune_window w;
    machine_window(m, 10, 0, &w);
    return first(&w);
}

static double figure(const struct vx_verdict *v, const char *name) {
    for (int i = 0; i < v->n_figures; i++) {
        if (strcmp(v->figure[i].name, name) == 0) {
            return v->figure[i].value;
        }
    }
    cr_assert_fail("%s has no figure %s", vx_verdict_word(v->code), name);
    return 0;
}

Test(tune_judge, workers_wanted_leaves_room) {
    cr_expect_eq(vx_tune_workers_wanted(2, 0.05, 0.1), 2); /* 1.18 */
    cr_expect_eq(vx_tune_workers_wanted(2, 0.17, 0.02), 20);
    cr_expect_eq(vx_tune_workers_wanted(2, 0.0425, 0.1), 1); /* exactly one at 0.85 */
    cr_expect_eq(vx_tune_workers_wanted(2, 0, 0.1), 1);
    cr_expect_eq(vx_tune_workers_wanted(2, 0.1, 0), 1);
}

Test(tune_judge, a_fed_device_is_healthy) {
    struct machine m = healthy();
    struct vx_verdict v = judge_machine(&m);
    cr_expect_eq(v.code, VX_VERDICT_GPU_BOUND);
    cr_expect_eq(v.severity, VX_SEVERITY_HEALTHY);
    cr_expect_eq(v.action, VX_ACTION_NONE);
}

Test(tune_judge, surplus_workers_are_given_back) {
    struct machine m = healthy();
    m.workers = 6;
    struct vx_verdict v = judge_machine(&m);
    cr_expect_eq(v.code, VX_VERDICT_GPU_BOUND);
    cr_expect_eq(v.action, VX_ACTION_WORKERS);
    cr_expect_eq(v.from, 6);
    cr_expect_eq(v.to, 2);
}

/* Waking up takes long on a crowded machine; that is no working time, and no cost of a sample. */
Test(tune_judge, a_slow_wake_up_is_not_work) {
    struct machine m = healthy();
    struct vx_tune_window w;
    machine_window(&m, 10, 0, &w);
    w.loader.runqueue = 20 * w.loader.augment;
    struct vx_verdict v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_GPU_BOUND);
    cr_expect_eq(figure(&v, "workers_wanted"), 2);
}

Test(tune_judge, one_worker_for_a_fast_device) {
    struct machine m = healthy();
    m.workers = 1;
    m.step = 0.02;
    struct vx_verdict v = judge_machine(&m);
    cr_expect_eq(v.code, VX_VERDICT_AUGMENT_BOUND);
    cr_expect_eq(v.severity, VX_SEVERITY_SEVERE);
    cr_expect_eq(v.action, VX_ACTION_WORKERS);
    cr_expect_eq(v.to, 7); /* ceil(2 x 0.052 / (0.85 x 0.02)) */
    cr_expect_float_eq(v.gain, 1 - 0.02 / 0.104, 0.02, "%g", v.gain);
    cr_expect_float_eq(figure(&v, "loader_wait_ratio"), 1 - 0.02 / 0.104, 0.01);
}

Test(tune_judge, more_workers_than_cores) {
    struct machine m = healthy();
    m.cores = 2;
    m.workers = 6;
    m.step = 0.02;
    struct vx_tune_window w;
    machine_window(&m, 10, 0, &w);
    struct vx_verdict v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_AUGMENT_SATURATED);
    cr_expect_eq(v.action, VX_ACTION_WORKERS);
    cr_expect_eq(v.to, 2);
    cr_expect_eq(figure(&v, "workers_wanted"), 7);
    w.have &= ~(uint32_t)VX_TUNE_HAVE_SCHEDSTAT; /* each at half a core: for want of more */
    v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_AUGMENT_SATURATED);
    cr_expect_eq(v.to, 2);
}

Test(tune_judge, all_cores_busy_with_as_many_workers) {
    struct machine m = healthy();
    m.cores = 4;
    m.workers = 4;
    m.step = 0.01;
    struct vx_verdict v = judge_machine(&m);
    cr_expect_eq(v.code, VX_VERDICT_AUGMENT_SATURATED); /* a fifth worker would have no core */
    cr_expect_eq(v.action, VX_ACTION_ADVISE);
    m.workers = 3;
    cr_expect_eq(judge_machine(&m).code, VX_VERDICT_AUGMENT_BOUND);
}

/* All cores are taken, which is nothing to workers that sleep most of the time and do not queue. */
Test(tune_judge, sleepers_need_no_idle_core) {
    struct machine m = healthy();
    m.cores = 2;
    m.workers = 1;
    struct vx_tune_window w;
    machine_window(&m, 10, 0, &w);
    w.loader.augment = w.loader.samples * 0.06;
    w.loader.read = w.loader.open = w.loader.wait_slot = 0;
    w.loader.cpu = w.loader.samples * 0.005;
    w.loader.runqueue = w.loader.samples * 0.004;
    w.step.phase[VX_TUNE_WAIT_LOADER] = 0.5 * w.step.wall;
    w.step.phase[VX_TUNE_COMPUTE] = 0.5 * w.step.wall;
    w.host.foreign_cores = 1.95;
    w.host.own_cores = 0.05;
    cr_expect_eq(first(&w).code, VX_VERDICT_AUGMENT_BOUND);
    w.loader.runqueue = w.loader.samples * 0.03;
    cr_expect_eq(first(&w).code, VX_VERDICT_NEIGHBOUR_CONTENTION);
    w.loader.workers = 9; /* they queue, and are not too many for two cores all the same */
    w.host.foreign_cores = 0.1;
    cr_expect_eq(first(&w).code, VX_VERDICT_AUGMENT_SATURATED);
    cr_expect_eq(first(&w).action, VX_ACTION_ADVISE);
    w.loader.workers = 1;
    w.host.foreign_cores = 1.95;
    w.loader.runqueue = 0;
    w.have &= ~(uint32_t)VX_TUNE_HAVE_SCHEDSTAT; /* nobody says that they do not queue */
    cr_expect_eq(first(&w).code, VX_VERDICT_NEIGHBOUR_CONTENTION);
}

Test(tune_judge, a_neighbour_on_all_cores) {
    struct machine m = healthy();
    m.cores = 4;
    m.foreign = 3.4;
    m.workers = 3;
    m.step = 0.05;
    struct vx_tune_window w;
    machine_window(&m, 10, 0, &w);
    w.host.foreign_pid = 4711;
    struct vx_verdict v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_NEIGHBOUR_CONTENTION);
    cr_expect_eq(figure(&v, "foreign_pid"), 4711);
    cr_expect_gt(figure(&v, "gain_alone"), 0.5);
    /* a worker less than cores: another one gets more of what is shared */
    cr_expect_eq(v.action, VX_ACTION_WORKERS);
    cr_expect_eq(v.to, 4);
    double each = 0.05 / 0.052;
    double now = 3 / (3 * each + 3.4), then = 4 / (4 * each + 3.4);
    cr_expect_float_eq(v.gain, 1 - now / then, 1e-6, "%g", v.gain);
    m.workers = 4;
    machine_window(&m, 10, 0, &w);
    v = first(&w);
    cr_expect_eq(v.action, VX_ACTION_ADVISE);
    cr_expect_eq(v.gain, figure(&v, "gain_alone"));
    /* without a look at foreign processes nobody is accused */
    w.have &= ~(uint32_t)VX_TUNE_HAVE_FOREIGN;
    v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_AUGMENT_SATURATED);
    cr_expect(v.lacking & VX_TUNE_HAVE_FOREIGN);
}

/* Ten samples at a time that sleep most of theirs fit on two cores, busy as those are. */
Test(tune_judge, workers_that_sleep_need_less_than_a_core) {
    struct machine m = healthy();
    m.cores = 2;
    m.foreign = 1.5;
    m.workers = 2;
    m.sample_cpu = 0.006;
    m.sample_other = 0.054;
    m.step = 0.024;
    struct vx_tune_window w;
    machine_window(&m, 10, 0, &w);
    w.loader.augment += w.loader.read;
    w.loader.runqueue = 0.2 * w.loader.augment;
    w.loader.augment += w.loader.runqueue;
    w.loader.read = 0;
    struct vx_verdict v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_NEIGHBOUR_CONTENTION);
    cr_expect_eq(v.action, VX_ACTION_WORKERS);
    cr_expect_eq(v.to, 8, "%g", v.to); /* 2 x 72 ms / (0.85 x 24 ms) */
    cr_expect_gt(v.gain, 0.5, "%g", v.gain);
    w.have &= ~(uint32_t)VX_TUNE_HAVE_FOREIGN; /* whoever it is that has the cores */
    v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_AUGMENT_SATURATED);
    cr_expect_eq(v.to, 8, "%g", v.to);
}

/* Uneven samples: workers idle for half the time, and yet the device waits. */
Test(tune_judge, more_room_is_more_than_there_is) {
    struct machine m = healthy();
    struct vx_tune_window w;
    machine_window(&m, 10, 0, &w);
    w.step.wall = 10;
    w.step.phase[VX_TUNE_WAIT_LOADER] = 0.1 * w.step.wall;
    w.step.phase[VX_TUNE_COMPUTE] = 0.9 * w.step.wall;
    w.loader.wait_slot = 3 * w.loader.augment;
    struct vx_verdict v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_AUGMENT_BOUND);
    cr_expect_eq(v.action, VX_ACTION_PREFETCH);
    cr_expect_eq(v.from, 12);
    cr_expect_eq(v.to, 24);
}

static struct vx_tune_window reading(double sample_other, double open) {
    struct machine m = healthy();
    m.sample_cpu = 0.005;
    m.sample_other = sample_other;
    m.open = open;
    m.step = 0.03;
    struct vx_tune_window w;
    machine_window(&m, 10, 0, &w);
    return w;
}

Test(tune_judge, a_slow_disk) {
    struct vx_tune_window w = reading(0.2, 0.001);
    w.loader.bytes_device = w.loader.bytes_read;
    w.loader.store_bytes = 100ull << 30;
    w.loader.store_cold_bytes = 90ull << 30; /* more than memory takes */
    struct vx_verdict v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_READ_BOUND);
    cr_expect_eq(v.action, VX_ACTION_TIER);
    cr_expect_eq(v.to, VX_TUNE_TIER_STAGED);
    w.loader.store_bytes = w.loader.store_cold_bytes = 4ull << 30; /* fits, but warms for hours */
    v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_READ_BOUND);
    cr_expect_eq(v.to, VX_TUNE_TIER_RAM);
}

Test(tune_judge, a_cold_cache_says_when_it_ends) {
    struct vx_tune_window w = reading(0.2, 0.001);
    w.loader.bytes_read = 2000000000;
    w.loader.bytes_device = 1500000000; /* 150 MB a second */
    w.loader.store_bytes = 20ull << 30;
    w.loader.store_cold_bytes = 15000000000ull;
    struct vx_verdict v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_READ_BOUND_COLD);
    cr_expect_eq(v.action, VX_ACTION_WAIT);
    cr_expect_float_eq(v.to, 100, 1);
    w.have &= ~(uint32_t)VX_TUNE_HAVE_IO; /* nobody knows where the bytes came from */
    v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_READ_BOUND);
    cr_expect(v.lacking & VX_TUNE_HAVE_IO);
}

Test(tune_judge, opening_files_all_the_time) {
    struct vx_tune_window w = reading(0.1, 0.09);
    struct vx_verdict v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_OPEN_BOUND);
    cr_expect_eq(v.action, VX_ACTION_KEEP_OPEN);
    cr_expect_float_eq(figure(&v, "opens_per_sample"), 1, 0.01);
    w.loader.keep_files_open = true; /* then it is something else */
    cr_expect_eq(first(&w).code, VX_VERDICT_READ_BOUND);
}

Test(tune_judge, memory_near_its_end) {
    struct machine m = healthy();
    struct vx_tune_window w;
    machine_window(&m, 10, 0, &w);
    w.host.memory_available = 300ull << 20;
    struct vx_verdict v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_MEMORY_PRESSURE);
    cr_expect_eq(v.severity, VX_SEVERITY_SEVERE);
    cr_expect_eq(v.to, 1);
    w.host.memory_available = 8ull << 30; /* falls by 100 MB a second */
    w.host.available_trend = -1e8;
    cr_expect_eq(first(&w).code, VX_VERDICT_MEMORY_PRESSURE);
    w.host.available_trend = -1e6;
    cr_expect_eq(first(&w).code, VX_VERDICT_GPU_BOUND);
    w.host.psi_memory = 0.2;
    cr_expect_eq(first(&w).code, VX_VERDICT_MEMORY_PRESSURE);
    w.host.memory_available = 48ull << 30; /* of 64: who stalls is in a group of his own */
    cr_expect_eq(first(&w).code, VX_VERDICT_GPU_BOUND);
    w.host.memory_available = 8ull << 30;
    w.have &= ~(uint32_t)VX_TUNE_HAVE_PSI; /* a figure without its source is no evidence */
    cr_expect_eq(first(&w).code, VX_VERDICT_GPU_BOUND);
}

Test(tune_judge, the_device_itself) {
    struct machine m = healthy();
    struct vx_tune_window w;
    machine_window(&m, 10, 0, &w);
    w.step.phase[VX_TUNE_H2D] = 0.1 * w.step.wall;
    w.step.phase[VX_TUNE_COMPUTE] -= 0.1 * w.step.wall;
    struct vx_verdict list[VX_VERDICTS];
    cr_expect_eq(vx_tune_judge(&w, list), 1);
    cr_expect_eq(list[0].code, VX_VERDICT_H2D_BOUND);
    machine_window(&m, 10, 0, &w);
    w.device.launch_gap = 0.3;
    cr_expect_eq(first(&w).code, VX_VERDICT_GPU_BOUND); /* no GPU evidence */
    w.have |= VX_TUNE_HAVE_GPU;
    cr_expect_eq(first(&w).code, VX_VERDICT_LAUNCH_BOUND);
    w.device.launch_gap = 0;
    w.device.throttled_thermal = true;
    w.step.compute_best = 0.07;
    struct vx_verdict v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_GPU_THROTTLED);
    cr_expect_float_eq(v.cost, 0.3, 0.01);
    w.step.compute_best = 0.099; /* slow clocks that cost nothing */
    cr_expect_eq(first(&w).code, VX_VERDICT_GPU_BOUND);
}

Test(tune_judge, free_memory_names_the_largest_batch) {
    struct machine m = healthy();
    struct vx_tune_window w;
    machine_window(&m, 10, 0, &w);
    w.have |= VX_TUNE_HAVE_GPU;
    w.device.largest_batch = 6;
    w.device.largest_batch_step = 0.28;
    struct vx_verdict v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_GPU_BOUND);
    cr_expect_eq(figure(&v, "largest_batch"), 6);
    double rest =
        (w.step.wall - w.step.phase[VX_TUNE_COMPUTE] - w.step.phase[VX_TUNE_WAIT_LOADER]) /
        w.step.n; /* 6 x 0.05 / 2 < 0.28: the pool keeps up */
    cr_expect_float_eq(figure(&v, "largest_batch_utilisation"), 0.28 / (0.28 + rest), 1e-9);
    w.device.largest_batch_step = 0.1; /* here it does not */
    v = first(&w);
    double made = (w.loader.open + w.loader.read + w.loader.decompress + w.loader.augment -
                   w.loader.runqueue) /
                  (double)w.loader.samples;
    cr_expect_float_eq(figure(&v, "largest_batch_utilisation"),
                       0.1 / (6 * made / w.loader.workers + rest), 1e-9);
}

Test(tune_judge, events_come_first) {
    struct machine m = healthy();
    struct vx_tune_window w;
    machine_window(&m, 10, 0, &w);
    w.event.workers_lost = 2;
    struct vx_verdict list[VX_VERDICTS];
    cr_expect_eq(vx_tune_judge(&w, list), 2);
    cr_expect_eq(list[0].code, VX_VERDICT_WORKER_LOST);
    cr_expect_eq(list[1].code, VX_VERDICT_GPU_BOUND);
    w.event.corrupt_entries = 1;
    cr_expect_eq(first(&w).code, VX_VERDICT_CACHE_CORRUPT);
    w.step.deadline = 30;
    w.step.since_last = 31;
    struct vx_verdict v = first(&w);
    cr_expect_eq(v.code, VX_VERDICT_HANG);
    cr_expect_eq(v.action, VX_ACTION_RESTART);
}

Test(tune_judge, an_empty_window_says_nothing) {
    struct vx_tune_window w = {.seconds = 1};
    struct vx_verdict v[VX_VERDICTS];
    cr_expect_eq(vx_tune_judge(&w, v), 0);
}

Test(tune_judge, spikes_are_not_an_even_cause) {
    struct machine m = healthy();
    m.workers = 1;
    struct vx_tune_window w;
    machine_window(&m, 10, 0, &w);
    double wait = w.step.phase[VX_TUNE_WAIT_LOADER] = 0.1 * w.step.wall;
    w.step.phase[VX_TUNE_COMPUTE] = w.step.wall - wait;
    cr_expect_eq(first(&w).code, VX_VERDICT_AUGMENT_BOUND);
    w.event.period_steps = 50;
    w.event.period_share = 0.09;
    w.event.period_phase = VX_TUNE_WAIT_LOADER;
    struct vx_verdict list[VX_VERDICTS];
    cr_expect_eq(vx_tune_judge(&w, list), 1);
    cr_expect_eq(list[0].code, VX_VERDICT_PERIODIC_STALL);
    cr_expect_eq(figure(&list[0], "period_steps"), 50);
}

Test(tune_judge, slow_growth) {
    struct machine m = healthy();
    struct vx_tune_window w;
    machine_window(&m, 10, 0, &w);
    w.event.rss_slope = 2e8;
    struct vx_verdict list[VX_VERDICTS];
    cr_expect_eq(vx_tune_judge(&w, list), 2);
    cr_expect_eq(list[0].code, VX_VERDICT_DRIFT);
    cr_expect_eq(list[0].severity, VX_SEVERITY_NOTE);
    w.event.step_slope = 0.3;
    cr_expect_eq(first(&w).severity, VX_SEVERITY_WARNING);
}
