/* From the timeline of one session to figures for people. */
#include "daemon/telemetry/watched.h"

#include "cache/policy.h"

#include <math.h>
#include <string.h>

const double vx_step_bounds[STEP_BUCKETS] = {0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2,
                                             0.3,   0.5,  0.75, 1,    2,   5,    10};

static void take_step(struct watched *w, struct totals *totals, const struct vx_step_record *r) {
    uint64_t wall = 0;
    for (int p = 0; p < VX_PHASE_COUNT; p++) {
        wall += r->phase_ns[p];
        totals->phase_ns[p] += r->phase_ns[p];
    }
    if (r->stream == VX_STREAM_TRAIN) {
        int bucket = 0;
        while (bucket < STEP_BUCKETS && (double)wall * 1e-9 > vx_step_bounds[bucket]) {
            bucket++;
        }
        totals->step_bucket[bucket]++;
        totals->steps++;
        totals->step_seconds += (double)wall * 1e-9;
        vx_steplog_add(&w->diagnosis->steps, r);
    }
    w->window[w->window_n++ % WINDOW_STEPS] =
        (struct window_step){wall, r->phase_ns[VX_PHASE_WAIT_LOADER], r->phase_ns[VX_PHASE_COMPUTE],
                             r->start_ns + wall, r->stream};
    w->depth = r->depth;
}

/* Counters of one process only grow; another pid in the same place starts from zero. */
static void take_worker(struct watched *w, struct totals *totals, uint32_t i) {
    struct vx_worker_record now, *old = &w->worker[i];
    if (!vx_timeline_worker(&w->timeline, i, &now) || now.state == VX_WORKER_NONE) {
        return;
    }
    if (now.pid != old->pid) {
        memset(old, 0, sizeof *old);
    }
    totals->samples += now.samples - old->samples;
    totals->read_ns += now.read_ns - old->read_ns;
    totals->decompress_ns += now.decompress_ns - old->decompress_ns;
    totals->slot_wait_ns += now.wait_ns - old->wait_ns;
    totals->bytes_read += now.bytes_read - old->bytes_read;
    for (int t = 0; t < VX_TIMELINE_TRANSFORMS; t++) {
        totals->augment_ns[t] += now.augment_ns[t] - old->augment_ns[t];
    }
    *old = now;
    if (now.state < VX_WORKER_STATES) {
        w->worker_states[now.state]++;
    }
}

/* The trainer's sign of life; a new process starts with a slow first step again. */
static void take_pulse(struct watched *w) {
    if (!w->has_progress) {
        return;
    }
    if (w->step_pid != w->progress.pid) {
        vx_steplog_restarted(&w->diagnosis->steps);
        w->step_pid = w->progress.pid;
    }
    vx_pulse_take(&w->diagnosis->pulse, w->progress.state, w->progress.heartbeat_ns);
}

void watched_sample(struct watched *w, struct totals *totals) {
    struct vx_step_record records[64];
    size_t n;
    do {
        n = vx_timeline_steps(&w->timeline, w->last_seq, records, 64);
        for (size_t i = 0; i < n; i++) {
            take_step(w, totals, &records[i]);
            w->last_seq = records[i].seq;
        }
    } while (n == 64);
    w->has_progress |= vx_timeline_progress(&w->timeline, &w->progress);
    vx_timeline_keeper(&w->timeline, &w->keeper);
    take_pulse(w);
    memset(w->worker_states, 0, sizeof w->worker_states);
    for (uint32_t i = 0; i < VX_WORKERS_MAX; i++) {
        take_worker(w, totals, i);
    }
    vx_ring_counts(&w->ring, w->slots);
}

struct window_figures watched_figures(const struct watched *w) {
    uint64_t n = w->window_n < WINDOW_STEPS ? w->window_n : WINDOW_STEPS;
    uint64_t wall[2] = {0, 0}, steps[2] = {0, 0}, wait = 0, compute = 0;
    for (uint64_t i = 0; i < n; i++) {
        const struct window_step *s = &w->window[i];
        int stream = s->stream == VX_STREAM_TRAIN ? 0 : 1;
        wall[stream] += s->wall_ns;
        steps[stream]++;
        if (stream == 0) {
            wait += s->wait_ns;
            compute += s->compute_ns;
        }
    }
    struct window_figures f = {0};
    f.seconds_per_step = steps[0] ? (double)wall[0] * 1e-9 / (double)steps[0] : 0;
    f.seconds_per_val_step =
        steps[1] ? (double)wall[1] * 1e-9 / (double)steps[1] : f.seconds_per_step / 3;
    f.wait_ratio = wall[0] ? (double)wait / (double)wall[0] : 0;
    f.compute_ratio = wall[0] ? (double)compute / (double)wall[0] : 0;
    return f;
}

