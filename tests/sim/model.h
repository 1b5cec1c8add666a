/* A training's loader in virtual time: ring, workers, cores, disk, device.
 *
 * The ring has S slots of one sample, filled in any order, consumed in order: sample q lies in slot
 * q mod S, a worker claims the first q of [next, next + window) whose slot is free. The trainer
 * takes a batch, hands it to the device and gives the samples of the batch before back when that
 * one is done: a device that computes by itself (a GPU) then has one batch running and one waiting.
 * A worker reads (latency, then bytes of a disk that all share; nothing where the page cache has
 * it), computes (on cores that all share, also with a neighbour and with a trainer on the CPU) and
 * sleeps. What a sample costs is a function of (seed, q), as in the real loader: other workers or
 * slots see the same samples.
 *
 * Use: sim_create, sim_advance or sim_steps, sim_totals; windows are differences of totals, as they
 * are of the real timeline's counters. Knobs may be turned in between. All times are seconds.
 * Thread: one. */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIM_WORKERS = 64 };

enum sim_kind {
    SIM_CONSTANT,
    SIM_EXPONENTIAL,
    SIM_BIMODAL, /* light and heavy ones: mean = light + heavy_share * (heavy - light) */
    SIM_LIST,    /* list[q mod n]: measured ones, in their order */
};

struct sim_cost {
    enum sim_kind kind;
    double mean;                     /* SIM_LIST: ignored */
    double heavy_share, heavy_ratio; /* SIM_BIMODAL: share of heavy ones; heavy / light */
    const double *list;              /* SIM_LIST: borrowed, outlives the simulation */
    size_t n;
};

struct sim_config {
    unsigned workers;       /* to start with, at most SIM_WORKERS */
    unsigned slots, window; /* window 0: as many as slots */
    unsigned batch;
    bool batch_is_unit; /* a worker makes whole batches, and slots counts batches */

    struct sim_cost cpu; /* core seconds of a sample */
    double sleep;        /* seconds of a sample in which its worker needs no core */

    double cores;                        /* 0: one for every worker */
    double bytes;                        /* read for a sample; 0: nothing */
    double disk_bandwidth, disk_latency; /* bytes a second, seconds; bandwidth 0: no disk */
    double cache_hits;                   /* share of samples whose bytes are in memory */
    unsigned cold_cases; /* > 0: a sample's case is one of these, in memory from its first read on;
                            cache_hits is ignored then */

    struct sim_cost step;     /* of the device */
    unsigned trainer_threads; /* 0: the device computes by itself; else the step is that many
                                 threads' work on the cores, step.mean seconds each */
    bool copies;              /* the device has its own copy of a batch once it was handed over: the
                                 samples are given back at once */
    double overhead;          /* of the trainer for a batch, while the device may run */
    uint64_t seed;
};

/* Since the start; only grows. */
struct sim_worker_totals {
    uint64_t samples;
    double read, compute, sleep; /* wall time; compute / cpu: how thinly the cores are shared */
    double cpu;                  /* core seconds */
    double slot_wait;            /* for a slot */
    double bytes;
};

struct sim_totals {
    double now;
    uint64_t steps;
    double wait;  /* for samples with the device idle */
    double depth; /* sum over the steps: samples ready when the trainer came for its batch */
    struct sim_worker_totals worker[SIM_WORKERS];
    double neighbour; /* core seconds taken by the neighbour */
};

struct sim;

/* NULL where the configuration cannot run (no workers, fewer slots than the batch, ...) or memory
 * is out. The caller frees. */
struct sim *sim_create(const struct sim_config *config);
/* NULL is fine. */
void sim_free(struct sim *s);

/* Runs for some seconds, or for some steps of the device. */
void sim_advance(struct sim *s, double seconds);
void sim_steps(struct sim *s, uint64_t steps);
void sim_totals(const struct sim *s, struct sim_totals *ret);
/* Waits of the steps since sim_steps or sim_advance was last called, oldest first; borrowed. */
const double *sim_waits(const struct sim *s, size_t *ret_n);

/* Knobs. A worker that leaves finishes its sample first. */
void sim_set_workers(struct sim *s, unsigned workers);
void sim_set_window(struct sim *s, unsigned window);
/* A neighbour with so many busy threads; 0: it leaves. */
void sim_set_neighbour(struct sim *s, double threads);
void sim_set_disk(struct sim *s, double bandwidth, double latency);

/* What one window of totals comes to. */
struct sim_window {
    double seconds, seconds_per_step;
    double wait_share;     /* of wall time: the loader's part of the step */
    double depth;          /* mean at arrival */
    double utilisation;    /* workers' time not spent waiting for a slot, mean over `workers` */
    double sample_seconds; /* wall time a sample costs its worker */
    double samples_per_second;
};
void sim_window(const struct sim_totals *before, const struct sim_totals *after, unsigned workers,
                struct sim_window *ret);

/* Workers that design.md 3.7 asks for: ceil(batch * sample / (0.85 * step)). */
unsigned sim_workers_wanted(unsigned batch, double sample_seconds, double step_seconds);

#endif
