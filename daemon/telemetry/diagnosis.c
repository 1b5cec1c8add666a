/* See diagnosis.h. */
#include "daemon/telemetry/diagnosis.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NS 1000000000.0
/* A verdict is said when it held for so many looks, and taken back when it was gone for so many. */
enum { LOOKS_TO_SAY = 3, LOOKS_TO_DROP = 8 };
#define PERIOD_SECONDS 10.0
#define EVENT_SECONDS  60.0 /* events count this long */
/* Slow steps need a longer window for a mean that means something. */
#define STEPS_IN_WINDOW 14.0
/* Looks come every second; one that comes so late tells of a machine that was suspended or a daemon
 * that was stopped, not of the trainer. */
#define LATE_SECONDS   5.0
#define LONGEST_WINDOW 300.0
#define LARGEST_BATCH  1e6

void vx_diagnosis_init(struct vx_diagnosis *d, const struct vx_session_facts *facts,
                       const struct vx_tuner_limits *limits, const uint32_t setting[VX_KNOBS],
                       enum vx_tune_mode mode, uint64_t now_ns) {
    memset(d, 0, sizeof *d);
    d->facts = *facts;
    d->store_cold_bytes = 0;
    d->began_ns = d->looked_ns = now_ns;
    vx_tuner_init(&d->tuner, mode, limits, setting);
    if (!facts->stage) {
        vx_tuner_lacks(&d->tuner, VX_TUNE_TIER_STAGED);
    }
}

static void remember(struct vx_lost *list, size_t n, uint64_t *count, const char *cause,
                     const char *case_name, uint64_t now_ns) {
    struct vx_lost *l = &list[(*count)++ % n];
    l->ns = now_ns;
    snprintf(l->cause, sizeof l->cause, "%s", cause);
    snprintf(l->case_name, sizeof l->case_name, "%s", case_name);
}

void vx_diagnosis_lost(struct vx_diagnosis *d, const char *cause, const char *case_name,
                       uint64_t now_ns) {
    remember(d->lost, sizeof d->lost / sizeof *d->lost, &d->n_lost, cause, case_name, now_ns);
}

void vx_diagnosis_corrupt(struct vx_diagnosis *d, const char *case_name, uint64_t now_ns) {
    remember(d->corrupt, sizeof d->corrupt / sizeof *d->corrupt, &d->n_corrupt, "corrupt",
             case_name, now_ns);
}

#define STORE_LOOKS (sizeof d->store / sizeof *d->store)

void vx_diagnosis_cold(struct vx_diagnosis *d, uint64_t cold_bytes) {
    uint64_t n = d->n_store++, device = d->pool.now.bytes_device;
    d->store[n % STORE_LOOKS].cold = cold_bytes;
    d->store[n % STORE_LOOKS].device = device;
    if (!n) {
        d->store_cold_bytes = cold_bytes;
        return;
    }
    uint64_t before = n < STORE_LOOKS ? 0 : (n + 1) % STORE_LOOKS;
    uint64_t read = device - d->store[before].device;
    uint64_t warmed = d->store[before].cold > cold_bytes ? d->store[before].cold - cold_bytes : 0;
    bool tells = read > d->facts.store_bytes / 50;
    bool stays = tells ? 3 * warmed >= read : d->store_cold_bytes > 0;
    d->store_cold_bytes = stays ? cold_bytes : 0;
}

void vx_diagnosis_device(struct vx_diagnosis *d, const struct vx_device_look *look) {
    d->device = *look;
    if (!(look->have & VX_TUNE_HAVE_GPM)) {
        d->device_looks = 0;
        return;
    }
    d->device_looks += d->device_looks < VX_WINDOW_SECONDS;
    d->device_active = d->device_looks == 1
                           ? look->active
                           : d->device_active + (look->active - d->device_active) / d->device_looks;
}

/* --- cutting a window --- */

/* Time in which the trainer held the device to be computing and the chip did not. Validation may
 * have kept it busy besides, which makes the gap too small, never too large. */
static double launch_gap(const struct vx_diagnosis *d, const struct vx_tune_window *w) {
    bool told = d->device.have & VX_TUNE_HAVE_GPM && d->device_looks >= VX_WINDOW_SECONDS;
    double computing = w->seconds > 0 ? w->step.phase[VX_TUNE_COMPUTE] / w->seconds : 0;
    return told && computing > 0 ? fmax(1 - d->device_active / computing, 0) : 0;
}

/* What is free holds so many samples more. Those in work share all that the trainer holds, weights
 * and context too, and take no less than the plan says; a tenth of what is free stays so, because
 * allocators round up. More samples take as much longer. */
