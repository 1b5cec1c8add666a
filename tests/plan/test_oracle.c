/* The planner against nnU-Net 2.8.1: from the fingerprints that it extracted of three real and four
 * made-up data sets come its own plans.json and splits_final.json, field by field
 * (tests/oracle/golden, written by tests/oracle/run plan --golden). */
#include "plan/planner.h"

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "plan/dataset.h"
#include "plan/fingerprint.h"
#include "plan/plans.h"
#include "plan/splits.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const char *const sets[] = {
    "Dataset004_Hippocampus",   "Dataset101_SarcomaCT",  "Dataset102_SarcomaCTMR",
    "Dataset901_AnisotropicCT", "Dataset902_ThinStacks", "Dataset903_FourChannels",
    "Dataset904_OneGiant",
};

static json_t *golden(const char *name) {
    vx_auto_free char *path = vx_strf("tests/oracle/golden/%s.json", name);
    json_t *json = NULL;
    struct vx_err e = {0};
    cr_assert_eq(vx_json_load_file(path, 64u << 20, &json, &e), VX_OK, "%s", e.text);
    return json;
}

/* Every key on both sides, every number equal; an integer equals the same real number. */
static void expect_same(const char *path, const json_t *got, const json_t *want) {
    if (json_is_object(got) && json_is_object(want)) {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)want, key, value) {
            vx_auto_free char *below = vx_strf("%s/%s", path, key);
            expect_same(below, json_object_get(got, key), value);
        }
        json_object_foreach((json_t *)got, key, value) {
            cr_expect(json_object_get(want, key), "%s/%s is not in nnU-Net's", path, key);
        }
    } else if (json_is_array(got) && json_is_array(want)) {
        cr_expect_eq(json_array_size(got), json_array_size(want), "%s has another length", path);
        for (size_t i = 0; i < json_array_size(want); i++) {
            vx_auto_free char *below = vx_strf("%s/%zu", path, i);
            expect_same(below, json_array_get(got, i), json_array_get(want, i));
        }
    } else {
        bool same = json_is_number(got) && json_is_number(want)
                        ? json_number_value(got) == json_number_value(want)
                        : json_equal(got, want);
        vx_auto_free char *a = got ? json_dumps(got, JSON_ENCODE_ANY) : NULL;
        vx_auto_free char *b = want ? json_dumps(want, JSON_ENCODE_ANY) : NULL;
        cr_expect(same, "%s is %s, nnU-Net's is %s", path, a ? a : "absent", b ? b : "absent");
    }
}

Test(plan_oracle, plans_are_nnunets) {
    for (size_t i = 0; i < VX_COUNTOF(sets); i++) {
        vx_auto_json json_t *want = golden(sets[i]);
        struct vx_dataset_desc dataset;
        struct vx_fingerprint fp = {0};
        struct vx_plans plans;
        struct vx_json_problems ps = {0};
        struct vx_err e = {0};
        cr_assert_eq(vx_dataset_parse(sets[i], json_object_get(want, "dataset"), &dataset, &ps),
                     VX_OK, "%s: %s", sets[i], ps.list[0].text);
        cr_assert_eq(vx_fingerprint_from_json(json_object_get(want, "fingerprint"), &fp, &e), VX_OK,
                     "%s: %s", sets[i], e.text);
        cr_assert_eq(vx_plan_experiment(&dataset, &fp, NULL, &plans, &e), VX_OK, "%s: %s", sets[i],
                     e.text);
        vx_auto_json json_t *got = vx_plans_to_json(&plans);
        expect_same(sets[i], got, json_object_get(want, "plans"));
        vx_fingerprint_release(&fp);
    }
}

/* A plans.json made by nnU-Net drives a job: reading it loses nothing. */
Test(plan_oracle, nnunets_plans_are_read_and_written_back) {
    for (size_t i = 0; i < VX_COUNTOF(sets); i++) {
        vx_auto_json json_t *want = golden(sets[i]);
        struct vx_plans plans;
        struct vx_err e = {0};
        cr_assert_eq(vx_plans_from_json(json_object_get(want, "plans"), &plans, &e), VX_OK,
                     "%s: %s", sets[i], e.text);
        vx_auto_json json_t *got = vx_plans_to_json(&plans);
        expect_same(sets[i], got, json_object_get(want, "plans"));
    }
}

Test(plan_oracle, splits_are_nnunets) {
    for (size_t i = 0; i < VX_COUNTOF(sets); i++) {
        vx_auto_json json_t *want = golden(sets[i]);
        const json_t *names = json_object_get(want, "cases");
        size_t n = json_array_size(names);
        vx_auto_free const char **cases = calloc(n, sizeof *cases);
        for (size_t k = 0; k < n; k++) {
            cases[k] = json_string_value(json_array_get(names, n - 1 - k)); /* sorted inside */
        }
        struct vx_err e = {0};
        vx_auto_json json_t *got = vx_splits_create(cases, (int)n, &e);
        cr_assert(got, "%s: %s", sets[i], e.text);
        expect_same(sets[i], got, json_object_get(want, "splits"));
    }
}
