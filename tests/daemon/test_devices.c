/* Which devices there are, who may use them, and their health. */
#include "base/err.h"
#include "base/own.h"
#include "daemon/devices/health.h"
#include "daemon/devices/list.h"
#include "daemon/evidence/gpu.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static const struct vx_gpu_card h200 = {"NVIDIA H200", "GPU-aaaa-1", 141000000000, 9, 0, 0, 0},
                                h200_b = {"NVIDIA H200", "GPU-bbbb-2", 141000000000, 9, 0, 0, 0},
                                a100 = {"NVIDIA A100", "GPU-cccc-3", 80000000000, 8, 0, 0, 0},
                                turing = {"Tesla T4", "GPU-dddd-4", 16000000000, 7, 5, 0, 0},
                                split = {"NVIDIA H200", "GPU-eeee-5", 141000000000, 9, 0, 1, 0},
                                gone = {"?", "?", 0, 0, 0, 0, 1};

static struct vx_devices_input with(const char *setting, const struct vx_gpu_card *const *cards,
                                    uint32_t n) {
    return (struct vx_devices_input){.setting = setting, .cards = cards, .n_cards = n};
}

/* "cuda:0 cuda:1", or the error's text. */
static const char *names(const struct vx_devices_input *in, struct vx_device_list *l) {
    static char buf[512];
    struct vx_err err = {0};
    if (vx_devices_list(in, l, &err) != VX_OK) {
        cr_expect_str_eq(err.reason, "config_invalid");
        snprintf(buf, sizeof buf, "%s", err.text);
        return buf;
    }
    buf[0] = '\0';
    for (uint32_t i = 0; i < l->n; i++) {
        snprintf(buf + strlen(buf), sizeof buf - strlen(buf), "%s%s", i ? " " : "", l->v[i].name);
    }
    return buf;
}

Test(daemon_devices, auto_takes_every_fit_gpu_else_the_cpu) {
    const struct vx_gpu_card *const cards[] = {&h200, &turing, &split, &a100, &gone};
    struct vx_device_list l;
    struct vx_devices_input in = with(NULL, cards, 5);
    cr_expect_str_eq(names(&in, &l), "cuda:0 cuda:3");
    cr_expect_eq(l.v[1].card, &a100);
    cr_expect_eq(l.v[1].gpu, 3);
    cr_expect_str_eq(l.note, "cuda:1 has compute capability 7.5, and 8.0 is the least; "
                             "cuda:2 is split into instances (MIG), which the daemon does not use; "
                             "cuda:4 does not answer");
    in = with("auto", NULL, 0);
    in.cpu_jobs = 2;
    cr_expect_str_eq(names(&in, &l), "cpu:0 cpu:1");
    cr_expect_str_empty(l.note, "a host without GPUs lacks nothing");
    in = with("auto", cards + 1, 1);
    cr_expect_str_eq(names(&in, &l), "cpu:0");
    cr_expect_str_eq(l.note, "cuda:0 has compute capability 7.5, and 8.0 is the least");
}

Test(daemon_devices, named_devices) {
    const struct vx_gpu_card *const cards[] = {&h200, &h200_b, &turing};
    struct vx_device_list l;
    static const struct {
        const char *setting, *names;
    } ways[] = {
        {"cuda:1", "cuda:1"},
        {"cuda:1, cuda:0 ,cuda:1", "cuda:1 cuda:0"},
        {"cuda", "cuda:0 cuda:1"},
        {"cpu", "cpu:0 cpu:1"},
        {"cpu:0", "cpu:0"},
        {"cuda,cpu:0", "cuda:0 cuda:1 cpu:0"},
        {"cuda:2,cuda:0", "cuda:0"},
        {"cuda:2", "devices: none of \"cuda:2\" is there: cuda:2 has compute capability 7.5, and "
                   "8.0 is the least"},
        {"cuda:7", "devices: none of \"cuda:7\" is there: cuda:7 is not there"},
        {"gpu", "devices: \"gpu\" is not cpu, cpu:N, cuda or cuda:N (or auto alone)"},
        {"cuda:", "devices: \"cuda:\" is not cpu, cpu:N, cuda or cuda:N (or auto alone)"},
        {"cuda:1x", "devices: \"cuda:1x\" is not cpu, cpu:N, cuda or cuda:N (or auto alone)"},
        {"auto,cpu", "devices: \"auto\" is not cpu, cpu:N, cuda or cuda:N (or auto alone)"},
        {"cpu,", "devices: \"\" is not cpu, cpu:N, cuda or cuda:N (or auto alone)"},
    };
    for (size_t i = 0; i < VX_COUNTOF(ways); i++) {
        struct vx_devices_input in = with(ways[i].setting, cards, 3);
        in.cpu_jobs = 2;
        cr_expect_str_eq(names(&in, &l), ways[i].names, "%s: %s", ways[i].setting, names(&in, &l));
    }
    struct vx_devices_input in = with("cuda", NULL, 0);
    cr_expect_str_eq(names(&in, &l), "devices: none of \"cuda\" is there: NVIDIA's library lists "
                                     "no GPU here");
}

