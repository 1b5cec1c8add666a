/* The loader's benchmark: one session after another on a pretended device, with the brief's real
 * workers, ring and prepared data. DS-Analyzer's three runs split what a device waits for: with
 * samples that cost nothing (no stall), with the prepared data in memory (stall for preparation),
 * with a page cache that stays cold (stall for fetching as well). A fourth, as_is, reads as a
 * training would: by the job's way of reading, the store brought nearer where that says so; the
 * others read its files.
 *
 * brief->bench holds a spec's "benchmark" (step_ms, seconds, runs, sample_ms, sample_cpu_ms) and
 * may ask for "costs". Everything is written below DIR/bench, and gone afterwards but for what was
 * asked for. Thread: blocks the calling one, as vx_session_run does. */
#ifndef VX_DAEMON_BENCH_LOADER_H
#define VX_DAEMON_BENCH_LOADER_H

#include "daemon/session/supervisor.h"

#define VX_BENCH_DIR "bench"

/* As vx_session_run. Of the lines of step only {"event": "run", "run": NAME, ...} with the figures
 * of a run are passed on, {"event": "cache"}, and phases: "benchmark: NAME". *ret_result: see
 * summary.h. */
int vx_bench_run(const struct vx_session_options *options, enum vx_session_end *ret_end,
                 json_t **ret_result, struct vx_err *err);

#endif
