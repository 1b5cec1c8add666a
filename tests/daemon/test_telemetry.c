/* What the telemetry thread makes of a session's records. */
#include "daemon/live_session.h"

Test(daemon_telemetry, each_living_worker_is_shown) {
    struct session s = {0};
    const struct vx_worker_record working = {.pid = 4000002,
                                             .state = VX_WORKER_READING,
                                             .samples = 7,
                                             .read_ns = 3000000000,
                                             .open_ns = 1000000000,
                                             .decompress_ns = 500000000,
                                             .augment_ns = {4000000000, 2000000000},
                                             .wait_ns = 250000000,
                                             .cpu_ns = 5000000000,
                                             .rss_anon = 123 << 20,
                                             .bytes_read = 4096,
                                             .major_faults = 3},
                                  left = {.pid = 4000003, .state = VX_WORKER_LEFT};
    open_session(&s, "cpu:0");
    vx_timeline_set_worker(&s.timeline, 0, &left);
    vx_timeline_set_worker(&s.timeline, 2, &working);
    cr_expect_geq(figure(&s, "gpu_bound", "step_seconds"), 0);
    vx_auto_json json_t *all = vx_telemetry_bottleneck(s.telemetry, 1, VX_ENGLISH);
    const json_t *workers = json_object_get(all, "workers"), *w = json_array_get(workers, 0);
    cr_assert_eq(json_array_size(workers), 1);
    vx_auto_json json_t *expected =
        json_pack("{s:i, s:i, s:s, s:i, s:{s:f, s:f, s:f, s:f, s:f}, s:f, s:I, s:i, s:i}", "worker",
                  2, "pid", 4000002, "state", "reading", "samples", 7, "seconds", "open", 1.0,
                  "read", 2.0, "decompress", 0.5, "augment", 6.0, "wait", 0.25, "cpu_seconds", 5.0,
                  "memory_bytes", (json_int_t)123 << 20, "bytes_read", 4096, "major_faults", 3);
    vx_auto_free char *got = json_dumps(w, JSON_SORT_KEYS | JSON_REAL_PRECISION(6)),
                      *want = json_dumps(expected, JSON_SORT_KEYS | JSON_REAL_PRECISION(6));
    cr_expect_str_eq(got, want);
    close_session(&s);
}
