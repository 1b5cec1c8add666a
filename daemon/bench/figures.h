/* What a stretch of a session came to: two looks at its timeline and the steps between them, as
 * figures. Thread: the step's. */
#ifndef VX_DAEMON_BENCH_FIGURES_H
#define VX_DAEMON_BENCH_FIGURES_H

#include "session/control.h"
#include "session/timeline.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_bench_mark {
    uint64_t now_ns;  /* 0: not taken */
    uint64_t idle_ns; /* of the device so far */
    struct vx_progress progress;
    struct vx_worker_record worker[VX_WORKERS_MAX]; /* pid 0: none */
};

/* Steps of the stretch, the first 2^20 of them: seconds. */
struct vx_bench_steps {
    uint64_t last_seq;
    double *wall, *wait; /* owned */
    size_t n, cap;
    double depth; /* sum */
};

/* workers: how many there should be. A record whose writer was interrupted in the middle is waited
 * for, a little. */
void vx_bench_mark(const struct vx_timeline *t, uint64_t idle_ns, uint32_t workers,
                   struct vx_bench_mark *ret);
/* Begins with the step after the newest record. */
void vx_bench_steps_begin(struct vx_bench_steps *s, const struct vx_timeline *t);
/* Takes up what was recorded since; often enough that no record is overwritten before. */
void vx_bench_steps_collect(struct vx_bench_steps *s, const struct vx_timeline *t);
void vx_bench_steps_release(struct vx_bench_steps *s);

/* {"seconds", "steps", "step_ms", "wait_ms": {mean, p50, p95, p99}, "phase_ms" of a step,
 * "wait_share", "accelerator_utilisation", "device_idle_share", "depth", "samples_per_second",
 * "samples_per_second_per_worker", "sample_ms": what one costs its worker {busy, open, read,
 * decompress, augment, other, cpu}, "transform_ms", "bytes_per_sample", "opens_per_sample",
 * "workers": [{"samples", "busy_share"}]}. New reference; NULL when out of memory or where nothing
 * was measured. Sorts s. */
json_t *vx_bench_figures(const struct vx_bench_mark *before, const struct vx_bench_mark *after,
                         struct vx_bench_steps *s, uint32_t batch);

#endif
