/* The telemetry thread: ten times a second it reads the timelines of running sessions (mapped
 * read-only) and the host's figures, and keeps what the HTTP interface shows: live progress of a
 * job, device load, Prometheus text. Thread: create and free on the loop thread; attach and detach
 * on any; the getters on any. */
#ifndef VX_DAEMON_TELEMETRY_H
#define VX_DAEMON_TELEMETRY_H

#include "daemon/telemetry/diagnosis.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct vx_buf;
struct vx_err;
struct vx_gpu;
struct vx_gpu_card;
struct vx_telemetry;

/* What is found out about a session. All on the telemetry thread, never after detach has returned;
 * they must not call telemetry. Each may be NULL. */
struct vx_telemetry_events {
    void *ctx;
    /* A verdict began to hold, or no longer does. Borrowed: the verdict with its words. */
    void (*verdict)(void *ctx, enum vx_verdict_code code, bool began, const json_t *verdict);
    /* The tuner wants a knob turned, or tells how a change went. */
    void (*decided)(void *ctx, const struct vx_decision *decision);
    /* A sample of the time series: step seconds (1, 10, 60) up to ts_ms. Borrowed. */
    void (*sample)(void *ctx, int step, int64_t ts_ms, const json_t *sample);
};

/* What the timeline does not say about a session. */
struct vx_telemetry_job {
    int64_t job_id;
    const char *device;                          /* "cpu:0" */
    uint32_t epochs, iterations, val_iterations; /* iterations 0: it ends by the clock */
    uint32_t workers;
    const char *store_dir; /* of the prepared store */
    struct vx_session_facts facts;
    struct vx_tuner_limits limits;
    uint32_t setting[VX_KNOBS];
    enum vx_tune_mode mode;
    bool deciding; /* vx_telemetry_deciding */
    struct vx_telemetry_events events;
};

/* nvml: NVIDIA's management library, NULL for the driver's. dcgm_names: metrics under the names of
 * NVIDIA's exporter as well. cores: that sessions side by side share; 0: those there are. */
struct vx_telemetry *vx_telemetry_create(const char *nvml, bool dcgm_names, uint32_t cores,
                                         struct vx_err *err);
/* Ends the thread. */
void vx_telemetry_free(struct vx_telemetry *t);

/* Maps the session's timeline and ring (the descriptors are duplicated) until detach. */
int vx_telemetry_attach(struct vx_telemetry *t, const struct vx_telemetry_job *job, int timeline_fd,
                        int ring_fd, struct vx_err *err);
void vx_telemetry_detach(struct vx_telemetry *t, int64_t job_id);
/* A worker was lost; for the restart counter. reason: daemon/session/death.h. */
void vx_telemetry_worker_lost(struct vx_telemetry *t, const char *reason);
/* What the supervisor changed in an attached session: workers wanted, a case taken out. */
void vx_telemetry_workers(struct vx_telemetry *t, int64_t job_id, uint32_t workers);
void vx_telemetry_quarantined(struct vx_telemetry *t, int64_t job_id, const char *case_name);

/* A knob of an attached session stands at value now: vx_tuner_stands. */
void vx_telemetry_turned(struct vx_telemetry *t, int64_t job_id, enum vx_tune_knob knob,
                         uint32_t value);
/* A person turned it; before vx_telemetry_turned. */
void vx_telemetry_hand(struct vx_telemetry *t, int64_t job_id, enum vx_tune_knob knob);
/* Whether what comes of the session's cache mode is still open. */
void vx_telemetry_deciding(struct vx_telemetry *t, int64_t job_id, bool deciding);
/* For the verdicts worker_lost and cache_corrupt. */
void vx_telemetry_lost(struct vx_telemetry *t, int64_t job_id, const char *cause,
                       const char *case_name);
void vx_telemetry_corrupt(struct vx_telemetry *t, int64_t job_id, const char *case_name);
/* vx_diagnosis_json of an attached session with "workers" (watched.h); NULL where there is none. */
json_t *vx_telemetry_bottleneck(struct vx_telemetry *t, int64_t job_id, enum vx_language language);

/* Live progress of a running job: {"epoch", "epochs", "iteration", "iterations", "done", "total",
 * "train_loss", "val_loss", "ema_dice", "best_dice", "seconds_per_step", "loader_wait_ratio",
 * "accelerator_utilisation", "phase_seconds", "queue_depth", "workers", "eta_seconds", "phase",
 * "quarantined": [case]};
 * figures not known yet are left out. New reference; NULL while the job is not attached or has not
 * begun. */
json_t *vx_telemetry_progress(struct vx_telemetry *t, int64_t job_id);
/* The GPUs that NVIDIA's library lists, in its order: that of nvidia-smi. */
uint32_t vx_telemetry_gpus(const struct vx_telemetry *t);
/* Borrowed, constant. */
const struct vx_gpu_card *vx_telemetry_gpu_card(const struct vx_telemetry *t, uint32_t i);
/* The last look at it, a second old at most; all 0 before the first. */
void vx_telemetry_gpu(struct vx_telemetry *t, uint32_t i, struct vx_gpu *ret);
/* Utilisation of the host's CPUs over the last second, 0 to 1. */
double vx_telemetry_cpu(struct vx_telemetry *t);
/* Prometheus text of everything measured here, appended. */
void vx_telemetry_metrics(struct vx_telemetry *t, struct vx_buf *out);

#endif
