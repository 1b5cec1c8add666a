/* The tuner on simulated machines against the best number of workers that could have been set by
 * hand: 100 machines drawn at random, each tuned for three minutes. */
#include "tune/from_sim.h"
#include "tune/tuner.h"

#include "base/rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MACHINES = 100, MOST = 24 };
#define FIRST_SEED   16000000 /* development used seeds below this */
#define TUNE_SECONDS 180

static double spread(struct vx_rng *r, double lo, double hi) {
    return lo * pow(hi / lo, (double)vx_rng_unit(r));
}

static struct sim_machine draw(uint64_t seed, double *ret_neighbour) {
    struct vx_rng r = vx_rng_at(seed, 8, 0, 0, 1);
    struct sim_machine m = {.memory_limit = 256e9,
                            .memory_available = 200e9,
                            .worker_bytes = 2e8,
                            .store_bytes = 1e9,
                            .cases_read = 1,
                            .caches = true};
    struct sim_config *c = &m.config;
    c->seed = seed;
    c->batch = 2 + (unsigned)spread(&r, 1, 6) - 1;
    c->cpu =
        (struct sim_cost){SIM_BIMODAL, spread(&r, 0.003, 0.2), 0.36, spread(&r, 2, 18), NULL, 0};
    c->sleep = vx_rng_unit(&r) < 0.3f ? spread(&r, 0.2, 2) * c->cpu.mean : 0;
    c->cores = floor(spread(&r, 2, 24.9));
    c->workers = 1 + (unsigned)(vx_rng_unit(&r) * (float)c->cores);
    /* the device needs from half a worker to twice the cores */
    c->step.mean = c->batch * (c->cpu.mean + c->sleep) / spread(&r, 0.5, 2 * c->cores);
    c->slots = 2 * MOST + c->batch;
    *ret_neighbour = vx_rng_unit(&r) < 0.25f ? floor(c->cores * (double)vx_rng_unit(&r) * 0.7) : 0;
    return m;
}

/* Steps a second with so many workers from the start, over a long run. */
static double fixed(const struct sim_machine *m, unsigned workers, double neighbour) {
    struct sim_config c = m->config;
    c.workers = workers;
    struct sim *s = sim_create(&c);
    struct sim_totals a, b;
    sim_set_neighbour(s, neighbour);
    sim_steps(s, 100);
    sim_totals(s, &a);
    sim_steps(s, 600);
    sim_totals(s, &b);
    sim_free(s);
    return 600 / (b.now - a.now);
}

/* --- windows, a second at a time, as the daemon cuts them --- */

enum { SLICES = 512 };

struct slices {
    struct vx_tune_window w[SLICES];
    double end[SLICES];
    int n; /* ever */
};

static void add(struct vx_tune_window *to, const struct vx_tune_window *w) {
    to->seconds += w->seconds;
    to->step.n += w->step.n;
    to->step.wall += w->step.wall;
    for (int p = 0; p < VX_TUNE_PHASES; p++) {
        to->step.phase[p] += w->step.phase[p];
    }
    to->loader.samples += w->loader.samples;
    to->loader.augment += w->loader.augment;
    to->loader.cpu += w->loader.cpu;
    to->loader.runqueue += w->loader.runqueue;
    to->loader.wait_slot += w->loader.wait_slot;
    to->host.own_cores += w->host.own_cores * w->seconds;
    to->host.foreign_cores += w->host.foreign_cores * w->seconds;
}

