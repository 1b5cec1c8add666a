/* GPU evidence from a library that plays a trace (tests/support/nvml_player.c). */
#include "base/buf.h"
#include "base/err.h"
#include "daemon/evidence/gpu.h"
#include "daemon/telemetry/gpus.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char trace[64];

static struct vx_gpus *play(const char *text) {
    snprintf(trace, sizeof trace, "/tmp/voxeld-trace-XXXXXX");
    int fd = mkstemp(trace);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    setenv("VX_NVML_TRACE", trace, 1);
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
    cr_expect_str_eq(vx_gpus_name(g, 0), "Trace player");
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

Test(daemon_gpu, a_gpu_that_is_lost_in_mid_run_stays_lost) {
    struct vx_gpus *g = play("util=50 total=1000 used=1 temp=40\n"
                             "util=50 total=1000 used=1 temp=40 xid=79\n"
                             "lost\n"
                             "util=50 total=1000 used=1 temp=40\n");
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
    cr_expect(s.lost);
    stop(g);
}

Test(daemon_gpu, metrics_under_our_names_and_nvidias) {
    struct gpus g;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct vx_gpus *first = play("util=97 total=2097152 used=1048576 power=650500 cap=700000 "
                                 "temp=64 clock=1980 reasons=40 sm=91 tensor=40 dram=35 gr=98\n");
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
    struct vx_tune_device d = {0};
    uint32_t have = 0;
    gpus_window(&g, "cuda:0", &d, &have);
    cr_expect_eq(have, VX_TUNE_HAVE_GPU | VX_TUNE_HAVE_GPM);
    cr_expect(d.throttled_thermal && !d.throttled_power);
    cr_expect_float_eq(d.sm_active, 0.91, 1e-12);
    have = 0;
    gpus_window(&g, "cpu:0", &d, &have);
    cr_expect_eq(have, 0);
    g.dcgm = false;
    vx_buf_release(&out);
    out = (struct vx_buf)VX_BUF_INIT;
    gpus_metrics(&g, &out);
    cr_expect_null(strstr(out.data, "DCGM"));
    vx_buf_release(&out);
    gpus_close(&g);
    unlink(trace);
}