static void set_real(json_t *obj, const char *key, double value) {
    if (isfinite(value)) {
        json_object_set_new(obj, key, json_real(value));
    }
}

static double eta_seconds(const struct watched *w, const struct window_figures *f) {
    const struct vx_progress *p = &w->progress;
    double train_left = (double)w->epochs * w->iterations - (double)p->k;
    double val_left = ((double)w->epochs - p->epoch) * w->val_iterations;
    return fmax(train_left, 0) * f->seconds_per_step + fmax(val_left, 0) * f->seconds_per_val_step;
}

json_t *watched_progress(const struct watched *w) {
    if (!w->has_progress) {
        return NULL;
    }
    const struct vx_progress *p = &w->progress;
    struct window_figures f = watched_figures(w);
    json_t *o =
        json_pack("{s:i, s:i, s:i, s:i, s:I, s:I, s:s}", "epoch", (int)p->epoch, "epochs",
                  (int)p->epochs, "iteration", (int)p->iteration, "iterations", (int)p->iterations,
                  "done", (json_int_t)p->k, "total", (json_int_t)w->epochs * w->iterations, "phase",
                  p->state == VX_STEP_TOTAL ? "validating" : vx_step_state_name(p->state));
    if (!o) {
        return NULL;
    }
    if (w->iterations == 0) { /* ends by the clock */
        json_object_del(o, "iterations");
        json_object_del(o, "total");
    }
    if (w->keeper.state != VX_NEARING_NOTHING) {
        const struct vx_keeper_record *k = &w->keeper;
        json_object_set_new(o, "cache",
                            json_pack("{s:s, s:s, s:I, s:I, s:i, s:i}", "mode",
                                      vx_reading_word((enum vx_reading)k->mode), "state",
                                      vx_nearing_name(k->state), "done_bytes",
                                      (json_int_t)k->bytes_done, "total_bytes",
                                      (json_int_t)k->bytes_total, "done", (int)k->cases_done,
                                      "total", (int)k->cases_total));
    }
    set_real(o, "train_loss", p->loss);
    set_real(o, "val_loss", p->val_loss);
    set_real(o, "ema_dice", p->ema_dice);
    set_real(o, "best_dice", p->best_dice);
    if (f.seconds_per_step > 0) {
        set_real(o, "seconds_per_step", f.seconds_per_step);
        set_real(o, "loader_wait_ratio", f.wait_ratio);
        set_real(o, "accelerator_utilisation", f.compute_ratio);
        if (w->iterations > 0) {
            set_real(o, "eta_seconds", eta_seconds(w, &f));
        }
    }
    json_t *phases = json_object();
    for (uint32_t i = 0; phases && i < VX_PHASE_COUNT; i++) {
        set_real(phases, vx_phase_name(i), (double)p->phase_ns[i] * 1e-9);
    }
    json_object_set_new(o, "phase_seconds", phases);
    json_object_set_new(o, "queue_depth", json_integer(w->depth));
    json_object_set_new(o, "workers", json_integer(w->workers));
    if (w->quarantined) {
        json_object_set_new(o, "quarantined", json_copy(w->quarantined));
    }
    if (p->state == VX_STEP_TOTAL) {
        json_object_set_new(o, "validated_cases", json_integer(p->case_index));
        json_object_set_new(o, "validation_cases", json_integer(p->cases));
    }
    return o;
}

static json_t *worker_json(uint32_t number, const struct vx_worker_record *r) {
    uint64_t augment = 0;
    for (int t = 0; t < VX_TIMELINE_TRANSFORMS; t++) {
        augment += r->augment_ns[t];
    }
    uint64_t read = r->read_ns > r->open_ns ? r->read_ns - r->open_ns : 0;
    return json_pack("{s:i, s:i, s:s, s:I, s:{s:f, s:f, s:f, s:f, s:f}, s:f, s:I, s:I, s:I}",
                     "worker", (int)number, "pid", (int)r->pid, "state",
                     vx_worker_state_name(r->state), "samples", (json_int_t)r->samples, "seconds",
                     "open", (double)r->open_ns * 1e-9, "read", (double)read * 1e-9, "decompress",
                     (double)r->decompress_ns * 1e-9, "augment", (double)augment * 1e-9, "wait",
                     (double)r->wait_ns * 1e-9, "cpu_seconds", (double)r->cpu_ns * 1e-9,
                     "memory_bytes", (json_int_t)r->rss_anon, "bytes_read",
                     (json_int_t)r->bytes_read, "major_faults", (json_int_t)r->major_faults);
}

json_t *watched_workers(const struct watched *w) {
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < VX_WORKERS_MAX; i++) {
        const struct vx_worker_record *r = &w->worker[i];
        if (r->pid > 0 && r->state != VX_WORKER_LEFT && r->state != VX_WORKER_FAILED) {
            json_array_append_new(list, worker_json(i, r));
        }
    }
    return list;
}
