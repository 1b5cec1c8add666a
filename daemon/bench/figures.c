#include "daemon/bench/figures.h"

#include "augment/policy.h"
#include "base/clock.h"
#include "base/own.h"

#include <stdlib.h>
#include <time.h>

enum { MAX_STEPS = 1 << 20, CHUNK = 64, TRIES = 100 };

static bool read_worker(const struct vx_timeline *t, uint32_t w, int tries,
                        struct vx_worker_record *ret) {
    static const struct timespec nap = {0, 200000};
    while (!vx_timeline_worker(t, w, ret)) {
        if (--tries <= 0) {
            return false;
        }
        nanosleep(&nap, NULL);
    }
    return true;
}

void vx_bench_mark(const struct vx_timeline *t, uint64_t idle_ns, uint32_t workers,
                   struct vx_bench_mark *ret) {
    *ret = (struct vx_bench_mark){.now_ns = vx_now_ns(), .idle_ns = idle_ns};
    vx_timeline_progress(t, &ret->progress);
    for (uint32_t w = 0; w < VX_WORKERS_MAX; w++) {
        struct vx_worker_record *r = &ret->worker[w];
        if (!read_worker(t, w, w < workers ? TRIES : 1, r)) {
            *r = (struct vx_worker_record){0};
        } else if (r->state == VX_WORKER_WAITING && r->heartbeat_ns < ret->now_ns) {
            r->wait_ns += ret->now_ns - r->heartbeat_ns; /* the wait under way is counted later */
        }
    }
}

void vx_bench_steps_begin(struct vx_bench_steps *s, const struct vx_timeline *t) {
    s->n = 0;
    s->depth = 0;
    s->last_seq = vx_timeline_last_seq(t);
}

static bool grow(struct vx_bench_steps *s) {
    size_t cap = s->cap ? 2 * s->cap : 4096;
    double *wall = s->n < s->cap ? NULL : realloc(s->wall, cap * sizeof *wall);
    if (s->n < s->cap) {
        return true;
    }
    s->wall = wall ? wall : s->wall;
    double *wait = wall ? realloc(s->wait, cap * sizeof *wait) : NULL;
    s->wait = wait ? wait : s->wait;
    s->cap = wait ? cap : s->cap;
    return wait != NULL;
}

void vx_bench_steps_collect(struct vx_bench_steps *s, const struct vx_timeline *t) {
    struct vx_step_record r[CHUNK];
    size_t n = CHUNK;
    while (n == CHUNK) {
        n = vx_timeline_steps(t, s->last_seq, r, CHUNK);
        for (size_t i = 0; i < n; i++) {
            uint64_t wall = 0;
            for (int p = 0; p < VX_PHASE_COUNT; p++) {
                wall += r[i].phase_ns[p];
            }
            s->last_seq = r[i].seq;
            if (s->n < MAX_STEPS && grow(s)) {
                s->wall[s->n] = (double)wall * 1e-9;
                s->wait[s->n++] = (double)r[i].phase_ns[VX_PHASE_WAIT_LOADER] * 1e-9;
                s->depth += r[i].depth;
            }
        }
    }
}

