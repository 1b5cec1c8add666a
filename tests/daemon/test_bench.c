/* The parts of the loader's benchmark that need no session: the page cache's share of a folder, and
 * what three runs say together. */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "daemon/bench/pagecache.h"
#include "daemon/bench/settings.h"
#include "daemon/bench/summary.h"
#include "daemon/session/brief.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#define TMPFS 0x01021994

Test(daemon_bench, a_folder_is_read_in_and_dropped) {
    enum { BYTES = 300000 };
    char dir[] = "/var/tmp/voxeld-pagecache-XXXXXX"; /* rather on a disk than /tmp */
    static char text[BYTES];
    struct vx_err err = {0};
    struct vx_pagecache p = {0};
    struct statfs fs;
    memset(text, 'x', sizeof text);
    cr_assert(mkdtemp(dir));
    vx_auto_free char *deep = vx_strf("%s/a/b", dir);
    vx_auto_free char *one = vx_strf("%s/one", dir), *two = vx_strf("%s/two", deep);
    cr_assert_eq(vx_mkdirs(deep, 0755, &err), VX_OK);
    cr_assert_eq(vx_write_file_atomic(one, text, BYTES, 0644, &err), VX_OK);
    cr_assert_eq(vx_write_file_atomic(two, text, 1, 0644, &err), VX_OK);
    cr_assert_eq(vx_pagecache_warm(dir, UINT64_MAX, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_pagecache_look(dir, &p, &err), VX_OK, "%s", err.text);
    cr_expect_eq(p.bytes, BYTES + 1);
    cr_expect_eq(p.resident, p.bytes);
    cr_assert_eq(vx_pagecache_drop(dir, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_pagecache_look(dir, &p, &err), VX_OK);
    cr_assert_eq(statfs(dir, &fs), 0);
    if (fs.f_type == TMPFS) {
        cr_expect_eq(p.resident, p.bytes);
    } else {
        cr_expect_lt(p.resident, p.bytes / 10);
        cr_assert_eq(vx_pagecache_warm(dir, 1, &err), VX_OK); /* a budget ends it early */
        cr_assert_eq(vx_pagecache_look(dir, &p, &err), VX_OK);
        cr_expect_gt(p.resident, 0);
    }
    vx_remove_tree(dir, NULL);
    cr_expect_eq(vx_pagecache_look(dir, &p, &err), VX_E_NOT_FOUND);
}

static json_t *a_run(double step_ms, double idle, double rate, double busy_ms) {
    return json_pack("{s:{s:f}, s:f, s:f, s:{s:f}, s:f}", "step_ms", "mean", step_ms,
                     "device_idle_share", idle, "samples_per_second", rate, "sample_ms", "busy",
                     busy_ms, "samples_per_second_per_worker", 1e3 / busy_ms);
}

static double at(const json_t *json, const char *object, const char *key) {
    return json_number_value(json_object_get(json_object_get(json, object), key));
}

Test(daemon_bench, three_runs_split_the_stall) {
    char dataset[] = "Dataset004_A", configuration[] = "3d_fullres";
    struct vx_brief b = {.dataset = dataset,
                         .configuration = configuration,
                         .patch = {40, 56, 40},
                         .schedule = {.batch = 4},
                         .workers = 2,
                         .slots = 16};
    b.bench = json_pack("{s:f}", "step_ms", 20.0);
    vx_auto_json json_t *runs =
        json_pack("{s:o, s:o, s:o}", "synthetic", a_run(20, 0, 200, 0.01), "memory",
                  a_run(30, 1.0 / 3, 133, 15), "cold", a_run(40, 0.5, 100, 20));
    vx_auto_json json_t *json = vx_bench_summary(&b, runs);
    cr_expect_float_eq(at(json, "stall", "compute"), 0.5, 1e-9);
    cr_expect_float_eq(at(json, "stall", "preparation"), 0.25, 1e-9);
    cr_expect_float_eq(at(json, "stall", "fetch"), 0.25, 1e-9);
    /* 4 samples of 15 ms in 0.85 of 20 ms: 3.53 */
    cr_expect_eq(json_integer_value(json_object_get(json, "workers_wanted")), 4);
    const char *sentence = json_string_value(json_object_get(json, "sentence"));
    cr_expect(strstr(sentence, "needs 4 workers"), "%s", sentence);
    cr_expect(strstr(sentence, "With 2 it waited 33.3 % of the time with the data in memory, "),
              "%s", sentence);
    cr_expect(strstr(sentence, "50.0 % of the time with the data read from disk."), "%s", sentence);
    json_decref(b.bench);
}

Test(daemon_bench, runs_that_were_not_made_leave_gaps) {
    char dataset[] = "Dataset004_A", configuration[] = "2d";
    struct vx_brief b = {.dataset = dataset,
                         .configuration = configuration,
                         .patch = {1, 56, 40},
                         .schedule = {.batch = 4},
                         .workers = 1,
                         .slots = 16};
    b.bench = json_pack("{s:i}", "step_ms", 0);
    vx_auto_json json_t *runs =
        json_pack("{s:o, s:{s:s}}", "memory", a_run(60, 1, 66, 15), "cold", "skipped", "tmpfs");
    vx_auto_json json_t *json = vx_bench_summary(&b, runs);
    const json_t *stall = json_object_get(json, "stall");
    cr_expect(json_is_null(json_object_get(stall, "compute")));
    cr_expect(json_is_null(json_object_get(stall, "preparation")));
    cr_expect(json_is_null(json_object_get(stall, "fetch")));
    cr_expect(json_is_null(json_object_get(json, "workers_wanted")));
    cr_expect_eq(json_array_size(json_object_get(json, "patch_size")), 2);
    cr_expect(strstr(json_string_value(json_object_get(json, "sentence")), "15 ms for a sample"));
    json_decref(b.bench);
}

Test(daemon_bench, settings_survive_the_brief) {
    struct vx_bench_settings s = {.step_ms = 20,
                                  .spike_every = 50,
                                  .spike_ms = 300,
                                  .step_growth = 0.5,
                                  .leak_kib = 4,
                                  .warm_seconds = 1.5,
                                  .seconds = 30,
                                  .sample_ms = 60,
                                  .sample_cpu_ms = 5,
                                  .nearer = true,
                                  .cold = true,
                                  .costs = true},
                             again;
    struct vx_err err = {0};
    vx_auto_json json_t *json = vx_bench_settings_write(&s);
    cr_assert_eq(vx_bench_settings_read(json, &again, &err), VX_OK, "%s", err.text);
    cr_expect(again.step_ms == 20 && again.warm_seconds == 1.5 && again.seconds == 30);
    cr_expect(again.spike_every == 50 && again.spike_ms == 300);
    cr_expect(again.step_growth == 0.5 && again.leak_kib == 4);
    cr_expect(again.sample_ms == 60 && again.sample_cpu_ms == 5);
    cr_expect(!again.synthetic && again.cold && again.costs);
    json_object_set_new(json, "seconds", json_string("long"));
    cr_expect_eq(vx_bench_settings_read(json, &again, &err), VX_E_CORRUPT);
}
