#include "base/err.h"
#include "base/json.h"
#include "base/own.h"
#include "plan/dataset.h"
#include "plan/fingerprint.h"

#include <criterion/criterion.h>
#include <string.h>

static int parse(const char *text, struct vx_dataset_desc *d, struct vx_json_problems *ps) {
    struct vx_err err = {0};
    vx_auto_json json_t *json = NULL;
    cr_assert_eq(vx_json_parse(text, strlen(text), 10000, 16, &json, &err), VX_OK, "%s", err.text);
    return vx_dataset_parse("Dataset004_Hippocampus", json, d, ps);
}

Test(plan_dataset, ordinary) {
    struct vx_dataset_desc d;
    struct vx_json_problems ps = {0};
    cr_assert_eq(parse("{\"modality\": {\"0\": \"CT\", \"1\": \"T1\"}, \"labels\": "
                       "{\"background\": 0, \"b\": 2, \"a\": 1, "
                       "\"ignore\": 3}, \"numTraining\": 7, \"file_ending\": \".nii.gz\"}",
                       &d, &ps),
                 VX_OK);
    cr_expect_eq(d.n_channels, 2);
    cr_expect_str_eq(d.channel_names[1], "T1");
    cr_expect_eq(d.n_labels, 3);
    cr_expect_str_eq(d.labels[2].name, "b");
    cr_expect_eq(d.ignore_label, 3);
    cr_expect_eq(d.n_declared, 4);
    cr_expect_eq(d.num_training, 7);
}

Test(plan_dataset, problems_have_pointers) {
    static const struct {
        const char *text, *pointer, *code;
    } table[] = {
        {"{\"channel_names\": {\"0\": \"a\"}, \"labels\": {\"background\": 0, \"x\": 1}, "
         "\"numTraining\": 1}",
         "/file_ending", "missing"},
        {"{\"channel_names\": {\"1\": \"a\"}, \"labels\": {\"background\": 0, \"x\": 1}, "
         "\"numTraining\": 1, \"file_ending\": \".nii\"}",
         "/channel_names", "missing"},
        {"{\"channel_names\": {\"0\": \"a\"}, \"labels\": {\"background\": 0, \"x\": 2}, "
         "\"numTraining\": 1, \"file_ending\": \".nii\"}",
         "/labels", "invalid_value"},
        {"{\"channel_names\": {\"0\": \"a\"}, \"labels\": {\"background\": 0, \"x\": [1, 2]}, "
         "\"numTraining\": 1, \"file_ending\": \".nii\"}",
         "/labels/x", "not_supported"},
        {"{\"channel_names\": {\"0\": \"a\"}, \"labels\": {\"background\": 0, \"x\": 1}, "
         "\"numTraining\": 0, \"file_ending\": \".nii\"}",
         "/numTraining", "out_of_range"},
        {"{\"channel_names\": {\"0\": \"a\"}, \"labels\": {\"background\": 0, \"x\": 1}, "
         "\"numTraining\": 1, \"file_ending\": \".png\"}",
         "/file_ending", "not_supported"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct vx_dataset_desc d;
        struct vx_json_problems ps = {0};
        cr_expect_eq(parse(table[i].text, &d, &ps), VX_E_INVALID, "case %zu", i);
        cr_expect_eq(ps.n, 1, "case %zu: %zu problems", i, ps.n);
        cr_expect_str_eq(ps.list[0].pointer, table[i].pointer, "case %zu: %s", i,
                         ps.list[0].pointer);
        cr_expect_str_eq(ps.list[0].code, table[i].code, "case %zu: %s", i, ps.list[0].code);
    }
}

Test(plan_dataset, names) {
    cr_expect(vx_dataset_name_ok("Dataset004_Hippocampus"));
    cr_expect_not(vx_dataset_name_ok("Dataset04_Hippocampus"));
    cr_expect_not(vx_dataset_name_ok("Dataset004_../../etc"));
    cr_expect_not(vx_dataset_name_ok("Dataset004_"));
}

Test(plan_fingerprint, json_round_trip) {
    struct vx_fingerprint fp, again;
    struct vx_err err = {0};
    cr_assert_eq(vx_fingerprint_init(&fp, 2, 1, &err), VX_OK);
    for (int i = 0; i < 2; i++) {
        for (int a = 0; a < 3; a++) {
            fp.spacings[i][a] = 0.1 + i + a;
            fp.shapes[i][a] = 10 * (i + 1) + a;
        }
    }
    fp.median_relative_size_after_cropping = 0.75;
    fp.intensity[0].median = 1. / 3;
    vx_auto_json json_t *json = vx_fingerprint_to_json(&fp);
    cr_assert_eq(vx_fingerprint_from_json(json, &again, &err), VX_OK, "%s", err.text);
    cr_expect_eq(again.shapes[1][2], 22);
    cr_expect_eq(again.spacings[1][1], fp.spacings[1][1]);
    cr_expect_eq(again.intensity[0].median, fp.intensity[0].median);
    json_array_remove(json_object_get(json, "spacings"), 0);
    cr_expect_eq(vx_fingerprint_from_json(json, &fp, &err), VX_E_INVALID);
    cr_expect_eq(fp.n_cases, 2); /* untouched */
    vx_fingerprint_release(&fp);
    vx_fingerprint_release(&again);
}
