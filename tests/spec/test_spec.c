#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "plan/splits.h"
#include "spec/spec.h"

#include <criterion/criterion.h>
#include <string.h>

static int parse(const char *text, struct vx_job_spec *spec, struct vx_json_problems *ps) {
    struct vx_err err = {0};
    vx_auto_json json_t *json = NULL;
    cr_assert_eq(vx_json_parse(text, strlen(text), 10000, 16, &json, &err), VX_OK, "%s: %s", text,
                 err.text);
    return vx_spec_parse(json, spec, ps);
}

Test(spec_parse, absent_means_what_nnunet_would_do) {
    struct vx_job_spec s;
    struct vx_json_problems ps = {0};
    cr_assert_eq(parse("{\"type\": \"train\", \"dataset\": \"Dataset004_Hippocampus\"}", &s, &ps),
                 VX_OK);
    cr_expect_str_eq(s.configuration, "3d_fullres");
    cr_expect_eq(s.fold, 0);
    cr_expect_eq(s.training.epochs, 1000);
    cr_expect_eq(s.training.iterations_per_epoch, 250);
    cr_expect_eq(s.training.val_iterations_per_epoch, 50);
    cr_expect_eq(s.training.initial_lr, 1e-2);
    cr_expect_eq(s.training.momentum, 0.99);
    cr_expect_eq(s.training.weight_decay, 3e-5);
    cr_expect_eq(s.training.oversample_foreground, 0.33);
    cr_expect_eq(s.plan.batch_size, 0);
    cr_expect_eq(s.loader.workers, VX_SPEC_AUTO);
    cr_expect(s.augment.enabled && s.augment.mirror && s.inference.mirroring);
    cr_expect_eq(s.inference.step_size, 0.5);
}

Test(spec_parse, the_contract_example) {
    struct vx_job_spec s;
    struct vx_json_problems ps = {0};
    cr_assert_eq(parse("{\"type\": \"train\", \"dataset\": \"Dataset004_Hippocampus\", "
                       "\"configuration\": \"3d_fullres\", \"fold\": \"all\", "
                       "\"resources\": {\"device\": \"cuda:1\", \"count\": 1}, \"priority\": -3, "
                       "\"results\": {\"name\": \"mine\"}, "
                       "\"training\": {\"epochs\": 7, \"iterations_per_epoch\": 250, \"seed\": "
                       "9223372036854775807}, "
                       "\"plan\": {\"batch_size\": 2, \"patch_size\": [40, 56, 40], "
                       "\"features_per_stage\": [32, 64, 128]}, "
                       "\"loader\": {\"workers\": \"auto\", \"keep_files_open\": true, \"cache\": "
                       "\"auto\", \"prefetch\": 12}, "
                       "\"augment\": {\"where\": \"cpu\"}, \"precision\": \"bf16\"}",
                       &s, &ps),
                 VX_OK, "%s %s", ps.list[0].pointer, ps.list[0].text);
    cr_expect_eq(s.fold, VX_FOLD_ALL);
    cr_expect_str_eq(s.resources.device, "cuda:1");
    cr_expect_eq(s.priority, -3);
    cr_expect_str_eq(s.results.name, "mine");
    cr_expect_eq(s.training.seed, 9223372036854775807ull);
    cr_expect_eq(s.plan.patch_size[1], 56);
    cr_expect_eq(s.plan.n_features, 3);
    cr_expect_eq(s.plan.features[2], 128);
    cr_expect_eq(s.loader.keep_files_open, 1);
    cr_expect_eq(s.loader.prefetch, 12);
    cr_expect_eq(s.precision, VX_SPEC_BF16);
}