/* The last ten seconds or fourteen steps, but nothing before `from`. False: nothing since then. */
static bool cut(const struct slices *s, double from, struct vx_tune_window *ret) {
    double squares = 0;
    int n = 0;
    for (int i = s->n - 1; i >= 0 && s->n - i < SLICES; i--, n++) {
        const struct vx_tune_window *w = &s->w[i % SLICES];
        if (s->end[i % SLICES] - w->seconds < from - 1e-9 ||
            (n > 0 && ret->seconds + w->seconds > 10.5 && ret->step.n >= 14)) {
            break;
        }
        if (n == 0) {
            *ret = *w;
            memset(&ret->step.phase, 0, sizeof ret->step.phase);
            ret->seconds = ret->step.wall = ret->step.n = 0;
            ret->loader.samples = 0;
            ret->loader.augment = ret->loader.cpu = ret->loader.runqueue = ret->loader.wait_slot =
                ret->host.own_cores = ret->host.foreign_cores = 0;
        }
        add(ret, w);
        double wait = w->step.phase[VX_TUNE_WAIT_LOADER] / w->step.n;
        squares += (w->step.deviation * w->step.deviation + wait * wait) * w->step.n;
    }
    if (n > 0) {
        double wait = ret->step.phase[VX_TUNE_WAIT_LOADER] / ret->step.n;
        ret->step.deviation = sqrt(fmax(squares / ret->step.n - wait * wait, 0));
        ret->host.own_cores /= ret->seconds;
        ret->host.foreign_cores /= ret->seconds;
    }
    return n > 0;
}

/* Runs the tuner; returns the number of workers it ended with. */
static unsigned tuned(const struct sim_machine *machine, unsigned most, double neighbour,
                      int *ret_changes) {
    static struct slices slices;
    struct sim_machine m = *machine;
    struct sim *s = sim_create(&m.config);
    const struct vx_tuner_limits limits = {{1, m.config.slots, 0, 0}, {most, m.config.slots, 0, 0}};
    const uint32_t setting[VX_KNOBS] = {m.config.workers, m.config.slots, 0, 0};
    struct vx_tuner t;
    vx_tuner_init(&t, VX_TUNE_AUTO, &limits, setting);
    sim_set_neighbour(s, neighbour);
    slices.n = *ret_changes = 0;
    for (double now = 0; now < TUNE_SECONDS;) {
        struct vx_tune_window w, *slice = &slices.w[slices.n % SLICES];
        window_from_sim(s, &m, 1, slice);
        now += slice->seconds;
        slices.end[slices.n++ % SLICES] = now;
        if (!cut(&slices, vx_tuner_window_start(&t), &w)) {
            continue;
        }
        struct vx_verdict v[VX_VERDICTS];
        struct vx_decision d;
        vx_tuner_tick(&t, now, &w, v, vx_tune_judge(&w, v), &d);
        if (d.kind != VX_DECISION_NONE && d.kind != VX_DECISION_KEPT) {
            m.config.workers = t.setting[VX_KNOB_WORKERS];
            sim_set_workers(s, m.config.workers);
            ++*ret_changes;
        }
    }
    sim_free(s);
    return m.config.workers;
}

Test(tune_sim, against_the_best_fixed_number_of_workers) {
    const char *from = getenv("VX_TUNER_SEED");
    uint64_t first = from ? strtoull(from, NULL, 10) : FIRST_SEED;
    double sum = 0, worst = 2;
    int within = 0, changes = 0;
    for (uint64_t i = 0; i < MACHINES; i++) {
        double neighbour, best = 0;
        struct sim_machine m = draw(first + i, &neighbour);
        unsigned most = (unsigned)m.config.cores < MOST ? (unsigned)m.config.cores : MOST;
        unsigned best_n = 1;
        for (unsigned n = 1; n <= most; n++) {
            double x = fixed(&m, n, neighbour);
            best_n = x > best * 1.001 ? n : best_n;
            best = fmax(best, x);
        }
        int made;
        unsigned n = tuned(&m, most, neighbour, &made);
        double ratio = fixed(&m, n, neighbour) / best;
        if (from && ratio < 0.95) {
            fprintf(stderr,
                    "seed %llu: %u workers, best %u, %.3f of its pace (%d changes, start %u)\n",
                    (unsigned long long)(first + i), n, best_n, ratio, made, m.config.workers);
        }
        sum += ratio;
        worst = fmin(worst, ratio);
        within += ratio >= 0.95;
        changes += made;
    }
    fprintf(stderr,
            "tuner: mean %.4f of the best fixed setting, worst %.4f, within 5 %%: %d of %d, "
            "%.1f changes each\n",
            sum / MACHINES, worst, within, MACHINES, (double)changes / MACHINES);
    cr_expect_geq(worst, 0.95, "%g", worst);
    cr_expect_eq(within, MACHINES, "%d", within);
    cr_expect_leq(changes, 2 * MACHINES, "%d", changes); /* and no swinging to and fro */
}
