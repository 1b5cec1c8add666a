/* Every launch of the standard networks against the arena plan: nothing is read that was not
 * written, nothing out of bounds, nothing unordered. And that the recorder would see it. */
#include "device/net_maker.h"
#include "networks.h"
#include "recorder.h"

#include "base/err.h"
#include "device/cuda/internal.h"
#include "net/net.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct recorder_options watching = {0};

/* Host memory that nobody looks into: copies are recorded, not made. */
struct blind {
    const float *images[512];
    const int16_t *labels[512];
    struct vx_run_input in;
};

static void blind_init(struct blind *b, int batch) {
    static float image;
    static int16_t label;
    cr_assert_leq(batch, 512);
    for (int i = 0; i < batch; i++) {
        b->images[i] = &image;
        b->labels[i] = &label;
    }
    b->in = (struct vx_run_input){b->images, b->labels, 0.01f};
}

static void run_often(struct vx_program *p, const struct vx_run_input *in, bool late) {
    struct vx_err err = {0};
    uint64_t ticket = 0;
    for (int run = 0; run < 5; run++) {
        cr_assert_eq(vx_program_run(p, in, &ticket, &err), VX_OK, "%s", err.text);
        if (!late || run > 0) {
            uint64_t of = late ? ticket - 1 : ticket;
            cr_assert_eq(vx_program_wait(p, of, NULL, &err), VX_OK, "%s", err.text);
        }
    }
    cr_assert_eq(vx_program_wait(p, ticket, NULL, &err), VX_OK, "%s", err.text);
}

static void check_clean(const char *what) {
    cr_assert_eq(recorder_problems(), 0, "%s: %d findings, first: %s", what, recorder_problems(),
                 recorder_problem());
}

static const enum vx_mode modes[] = {VX_MODE_TRAIN, VX_MODE_GRADIENT, VX_MODE_VALIDATE,
                                     VX_MODE_INFER};

/* Tiles of a volume a little larger than the network's input: at its start, at its end, mirrored,
 * and half outside. */
