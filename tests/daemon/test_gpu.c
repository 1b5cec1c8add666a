/* GPU evidence from a library that plays a trace (tests/support/nvml_player.c). */
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/own.h"
#include "daemon/evidence/gpu.h"
#include "daemon/live_session.h"
#include "daemon/telemetry/gpus.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char trace[64];

static void make_file(char path[64], const char *text) {
    snprintf(path, 64, "/tmp/voxeld-trace-XXXXXX");
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void write_trace(const char *text) {
    make_file(trace, text);
    setenv("VX_NVML_TRACE", trace, 1);
}

static struct vx_gpus *play(const char *text) {
    write_trace(text);
    struct vx_gpus *g = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_gpus_open(VX_NVML_PLAYER, &g, &err), VX_OK, "%s", err.text);
    return g;
}

/* The lines of /metrics with some name, one after the other. */
static void lines_with(const struct vx_buf *text, const char *name, char *buf, size_t size) {
    buf[0] = '\0';
    for (const char *at = text->data; at && *at; at += strcspn(at, "\n"), at += *at == '\n') {
        if (strncmp(at, name, strlen(name)) == 0 && at[strlen(name)] == '{') {
            size_t used = strlen(buf);
            snprintf(buf + used, size - used, "%.*s\n", (int)strcspn(at, "\n"), at);
        }
    }
}

static void stop(struct vx_gpus *g) {
    vx_gpus_close(g);
    unlink(trace);
}

Test(daemon_gpu, a_host_without_the_library) {
    struct vx_gpus *g = NULL;
    struct vx_err err = {0};
    cr_expect_eq(vx_gpus_open("libnvidia-ml-not-here.so.1", &g, &err), VX_E_UNSUPPORTED);
    cr_expect_str_eq(err.reason, "no_nvml");
    unsetenv("VX_NVML_TRACE"); /* the library is there, the driver is not */
    cr_expect_eq(vx_gpus_open(VX_NVML_PLAYER, &g, &err), VX_E_UNSUPPORTED);
    cr_expect_null(g);
}

Test(daemon_gpu, everything_that_a_new_chip_says) {
    struct vx_gpus *g =
        play("# a full load\n"
             "util=97 total=1000 used=400 power=650000 cap=700000 temp=64 clock=1980 "
             "reasons=44 rx=2048 tx=10 sm=91 tensor=40 dram=35 gr=98 pid=123\n");
    struct vx_gpu s;
    cr_assert_eq(vx_gpus_count(g), 1);
    cr_expect_str_eq(vx_gpus_card(g, 0)->name, "Trace player");
    vx_gpus_look(g, 0, true, &s);
    cr_expect_not(s.has & VX_GPU_ACTIVITY, "one sample is no difference");
    vx_gpus_look(g, 0, false, &s);
    cr_expect_eq(s.has, 0x1ff, "%x", s.has);
    cr_expect_float_eq(s.utilisation, 0.97, 1e-12);
    cr_expect_eq(s.memory_free, 600);
    cr_expect_float_eq(s.power_watts / s.power_cap_watts, 650.0 / 700, 1e-12);
    cr_expect_eq(s.sm_clock_hz, 1.98e9);
    cr_expect(s.throttled_thermal && s.throttled_power);
    cr_expect_eq(s.pcie_rx, 2048 * 1024, "kept from the slow look");
    cr_expect_float_eq(s.sm_active, 0.91, 1e-12);
    cr_expect_float_eq(s.tensor_active, 0.40, 1e-12);
    cr_expect_eq(s.n_processes, 1);
    cr_expect_eq(s.process[0].pid, 123);
    cr_expect_not(s.lost);
    stop(g);
}

