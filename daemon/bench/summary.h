/* What the runs of a loader benchmark say together. A pure function. Thread: any. */
#ifndef VX_DAEMON_BENCH_SUMMARY_H
#define VX_DAEMON_BENCH_SUMMARY_H

#include <jansson.h>

struct vx_brief;

/* runs: name -> figures of figures.h, or {"skipped": why}; what was not made is absent.
 *
 * {"dataset", "configuration", "patch_size", "batch_size", "step_ms", "workers", "slots", "cores",
 *  "runs", "sample_ms": what one sample costs a worker, "samples_per_second_per_worker",
 *  "workers_wanted": N of tune/verdict.h for that step, null without a step,
 *  "stall": {"compute", "preparation", "fetch"}, shares of the step of the run with most stall; a
 *  share that was not measured is null,
 *  "sentence": the same for people}. New reference; NULL when out of memory. */
json_t *vx_bench_summary(const struct vx_brief *brief, const json_t *runs);

#endif