/* One problem per row: what is wrong, where, and its code. */
static const struct {
    const char *member; /* after type and dataset */
    const char *pointer, *code;
} bad[] = {
    {"\"epochs\": 3", "/epochs", "unknown_key"},
    {"\"training\": {\"epoch\": 3}", "/training/epoch", "unknown_key"},
    {"\"training\": {\"epochs\": 0}", "/training/epochs", "out_of_range"},
    {"\"training\": {\"epochs\": 1e3}", "/training/epochs", "wrong_type"},
    {"\"training\": {\"epochs\": \"ten\"}", "/training/epochs", "wrong_type"},
    {"\"training\": {\"momentum\": 1.0}", "/training/momentum", "out_of_range"},
    {"\"training\": {\"initial_lr\": 1e300}", "/training/initial_lr", "out_of_range"},
    {"\"training\": {\"seed\": -1}", "/training/seed", "out_of_range"},
    {"\"training\": {\"checkpoint_seconds\": 61}", "/training/checkpoint_seconds", "out_of_range"},
    {"\"training\": {\"pretrained_weights\": 3}", "/training/pretrained_weights", "wrong_type"},
    {"\"training\": {\"pretrained_weights\": \"\"}", "/training/pretrained_weights",
     "out_of_range"},
    {"\"training\": {\"pretrained_weights\": \"a\\u0001b\"}", "/training/pretrained_weights",
     "invalid_value"},
    {"\"training\": []", "/training", "wrong_type"},
    {"\"fold\": -1", "/fold", "out_of_range"},
    {"\"fold\": \"none\"", "/fold", "invalid_value"},
    {"\"fold\": 1.5", "/fold", "wrong_type"},
    {"\"configuration\": \"../2d\"", "/configuration", "invalid_value"},
    {"\"priority\": 1000", "/priority", "out_of_range"},
    {"\"resources\": {\"count\": 2}", "/resources/count", "out_of_range"},
    {"\"resources\": {\"device\": \"tpu\"}", "/resources/device", "invalid_value"},
    {"\"results\": {\"name\": \"../x\"}", "/results/name", "invalid_value"},
    {"\"results\": {\"name\": \"a__b\"}", "/results/name", "invalid_value"},
    {"\"results\": {\"name\": \"\"}", "/results/name", "out_of_range"},
    {"\"plan\": {\"patch_size\": [40, 56]}", "/plan/patch_size", "invalid_value"},
    {"\"plan\": {\"patch_size\": [40, 56, 1000000]}", "/plan/patch_size/2", "out_of_range"},
    {"\"plan\": {\"batch_size\": 0}", "/plan/batch_size", "out_of_range"},
    {"\"plan\": {\"features_per_stage\": [32]}", "/plan/features_per_stage", "out_of_range"},
    {"\"plan\": {\"features_per_stage\": [32, -1]}", "/plan/features_per_stage/1", "out_of_range"},
    {"\"plan\": {\"gpu_memory_gb\": 0}", "/plan/gpu_memory_gb", "out_of_range"},
    {"\"plan\": {\"spacing\": [1, 1, 0]}", "/plan/spacing/2", "out_of_range"},
    {"\"plan\": {\"spacing\": [1, 1]}", "/plan/spacing", "out_of_range"},
    {"\"plans\": \"a__b\"", "/plans", "invalid_value"},
    {"\"loader\": {\"tune\": \"wildly\"}", "/loader/tune", "invalid_value"},
    {"\"loader\": {\"workers\": 65}", "/loader/workers", "out_of_range"},
    {"\"loader\": {\"workers\": \"many\"}", "/loader/workers", "wrong_type"},
    {"\"loader\": {\"keep_files_open\": 1}", "/loader/keep_files_open", "wrong_type"},
    {"\"loader\": {\"cache\": \"fast\"}", "/loader/cache", "invalid_value"},
    {"\"loader\": {\"cache\": 3}", "/loader/cache", "wrong_type"},
    {"\"loader\": {\"cache\": {}}", "/loader/cache/stage", "missing"},
    {"\"loader\": {\"cache\": {\"stage\": 3}}", "/loader/cache/stage", "wrong_type"},
    {"\"loader\": {\"cache\": {\"stage\": \"scratch\"}}", "/loader/cache/stage", "invalid_value"},
    {"\"loader\": {\"cache\": {\"stage\": \"/scratch\", \"days\": 3}}", "/loader/cache/days",
     "unknown_key"},
    {"\"loader\": {\"cache\": \"open\", \"keep_files_open\": true}", "/loader/keep_files_open",
     "invalid_value"},
    {"\"loader\": {\"cache\": \"keep\", \"keep_files_open\": false}", "/loader/keep_files_open",
     "invalid_value"},
    {"\"loader\": {\"sharded_epochs\": 3}", "/loader/sharded_epochs", "wrong_type"},
    {"\"loader\": {\"sharded_epochs\": {\"epochs\": 2}}", "/loader/sharded_epochs/cases",
     "missing"},
    {"\"loader\": {\"sharded_epochs\": {\"cases\": 2}}", "/loader/sharded_epochs/epochs",
     "missing"},
    {"\"loader\": {\"sharded_epochs\": {\"cases\": 0, \"epochs\": 2}}",
     "/loader/sharded_epochs/cases", "out_of_range"},
    {"\"loader\": {\"sharded_epochs\": {\"cases\": 2.5, \"epochs\": 2}}",
     "/loader/sharded_epochs/cases", "out_of_range"},
    {"\"loader\": {\"sharded_epochs\": {\"cases\": \"all\", \"epochs\": 2}}",
     "/loader/sharded_epochs/cases", "wrong_type"},
    {"\"loader\": {\"sharded_epochs\": {\"cases\": 2, \"epochs\": 0}}",
     "/loader/sharded_epochs/epochs", "out_of_range"},
    {"\"augment\": {\"where\": \"gpu\"}", "/augment/where", "not_supported"},
    {"\"precision\": \"fp8\"", "/precision", "invalid_value"},
    {"\"inference\": {\"step_size\": 0}", "/inference/step_size", "out_of_range"},
    {"\"inference\": {\"save_probabilities\": true}", "/inference/save_probabilities",
     "not_for_type"},
    {"\"folds\": [0]", "/folds", "not_for_type"},
    {"\"input\": \"new\"", "/input", "not_for_type"},
    {"\"checkpoint\": \"best\"", "/checkpoint", "not_for_type"},
};

