#include "sim/model.h"

#include "sim/des.h"

#include <math.h>
#include <stdlib.h>

enum { CORES, DISK };
enum { TRAINER = SIM_WORKERS }; /* processes 0 .. SIM_WORKERS - 1 are the workers */

enum slot_state { FREE, CLAIMED, READY, HELD };

struct slot {
    enum slot_state state;
    uint64_t q; /* the sample it is for */
};

enum worker_stage { ABSENT, WAITING, LATENCY, READING, COMPUTING, PAUSING };

struct worker {
    enum worker_stage stage;
    bool leaving;
    uint64_t q;
    double since;           /* when this stage began */
    double bytes, cpu, nap; /* of its sample */
    struct sim_worker_totals totals;
};

enum trainer_stage { ARRIVING, SETTLING_EARLY, TAKING, STARTING, RUNNING, SETTLING };

struct held_batch {
    uint64_t first_q;
    unsigned n;
    double done_at; /* when the device is done with it */
};

struct sim {
    struct sim_config config;
    struct des des;
    struct slot *slot;
    unsigned batch; /* slots in a batch */
    unsigned workers;
    uint64_t next; /* first sample not yet taken */
    struct worker worker[SIM_WORKERS];

    enum trainer_stage stage;
    struct held_batch now, before;
    bool blocked; /* the trainer waits for sample `next` */
    double take_since;
    bool take_waits; /* this batch was not ready when the trainer came for it */
    double wait;
    uint64_t steps;
    double depth;

    bool *warm; /* [cold_cases] */
    double *waits;
    size_t n_waits, cap_waits;
    double last_wait;
    uint64_t stop_at;
    bool stop;
};

/* --- draws: functions of (seed, q, what) --- */

enum { DRAW_CPU, DRAW_HIT, DRAW_STEP };

