/* The sampling thread and its snapshot. See telemetry.h. */
#include "daemon/telemetry/telemetry.h"

#include "augment/policy.h"
#include "base/budget.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/own.h"
#include "daemon/evidence/host.h"
#include "daemon/evidence/residency.h"
#include "daemon/telemetry/gpus.h"
#include "daemon/telemetry/observe.h"
#include "daemon/telemetry/procstat.h"
#include "daemon/telemetry/watched.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS       100000000L
#define TICKS_PER_CPU 10 /* host load is measured over a second */

struct vx_telemetry {
    pthread_t thread;
    pthread_mutex_t look; /* held while sessions are looked at; taken before lock. Whoever adds or
                             removes one waits for the end of the look */
    pthread_mutex_t lock; /* guards everything below; nothing outside is called under it */
    pthread_cond_t wake;
    bool ending;
    struct observation observation;
    struct gpus gpus;
    struct watched *list;
    struct totals totals;
    struct vx_cpu_times cpu;
    double cpu_ratio;
    struct vx_memory memory;
};

static void sample_host(struct vx_telemetry *t) {
    struct vx_cpu_times now;
    struct vx_memory memory;
    bool have_cpu = vx_cpu_times_read(&now), have_memory = vx_budget_memory("", &memory);
    pthread_mutex_lock(&t->lock);
    if (have_cpu) {
        t->cpu_ratio = t->cpu.total ? vx_cpu_busy_ratio(&t->cpu, &now) : 0;
        t->cpu = now;
    }
    if (have_memory) {
        t->memory = memory;
    }
    pthread_mutex_unlock(&t->lock);
}

/* Ticks that a standstill of the machine swallowed are not made up for. */
static void next_tick(struct timespec *next) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - next->tv_sec > 1) {
        *next = now;
    }
    next->tv_nsec += TICK_NS;
    if (next->tv_nsec >= 1000000000L) {
        next->tv_nsec -= 1000000000L;
        next->tv_sec++;
    }
}

static void *sampler(void *arg) {
    struct vx_telemetry *t = arg;
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (unsigned tick = 0;; tick++) {
        if (tick % TICKS_PER_CPU == 0) {
            sample_host(t);
            /* Beside a broken GPU the library may not answer for minutes: no job waits for that. */
            gpus_look(&t->gpus, &t->lock);
            pthread_mutex_lock(&t->look);
            t->observation.list = t->list;
            observe(&t->observation, vx_now_ns(), vx_wall_ms());
            pthread_mutex_unlock(&t->look);
        }
        next_tick(&next);
        pthread_mutex_lock(&t->lock);
        for (struct watched *w = t->list; w; w = w->next) {
            watched_sample(w, &t->totals);
        }
        while (!t->ending && pthread_cond_timedwait(&t->wake, &t->lock, &next) != ETIMEDOUT) {
        }
        bool ending = t->ending;
        pthread_mutex_unlock(&t->lock);
        if (ending) {
            return NULL;
        }
    }
}

struct vx_telemetry *vx_telemetry_create(const char *nvml, bool dcgm_names, uint32_t cores,
                                         struct vx_err *err) {
    struct vx_telemetry *t = calloc(1, sizeof *t);
    if (!t) {
        vx_fail(err, VX_E_NOMEM, NULL, "starting the telemetry thread");
        return NULL;
    }
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&t->look, NULL);
    pthread_mutex_init(&t->lock, NULL);
    t->observation.lock = &t->lock;
    t->observation.gpus = &t->gpus;
    t->observation.cores = cores;
    t->observation.watch = vx_host_watch_create("", (int32_t)getpid());
    if (!t->observation.watch) {
        free(t);
        vx_fail(err, VX_E_NOMEM, NULL, "starting the telemetry thread");
        return NULL;
    }
    gpus_open(&t->gpus, nvml, dcgm_names);
    int rc = pthread_create(&t->thread, NULL, sampler, t);
    if (rc != 0) {
        vx_fail_errno(err, rc, NULL, "cannot start the telemetry thread");
        free(t);
        return NULL;
    }
    pthread_setname_np(t->thread, "telemetry");
    return t;
}