Test(daemon_gpu, an_old_chip_says_less_and_nothing_is_invented) {
    struct vx_gpus *g = play("util=50 total=1000 used=1 temp=40\n");
    struct vx_gpu s;
    vx_gpus_look(g, 0, true, &s);
    vx_gpus_look(g, 0, true, &s);
    cr_expect_eq(s.has, VX_GPU_UTILISATION | VX_GPU_MEMORY | VX_GPU_TEMPERATURE | VX_GPU_PROCESSES,
                 "%x", s.has);
    cr_expect_eq(s.sm_active, 0);
    stop(g);
}

Test(daemon_gpu, a_lost_gpu_is_lost_until_a_slow_look_finds_it) {
    struct vx_gpus *g = play("util=50 total=1000 used=1 temp=40\n"
                             "util=50 total=1000 used=1 temp=40 xid=79\n"
                             "lost\n"
                             "lost\n"
                             "util=60 total=1000 used=1 temp=40\n");
    struct vx_gpu s;
    vx_gpus_look(g, 0, false, &s);
    cr_expect_eq(s.xid_errors, 0);
    vx_gpus_look(g, 0, false, &s);
    vx_gpus_look(g, 0, false, &s); /* events of a look are seen by the next */
    cr_expect_eq(s.xid_errors, 1);
    cr_expect_eq(s.xid_last, 79);
    cr_expect(s.lost);
    cr_expect_eq(s.has, 0);
    vx_gpus_look(g, 0, true, &s);
    cr_expect(s.lost, "asked, and it does not answer");
    vx_gpus_look(g, 0, false, &s);
    cr_expect(s.lost, "not asked");
    vx_gpus_look(g, 0, true, &s);
    cr_expect_not(s.lost);
    cr_expect_float_eq(s.utilisation, 0.6, 1e-12);
    cr_expect_eq(s.faults, 1, "the error is not forgotten");
    stop(g);
}

Test(daemon_gpu, two_gpus_and_what_they_are) {
    struct vx_gpus *g = play("util=50 total=1000 used=1 cc=90\n"
                             "util=50 total=1000 used=1 cc=90\n"
                             "@1 util=10 total=2000 used=5 cc=75 mig=1\n"
                             "@1 util=10 total=2000 used=5 xid=31\n"
                             "@1 util=10 total=2000 used=5 xid=95\n"
                             "@1 util=20 total=2000 used=6\n");
    struct vx_gpu s;
    cr_assert_eq(vx_gpus_count(g), 2);
    const struct vx_gpu_card *a = vx_gpus_card(g, 0), *b = vx_gpus_card(g, 1);
    cr_expect_str_eq(a->uuid, "GPU-trace");
    cr_expect_str_eq(b->uuid, "GPU-trace-1");
    cr_expect_eq(a->memory_bytes, 1000);
    cr_expect_eq(b->memory_bytes, 2000);
    cr_expect(a->major == 9 && a->minor == 0 && b->major == 7 && b->minor == 5);
    cr_expect(!a->mig && b->mig && !a->lost && !b->lost);
    for (int i = 0; i < 4; i++) {
        vx_gpus_look(g, 1, false, &s);
    }
    vx_gpus_look(g, 1, false, &s);
    cr_expect_eq(s.xid_errors, 2);
    cr_expect_eq(s.faults, 1, "31 is a program's own");
    cr_expect_eq(s.fault_last, 95);
    cr_expect_eq(s.memory_used, 6);
    vx_gpus_look(g, 0, false, &s);
    cr_expect_eq(s.xid_errors, 0, "the other's");
    cr_expect_eq(s.memory_used, 1);
    stop(g);
}

/* A library that says nothing keeps neither a job from beginning nor one from leaving its GPU. Were
 * it so, this would wait for ever. */