void vx_bench_steps_release(struct vx_bench_steps *s) {
    free(s->wall);
    free(s->wait);
    *s = (struct vx_bench_steps){0};
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static json_t *distribution(double *v, size_t n) {
    double sum = 0;
    qsort(v, n, sizeof *v, compare);
    for (size_t i = 0; i < n; i++) {
        sum += v[i];
    }
    return json_pack("{s:f, s:f, s:f, s:f}", "mean", 1e3 * sum / (double)n, "p50", 1e3 * v[n / 2],
                     "p95", 1e3 * v[n * 95 / 100], "p99", 1e3 * v[n * 99 / 100]);
}

/* What all workers did in the stretch. */
struct work {
    double samples, bytes, opens;
    double open, read, decompress, augment[VX_T_COUNT], augment_all, cpu; /* seconds */
    double present, busy; /* seconds of those who were there all along */
    double present_samples;
    json_t *list;
};

static void add_worker(struct work *w, const struct vx_worker_record *a,
                       const struct vx_worker_record *b, double seconds) {
    static const struct vx_worker_record none;
    bool stayed = a->pid == b->pid && a->pid != 0;
    a = stayed ? a : &none;
    double samples = (double)(b->samples - a->samples);
    double waited = (double)b->wait_ns * 1e-9 - (double)a->wait_ns * 1e-9;
    double busy = waited < seconds ? seconds - waited : 0;
    w->samples += samples;
    w->bytes += (double)(b->bytes_read - a->bytes_read);
    w->opens += (double)(b->opens - a->opens);
    w->open += (double)(b->open_ns - a->open_ns) * 1e-9;
    w->read += (double)(b->read_ns - b->open_ns - (a->read_ns - a->open_ns)) * 1e-9;
    w->decompress += (double)(b->decompress_ns - a->decompress_ns) * 1e-9;
    w->cpu += (double)(b->cpu_ns - a->cpu_ns) * 1e-9;
    for (int t = 0; t < VX_T_COUNT; t++) {
        double s = (double)(b->augment_ns[t] - a->augment_ns[t]) * 1e-9;
        w->augment[t] += s;
        w->augment_all += s;
    }
    if (stayed) {
        w->present += seconds;
        w->present_samples += samples;
        w->busy += busy;
        json_array_append_new(
            w->list, json_pack("{s:f, s:f}", "samples", samples, "busy_share", busy / seconds));
    }
}

static json_t *phases(const struct vx_progress *a, const struct vx_progress *b, double steps,
                      double *ret_wall, double *ret_wait, double *ret_compute) {
    json_t *o = json_object();
    *ret_wall = 0;
    for (uint32_t p = 0; p < VX_PHASE_COUNT; p++) {
        double s = (double)(b->phase_ns[p] - a->phase_ns[p]) * 1e-9;
        *ret_wall += s;
        *ret_wait = p == VX_PHASE_WAIT_LOADER ? s : *ret_wait;
        *ret_compute = p == VX_PHASE_COMPUTE ? s : *ret_compute;
        json_object_set_new(o, vx_phase_name(p), json_real(1e3 * s / steps));
    }
    return o;
}

/* Adds what one sample costs. */
static void add_costs(json_t *o, const struct work *w) {
    double ms = 1e3 / w->samples;
    double busy = w->present_samples > 0 ? 1e3 * w->busy / w->present_samples : 0;
    double made = ms * (w->open + w->read + w->decompress + w->augment_all);
    json_t *transforms = json_object();
    for (uint32_t t = 0; t < VX_T_COUNT; t++) {
        json_object_set_new(transforms, vx_transform_name(t), json_real(ms * w->augment[t]));
    }
    json_object_set_new(o, "sample_ms",
                        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "busy", busy, "open",
                                  ms * w->open, "read", ms * w->read, "decompress",
                                  ms * w->decompress, "augment", ms * w->augment_all, "other",
                                  busy > made ? busy - made : 0.0, "cpu", ms * w->cpu));
    json_object_set_new(o, "transform_ms", transforms);
    json_object_set_new(o, "samples_per_second_per_worker", json_real(busy > 0 ? 1e3 / busy : 0));
    json_object_set_new(o, "bytes_per_sample", json_real(w->bytes / w->samples));
    json_object_set_new(o, "opens_per_sample", json_real(w->opens / w->samples));
}

json_t *vx_bench_figures(const struct vx_bench_mark *before, const struct vx_bench_mark *after,
                         struct vx_bench_steps *s, uint32_t batch) {
    double seconds = (double)(after->now_ns - before->now_ns) * 1e-9;
    double steps = (double)(after->progress.steps[0] - before->progress.steps[0]);
    if (seconds <= 0 || steps <= 0 || s->n == 0) {
        return NULL;
    }
    struct work w = {.list = json_array()};
    for (uint32_t i = 0; i < VX_WORKERS_MAX; i++) {
        if (after->worker[i].pid) {
            add_worker(&w, &before->worker[i], &after->worker[i], seconds);
        }
    }
    double wall, wait = 0, compute = 0;
    json_t *split = phases(&before->progress, &after->progress, steps, &wall, &wait, &compute);
    double idle = (double)(after->idle_ns - before->idle_ns) * 1e-9, depth = s->depth;
    json_t *o = json_pack(
        "{s:f, s:I, s:o, s:o, s:o, s:f, s:f, s:f, s:f, s:f, s:o}", "seconds", seconds, "steps",
        (json_int_t)steps, "step_ms", distribution(s->wall, s->n), "wait_ms",
        distribution(s->wait, s->n), "phase_ms", split, "wait_share", wait / wall,
        "accelerator_utilisation", compute / wall, "device_idle_share", idle / seconds, "depth",
        depth / (double)s->n, "samples_per_second", steps * batch / seconds, "workers", w.list);
    if (o && w.samples > 0) {
        add_costs(o, &w);
    }
    return o;
}