static void sum_tiles(struct vx_program *p, const struct vx_oplist *net) {
    const int *patch = net->tensors[net->input].shape + 2;
    const int64_t volume[3] = {patch[0] + 3, patch[1] + 5, patch[2] + 7};
    const struct vx_tile tiles[] = {{.start = {0}},
                                    {.start = {3, 5, 7}, .flip = {true, false, true}},
                                    {.start = {-1, -2, 7}, .flip = {false, true, false}}};
    static const float nothing = 0;
    static float dst;
    const float *const axes[3] = {&nothing, &nothing, &nothing};
    struct vx_sums *sums = NULL;
    struct vx_err err = {0};
    bool finite = false;
    cr_assert_eq(vx_sums_begin(p, volume, axes, &sums, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_sums_image(sums, &nothing, &err), VX_OK, "%s", err.text);
    for (int run = 0; run < 4; run++) {
        int n = net->batch < 3 ? net->batch : 3 - run % 2;
        cr_assert_eq(vx_sums_add(sums, tiles, n, &err), VX_OK, "%s", err.text);
    }
    cr_assert_eq(vx_sums_read(sums, axes, 8, &dst, &finite, &err), VX_OK, "%s", err.text);
    vx_sums_free(sums);
}

/* All modes of one state, in turn and then two of them mixed, as an epoch does. */
static void check_network(int network) {
    struct vx_oplist *net = network_build(network);
    struct vx_program *programs[4] = {NULL};
    struct blind blind;
    struct rig r;
    if (!net) {
        return;
    }
    recorder_start(&watching);
    rig_init(&r, "recorded", 1, net);
    blind_init(&blind, net->batch);
    for (int m = 0; m < 4; m++) {
        programs[m] = rig_compile(&r, modes[m], VX_BF16);
        recorder_watch(programs[m]);
        run_often(programs[m], &blind.in, m % 2 == 0);
        check_clean(network_name(network));
    }
    sum_tiles(programs[3], net);
    check_clean(network_name(network));
    for (int i = 0; i < 4; i++) {
        run_often(programs[i % 2 ? 2 : 0], &blind.in, true);
    }
    check_clean(network_name(network));
    cr_assert_lt(vx_program_memory(programs[2]), vx_program_memory(programs[0]));
    cr_assert_lt(vx_program_memory(programs[3]), vx_program_memory(programs[0]));
    for (int m = 0; m < 4; m++) {
        vx_program_free(programs[m]);
    }
    rig_release(&r);
    check_clean(network_name(network));
    cr_assert_eq(recorder_leaks(), 0);
    vx_oplist_free(net);
}

Test(cuda_lifetimes, standard_networks) {
    int checked = 0;
    for (int i = 0; i < network_count(); i++) {
        check_network(i);
        checked++;
    }
    cr_assert_geq(checked, 4);
}

static int network_named(const char *name) {
    for (int i = 0; i < network_count(); i++) {
        if (strcmp(network_name(i), name) == 0) {
            return i;
        }
    }
    cr_assert_fail("no network %s", name);
    return -1;
}

/* The plan against what must be alive at least: outputs of all convolutions and what follows them,
 * once each, in bfloat16 (facts: 3.2 GiB at 128^3). */
Test(cuda_lifetimes, memory_of_a_training_step) {
    struct vx_oplist *net = network_build(network_named("six stages 128^3"));
    struct rig r;
    size_t kept = 0;
    recorder_start(&watching);
    rig_init(&r, "recorded", 1, net);
    struct vx_program *p = rig_compile(&r, VX_MODE_TRAIN, VX_BF16);
    for (int i = 0; i < net->n_ops; i++) {
        const struct vx_op *op = &net->ops[i];
        const int *s = net->tensors[op->out].shape;
        if (op->kind == VX_OP_NORM_ACT) {
            kept += (size_t)s[0] * (size_t)s[1] * (size_t)s[2] * (size_t)s[3] * (size_t)s[4] * 4;
        }
    }
    cr_assert_gt(vx_program_memory(p), kept);
    cr_assert_lt(vx_program_memory(p), 2 * kept, "%zu MiB where %zu must be kept",
                 vx_program_memory(p) >> 20, kept >> 20);
    vx_program_free(p);
    rig_release(&r);
    vx_oplist_free(net);
}

/* --- would it be seen? --- */

struct sabotage {
    struct maker m;
    struct rig r;
    struct samples samples;
    struct vx_run_input in;
    struct vx_program *program;
    struct cuda_program *p;
};

static void sabotage_init(struct sabotage *s) {
    static const struct unet_args args = {.batch = 1,
                                          .channels = 1,
                                          .size = {8, 8, 8},
                                          .classes = 3,
                                          .stages = 3,
                                          .features = {8, 16, 24}};
    recorder_start(&watching);
    maker_unet(&s->m, &args);
    rig_init(&s->r, "recorded", 1, &s->m.net);
    samples_init(&s->samples, &s->m.net, 1);
    s->in = samples_input(&s->samples, 0);
    s->program = rig_compile(&s->r, VX_MODE_TRAIN, VX_BF16);
    s->p = (struct cuda_program *)s->program;
}

static void sabotage_release(struct sabotage *s) {
    vx_program_free(s->program);
    samples_release(&s->samples);
    rig_release(&s->r);
    maker_release(&s->m);
}

static void expect(struct sabotage *s, const char *text) {
    recorder_watch(s->program);
    rig_run(s->program, &s->in);
    cr_assert_gt(recorder_problems(), 0, "nothing was seen");
    cr_assert(strstr(recorder_problem(), text), "saw: %s", recorder_problem());
    sabotage_release(s);
}

static int do_nothing(struct cuda_program *p, const void *data) {
    (void)p;
    (void)data;
    return 0;
}

static int step_named(const struct sabotage *s, const char *name) {
    for (int i = 0; i < s->p->n_steps; i++) {
        if (strcmp(s->p->steps[i].name, name) == 0) {
            return i;
        }
    }
    cr_assert_fail("no step %s", name);
    return -1;
}

Test(cuda_lifetimes, a_step_left_out_is_seen) {
    struct sabotage s;
    sabotage_init(&s);
    s.p->steps[step_named(&s, "norm 1 forward")].run = do_nothing;
    expect(&s, "where nothing was written");
}

/* A buffer of the forward half that the backward half still reads. */
static int long_lived(const struct sabotage *s) {
    int found = -1;
    for (int i = 0; i < s->p->n_buffers; i++) {
        const struct vx_span *b = &s->p->buffers[i];
        int longest = found < 0 ? 0 : s->p->buffers[found].last - s->p->buffers[found].first;
        if (b->first > 0 && b->last < CUDA_ALWAYS && b->last - b->first > longest) {
            found = i;
        }
    }
    return found;
}

Test(cuda_lifetimes, a_buffer_given_away_too_early_is_seen) {
    struct sabotage s;
    sabotage_init(&s);
    struct vx_span *b = &s.p->buffers[long_lived(&s)];
    b->last = b->first;
    expect(&s, "no buffer is in use");
}

Test(cuda_lifetimes, buffers_on_top_of_each_other_are_seen) {
    struct sabotage s;
    sabotage_init(&s);
    int i = long_lived(&s);
    s.p->buffers[i].offset = s.p->buffers[s.p->tensors[0].value.buffer].offset;
    expect(&s, "overlap while both are in use");
}

Test(cuda_lifetimes, a_buffer_too_small_is_seen) {
    struct sabotage s;
    sabotage_init(&s);
    s.p->buffers[long_lived(&s)].bytes -= 16;
    expect(&s, "past the end");
}

Test(cuda_lifetimes, a_copy_that_nothing_waits_for_is_seen) {
    struct sabotage s;
    sabotage_init(&s);
    /* Both slots become one: the second run's inputs land on those of the first. */
    s.p->slots[1].images = s.p->slots[0].images;
    uint64_t ticket = 0;
    recorder_watch(s.program);
    for (int run = 0; run < 3; run++) {
        cr_assert_eq(vx_program_run(s.program, &s.in, &ticket, NULL), VX_OK);
    }
    expect(&s, "may still be");
}

/* --- what goes wrong on a device --- */

static int compile_error(const struct recorder_options *o, struct vx_err *err) {
    struct sabotage s;
    sabotage_init(&s);
    vx_program_free(s.program);
    s.program = NULL;
    recorder_change(o);
    int rc = vx_program_compile(s.r.state, &s.m.net, VX_MODE_TRAIN, VX_BF16, &s.program, err);
    sabotage_release(&s);
    return rc;
}

Test(cuda_faults, out_of_memory_says_what_was_asked_and_what_would_fit) {
    struct vx_oplist *net = network_build(network_named("Dataset004 3d_fullres"));
    struct vx_err err = {0};
    struct rig r;
    struct vx_program *p = NULL;
    recorder_start(&(struct recorder_options){.memory = (size_t)1 << 29});
    rig_init(&r, "recorded", 1, net);
    cr_assert_eq(vx_program_compile(r.state, net, VX_MODE_TRAIN, VX_BF16, &p, &err), VX_E_NOMEM);
    cr_assert_str_eq(err.reason, "device_memory");
    cr_assert(strstr(err.text, "GiB at batch size 9 and 0.4 of 0.5 GiB are free"), "%s", err.text);
    cr_assert(strstr(err.text, "batch size "), "%s", err.text);
    int fits = 0;
    const char *advice = strstr(err.text, "; batch size ");
    cr_assert(advice && sscanf(advice, "; batch size %d", &fits) == 1, "%s", err.text);
    cr_assert(fits >= 1 && fits < 9, "%s", err.text);
    /* What it says is true. */
    struct vx_oplist smaller = *net;
    smaller.batch = fits;
    smaller.tensors = malloc((size_t)net->n_tensors * sizeof *net->tensors);
    for (int i = 0; i < net->n_tensors; i++) {
        smaller.tensors[i] = net->tensors[i];
        smaller.tensors[i].shape[0] = fits;
    }
    cr_assert_eq(vx_program_compile(r.state, &smaller, VX_MODE_TRAIN, VX_BF16, &p, &err), VX_OK,
                 "%s", err.text);
    vx_program_free(p);
    rig_release(&r);
    cr_assert_eq(recorder_leaks(), 0);
    free(smaller.tensors);
    vx_oplist_free(net);
}

Test(cuda_faults, not_even_one_sample_fits) {
    struct vx_oplist *net = network_build(network_named("six stages 128^3"));
    struct vx_err err = {0};
    struct rig r;
    struct vx_program *p = NULL;
    recorder_start(&(struct recorder_options){.memory = (size_t)1 << 30});
    rig_init(&r, "recorded", 1, net);
    cr_assert_eq(vx_program_compile(r.state, net, VX_MODE_TRAIN, VX_BF16, &p, &err), VX_E_NOMEM);
    cr_assert(strstr(err.text, "one sample alone is too much"), "%s", err.text);
    rig_release(&r);
    vx_oplist_free(net);
}

Test(cuda_faults, every_call_of_compiling_may_fail) {
    static const char *const calls[] = {"allocate",  "allocate_host", "room", "event_create",
                                        "conv_plan", "clear",         "enter"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct vx_err err = {0};
        int rc = compile_error(&(struct recorder_options){.fail_call = calls[i], .fail_code = 719},
                               &err);
        cr_assert_neq(rc, VX_OK, "%s", calls[i]);
        cr_assert_gt(strlen(err.text), 10u, "%s", calls[i]);
        if (strcmp(calls[i], "conv_plan") != 0) {
            cr_assert_eq(rc, VX_E_DEVICE, "%s", calls[i]);
            cr_assert_str_eq(err.reason, "device_lost", "%s: %s", calls[i], err.text);
            cr_assert_eq(err.native, 719);
        }
    }
}

static int run_error(const struct recorder_options *o, bool wait, struct vx_err *err) {
    struct sabotage s;
    sabotage_init(&s);
    recorder_change(o);
    uint64_t ticket = 0;
    int rc = VX_OK;
    for (int run = 0; rc == VX_OK && run < 3; run++) {
        rc = vx_program_run(s.program, &s.in, &ticket, err);
        if (rc == VX_OK && wait) {
            rc = vx_program_wait(s.program, ticket, NULL, err);
        }
    }
    sabotage_release(&s);
    return rc;
}

Test(cuda_faults, a_lost_device_has_a_reason_of_its_own) {
    struct vx_err err = {0};
    struct recorder_options o = {.fail_call = "event_sync", .fail_code = 700};
    cr_assert_eq(run_error(&o, true, &err), VX_E_DEVICE);
    cr_assert_str_eq(err.reason, "device_lost");
    cr_assert(strstr(err.text, "the process must end"), "%s", err.text);
    o = (struct recorder_options){.fail_call = "graph_launch", .fail_after = 1, .fail_code = 214};
    cr_assert_eq(run_error(&o, true, &err), VX_E_DEVICE);
    cr_assert_str_eq(err.reason, "device_lost");
    cr_assert(strstr(err.text, "launching the graph"), "%s", err.text);
    o = (struct recorder_options){.fail_call = "norm_forward", .fail_code = 1};
    err = (struct vx_err){0};
    cr_assert_eq(run_error(&o, true, &err), VX_E_DEVICE);
    cr_assert_str_neq(err.reason, "device_lost", "a refused launch leaves the context alive");
    cr_assert(strstr(err.text, "norm 1 forward"), "%s", err.text);
}

/* What would take memory, plans, streams or events fails: no run asks for any. */
Test(cuda_faults, a_run_takes_nothing) {
    static const char *const calls[] = {"allocate",  "allocate_host", "event_create",
                                        "conv_plan", "stream_create", "lock"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct vx_err err = {0};
        struct recorder_options o = {.fail_call = calls[i], .fail_code = 719};
        cr_assert_eq(run_error(&o, true, &err), VX_OK, "%s: %s", calls[i], err.text);
    }
}

Test(cuda_faults, without_a_graph_it_goes_on_step_by_step) {
    struct sabotage s;
    sabotage_init(&s);
    recorder_change(&(struct recorder_options){.no_capture = true});
    for (int run = 0; run < 4; run++) {
        rig_run(s.program, &s.in);
    }
    cr_assert_eq(recorder_calls("graph_launch"), 0);
    cr_assert_eq(recorder_calls("update"), 4);
    sabotage_release(&s);
    cr_assert_eq(recorder_leaks(), 0);
}

Test(cuda_faults, a_capture_that_does_not_begin_is_no_error_of_the_run) {
    struct sabotage s;
    sabotage_init(&s);
    recorder_change(&(struct recorder_options){.fail_call = "capture_begin", .fail_code = 906});
    for (int run = 0; run < 4; run++) {
        rig_run(s.program, &s.in);
    }
    cr_assert_eq(recorder_calls("graph_launch"), 0);
    cr_assert_eq(recorder_calls("update"), 4);
    sabotage_release(&s);
    cr_assert_eq(recorder_leaks(), 0);
}

Test(cuda_faults, the_environment_keeps_it_eager) {
    struct sabotage s;
    setenv("VOXELD_CUDA_EAGER", "1", 1);
    sabotage_init(&s);
    recorder_watch(s.program);
    for (int run = 0; run < 3; run++) {
        rig_run(s.program, &s.in);
    }
    cr_assert_eq(recorder_calls("graph_launch"), 0);
    cr_assert_eq(recorder_calls("update"), 3);
    check_clean("eager");
    sabotage_release(&s);
}

Test(cuda_faults, what_has_no_path_is_refused_with_its_name) {
    struct maker m;
    struct rig r;
    struct vx_err err = {0};
    struct vx_program *p = NULL;
    recorder_start(&watching);
    maker_init(&m, 1, 1, 4, 4, 4, 2);
    int a = maker_conv(&m, 0, &(struct conv_args){12, {3, 3, 3}, {1, 1, 1}});
    int b = maker_conv(&m, a, &(struct conv_args){8, {3, 3, 3}, {1, 1, 1}});
    maker_head(&m,
               maker_conv(&m, maker_concat(&m, a, b), &(struct conv_args){8, {1, 1, 1}, {1, 1, 1}}),
               1);
    struct vx_device *device = NULL;
    struct vx_state *state = NULL;
    cr_assert_eq(vx_device_open("recorded", NULL, &device, &err), VX_OK);
    cr_assert_eq(vx_state_create(device, &m.net, &state, &err), VX_E_UNSUPPORTED);
    cr_assert_str_eq(err.reason, "channels_not_8");
    cr_assert(strstr(err.text, "12 channels"), "%s", err.text);
    vx_device_close(device);
    maker_release(&m);

    maker_init(&m, 1, 1, 4, 4, 4, 2);
    maker_head(&m, maker_conv(&m, 0, &(struct conv_args){8, {3, 3, 3}, {1, 1, 1}}), 1);
    rig_init(&r, "recorded", 1, &m.net);
    cr_assert_eq(vx_program_compile(r.state, &m.net, VX_MODE_TRAIN, VX_FP32, &p, &err),
                 VX_E_UNSUPPORTED);
    cr_assert(strstr(err.text, "bf16"), "%s", err.text);
    rig_release(&r);
    maker_release(&m);
}

Test(cuda_faults, equal_bits_unless_nobody_asks_for_them) {
    const struct {
        const struct vx_device_options *options;
        const char *variable;
        bool varies;
    } cases[] = {{NULL, "", false},
                 {&(struct vx_device_options){.deterministic = true}, "0", false},
                 {&(struct vx_device_options){.deterministic = false}, "", true},
                 {&(struct vx_device_options){.deterministic = true}, "1", true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct vx_device *device = NULL;
        struct vx_device_info info;
        setenv("VOXELD_CUDA_FAST", cases[i].variable, 1);
        recorder_start(&watching);
        cr_assert_eq(vx_device_open("recorded", cases[i].options, &device, NULL), VX_OK);
        vx_device_describe(device, &info);
        cr_assert_eq(info.varies, cases[i].varies, "case %zu", i);
        cr_assert_eq(recorder_fast(), cases[i].varies);
        vx_device_close(device);
        check_clean("closing");
    }
}

Test(cuda_faults, memory_of_the_ring_is_locked_and_given_back) {
    struct vx_device *device = NULL;
    struct vx_err err = {0};
    static char ring[4096];
    recorder_start(&watching);
    cr_assert_eq(vx_device_open("recorded", NULL, &device, &err), VX_OK);
    cr_assert_eq(vx_device_use_memory(device, ring, sizeof ring, &err), VX_OK);
    vx_device_close(device);
    cr_assert_eq(recorder_leaks(), 0);
    recorder_start(&(struct recorder_options){.fail_call = "lock", .fail_code = 1});
    cr_assert_eq(vx_device_open("recorded", NULL, &device, &err), VX_OK);
    cr_assert_eq(vx_device_use_memory(device, ring, sizeof ring, &err), VX_E_LIMIT);
    cr_assert_str_eq(err.reason, "memlock");
    vx_device_close(device);
    cr_assert_eq(recorder_leaks(), 0);
}