Test(daemon_gpu, nobody_waits_for_the_library, .timeout = 60) {
    char hangs[sizeof trace + 8], later[sizeof trace];
    write_trace("live\nhang\n");
    snprintf(hangs, sizeof hangs, "%s.hangs", trace);
    struct vx_err err = {0};
    struct vx_telemetry *t = vx_telemetry_create(VX_NVML_PLAYER, false, 2, &err);
    cr_assert_not_null(t, "%s", err.text);
    while (access(hangs, F_OK) != 0) {
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    vx_telemetry_detach(t, 1);
    cr_expect_eq(access(hangs, F_OK), 0, "it still hangs");
    make_file(later, "live\nutil=50\n");
    cr_assert_eq(rename(later, trace), 0);
    vx_telemetry_free(t);
    unlink(trace);
}

Test(daemon_gpu, which_errors_are_the_gpus_own) {
    static const uint32_t programs[] = {0, 13, 31, 43, 45, 94, 999};
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        cr_expect_null(vx_xid_fault(programs[i]), "%u", programs[i]);
    }
    cr_expect_str_eq(vx_xid_fault(79), "it has fallen off the bus");
    cr_expect_not_null(vx_xid_fault(48));
}

Test(daemon_gpu, metrics_under_our_names_and_nvidias) {
    struct gpus g;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct vx_gpus *first = play("util=97 total=2097152 used=1048576 power=650500 cap=700000 "
                                 "temp=64 clock=1980 reasons=40 sm=91 tensor=40 dram=35 gr=98 "
                                 "pid=77\n");
    vx_gpus_close(first); /* the trace stays */
    gpus_open(&g, VX_NVML_PLAYER, true);
    gpus_look(&g, &lock);
    gpus_look(&g, &lock);
    struct vx_buf out = VX_BUF_INIT;
    char lines[512];
    gpus_metrics(&g, &out);
    lines_with(&out, "voxeld_gpu_memory_used_bytes", lines, sizeof lines);
    cr_expect_str_eq(lines, "voxeld_gpu_memory_used_bytes{gpu=\"0\",uuid=\"GPU-trace\"} 1048576\n");
    lines_with(&out, "DCGM_FI_DEV_FB_USED", lines, sizeof lines);
    cr_expect_not_null(strstr(lines, "} 1\n"), "%s", lines); /* MiB */
    cr_expect_not_null(strstr(lines, "UUID=\"GPU-trace\""), "%s", lines);
    static const char *const seven[] = {"DCGM_FI_DEV_GPU_TEMP",
                                        "DCGM_FI_DEV_POWER_USAGE",
                                        "DCGM_FI_DEV_SM_CLOCK",
                                        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
                                        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
                                        "DCGM_FI_DEV_FB_USED",
                                        "DCGM_FI_DEV_FB_FREE"};
    for (size_t i = 0; i < 7; i++) {
        lines_with(&out, seven[i], lines, sizeof lines);
        cr_expect_not(lines[0] == '\0', "%s", seven[i]);
    }
    struct vx_device_look d;
    gpus_window(&g, "cuda:0", 77, &d);
    cr_expect_eq(d.have, VX_TUNE_HAVE_GPU | VX_TUNE_HAVE_GPM);
    cr_expect(d.device.throttled_thermal && !d.device.throttled_power);
    cr_expect_float_eq(d.device.sm_active, 0.91, 1e-12);
    cr_expect_float_eq(d.active, 0.98, 1e-12);
    cr_expect_eq(d.own_bytes, 1048576);
    gpus_window(&g, "cuda:0", 78, &d);
    cr_expect_eq(d.own_bytes, 0, "another's");
    gpus_window(&g, "cpu:0", 77, &d);
    cr_expect_eq(d.have, 0);
    gpus_window(&g, "cuda:1", 77, &d);
    cr_expect_eq(d.have, 0);
    g.dcgm = false;
    vx_buf_release(&out);
    out = (struct vx_buf)VX_BUF_INIT;
    gpus_metrics(&g, &out);
    cr_expect_null(strstr(out.data, "DCGM"));
    vx_buf_release(&out);
    gpus_close(&g);
    unlink(trace);
}

/* --- through the telemetry thread --- */