Test(daemon_devices, cuda_visible_devices_is_respected) {
    const struct vx_gpu_card *const same[] = {&h200, &h200_b}, *const mixed[] = {&a100, &h200};
    struct vx_device_list l;
    static const struct {
        const char *visible, *order, *names, *names_mixed;
    } ways[] = {
        {NULL, NULL, "cuda:0 cuda:1", "cuda:0 cuda:1"},
        {"", NULL, "cpu:0", "cpu:0"},
        {"-1", NULL, "cpu:0", "cpu:0"},
        {"1", NULL, "cuda:1", "cpu:0"}, /* which one would CUDA mean? */
        {"1", "PCI_BUS_ID", "cuda:1", "cuda:1"},
        {"0,7,1", "PCI_BUS_ID", "cuda:0", "cuda:0"}, /* as CUDA: the list ends there */
        {"GPU-aaaa-1", NULL, "cuda:0", "cuda:1"},
        {"GPU-aa", NULL, "cuda:0", "cuda:1"},
        {"GPU-", NULL, "cpu:0", "cpu:0"}, /* of which of them? */
        {"MIG-aaaa", NULL, "cpu:0", "cpu:0"},
    };
    for (size_t i = 0; i < VX_COUNTOF(ways); i++) {
        struct vx_devices_input in = with("auto", same, 2);
        in.visible = ways[i].visible;
        in.order = ways[i].order;
        cr_expect_str_eq(names(&in, &l), ways[i].names, "%s", ways[i].visible);
        in.cards = mixed;
        cr_expect_str_eq(names(&in, &l), ways[i].names_mixed, "mixed %s", ways[i].visible);
    }
    struct vx_devices_input in = with("auto", mixed, 2);
    in.visible = "1";
    names(&in, &l);
    cr_expect_not_null(strstr(l.note, "set CUDA_DEVICE_ORDER=PCI_BUS_ID"), "%s", l.note);
    in.visible = "MIG-aaaa";
    names(&in, &l);
    cr_expect_not_null(strstr(l.note, "names instances of MIG"), "%s", l.note);
}

Test(daemon_devices, a_gpu_that_proves_useless_makes_room_for_the_cpu) {
    const struct vx_gpu_card *const cards[] = {&h200, &h200_b};
    struct vx_device_list l;
    struct vx_devices_input in = with("auto", cards, 2);
    names(&in, &l);
    cr_expect(vx_devices_drop(&in, &l, 0, "the module is not installed"));
    cr_expect_eq(l.n, 1);
    cr_expect_str_eq(l.v[0].name, "cuda:1");
    cr_expect(vx_devices_drop(&in, &l, 0, "the module is not installed"));
    cr_expect_eq(l.n, 1);
    cr_expect_str_eq(l.v[0].name, "cpu:0");
    cr_expect_str_eq(l.note, "the module is not installed", "said once");
    in = with("cuda:0", cards, 2);
    names(&in, &l);
    cr_expect_not(vx_devices_drop(&in, &l, 0, "it is broken"), "the CPU was not asked for");
}