static void watched_free(struct watched *w) {
    vx_timeline_close(&w->timeline);
    vx_ring_close(&w->ring);
    json_decref(w->quarantined);
    free(w->diagnosis);
    vx_residency_close(w->residency);
    free(w);
}

void vx_telemetry_free(struct vx_telemetry *t) {
    if (!t) {
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->ending = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    while (t->list) {
        struct watched *w = t->list;
        t->list = w->next;
        watched_free(w);
    }
    vx_host_watch_free(t->observation.watch);
    gpus_close(&t->gpus);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    pthread_mutex_destroy(&t->look);
    free(t);
}

int vx_telemetry_attach(struct vx_telemetry *t, const struct vx_telemetry_job *job, int timeline_fd,
                        int ring_fd, struct vx_err *err) {
    struct watched *w = calloc(1, sizeof *w);
    struct vx_diagnosis *d = w ? malloc(sizeof *d) : NULL;
    if (!d) {
        free(w);
        return vx_fail(err, VX_E_NOMEM, NULL, "attaching to a session");
    }
    vx_diagnosis_init(d, &job->facts, &job->limits, job->setting, job->mode, vx_now_ns());
    d->deciding = job->deciding;
    w->diagnosis = d;
    w->residency = job->store_dir ? vx_residency_open(job->store_dir) : NULL;
    d->facts.store_bytes = w->residency ? vx_residency_bytes(w->residency) : 0;
    w->workers_most = job->limits.hi[VX_KNOB_WORKERS];
    w->events = job->events;
    w->timeline.shm = w->ring.shm = (struct vx_shm)VX_SHM_INIT;
    w->job_id = job->job_id;
    w->epochs = job->epochs;
    w->iterations = job->iterations;
    w->val_iterations = job->val_iterations;
    w->workers = job->workers;
    snprintf(w->device, sizeof w->device, "%s", job->device);
    int fd = fcntl(timeline_fd, F_DUPFD_CLOEXEC, 3);
    int rc = fd < 0 ? vx_fail_errno(err, errno, NULL, "attaching to a session")
                    : vx_timeline_map(fd, false, &w->timeline, err);
    if (rc != VX_OK && fd >= 0) {
        close(fd);
    }
    fd = rc == VX_OK ? fcntl(ring_fd, F_DUPFD_CLOEXEC, 3) : -1;
    if (rc == VX_OK) {
        rc = fd < 0 ? vx_fail_errno(err, errno, NULL, "attaching to a session")
                    : vx_ring_map(fd, &w->ring, err);
        if (rc != VX_OK && fd >= 0) {
            close(fd);
        }
    }
    if (rc != VX_OK) {
        watched_free(w);
        return rc;
    }
    pthread_mutex_lock(&t->look);
    pthread_mutex_lock(&t->lock);
    w->next = t->list;
    t->list = w;
    pthread_mutex_unlock(&t->lock);
    pthread_mutex_unlock(&t->look);
    return VX_OK;
}

void vx_telemetry_detach(struct vx_telemetry *t, int64_t job_id) {
    pthread_mutex_lock(&t->look);
    pthread_mutex_lock(&t->lock);
    struct watched **at = &t->list;
    while (*at && (*at)->job_id != job_id) {
        at = &(*at)->next;
    }
    struct watched *w = *at;
    if (w) {
        watched_sample(w, &t->totals); /* the last records before the memory goes */
        *at = w->next;
    }
    pthread_mutex_unlock(&t->lock);
    pthread_mutex_unlock(&t->look);
    if (w) {
        watched_free(w);
    }
}

void vx_telemetry_worker_lost(struct vx_telemetry *t, const char *reason) {
    pthread_mutex_lock(&t->lock);
    for (int i = 0; i < VX_DEATH_REASONS; i++) {
        t->totals.lost[i] += strcmp(reason, vx_death_reasons[i]) == 0;
    }
    pthread_mutex_unlock(&t->lock);
}

/* With the lock held. */
static struct watched *find(struct vx_telemetry *t, int64_t job_id) {
    struct watched *w = t->list;
    while (w && w->job_id != job_id) {
        w = w->next;
    }
    return w;
}

void vx_telemetry_workers(struct vx_telemetry *t, int64_t job_id, uint32_t workers) {
    pthread_mutex_lock(&t->lock);
    struct watched *w = find(t, job_id);
    if (w) {
        w->workers = workers;
    }
    pthread_mutex_unlock(&t->lock);
}

void vx_telemetry_quarantined(struct vx_telemetry *t, int64_t job_id, const char *case_name) {
    pthread_mutex_lock(&t->lock);
    struct watched *w = find(t, job_id);
    if (w && !w->quarantined) {
        w->quarantined = json_array();
    }
    if (w) {
        json_array_append_new(w->quarantined, json_string(case_name));
    }
    pthread_mutex_unlock(&t->lock);
}

json_t *vx_telemetry_progress(struct vx_telemetry *t, int64_t job_id) {
    pthread_mutex_lock(&t->lock);
    struct watched *w = find(t, job_id);
    json_t *ret = w ? watched_progress(w) : NULL;
    pthread_mutex_unlock(&t->lock);
    return ret;
}

double vx_telemetry_cpu(struct vx_telemetry *t) {
    pthread_mutex_lock(&t->lock);
    double ratio = t->cpu_ratio;
    pthread_mutex_unlock(&t->lock);
    return ratio;
}

uint32_t vx_telemetry_gpus(const struct vx_telemetry *t) {
    return t->gpus.n;
}

const struct vx_gpu_card *vx_telemetry_gpu_card(const struct vx_telemetry *t, uint32_t i) {
    return vx_gpus_card(t->gpus.source, i);
}

void vx_telemetry_gpu(struct vx_telemetry *t, uint32_t i, struct vx_gpu *ret) {
    pthread_mutex_lock(&t->lock);
    *ret = t->gpus.last[i];
    pthread_mutex_unlock(&t->lock);
}

static void head(struct vx_buf *out, const char *name, const char *type, const char *help) {
    vx_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_totals(struct vx_buf *out, const struct totals *s) {
    head(out, "voxeld_step_seconds", "histogram", "Wall time of training steps.");
    uint64_t sum = 0;
    for (int b = 0; b < STEP_BUCKETS; b++) {
        sum += s->step_bucket[b];
        vx_buf_printf(out, "voxeld_step_seconds_bucket{le=\"%g\"} %llu\n", vx_step_bounds[b],
                      (unsigned long long)sum);
    }
    vx_buf_printf(out, "voxeld_step_seconds_bucket{le=\"+Inf\"} %llu\n",
                  (unsigned long long)s->steps);
    vx_buf_printf(out, "voxeld_step_seconds_sum %.9f\nvoxeld_step_seconds_count %llu\n",
                  s->step_seconds, (unsigned long long)s->steps);
    head(out, "voxeld_step_phase_seconds_total", "counter", "Time of steps by phase.");
    for (uint32_t p = 0; p < VX_PHASE_COUNT; p++) {
        vx_buf_printf(out, "voxeld_step_phase_seconds_total{phase=\"%s\"} %.6f\n", vx_phase_name(p),
                      (double)s->phase_ns[p] * 1e-9);
    }
    head(out, "voxeld_augment_seconds_total", "counter",
         "Time that workers spent in each transform.");
    for (uint32_t i = 0; i < VX_T_COUNT; i++) {
        vx_buf_printf(out, "voxeld_augment_seconds_total{transform=\"%s\"} %.6f\n",
                      vx_transform_name(i), (double)s->augment_ns[i] * 1e-9);
    }
    head(out, "voxeld_cache_read_bytes_total", "counter",
         "Compressed bytes read from prepared stores.");
    vx_buf_printf(out, "voxeld_cache_read_bytes_total %llu\n", (unsigned long long)s->bytes_read);
    head(out, "voxeld_loader_samples_total", "counter", "Samples made by workers.");
    vx_buf_printf(out, "voxeld_loader_samples_total %llu\n", (unsigned long long)s->samples);
    head(out, "voxeld_loader_seconds_total", "counter", "Time of workers outside the transforms.");
    vx_buf_printf(out,
                  "voxeld_loader_seconds_total{activity=\"read\"} %.6f\n"
                  "voxeld_loader_seconds_total{activity=\"decompress\"} %.6f\n"
                  "voxeld_loader_seconds_total{activity=\"wait_slot\"} %.6f\n",
                  (double)s->read_ns * 1e-9, (double)s->decompress_ns * 1e-9,
                  (double)s->slot_wait_ns * 1e-9);
    head(out, "voxeld_worker_restarts_total", "counter",
         "Workers that were lost and brought back.");
    for (int i = 0; i < VX_DEATH_REASONS; i++) {
        vx_buf_printf(out, "voxeld_worker_restarts_total{reason=\"%s\"} %llu\n",
                      vx_death_reasons[i], (unsigned long long)s->lost[i]);
    }
}

/* One line per running job for a gauge; the families stand together, as the format wants it. */
static void write_jobs(struct vx_buf *out, const struct watched *list) {
    head(out, "voxeld_loader_stall_ratio", "gauge",
         "Share of the last steps spent waiting for samples.");
    for (const struct watched *w = list; w; w = w->next) {
        vx_buf_printf(out, "voxeld_loader_stall_ratio{job=\"%lld\"} %.6f\n", (long long)w->job_id,
                      watched_figures(w).wait_ratio);
    }
    head(out, "voxeld_accelerator_utilisation_ratio", "gauge",
         "Share of the last steps spent computing.");
    for (const struct watched *w = list; w; w = w->next) {
        vx_buf_printf(out,
                      "voxeld_accelerator_utilisation_ratio{job=\"%lld\",device=\"%s\"} %.6f\n",
                      (long long)w->job_id, w->device, watched_figures(w).compute_ratio);
    }
    head(out, "voxeld_loader_queue_depth", "gauge",
         "Samples ready when the last step asked for its batch.");
    for (const struct watched *w = list; w; w = w->next) {
        vx_buf_printf(out, "voxeld_loader_queue_depth{job=\"%lld\"} %u\n", (long long)w->job_id,
                      w->depth);
    }
    head(out, "voxeld_loader_workers", "gauge", "Workers by what they are doing.");
    for (const struct watched *w = list; w; w = w->next) {
        for (uint32_t s = VX_WORKER_STARTING; s < VX_WORKER_STATES; s++) {
            vx_buf_printf(out, "voxeld_loader_workers{job=\"%lld\",state=\"%s\"} %u\n",
                          (long long)w->job_id, vx_worker_state_name(s), w->worker_states[s]);
        }
    }
    head(out, "voxeld_verdict_active", "gauge", "1 where a verdict holds for a running job.");
    for (const struct watched *w = list; w; w = w->next) {
        for (int c = 0; c < VX_VERDICTS; c++) {
            vx_buf_printf(out, "voxeld_verdict_active{job=\"%lld\",code=\"%s\"} %u\n",
                          (long long)w->job_id, vx_verdict_word((enum vx_verdict_code)c),
                          w->diagnosis->said >> c & 1u);
        }
    }
    head(out, "voxeld_tuning_changes_total", "counter", "Decisions of the tuner, by knob.");
    for (const struct watched *w = list; w; w = w->next) {
        for (int k = 0; k < VX_KNOBS; k++) {
            for (unsigned d = VX_DECISION_ADVISE; d < VX_DECISION_KINDS; d++) {
                vx_buf_printf(
                    out,
                    "voxeld_tuning_changes_total{job=\"%lld\",knob=\"%s\",outcome=\"%s\"} %llu\n",
                    (long long)w->job_id, vx_knob_word((enum vx_tune_knob)k), vx_decision_word(d),
                    (unsigned long long)w->tuned[k][d]);
            }
        }
    }
    head(out, "voxeld_job_epoch", "gauge", "Epoch that a running job is in.");
    for (const struct watched *w = list; w; w = w->next) {
        vx_buf_printf(out, "voxeld_job_epoch{job=\"%lld\"} %u\n", (long long)w->job_id,
                      w->progress.epoch);
    }
}

void vx_telemetry_metrics(struct vx_telemetry *t, struct vx_buf *out) {
    pthread_mutex_lock(&t->lock);
    write_totals(out, &t->totals);
    write_jobs(out, t->list);
    gpus_metrics(&t->gpus, out);
    double cpu = t->cpu_ratio;
    struct vx_memory memory = t->memory;
    pthread_mutex_unlock(&t->lock);
    head(out, "voxeld_host_cpu_utilisation_ratio", "gauge", "Share of the host's CPU time in use.");
    vx_buf_printf(out, "voxeld_host_cpu_utilisation_ratio %.6f\n", cpu);
    head(out, "voxeld_host_memory_available_bytes", "gauge",
         "Memory that could still be given out.");
    vx_buf_printf(out, "voxeld_host_memory_available_bytes %llu\n",
                  (unsigned long long)memory.available_bytes);
}

/* --- diagnosis --- */

void vx_telemetry_turned(struct vx_telemetry *t, int64_t job_id, enum vx_tune_knob knob,
                         uint32_t value) {
    pthread_mutex_lock(&t->lock);
    struct watched *w = find(t, job_id);
    struct vx_diagnosis *d = w ? w->diagnosis : NULL;
    if (d) {
        vx_tuner_stands(&d->tuner, knob, value, (double)vx_now_ns() * 1e-9);
    }
    pthread_mutex_unlock(&t->lock);
}

void vx_telemetry_hand(struct vx_telemetry *t, int64_t job_id, enum vx_tune_knob knob) {
    pthread_mutex_lock(&t->lock);
    struct watched *w = find(t, job_id);
    struct vx_diagnosis *d = w ? w->diagnosis : NULL;
    if (d) {
        vx_tuner_hand(&d->tuner, knob, (double)vx_now_ns() * 1e-9);
    }
    pthread_mutex_unlock(&t->lock);
}

void vx_telemetry_deciding(struct vx_telemetry *t, int64_t job_id, bool deciding) {
    pthread_mutex_lock(&t->lock);
    struct watched *w = find(t, job_id);
    if (w && w->diagnosis) {
        w->diagnosis->deciding = deciding;
    }
    pthread_mutex_unlock(&t->lock);
}

void vx_telemetry_lost(struct vx_telemetry *t, int64_t job_id, const char *cause,
                       const char *case_name) {
    pthread_mutex_lock(&t->lock);
    struct watched *w = find(t, job_id);
    struct vx_diagnosis *d = w ? w->diagnosis : NULL;
    if (d) {
        vx_diagnosis_lost(d, cause, case_name, vx_now_ns());
    }
    pthread_mutex_unlock(&t->lock);
}

void vx_telemetry_corrupt(struct vx_telemetry *t, int64_t job_id, const char *case_name) {
    pthread_mutex_lock(&t->lock);
    struct watched *w = find(t, job_id);
    struct vx_diagnosis *d = w ? w->diagnosis : NULL;
    if (d) {
        vx_diagnosis_corrupt(d, case_name, vx_now_ns());
    }
    pthread_mutex_unlock(&t->lock);
}

json_t *vx_telemetry_bottleneck(struct vx_telemetry *t, int64_t job_id, enum vx_language language) {
    pthread_mutex_lock(&t->lock);
    struct watched *w = find(t, job_id);
    struct vx_diagnosis *d = w ? w->diagnosis : NULL;
    json_t *ret = d ? vx_diagnosis_json(d, language) : NULL;
    if (ret) {
        json_object_set_new(ret, "workers", watched_workers(w));
    }
    pthread_mutex_unlock(&t->lock);
    return ret;
}