Test(daemon_gpu, a_healthy_run_is_told_the_largest_batch_that_fits) {
    struct session s = {0};
    vx_gpus_close(play("util=97 total=80000000000 used=10000000000 power=600000 cap=700000 temp=64 "
                       "clock=1980 reasons=0 pid=4000001\n"));
    open_session(&s, "cuda:0");
    /* 5 GB a sample; nine tenths of 70 GB hold twelve more */
    cr_expect_eq(figure(&s, "gpu_bound", "largest_batch"), 14);
    double busy = figure(&s, "gpu_bound", "largest_batch_utilisation");
    cr_expect_float_eq(busy, 7 * 18.0 / (7 * 18 + 2), 1e-6, "%g", busy);
    vx_auto_json json_t *all = vx_telemetry_bottleneck(s.telemetry, 1, VX_ENGLISH);
    const json_t *v = json_array_get(json_object_get(all, "verdicts"), 0);
    const char *advice = json_string_value(json_object_get(v, "advice"));
    cr_expect_not_null(strstr(advice, "a batch of 14, at which it would compute 98 %"), "%s",
                       advice);
    cr_expect_str_eq(json_string_value(json_object_get(json_object_get(v, "action"), "code")),
                     "advise");
    close_session(&s);
    unlink(trace);
}

Test(daemon_gpu, without_the_library_nothing_is_said_of_gpus) {
    struct vx_err err = {0};
    struct vx_telemetry *t = vx_telemetry_create("libnvidia-ml-not-here.so.1", true, 0, &err);
    struct vx_buf text = VX_BUF_INIT;
    vx_telemetry_metrics(t, &text);
    cr_expect_not_null(strstr(text.data, "voxeld_step_seconds_count 0\n"));
    cr_expect_null(strstr(text.data, "voxeld_gpu"));
    cr_expect_null(strstr(text.data, "DCGM"));
    vx_buf_release(&text);
    vx_telemetry_free(t);
}

Test(daemon_gpu, a_gpu_that_is_lost_takes_its_evidence_with_it) {
    struct session s = {0};
#define FINE                                                                                       \
    "util=97 total=80000000000 used=10000000000 reasons=0 gr=90 sm=80 tensor=1 dram=1 "            \
    "pid=4000001\n"
    vx_gpus_close(play(FINE FINE FINE FINE FINE FINE FINE FINE "lost\n")); /* a look a second */
    open_session(&s, "cuda:0");
    cr_expect_eq(figure(&s, "gpu_bound", "largest_batch"), 14);
    for (uint64_t end = vx_now_ns() + 60000000000;
         vx_now_ns() < end && figure_of(&s, "gpu_bound", "largest_batch") >= 0;) {
        train(&s);
    }
    cr_expect_eq(figure_of(&s, "gpu_bound", "largest_batch"), -1);
    vx_auto_json json_t *all = vx_telemetry_bottleneck(s.telemetry, 1, VX_ENGLISH);
    size_t i;
    json_t *word;
    json_array_foreach(json_object_get(all, "evidence"), i, word) {
        cr_expect_str_neq(json_string_value(word), "gpu");
        cr_expect_str_neq(json_string_value(word), "gpm");
    }
    cr_expect_gt(json_array_size(json_object_get(all, "evidence")), 0, "the host's is still there");
    struct vx_buf text = VX_BUF_INIT;
    char lines[512];
    vx_telemetry_metrics(s.telemetry, &text);
    lines_with(&text, "voxeld_gpu_lost", lines, sizeof lines);
    cr_expect_str_eq(lines, "voxeld_gpu_lost{gpu=\"0\",uuid=\"GPU-trace\"} 1\n");
    lines_with(&text, "voxeld_gpu_memory_used_bytes", lines, sizeof lines);
    cr_expect_str_empty(lines, "%s", lines);
    vx_buf_release(&text);
    close_session(&s);
    unlink(trace);
}