static uint64_t mix(uint64_t x) { /* splitmix64's finaliser */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* In (0, 1). */
static double draw(const struct sim *s, uint64_t q, int what) {
    uint64_t x = mix(mix(s->config.seed + 1) + 0x9e3779b97f4a7c15u * (3 * q + (uint64_t)what + 1));
    return ((double)(x >> 11) + 0.5) * 0x1p-53;
}

static double cost(const struct sim_cost *c, uint64_t q, double u) {
    double light = c->mean / (1 + c->heavy_share * (c->heavy_ratio - 1));
    switch (c->kind) {
    case SIM_CONSTANT:
        return c->mean;
    case SIM_EXPONENTIAL:
        return -c->mean * log(u);
    case SIM_BIMODAL:
        return u < c->heavy_share ? light * c->heavy_ratio : light;
    case SIM_LIST:
        return c->list[q % c->n];
    }
    return 0;
}

static double cpu_of(const struct sim *s, uint64_t q) {
    return cost(&s->config.cpu, q, draw(s, q, DRAW_CPU));
}

static double bytes_of(struct sim *s, uint64_t q) {
    double u = draw(s, q, DRAW_HIT);
    if (s->config.bytes <= 0 || s->des.resource[DISK].capacity <= 0) {
        return 0;
    }
    if (s->config.cold_cases) {
        bool *warm = &s->warm[(size_t)(u * s->config.cold_cases)];
        bool hit = *warm;
        *warm = true;
        return hit ? 0 : s->config.bytes;
    }
    return u < s->config.cache_hits ? 0 : s->config.bytes;
}

/* --- workers --- */

static struct slot *slot_of(const struct sim *s, uint64_t q) {
    return &s->slot[q % s->config.slots];
}

static bool claim(struct sim *s, uint64_t *ret_q) {
    unsigned window = s->config.window;
    window = window == 0 || window > s->config.slots ? s->config.slots : window;
    window = window < s->batch ? s->batch : window;
    for (uint64_t q = s->next; q < s->next + window; q++) {
        struct slot *slot = slot_of(s, q);
        if (slot->state == FREE && slot->q == q) {
            slot->state = CLAIMED;
            *ret_q = q;
            return true;
        }
    }
    return false;
}

/* The time since the worker's stage began; the next one begins now. */
static double lap(struct sim *s, struct worker *w, enum worker_stage next) {
    double seconds = s->des.now - w->since;
    w->since = s->des.now;
    w->stage = next;
    return seconds;
}

static void seek_work(struct sim *s, int i) {
    struct worker *w = &s->worker[i];
    uint64_t q;
    if (w->leaving) {
        w->totals.slot_wait += lap(s, w, ABSENT);
        return;
    }
    if (!claim(s, &q)) {
        return;
    }
    w->totals.slot_wait += lap(s, w, LATENCY);
    unsigned n = s->config.batch_is_unit ? s->config.batch : 1;
    w->q = q;
    w->bytes = w->cpu = 0;
    w->nap = n * s->config.sleep;
    for (unsigned j = 0; j < n; j++) {
        w->bytes += bytes_of(s, n * q + j);
        w->cpu += cpu_of(s, n * q + j);
    }
    des_sleep(&s->des, i, w->bytes > 0 ? s->config.disk_latency : 0);
}

static void wake_trainer(struct sim *s);

static void publish(struct sim *s, int i) {
    struct worker *w = &s->worker[i];
    slot_of(s, w->q)->state = READY;
    w->totals.samples += s->config.batch_is_unit ? s->config.batch : 1;
    if (w->q == s->next) {
        wake_trainer(s);
    }
    seek_work(s, i);
}

static void worker_goes_on(struct sim *s, int i) {
    struct worker *w = &s->worker[i];
    switch (w->stage) {
    case LATENCY:
        w->totals.read += lap(s, w, READING);
        w->totals.bytes += w->bytes;
        if (w->bytes > 0) {
            des_work(&s->des, i, DISK, w->bytes, 1);
        } else {
            des_sleep(&s->des, i, 0);
        }
        break;
    case READING:
        w->totals.read += lap(s, w, COMPUTING);
        w->totals.cpu += w->cpu;
        des_work(&s->des, i, CORES, w->cpu, 1);
        break;
    case COMPUTING:
        w->totals.compute += lap(s, w, PAUSING);
        des_sleep(&s->des, i, w->nap);
        break;
    case PAUSING:
        w->totals.sleep += lap(s, w, WAITING);
        publish(s, i);
        break;
    case ABSENT:
    case WAITING:
        break;
    }
}

/* A slot was freed or the window moved. */
static void wake_workers(struct sim *s) {
    for (int i = 0; i < SIM_WORKERS; i++) {
        if (s->worker[i].stage == WAITING) {
            seek_work(s, i);
        }
    }
}

/* --- trainer --- */

static unsigned depth(const struct sim *s) {
    unsigned n = 0;
    while (n < s->config.slots && slot_of(s, s->next + n)->state == READY &&
           slot_of(s, s->next + n)->q == s->next + n) {
        n++;
    }
    return n;
}

static void give_back(struct sim *s, struct held_batch *b) {
    for (uint64_t q = b->first_q; q < b->first_q + b->n; q++) {
        *slot_of(s, q) = (struct slot){FREE, q + s->config.slots};
    }
    b->n = 0;
    wake_workers(s);
}

/* Until the batch before is done; false where it is. */
static bool sleep_until_done(struct sim *s) {
    double left = s->before.done_at - s->des.now;
    if (left > 0) {
        des_sleep(&s->des, TRAINER, left);
    }
    return left > 0;
}

/* One sample for the batch, or false where it must come first. */
static bool take(struct sim *s) {
    struct slot *slot = slot_of(s, s->next);
    if (slot->state != READY || slot->q != s->next) {
        s->blocked = true;
        return false;
    }
    slot->state = HELD;
    s->next++;
    s->now.n++;
    wake_workers(s);
    return true;
}

/* Of the time in which samples were waited for, what lies behind the end of the run before. */
static double waited_so_far(const struct sim *s) {
    double from = fmax(s->take_since, s->before.done_at);
    return s->take_waits && s->des.now > from ? s->des.now - from : 0;
}

static void start_device(struct sim *s) {
    double waited = waited_so_far(s);
    double seconds = cost(&s->config.step, s->steps, draw(s, s->steps, DRAW_STEP));
    double start = fmax(s->des.now, s->before.done_at);
    s->wait += waited;
    s->last_wait = waited;
    s->stage = RUNNING;
    if (s->config.trainer_threads) {
        s->now.done_at = 0; /* done when this returns */
        des_work(&s->des, TRAINER, CORES, seconds, s->config.trainer_threads);
    } else {
        s->now.done_at = start + seconds;
        if (s->config.copies) {
            give_back(s, &s->now);
        }
        des_sleep(&s->des, TRAINER, s->config.overhead);
    }
}

static void end_step(struct sim *s) {
    give_back(s, &s->before);
    s->before = s->now;
    s->steps++;
    if (s->n_waits == s->cap_waits) {
        size_t cap = s->cap_waits ? 2 * s->cap_waits : 1024;
        double *grown = realloc(s->waits, cap * sizeof *grown);
        if (!grown) {
            abort();
        }
        s->waits = grown;
        s->cap_waits = cap;
    }
    s->waits[s->n_waits++] = s->last_wait;
    s->stop = s->stop_at && s->steps >= s->stop_at;
    s->stage = ARRIVING;
}

/* Runs the trainer until it must wait for something; the stages are those of core/train/batch.c. */
static void trainer_goes_on(struct sim *s) {
    unsigned ready = 0;
    for (;;) {
        switch (s->stage) {
        case ARRIVING:
            ready = depth(s);
            s->depth += ready;
            s->take_waits = ready < s->batch;
            s->take_since = s->des.now;
            /* a ring that does not hold two batches would not give the second */
            s->stage = s->take_waits && s->config.slots < 2 * s->batch ? SETTLING_EARLY : TAKING;
            s->now = (struct held_batch){.first_q = s->next};
            if (s->stage == SETTLING_EARLY && sleep_until_done(s)) {
                return;
            }
            break;
        case SETTLING_EARLY:
            give_back(s, &s->before);
            s->take_waits = depth(s) < s->batch;
            s->stage = TAKING;
            break;
        case TAKING:
            if (s->now.n == s->batch) {
                s->stage = STARTING;
            } else if (!take(s)) {
                return;
            }
            break;
        case STARTING:
            start_device(s);
            return;
        case RUNNING:
            s->stage = SETTLING;
            if (sleep_until_done(s)) {
                return;
            }
            break;
        case SETTLING:
            end_step(s);
            break;
        }
    }
}

static void wake_trainer(struct sim *s) {
    if (s->blocked) {
        s->blocked = false;
        des_sleep(&s->des, TRAINER, 0);
    }
}

static void resume(void *ctx, int process) {
    struct sim *s = ctx;
    if (process == TRAINER) {
        trainer_goes_on(s);
    } else {
        worker_goes_on(s, process);
    }
}

/* --- life --- */

static bool possible(const struct sim_config *c) {
    unsigned slots = c->batch_is_unit ? 1 : c->batch;
    return c->workers > 0 && c->workers <= SIM_WORKERS && c->batch > 0 && c->slots > slots &&
           (c->cpu.kind != SIM_LIST || c->cpu.n > 0);
}

struct sim *sim_create(const struct sim_config *config) {
    struct sim *s = possible(config) ? calloc(1, sizeof *s) : NULL;
    if (!s) {
        return NULL;
    }
    s->config = *config;
    s->batch = config->batch_is_unit ? 1 : config->batch;
    s->slot = calloc(config->slots, sizeof *s->slot);
    s->warm = calloc(config->cold_cases + 1, sizeof *s->warm);
    if (!s->slot || !s->warm) {
        sim_free(s);
        return NULL;
    }
    for (unsigned i = 0; i < config->slots; i++) {
        s->slot[i].q = i;
    }
    s->des.resume = resume;
    s->des.ctx = s;
    s->des.resource[CORES] = (struct des_resource){
        .capacity = config->cores > 0 ? config->cores : SIM_WORKERS + 64, .limit = 1};
    sim_set_disk(s, config->disk_bandwidth, config->disk_latency);
    sim_set_workers(s, config->workers);
    des_sleep(&s->des, TRAINER, 0);
    return s;
}

void sim_free(struct sim *s) {
    if (s) {
        free(s->slot);
        free(s->warm);
        free(s->waits);
        free(s);
    }
}

void sim_advance(struct sim *s, double seconds) {
    s->n_waits = 0;
    s->stop_at = 0;
    des_run(&s->des, s->des.now + seconds, NULL);
}

void sim_steps(struct sim *s, uint64_t steps) {
    s->n_waits = 0;
    s->stop_at = s->steps + steps;
    s->stop = false;
    if (steps > 0) {
        des_run(&s->des, INFINITY, &s->stop);
    }
}

const double *sim_waits(const struct sim *s, size_t *ret_n) {
    *ret_n = s->n_waits;
    return s->waits;
}

void sim_set_workers(struct sim *s, unsigned workers) {
    s->workers = workers < 1 ? 1 : workers > SIM_WORKERS ? SIM_WORKERS : workers;
    for (unsigned i = 0; i < SIM_WORKERS; i++) {
        struct worker *w = &s->worker[i];
        w->leaving = i >= s->workers;
        if (!w->leaving && w->stage == ABSENT) {
            w->stage = WAITING;
            w->since = s->des.now;
        }
    }
    wake_workers(s);
}

void sim_set_window(struct sim *s, unsigned window) {
    s->config.window = window;
    wake_workers(s);
}

void sim_set_neighbour(struct sim *s, double threads) {
    s->des.resource[CORES].load = threads;
}

/* What is still going on counts as far as it has come, so that windows add up. */
void sim_totals(const struct sim *s, struct sim_totals *ret) {
    *ret = (struct sim_totals){.now = s->des.now,
                               .steps = s->steps,
                               .wait = s->wait,
                               .depth = s->depth,
                               .neighbour = s->des.resource[CORES].load_used};
    ret->wait += s->blocked ? waited_so_far(s) : 0;
    for (int i = 0; i < SIM_WORKERS; i++) {
        const struct worker *w = &s->worker[i];
        ret->worker[i] = w->totals;
        ret->worker[i].slot_wait += w->stage == WAITING ? s->des.now - w->since : 0;
    }
}

void sim_window(const struct sim_totals *before, const struct sim_totals *after, unsigned workers,
                struct sim_window *ret) {
    double steps = (double)(after->steps - before->steps), samples = 0, busy = 0, idle = 0;
    for (int i = 0; i < SIM_WORKERS; i++) {
        const struct sim_worker_totals *a = &after->worker[i], *b = &before->worker[i];
        samples += (double)(a->samples - b->samples);
        busy += a->read - b->read + a->compute - b->compute + a->sleep - b->sleep;
        idle += a->slot_wait - b->slot_wait;
    }
    *ret = (struct sim_window){.seconds = after->now - before->now};
    ret->seconds_per_step = ret->seconds / steps;
    ret->wait_share = (after->wait - before->wait) / ret->seconds;
    ret->depth = (after->depth - before->depth) / steps;
    ret->utilisation = 1 - idle / (ret->seconds * workers);
    ret->sample_seconds = busy / samples;
    ret->samples_per_second = samples / ret->seconds;
}

unsigned sim_workers_wanted(unsigned batch, double sample_seconds, double step_seconds) {
    return (unsigned)ceil(batch * sample_seconds / (0.85 * step_seconds) - 1e-9);
}

void sim_set_disk(struct sim *s, double bandwidth, double latency) {
    s->des.resource[DISK] = (struct des_resource){.capacity = bandwidth, .limit = bandwidth};
    s->config.disk_latency = latency;
}