static void fit_batch(const struct vx_diagnosis *d, struct vx_tune_window *w) {
    double batch = w->step.batch;
    if (!(d->device.have & VX_TUNE_HAVE_GPU) || batch < 1 || !w->step.n) {
        return;
    }
    double each = fmax((double)d->device.own_bytes / batch, d->facts.sample_bytes);
    double more = each > 0 ? floor(0.9 * (double)w->device.memory_free / each) : 0;
    if (more >= 1) {
        w->device.largest_batch = (uint32_t)(batch + fmin(more, LARGEST_BATCH));
        w->device.largest_batch_step =
            w->step.phase[VX_TUNE_COMPUTE] / w->step.n * w->device.largest_batch / batch;
    }
}

/* How many happened within the last minute, and the last of them. */
static uint32_t recent(const struct vx_lost *list, size_t size, uint64_t count, uint64_t to_ns,
                       const struct vx_lost **ret_last) {
    uint32_t n = 0;
    *ret_last = count ? &list[(count - 1) % size] : NULL;
    for (size_t i = 0; i < size && i < count; i++) {
        n += list[i].ns <= to_ns && (double)(to_ns - list[i].ns) < EVENT_SECONDS * NS;
    }
    return n;
}

static void cut_events(const struct vx_diagnosis *d, uint64_t to_ns, struct vx_tune_window *w) {
    const struct vx_lost *last;
    w->event.workers_lost =
        recent(d->lost, sizeof d->lost / sizeof *d->lost, d->n_lost, to_ns, &last);
    if (w->event.workers_lost) {
        snprintf(w->event.lost_cause, sizeof w->event.lost_cause, "%s", last->cause);
        snprintf(w->event.lost_case, sizeof w->event.lost_case, "%s", last->case_name);
    }
    w->event.corrupt_entries =
        recent(d->corrupt, sizeof d->corrupt / sizeof *d->corrupt, d->n_corrupt, to_ns, &last);
    if (w->event.corrupt_entries) {
        snprintf(w->event.corrupt_case, sizeof w->event.corrupt_case, "%s", last->case_name);
    }
    if (d->has_period) {
        w->event.period_steps = d->period.steps;
        w->event.period_share = d->period.share;
        w->event.period_spike = d->period.spike;
        w->event.period_phase = d->period.phase;
    }
}

/* Means over the looks within the window; memory is that of the last. */
static void cut_host(const struct vx_diagnosis *d, double seconds, struct vx_tune_window *w) {
    struct vx_tune_host *t = &w->host;
    double n = 0, since = 0, first_available = 0;
    uint32_t has = UINT32_MAX;
    const struct vx_host *last = NULL;
    for (uint64_t i = d->n_host; i > 0 && d->n_host - i < VX_HOST_LOOKS; i--) {
        const struct vx_host *h = &d->host[(i - 1) % VX_HOST_LOOKS];
        if (h->seconds <= 0 || (n > 0 && since + h->seconds > seconds + 0.5)) {
            break;
        }
        since += h->seconds;
        n++;
        has &= h->has;
        t->own_cores += h->own_cores;
        t->foreign_cores += h->foreign_cores;
        t->psi_cpu += h->psi_cpu;
        t->psi_io += h->psi_io;
        t->psi_memory += h->psi_memory;
        t->psi_memory_full += h->psi_memory_full;
        t->throttled += h->throttled;
        t->swap_in += h->swap_in;
        first_available = (double)h->memory_available;
        last = last ? last : h;
        if (!t->foreign_pid && h->foreign_pid) {
            t->foreign_pid = h->foreign_pid;
            t->foreign_uid = h->foreign_uid;
            snprintf(t->foreign_name, sizeof t->foreign_name, "%s", h->foreign_name);
        }
    }
    if (!last) {
        return;
    }
    double *const means[] = {&t->own_cores,  &t->foreign_cores,   &t->psi_cpu,   &t->psi_io,
                             &t->psi_memory, &t->psi_memory_full, &t->throttled, &t->swap_in};
    for (size_t i = 0; i < sizeof means / sizeof *means; i++) {
        *means[i] /= n;
    }
    t->cores = last->cores;
    t->memory_limit = last->memory_total;
    t->memory_available = last->memory_available;
    t->available_trend = ((double)last->memory_available - first_available) / since;
    w->have |= (has & VX_HOST_PSI ? VX_TUNE_HAVE_PSI : 0u) |
               (has & VX_HOST_THROTTLING ? VX_TUNE_HAVE_CGROUP : 0u) |
               (has & VX_HOST_CPU ? VX_TUNE_HAVE_FOREIGN : 0u) |
               (has & VX_HOST_MEMORY ? VX_TUNE_HAVE_MEMORY : 0u);
}