Test(spec_parse, every_problem_has_its_pointer) {
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[512];
        struct vx_job_spec s;
        struct vx_json_problems ps = {0};
        snprintf(text, sizeof text,
                 "{\"type\": \"train\", \"dataset\": \"Dataset004_Hippocampus\", %s}",
                 bad[i].member);
        cr_expect_eq(parse(text, &s, &ps), VX_E_INVALID, "%s", bad[i].member);
        cr_expect_eq(ps.n, 1, "%s: %zu problems", bad[i].member, ps.n);
        cr_expect_str_eq(ps.list[0].pointer, bad[i].pointer, "%s: %s", bad[i].member,
                         ps.list[0].pointer);
        cr_expect_str_eq(ps.list[0].code, bad[i].code, "%s: %s", bad[i].member, ps.list[0].code);
    }
}

Test(spec_parse, all_problems_at_once) {
    struct vx_job_spec s;
    struct vx_json_problems ps = {0};
    cr_assert_eq(
        parse("{\"type\": \"predict\", \"fold\": 200, \"x\": 1, \"training\": {\"epochs\": -1}}",
              &s, &ps),
        VX_E_INVALID);
    cr_expect_eq(ps.n, 5); /* /x, /dataset, /input, /fold, /training */
    ps.n = 0;
    cr_assert_eq(parse("[]", &s, &ps), VX_E_INVALID);
    cr_expect_str_eq(ps.list[0].code, "wrong_type");
}

