/* Specs of type benchmark: what they may say, and what each mistake is called. */
#include "base/err.h"
#include "base/own.h"
#include "spec/spec.h"

#include <criterion/criterion.h>
#include <stdio.h>

static int parse_with(const char *members, struct vx_job_spec *s, struct vx_json_problems *ps) {
    char text[512];
    snprintf(text, sizeof text, "{\"type\": \"benchmark\", \"dataset\": \"Dataset004_A\"%s}",
             members);
    vx_auto_json json_t *json = json_loads(text, 0, NULL);
    cr_assert(json, "%s", text);
    *ps = (struct vx_json_problems){0};
    return vx_spec_parse(json, s, ps);
}

Test(spec_benchmark, absent_means_three_runs_without_pacing) {
    struct vx_job_spec s;
    struct vx_json_problems ps;
    cr_assert_eq(parse_with("", &s, &ps), VX_OK, "%s", ps.list[0].text);
    cr_expect_eq(s.type, VX_JOB_BENCHMARK);
    cr_expect_eq(s.benchmark.runs, VX_RUN_SYNTHETIC | VX_RUN_MEMORY | VX_RUN_COLD);
    cr_expect(s.benchmark.step_ms == 0 && s.benchmark.seconds == 10 && s.benchmark.sample_ms == 0);
    cr_expect_str_eq(s.loader.tune, "off");
}

Test(spec_benchmark, what_it_says_is_kept) {
    struct vx_job_spec s, again;
    struct vx_json_problems ps;
    struct vx_err err = {0};
    cr_assert_eq(
        parse_with(
            ", \"fold\": 2, \"priority\": 3, \"plan\": {\"batch_size\": 4}, \"loader\": "
            "{\"workers\": 3}, \"augment\": {\"enabled\": false}, \"benchmark\": "
            "{\"step_ms\": 20.5, \"seconds\": 30, \"runs\": [\"cold\", \"as_is\"], "
            "\"sample_ms\": 60, \"sample_cpu_ms\": 5, \"step_growth\": 0.5, \"leak_kib\": 4}",
            &s, &ps),
        VX_OK, "%s %s", ps.list[0].pointer, ps.list[0].text);
    cr_expect_eq(s.benchmark.runs, VX_RUN_COLD | VX_RUN_AS_IS);
    cr_expect(s.benchmark.step_ms == 20.5 && s.benchmark.seconds == 30);
    cr_expect(s.benchmark.sample_ms == 60 && s.benchmark.sample_cpu_ms == 5);
    cr_expect(s.benchmark.step_growth == 0.5 && s.benchmark.leak_kib == 4);
    vx_auto_json json_t *json = vx_spec_to_json(&s);
    cr_assert_eq(vx_spec_from_stored(json, &again, &err), VX_OK, "%s", err.text);
    vx_auto_json json_t *second = vx_spec_to_json(&again);
    cr_expect(json_equal(json, second));
    cr_expect_eq(again.benchmark.runs, s.benchmark.runs);
    cr_expect_eq(again.loader.workers, 3);
    cr_expect_eq(again.plan.batch_size, 4);
    cr_expect_not(again.augment.enabled);
    cr_expect_null(json_object_get(json, "training"));
    /* trainings know nothing of it */
    json_object_set_new(json, "type", json_string("train"));
    cr_expect_eq(vx_spec_from_stored(json, &again, &err), VX_E_INVALID);
}

static const struct {
    const char *members, *pointer, *code;
} bad[] = {
    {", \"benchmark\": 3", "/benchmark", "wrong_type"},
    {", \"benchmark\": {\"steps\": 3}", "/benchmark/steps", "unknown_key"},
    {", \"benchmark\": {\"step_ms\": -1}", "/benchmark/step_ms", "out_of_range"},
    {", \"benchmark\": {\"step_ms\": \"fast\"}", "/benchmark/step_ms", "wrong_type"},
    {", \"benchmark\": {\"seconds\": 0}", "/benchmark/seconds", "out_of_range"},
    {", \"benchmark\": {\"sample_cpu_ms\": 1}", "/benchmark/sample_cpu_ms", "out_of_range"},
    {", \"benchmark\": {\"sample_ms\": 5, \"sample_cpu_ms\": 6}", "/benchmark/sample_cpu_ms",
     "out_of_range"},
    {", \"benchmark\": {\"step_growth\": -1}", "/benchmark/step_growth", "out_of_range"},
    {", \"benchmark\": {\"leak_kib\": 5000}", "/benchmark/leak_kib", "out_of_range"},
    {", \"benchmark\": {\"runs\": []}", "/benchmark/runs", "out_of_range"},
    {", \"benchmark\": {\"runs\": [\"warm\"]}", "/benchmark/runs/0", "invalid_value"},
    {", \"benchmark\": {\"runs\": [3]}", "/benchmark/runs/0", "wrong_type"},
    {", \"benchmark\": {\"runs\": [\"cold\", \"cold\"]}", "/benchmark/runs/1", "invalid_value"},
    {", \"training\": {\"epochs\": 3}", "/training", "not_for_type"},
    {", \"results\": {\"name\": \"mine\"}", "/results", "not_for_type"},
    {", \"input\": \"new\"", "/input", "not_for_type"},
    {", \"loader\": {\"workers\": 0}", "/loader/workers", "out_of_range"},
};

Test(spec_benchmark, every_problem_has_its_pointer) {
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct vx_job_spec s;
        struct vx_json_problems ps;
        cr_expect_eq(parse_with(bad[i].members, &s, &ps), VX_E_INVALID, "%s", bad[i].members);
        cr_expect_eq(ps.n, 1, "%s: %zu problems", bad[i].members, ps.n);
        cr_expect_str_eq(ps.list[0].pointer, bad[i].pointer, "%s: %s", bad[i].members,
                         ps.list[0].pointer);
        cr_expect_str_eq(ps.list[0].code, bad[i].code, "%s: %s", bad[i].members, ps.list[0].code);
    }
}

Test(spec_benchmark, other_types_refuse_it) {
    vx_auto_json json_t *json = json_loads(
        "{\"type\": \"train\", \"dataset\": \"Dataset004_A\", \"benchmark\": {}}", 0, NULL);
    struct vx_job_spec s;
    struct vx_json_problems ps = {0};
    cr_assert_eq(vx_spec_parse(json, &s, &ps), VX_E_INVALID);
    cr_expect_str_eq(ps.list[0].pointer, "/benchmark");
    cr_expect_str_eq(ps.list[0].code, "not_for_type");
}
