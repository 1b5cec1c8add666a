#include "spec/benchmark.h"

#include "base/own.h"

#include <stdio.h>
#include <string.h>

/* In the order in which they are made; bit i of spec.benchmark.runs. */
static const char *const run_words[] = {"synthetic", "as_is", "memory", "cold"};

static void parse_runs(const json_t *benchmark, struct vx_job_spec *s,
                       struct vx_json_problems *ps) {
    const json_t *list =
        vx_json_get_array(benchmark, "/benchmark", "runs", 1, VX_COUNTOF(run_words), ps);
    unsigned runs = 0;
    for (size_t i = 0; list && i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));
        unsigned bit = 0;
        char at[48];
        snprintf(at, sizeof at, "/benchmark/runs/%zu", i);
        for (size_t k = 0; word && k < VX_COUNTOF(run_words); k++) {
            bit |= strcmp(word, run_words[k]) == 0 ? 1u << k : 0;
        }
        if (!bit) {
            vx_json_problem(ps, at, word ? "invalid_value" : "wrong_type",
                            "must be one of: synthetic, as_is, memory, cold");
        } else if (runs & bit) {
            vx_json_problem(ps, at, "invalid_value", "names %s a second time", word);
        }
        runs |= bit;
    }
    s->benchmark.runs = list ? runs : s->benchmark.runs;
}

void vx_spec_parse_benchmark(const json_t *json, struct vx_job_spec *s,
                             struct vx_json_problems *ps) {
    static const char at[] = "/benchmark";
    const json_t *o = vx_json_get_object(json, "", "benchmark", ps);
    if (!o) {
        return;
    }
    vx_json_only_keys(o, at,
                      (const char *const[]){"step_ms", "seconds", "runs", "sample_ms",
                                            "sample_cpu_ms", "spike_every", "spike_ms",
                                            "step_growth", "leak_kib", NULL},
                      ps);
    vx_json_get_real(o, at, "step_ms", 0, 600000, &s->benchmark.step_ms, ps);
    vx_json_get_real(o, at, "seconds", 0.5, 86400, &s->benchmark.seconds, ps);
    vx_json_get_real(o, at, "sample_ms", 0, 600000, &s->benchmark.sample_ms, ps);
    vx_json_get_real(o, at, "sample_cpu_ms", 0, s->benchmark.sample_ms, &s->benchmark.sample_cpu_ms,
                     ps);
    int64_t every = s->benchmark.spike_every;
    vx_json_get_int(o, at, "spike_every", 0, 100000, &every, ps);
    s->benchmark.spike_every = (int)every;
    vx_json_get_real(o, at, "spike_ms", 0, 600000, &s->benchmark.spike_ms, ps);
    vx_json_get_real(o, at, "step_growth", 0, 1000, &s->benchmark.step_growth, ps);
    vx_json_get_real(o, at, "leak_kib", 0, 1024, &s->benchmark.leak_kib, ps);
    parse_runs(o, s, ps);
}

json_t *vx_spec_benchmark_to_json(const struct vx_job_spec *s) {
    json_t *runs = json_array();
    for (size_t i = 0; i < VX_COUNTOF(run_words); i++) {
        if (s->benchmark.runs >> i & 1) {
            json_array_append_new(runs, json_string(run_words[i]));
        }
    }
    return json_pack("{s:f, s:f, s:f, s:f, s:i, s:f, s:f, s:f, s:o}", "step_ms",
                     s->benchmark.step_ms, "seconds", s->benchmark.seconds, "sample_ms",
                     s->benchmark.sample_ms, "sample_cpu_ms", s->benchmark.sample_cpu_ms,
                     "spike_every", s->benchmark.spike_every, "spike_ms", s->benchmark.spike_ms,
                     "step_growth", s->benchmark.step_growth, "leak_kib", s->benchmark.leak_kib,
                     "runs", runs);
}
