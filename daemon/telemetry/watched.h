/* Inside daemon/telemetry only: one session as the telemetry thread sees it. Thread: under the
 * telemetry's lock. */
#ifndef VX_DAEMON_TELEMETRY_WATCHED_H
#define VX_DAEMON_TELEMETRY_WATCHED_H

#include "daemon/session/death.h"
#include "daemon/telemetry/diagnosis.h"
#include "daemon/telemetry/telemetry.h"
#include "session/control.h"
#include "session/ring.h"
#include "session/timeline.h"

#include <jansson.h>

#define WINDOW_STEPS 128

/* Upper bounds of the step histogram in seconds; the last bucket is +Inf. */
#define STEP_BUCKETS 14
extern const double vx_step_bounds[STEP_BUCKETS];

/* Sums since the daemon's start, over all sessions. */
struct totals {
    uint64_t step_bucket[STEP_BUCKETS + 1], steps;
    double step_seconds;
    uint64_t phase_ns[VX_PHASE_COUNT];
    uint64_t augment_ns[VX_TIMELINE_TRANSFORMS];
    uint64_t read_ns, decompress_ns, slot_wait_ns, bytes_read, samples;
    uint64_t lost[VX_DEATH_REASONS]; /* workers */
};

struct window_step {
    uint64_t wall_ns, wait_ns, compute_ns, end_ns;
    uint32_t stream;
};

struct vx_residency;

struct watched {
    struct watched *next;
    int64_t job_id;
    char device[32];
    uint32_t epochs, iterations, val_iterations, workers;
    json_t *quarantined; /* owned array of case names; NULL: none */
    struct vx_timeline timeline;
    struct vx_keeper_record keeper; /* what brings the store nearer is doing */
    struct vx_ring ring;
    uint64_t last_seq;
    struct window_step window[WINDOW_STEPS];
    uint64_t window_n; /* ever added */
    bool has_progress;
    struct vx_progress progress;
    struct vx_worker_record worker[VX_WORKERS_MAX]; /* as last seen */
    uint32_t worker_states[VX_WORKER_STATES];
    uint32_t slots[4];
    uint32_t depth;
    struct vx_telemetry_events events;
    struct vx_diagnosis *diagnosis; /* owned; written by the telemetry thread under the lock */
    uint64_t tuned[VX_KNOBS][VX_DECISION_KINDS]; /* decisions so far */
    int32_t step_pid;
    struct vx_residency *residency; /* owned; NULL: not known. Telemetry thread */
    uint32_t workers_most;          /* as planned for one session alone */
};

/* Takes up what was written since the last call. */
void watched_sample(struct watched *w, struct totals *totals);

struct window_figures {
    double seconds_per_step; /* mean wall time of training steps in the window; 0: none yet */
    double seconds_per_val_step;
    double wait_ratio, compute_ratio;
};
struct window_figures watched_figures(const struct watched *w);
/* What each living worker did since its process began: [{"worker", "pid", "state", "samples",
 * "seconds", "cpu_seconds", "memory_bytes", "bytes_read", "major_faults"}]. New reference. */
json_t *watched_workers(const struct watched *w);
/* New reference; see vx_telemetry_progress. */
json_t *watched_progress(const struct watched *w);

#endif