/* Whole bodies, one problem each: what must be there, and types that this version cannot run. */
Test(spec_parse, type_and_dataset) {
    static const struct {
        const char *body, *pointer, *code;
    } table[] = {
        {"{\"dataset\": \"Dataset004_Hippocampus\"}", "/type", "missing"},
        {"{\"type\": \"train\"}", "/dataset", "missing"},
        {"{\"type\": \"train\", \"dataset\": \"../etc\"}", "/dataset", "invalid_value"},
        {"{\"type\": \"tune\", \"dataset\": \"Dataset004_A\"}", "/type", "invalid_value"},
        {"{\"type\": \"validate\", \"dataset\": \"Dataset004_A\"}", "/type", "not_supported"},
        {"{\"type\": \"predict\", \"dataset\": \"Dataset004_A\"}", "/input", "missing"},
        {"{\"type\": \"predict\", \"input\": \"new\"}", "/dataset", "missing"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct vx_job_spec s;
        struct vx_json_problems ps = {0};
        cr_expect_eq(parse(table[i].body, &s, &ps), VX_E_INVALID, "%s", table[i].body);
        cr_expect_eq(ps.n, 1, "%s: %zu problems", table[i].body, ps.n);
        cr_expect_str_eq(ps.list[0].pointer, table[i].pointer, "%s", table[i].body);
        cr_expect_str_eq(ps.list[0].code, table[i].code, "%s", table[i].body);
    }
    struct vx_job_spec s;
    struct vx_json_problems ps = {0};
    cr_assert_eq(parse("{\"type\": \"prepare\", \"dataset\": \"Dataset004_A\"}", &s, &ps), VX_OK);
    cr_expect_eq(s.type, VX_JOB_PREPARE);
}

/* The same for predictions. */
static const struct {
    const char *member; /* after type, dataset and input */
    const char *pointer, *code;
} bad_predict[] = {
    {"\"input\": 3", "/input", "wrong_type"},
    {"\"input\": \"\"", "/input", "out_of_range"},
    {"\"input\": \"new\", \"output\": []", "/output", "wrong_type"},
    {"\"input\": \"new\", \"folds\": []", "/folds", "out_of_range"},
    {"\"input\": \"new\", \"folds\": 0", "/folds", "wrong_type"},
    {"\"input\": \"new\", \"folds\": \"every\"", "/folds", "invalid_value"},
    {"\"input\": \"new\", \"folds\": [0, -1]", "/folds/1", "out_of_range"},
    {"\"input\": \"new\", \"folds\": [0, \"all\"]", "/folds/1", "wrong_type"},
    {"\"input\": \"new\", \"folds\": [2, 0, 2]", "/folds/2", "invalid_value"},
    {"\"input\": \"new\", \"checkpoint\": \"latest\"", "/checkpoint", "invalid_value"},
    {"\"input\": \"new\", \"fold\": 0", "/fold", "not_for_type"},
    {"\"input\": \"new\", \"training\": {\"epochs\": -1}", "/training", "not_for_type"},
    {"\"input\": \"new\", \"plan\": {}", "/plan", "not_for_type"},
    {"\"input\": \"new\", \"results\": {\"replace\": true}", "/results/replace", "not_for_type"},
    {"\"input\": \"new\", \"inference\": {\"save_probabilities\": 1}",
     "/inference/save_probabilities", "wrong_type"},
    {"\"input\": \"new\", \"inference\": {\"tiles\": 1}", "/inference/tiles", "unknown_key"},
};

Test(spec_parse, every_problem_of_a_prediction_has_its_pointer) {
    for (size_t i = 0; i < sizeof bad_predict / sizeof bad_predict[0]; i++) {
        char text[512];
        struct vx_job_spec s;
        struct vx_json_problems ps = {0};
        snprintf(text, sizeof text, "{\"type\": \"predict\", \"dataset\": \"Dataset004_A\", %s}",
                 bad_predict[i].member);
        cr_expect_eq(parse(text, &s, &ps), VX_E_INVALID, "%s", bad_predict[i].member);
        cr_expect_eq(ps.n, 1, "%s: %zu problems", bad_predict[i].member, ps.n);
        cr_expect_str_eq(ps.list[0].pointer, bad_predict[i].pointer, "%s: %s",
                         bad_predict[i].member, ps.list[0].pointer);
        cr_expect_str_eq(ps.list[0].code, bad_predict[i].code, "%s: %s", bad_predict[i].member,
                         ps.list[0].code);
    }
}

Test(spec_parse, what_a_prediction_may_say) {
    struct vx_job_spec s, again;
    struct vx_json_problems ps = {0};
    struct vx_err err = {0};
    cr_assert_eq(parse("{\"type\": \"predict\", \"dataset\": \"Dataset004_A\", "
                       "\"configuration\": \"2d\", \"input\": \"new/ones\", \"output\": "
                       "\"done\", \"folds\": [3, 0], \"results\": {\"name\": \"mine\"}, "
                       "\"checkpoint\": \"best\", \"precision\": \"bf16\", \"inference\": "
                       "{\"mirroring\": false, \"step_size\": 1, \"save_probabilities\": true}}",
                       &s, &ps),
                 VX_OK, "%s %s", ps.list[0].pointer, ps.list[0].text);
    cr_expect_eq(s.type, VX_JOB_PREDICT);
    cr_expect_str_eq(s.predict.input, "new/ones");
    cr_expect_str_eq(s.predict.output, "done");
    cr_expect_str_eq(s.predict.checkpoint, "best");
    cr_expect(s.predict.n_folds == 2 && s.predict.folds[0] == 3 && s.predict.folds[1] == 0);
    cr_expect(!s.inference.mirroring && s.inference.save_probabilities);
    vx_auto_json json_t *json = vx_spec_to_json(&s);
    cr_assert_eq(vx_spec_from_stored(json, &again, &err), VX_OK, "%s", err.text);
    vx_auto_json json_t *second = vx_spec_to_json(&again);
    cr_expect(json_equal(json, second));
    cr_expect_str_eq(json_string_value(json_object_get(json, "type")), "predict");
    cr_expect_null(json_object_get(json, "training"));
}

Test(spec_parse, a_prediction_uses_every_fold_unless_told) {
    static const struct {
        const char *folds;
        int n, first;
    } table[] = {{"", 0, 0},
                 {", \"folds\": \"auto\"", 0, 0},
                 {", \"folds\": \"all\"", 1, VX_FOLD_ALL},
                 {", \"folds\": [7]", 1, 7}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char text[256];
        struct vx_job_spec s, again;
        struct vx_json_problems ps = {0};
        struct vx_err err = {0};
        snprintf(text, sizeof text,
                 "{\"type\": \"predict\", \"dataset\": \"Dataset004_A\", \"input\": \"new\"%s}",
                 table[i].folds);
        cr_assert_eq(parse(text, &s, &ps), VX_OK, "%s", text);
        cr_expect(s.predict.n_folds == table[i].n && s.predict.folds[0] == table[i].first);
        cr_expect_str_eq(s.predict.checkpoint, "final");
        vx_auto_json json_t *json = vx_spec_to_json(&s);
        cr_expect_null(json_object_get(json, "output"));
        cr_assert_eq(vx_spec_from_stored(json, &again, &err), VX_OK, "%s", err.text);
        cr_expect(again.predict.n_folds == table[i].n && again.predict.folds[0] == table[i].first);
    }
}

/* What the first voxeld stored has none of the keys that were added since. */
Test(spec_stored, earlier_specs_are_read) {
    static const char stored[] =
        "{\"spec_version\":1,\"type\":\"train\",\"dataset\":\"Dataset004_A\","
        "\"configuration\":\"3d_fullres\",\"fold\":2,\"inference\":{\"mirroring\":true,"
        "\"step_size\":0.5}}";
    vx_auto_json json_t *json = json_loads(stored, 0, NULL);
    struct vx_job_spec s;
    struct vx_err err = {0};
    cr_assert_eq(vx_spec_from_stored(json, &s, &err), VX_OK, "%s", err.text);
    cr_expect(s.type == VX_JOB_TRAIN && s.fold == 2 && !s.inference.save_probabilities);
    vx_auto_json json_t *again = vx_spec_to_json(&s);
    cr_expect_null(json_object_get(again, "folds"));
    cr_expect_null(json_object_get(json_object_get(again, "inference"), "save_probabilities"));
}

Test(spec_stored, canonical_form_reads_back_the_same) {
    struct vx_job_spec s, again;
    struct vx_json_problems ps = {0};
    struct vx_err err = {0};
    cr_assert_eq(parse("{\"type\": \"train\", \"dataset\": \"Dataset004_Hippocampus\", "
                       "\"configuration\": \"2d\", \"fold\": 4, "
                       "\"plans\": \"big\", \"plan\": {\"patch_size\": [64, 32], "
                       "\"gpu_memory_gb\": 24, \"spacing\": [1.5, 1, 0.75]}, \"loader\": "
                       "{\"tune\": \"advise\", \"keep_files_open\": "
                       "false}, \"augment\": {\"mirror\": false}}",
                       &s, &ps),
                 VX_OK);
    vx_auto_json json_t *json = vx_spec_to_json(&s);
    cr_assert_not_null(json);
    cr_expect_eq(json_integer_value(json_object_get(json, "spec_version")), VX_SPEC_VERSION);
    cr_assert_eq(vx_spec_from_stored(json, &again, &err), VX_OK, "%s", err.text);
    vx_auto_json json_t *second = vx_spec_to_json(&again);
    cr_expect(json_equal(json, second));
    cr_expect_eq(again.plan.patch_size[0], 1);
    cr_expect_eq(again.plan.patch_size[1], 64);
    cr_expect_eq(again.loader.keep_files_open, 0);
    json_object_set_new(json, "spec_version", json_integer(99));
    cr_expect_eq(vx_spec_from_stored(json, &again, &err), VX_E_UNSUPPORTED);
}

Test(spec_canonical, pretrained_weights_are_kept_where_asked_for) {
    struct vx_job_spec s, back;
    struct vx_json_problems ps = {0};
    struct vx_err err = {0};
    cr_assert_eq(parse("{\"type\": \"train\", \"dataset\": \"Dataset004_A\", \"training\": "
                       "{\"pretrained_weights\": \"Dataset001_B/x/fold_0/checkpoint_final.pth\"}}",
                       &s, &ps),
                 VX_OK);
    vx_auto_json json_t *canonical = vx_spec_to_json(&s);
    cr_assert_eq(vx_spec_from_stored(canonical, &back, &err), VX_OK, "%s", err.text);
    cr_expect_str_eq(back.training.pretrained_weights,
                     "Dataset001_B/x/fold_0/checkpoint_final.pth");
    s.training.pretrained_weights[0] = '\0';
    vx_auto_json json_t *without = vx_spec_to_json(&s);
    cr_expect_null(json_object_get(json_object_get(without, "training"), "pretrained_weights"));
}

/* Ways of reading and sharded epochs, there and back; a spec without them stays as it was. */
Test(spec_parse, reading) {
    static const struct {
        const char *loader, *cache, *stage;
        double cases;
        int epochs;
    } rows[] = {
        {"{}", "auto", "", 0, 0},
        {"{\"cache\": \"open\"}", "open", "", 0, 0},
        {"{\"cache\": \"keep\", \"keep_files_open\": true}", "keep", "", 0, 0},
        {"{\"cache\": \"warm\"}", "warm", "", 0, 0},
        {"{\"cache\": \"memory\"}", "memory", "", 0, 0},
        {"{\"cache\": \"stage\"}", "stage", "", 0, 0},
        {"{\"cache\": {\"stage\": \"/scratch/x\"}}", "stage", "/scratch/x", 0, 0},
        {"{\"sharded_epochs\": {\"cases\": 64, \"epochs\": 5}}", "auto", "", 64, 5},
        {"{\"sharded_epochs\": {\"cases\": 0.25, \"epochs\": 1}}", "auto", "", 0.25, 1},
    };
    for (size_t i = 0; i < VX_COUNTOF(rows); i++) {
        struct vx_job_spec s, again;
        struct vx_json_problems ps = {0};
        struct vx_err err = {0};
        vx_auto_free char *text = vx_strf(
            "{\"type\": \"train\", \"dataset\": \"Dataset004_Hippocampus\", \"loader\": %s}",
            rows[i].loader);
        cr_assert_eq(parse(text, &s, &ps), VX_OK, "%s: %s %s", rows[i].loader, ps.list[0].pointer,
                     ps.list[0].text);
        vx_auto_json json_t *json = vx_spec_to_json(&s);
        cr_assert_eq(json_object_get(json_object_get(json, "loader"), "sharded_epochs") != NULL,
                     rows[i].cases > 0);
        cr_assert_eq(vx_spec_from_stored(json, &again, &err), VX_OK, "%s", err.text);
        vx_auto_json json_t *twice = vx_spec_to_json(&again);
        cr_assert(json_equal(json, twice), "%s", rows[i].loader);
        cr_assert_str_eq(again.loader.cache, rows[i].cache);
        cr_assert_str_eq(again.loader.stage, rows[i].stage);
        cr_assert_eq(again.loader.window_cases, rows[i].cases);
        cr_assert_eq(again.loader.window_epochs, rows[i].epochs);
    }
}