Test(daemon_devices, what_jobs_may_run_on) {
    const struct vx_gpu_card *const cards[] = {&h200, &h200_b};
    struct vx_device_list gpus, cpus, both;
    struct vx_devices_input in = with("auto", cards, 2);
    names(&in, &gpus);
    in = with("cpu", NULL, 0);
    in.cpu_jobs = 2;
    names(&in, &cpus);
    in = with("cpu:0,cuda", cards, 2);
    names(&in, &both);
    static const struct {
        const char *want;
        uint32_t gpus, cpus, both;
    } ways[] = {
        {"auto", 3, 3, 6},   {"cuda", 3, 0, 6},  {"cpu", 0, 3, 1},
        {"cuda:1", 2, 0, 4}, {"cpu:1", 0, 2, 0}, {"cuda:2", 0, 0, 0},
    };
    for (size_t i = 0; i < VX_COUNTOF(ways); i++) {
        cr_expect_eq(vx_devices_match(&gpus, ways[i].want), ways[i].gpus, "%s", ways[i].want);
        cr_expect_eq(vx_devices_match(&cpus, ways[i].want), ways[i].cpus, "%s", ways[i].want);
        cr_expect_eq(vx_devices_match(&both, ways[i].want), ways[i].both, "%s", ways[i].want);
    }
    cr_expect(vx_devices_gpus(&both, 6));
    cr_expect_not(vx_devices_gpus(&both, 7));
    cr_expect_not(vx_devices_gpus(&cpus, 0));
    struct vx_err err = {0};
    cr_expect_eq(vx_devices_refuse(&gpus, "cuda:5", &err), VX_E_INVALID);
    cr_expect_str_eq(err.reason, "unknown_device");
    cr_expect_str_eq(err.where, "/resources/device");
    cr_expect_str_eq(err.text, "this daemon has no device \"cuda:5\": it has cuda:0, cuda:1; "
                               "GET /v1/devices lists them");
}

/* --- health --- */

#define S 1000000000ull

Test(daemon_devices, a_fault_is_tried_again_after_a_pause_that_doubles) {
    struct vx_health h = {0};
    cr_expect_not(vx_health_due(&h, 1000 * S), "a healthy one is not");
    vx_health_fault(&h, "device_lost", "the step said so", 100 * S, 10 * S);
    cr_expect(h.unhealthy);
    cr_expect_not(vx_health_due(&h, 109 * S));
    cr_expect(vx_health_due(&h, 110 * S));
    vx_health_fault(&h, "device_lost", "again", 110 * S, 10 * S);
    cr_expect_not(vx_health_due(&h, 129 * S));
    cr_expect(vx_health_due(&h, 130 * S));
    vx_health_tried(&h);
    cr_expect_not(h.unhealthy);
    cr_expect_str_empty(h.code);
    vx_health_fault(&h, "device_lost", "a job lost it again", 200 * S, 10 * S);
    cr_expect_not(vx_health_due(&h, 239 * S), "a try is not a job that ended well");
    for (int i = 0; i < 20; i++) {
        vx_health_fault(&h, "device_lost", "", 1000 * S, 10 * S);
    }
    cr_expect(vx_health_due(&h, 1320 * S), "the pause does not grow for ever");
    vx_health_tried(&h);
    vx_health_did_well(&h);
    vx_health_fault(&h, "device_lost", "", 2000 * S, 10 * S);
    cr_expect(vx_health_due(&h, 2010 * S));
    cr_expect_eq(h.faults, 24);
}

Test(daemon_devices, what_the_library_says_of_a_gpu) {
    struct vx_health h = {0};
    struct vx_gpu look = {.xid_errors = 3, .xid_last = 31};
    cr_expect_not(vx_health_look(&h, &look, 0, 10 * S));
    cr_expect_not(h.unhealthy, "errors of a program are not the GPU's");
    look.faults = 1;
    look.fault_last = 79;
    cr_expect(vx_health_look(&h, &look, 0, 10 * S));
    cr_expect_str_eq(h.code, "xid_79");
    cr_expect_str_eq(h.text, "the driver reports Xid 79: it has fallen off the bus");
    cr_expect_not(vx_health_look(&h, &look, S, 10 * S), "known already");
    look.lost = true;
    cr_expect(vx_health_look(&h, &look, 2 * S, 10 * S));
    cr_expect_str_eq(h.code, "gpu_lost");
    cr_expect_not(vx_health_due(&h, 1000 * S), "no use while it does not answer");
    look.lost = false;
    cr_expect_not(vx_health_look(&h, &look, 5 * S, 10 * S));
    cr_expect(h.unhealthy, "until it was tried");
    cr_expect(vx_health_due(&h, 5 * S), "at once, whatever pause was set");
    vx_health_tried(&h);
    cr_expect_not(vx_health_look(&h, &look, 6 * S, 10 * S));
    cr_expect_not(h.unhealthy);
}
