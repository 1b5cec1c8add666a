#include "daemon/bench/summary.h"

#include "base/budget.h"
#include "base/buf.h"
#include "base/own.h"
#include "daemon/session/brief.h"
#include "tune/verdict.h"

#include <math.h>

/* NaN where the run was not made. */
static double figure(const json_t *runs, const char *run, const char *key, const char *part) {
    const json_t *v = json_object_get(json_object_get(runs, run), key);
    v = part ? json_object_get(v, part) : v;
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

static json_t *real_or_null(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static bool made(const json_t *runs, const char *run) {
    return isfinite(figure(runs, run, "step_ms", "mean"));
}

/* The run whose samples cost what they cost in a training. */
static const char *reference(const json_t *runs) {
    return made(runs, "memory") ? "memory" : made(runs, "as_is") ? "as_is" : "cold";
}

/* NaN where one of them is; below zero is the noise of two measurements. */
static double gap(double longer, double shorter) {
    double d = longer - shorter;
    return d < 0 ? 0 : d;
}

static json_t *stall(const json_t *runs) {
    double none = figure(runs, "synthetic", "step_ms", "mean");
    double memory = figure(runs, "memory", "step_ms", "mean");
    double cold = figure(runs, "cold", "step_ms", "mean");
    double all = isfinite(cold) ? cold : memory;
    return json_pack("{s:o, s:o, s:o}", "compute", real_or_null(1 - gap(all, none) / all),
                     "preparation", real_or_null(gap(memory, none) / all), "fetch",
                     real_or_null(gap(cold, memory) / all));
}

static void say_wait(struct vx_buf *text, const json_t *runs, const char *run, const char *how,
                     bool *said) {
    if (made(runs, run)) {
        vx_buf_printf(text, "%s %.1f %% of the time %s", *said ? "," : " it waited",
                      100 * figure(runs, run, "device_idle_share", NULL), how);
        *said = true;
    }
}

/* "A device whose step takes 20 ms for a batch of 2 needs 1 worker on this machine ..." */
static void paced_sentence(struct vx_buf *text, const struct vx_brief *b, const json_t *runs,
                           double step_ms, double sample_ms, unsigned wanted, unsigned cores) {
    vx_buf_printf(text,
                  "A device whose step takes %g ms for a batch of %u needs %u worker%s on this "
                  "machine (%.3g ms for a sample)",
                  step_ms, b->schedule.batch, wanted, wanted == 1 ? "" : "s", sample_ms);
    if (wanted > cores) {
        vx_buf_printf(text, ", which has %u core%s", cores, cores == 1 ? "" : "s");
    }
    bool said = false;
    vx_buf_printf(text, ". With %u", b->workers);
    say_wait(text, runs, "memory", "with the data in memory", &said);
    say_wait(text, runs, "as_is", "with the data as it was", &said);
    say_wait(text, runs, "cold", "with the data read from disk", &said);
    vx_buf_puts(text, ".");
}

static void free_sentence(struct vx_buf *text, const struct vx_brief *b, const json_t *runs,
                          double sample_ms) {
    double rate = figure(runs, reference(runs), "samples_per_second", NULL);
    double cold = figure(runs, "cold", "samples_per_second", NULL);
    vx_buf_printf(text,
                  "A worker needs %.3g ms for a sample on this machine; %u worker%s made %.4g "
                  "samples a second",
                  sample_ms, b->workers, b->workers == 1 ? "" : "s", rate);
    if (isfinite(cold) && made(runs, "memory")) {
        vx_buf_printf(text, " with the data in memory, %.4g reading from disk", cold);
    }
    vx_buf_puts(text, ".");
}

json_t *vx_bench_summary(const struct vx_brief *b, const json_t *runs) {
    double step_ms = json_number_value(json_object_get(b->bench, "step_ms"));
    double sample_ms = figure(runs, reference(runs), "sample_ms", "busy");
    double rate = figure(runs, reference(runs), "samples_per_second_per_worker", NULL);
    unsigned cores = vx_budget_cores(""), wanted = 0;
    struct vx_buf text = VX_BUF_INIT;
    if (!isfinite(sample_ms)) {
        vx_buf_puts(&text, "No run with real samples was made.");
    } else if (step_ms > 0) {
        wanted = vx_tune_workers_wanted(b->schedule.batch, sample_ms * 1e-3, step_ms * 1e-3);
        paced_sentence(&text, b, runs, step_ms, sample_ms, wanted, cores);
    } else {
        free_sentence(&text, b, runs, sample_ms);
    }
    json_t *patch = json_array();
    for (int a = b->patch[0] == 1 ? 1 : 0; a < 3; a++) {
        json_array_append_new(patch, json_integer(b->patch[a]));
    }
    json_t *json =
        json_pack("{s:s, s:s, s:o, s:i, s:f, s:i, s:i, s:i, s:O, s:o, s:o, s:o, s:o, s:s}",
                  "dataset", b->dataset, "configuration", b->configuration, "patch_size", patch,
                  "batch_size", (int)b->schedule.batch, "step_ms", step_ms, "workers",
                  (int)b->workers, "slots", (int)b->slots, "cores", (int)cores, "runs", runs,
                  "sample_ms", real_or_null(sample_ms), "samples_per_second_per_worker",
                  real_or_null(rate), "workers_wanted", wanted ? json_integer(wanted) : json_null(),
                  "stall", stall(runs), "sentence", text.data ? text.data : "");
    vx_buf_release(&text);
    return json;
}