bool vx_diagnosis_window(const struct vx_diagnosis *d, uint64_t from_ns, uint64_t to_ns,
                         struct vx_tune_window *ret) {
    struct vx_tune_window w = {.seconds = to_ns > from_ns ? (double)(to_ns - from_ns) / NS : 0};
    uint32_t have = 0;
    double seconds;
    vx_steplog_window(&d->steps, from_ns, to_ns, &w.step);
    bool pool = vx_poollog_window(&d->pool, from_ns, to_ns, &w.loader, &seconds, &have);
    w.have |= pool ? have : 0;
    w.step.since_last = vx_pulse_silence(&d->pulse, to_ns);
    w.step.deadline = vx_pulse_deadline(&d->pulse);
    w.step.batch = d->facts.batch;
    w.loader.slots = d->facts.slots;
    w.loader.keep_files_open = d->tuner.setting[VX_KNOB_KEEP_OPEN];
    w.loader.tier = (enum vx_tune_tier)d->tuner.setting[VX_KNOB_TIER];
    w.loader.store_bytes = d->facts.store_bytes;
    w.loader.store_cold_bytes = d->store_cold_bytes;
    w.loader.storage = d->facts.storage;
    w.have |= d->facts.storage_known ? VX_TUNE_HAVE_STORAGE : 0u;
    w.device = d->device.device;
    w.have |= d->device.have;
    w.device.launch_gap = launch_gap(d, &w);
    fit_batch(d, &w);
    cut_host(d, w.seconds, &w);
    w.host.trainer_cores = d->facts.trainer_cores;
    w.host.worker_bytes = d->pool.now.workers ? d->pool.now.rss_anon / d->pool.now.workers : 0;
    cut_events(d, to_ns, &w);
    w.event.step_slope = vx_steplog_slope(&d->steps);
    w.event.rss_slope = vx_poollog_slope(&d->pool);
    w.warm = (double)from_ns / NS >= vx_tuner_window_start(&d->tuner) - 1e-6;
    *ret = w;
    return pool || w.step.n || w.step.since_last > 0;
}

/* --- a look --- */

static void look_for_rhythm(struct vx_diagnosis *d, uint64_t now_ns) {
    if ((double)(now_ns - d->looked_ns) < PERIOD_SECONDS * NS) {
        return;
    }
    d->looked_ns = now_ns;
    d->has_period = vx_steplog_period(&d->steps, &d->period);
}

static void excuse_standstill(struct vx_diagnosis *d, uint64_t now_ns) {
    if (d->look_ns && now_ns <= d->look_ns) {
        return;
    }
    if (d->look_ns && (double)(now_ns - d->look_ns) > LATE_SECONDS * NS) {
        vx_pulse_excuse(&d->pulse, now_ns - d->look_ns);
    }
    d->look_ns = now_ns;
}

/* Verdicts come and go with the noise of a window; what is announced held for a while. */
static void announce(struct vx_diagnosis *d, struct vx_diagnosis_news *news) {
    uint32_t holds = 0;
    for (int i = 0; i < d->n_verdicts; i++) {
        holds |= 1u << d->verdict[i].code;
    }
    for (int c = 0; c < VX_VERDICTS; c++) {
        bool now = holds >> c & 1u, said = d->said >> c & 1u;
        d->seen[c] = now == said ? 0 : (uint8_t)(d->seen[c] + (d->seen[c] < 250));
        bool sudden = c == VX_VERDICT_WORKER_LOST || c == VX_VERDICT_HANG ||
                      c == VX_VERDICT_CACHE_CORRUPT || c == VX_VERDICT_MEMORY_PRESSURE;
        int needed = now ? (sudden ? 1 : LOOKS_TO_SAY) : LOOKS_TO_DROP;
        if (now != said && d->seen[c] >= needed) {
            *(now ? &news->began : &news->ended) |= 1u << c;
            d->said ^= 1u << c;
            d->seen[c] = 0;
        }
    }
}

void vx_diagnosis_look(struct vx_diagnosis *d, const struct vx_host *host, uint64_t now_ns,
                       struct vx_diagnosis_news *ret) {
    *ret = (struct vx_diagnosis_news){.decision = {.kind = VX_DECISION_NONE}};
    d->host[d->n_host++ % VX_HOST_LOOKS] = *host;
    excuse_standstill(d, now_ns);
    look_for_rhythm(d, now_ns);
    double now = (double)now_ns / NS;
    double span = fmin(fmax(VX_WINDOW_SECONDS, STEPS_IN_WINDOW * d->steps.mean), LONGEST_WINDOW);
    double from =
        fmax(fmax(now - span, vx_tuner_window_start(&d->tuner)), (double)d->began_ns / NS);
    if (from > now || !vx_diagnosis_window(d, (uint64_t)(from * NS), now_ns, &d->window)) {
        return;
    }
    vx_poollog_transforms(&d->pool, (uint64_t)(from * NS), now_ns, d->transform_seconds);
    d->n_verdicts = vx_tune_judge(&d->window, d->verdict);
    announce(d, ret);
    vx_tuner_tick(&d->tuner, now, &d->window, d->verdict, d->n_verdicts, &ret->decision);
    uint32_t why = 1u << ret->decision.why;
    if (ret->decision.kind != VX_DECISION_NONE && ret->decision.kind != VX_DECISION_KEPT &&
        ret->decision.kind != VX_DECISION_REVERTED && ret->decision.kind != VX_DECISION_ENDED &&
        !(d->said & why)) {
        d->said |= why; /* what is acted on is also said */
        ret->began |= why;
    }
}
