/* A sliding window whose tiles are added up on the device, against the same network's with tiles
 * added up on the host. Both see the same logits, so what differs is how fp32 sums of at most 64
 * terms round: 2^-24 each, of the largest logit at most. */
#include "device/net_maker.h"
#include "recorder.h"

#include "base/err.h"
#include "device/cuda/internal.h"
#include "infer/sliding.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double TOLERANCE = 64 * 0x1p-24;

struct setup {
    int batch, channels, classes, patch[3];
    int64_t shape[3];
    bool mirror[3];
};

struct window {
    const struct setup *s;
    struct maker m;
    struct rig rig;
    struct vx_program *program;
    struct vx_predictor *predictor;
    float *image, *logits;
    size_t n; /* logits */
};

static int64_t volume_of(const struct setup *s) {
    return s->shape[0] * s->shape[1] * s->shape[2];
}

static void window_init(struct window *w, const struct setup *s) {
    struct vx_sliding_options o = {.mirror = {s->mirror[0], s->mirror[1], s->mirror[2]}};
    struct vx_err err = {0};
    *w = (struct window){.s = s, .n = (size_t)(volume_of(s) * s->classes)};
    recorder_start(&(struct recorder_options){.execute = true});
    maker_init(&w->m, s->batch, s->channels, s->patch[0], s->patch[1], s->patch[2], s->classes);
    int x = maker_block(&w->m, 0, 8, (int[]){3, 3, 3}, (int[]){1, 1, 1});
    maker_head(&w->m, x, 1);
    rig_init(&w->rig, "recorded", 1, &w->m.net);
    rig_randomize(&w->rig, 5);
    w->program = rig_compile(&w->rig, VX_MODE_INFER, VX_BF16);
    recorder_watch(w->program);
    cr_assert_eq(vx_predictor_create(w->program, &w->m.net, &o, &w->predictor, &err), VX_OK);
    w->image = malloc((size_t)(volume_of(s) * s->channels) * sizeof *w->image);
    w->logits = malloc(w->n * sizeof *w->logits);
    for (int64_t i = 0; i < volume_of(s) * s->channels; i++) {
        w->image[i] = (float)(i * 37 % 101) / 50 - 1;
    }
}

static void window_release(struct window *w) {
    vx_predictor_free(w->predictor);
    vx_program_free(w->program);
    rig_release(&w->rig);
    maker_release(&w->m);
    free(w->image);
    free(w->logits);
    cr_assert_eq(recorder_problems(), 0, "%d findings, first: %s", recorder_problems(),
                 recorder_problem());
    cr_assert_eq(recorder_leaks(), 0);
}

static void predict(struct window *w) {
    struct vx_err err = {0};
    cr_assert_eq(vx_predictor_run(w->predictor, w->image, w->s->shape, w->logits, NULL, NULL, &err),
                 VX_OK, "%s", err.text);
}

static const struct recorder_options no_room = {
    .execute = true, .fail_call = "allocate", .fail_code = 2};

/* What the host makes of the same network; the caller frees. */
static float *on_host(struct window *w) {
    float *there = w->logits;
    w->logits = malloc(w->n * sizeof *w->logits);
    recorder_change(&no_room);
    predict(w);
    cr_assert_gt(recorder_calls("read_logits"), 0);
    cr_assert_eq(recorder_calls("add_tile"), 0);
    recorder_change(&(struct recorder_options){.execute = true});
    float *host = w->logits;
    w->logits = there;
    return host;
}

static void check_equal(const struct window *w, const float *want) {
    double top = 0, apart = 0;
    for (size_t i = 0; i < w->n; i++) {
        top = fmax(top, fabs((double)want[i]));
        apart = fmax(apart, fabs((double)w->logits[i] - (double)want[i]));
        cr_assert(isfinite(w->logits[i]));
    }
    cr_assert_gt(top, 0.1, "the network says something");
    cr_assert_leq(apart, TOLERANCE * top, "apart by %g of %g", apart, top);
}

static const struct setup several = {2, 1, 3, {4, 6, 8}, {9, 11, 8}, {true, true, true}};

Test(cuda_sums, equal_those_of_the_host) {
    static const struct setup setups[] = {
        several,
        {3, 2, 2, {4, 6, 8}, {3, 7, 5}, {true, false, true}},   /* padded, the batch does not divide
                                                                 */
        {4, 1, 2, {8, 8, 8}, {5, 6, 7}, {false, false, false}}, /* one tile in a batch of four */
        {5, 1, 9, {1, 6, 4}, {3, 7, 4}, {false, true, true}},   /* 2d, two lanes of classes */
    };
    for (size_t i = 0; i < sizeof setups / sizeof *setups; i++) {
        struct window w;
        window_init(&w, &setups[i]);
        for (int twice = 0; twice < 2; twice++) {
            predict(&w);
        }
        cr_assert_gt(recorder_calls("add_tile"), 0);
        cr_assert_eq(recorder_calls("read_logits"), 0, "logits stay on the device");
        cr_assert_eq(recorder_calls("load_images"), 0);
        float *host = on_host(&w);
        check_equal(&w, host);
        free(host);
        window_release(&w);
    }
}

Test(cuda_sums, every_tile_once_and_runs_are_graphs) {
    struct window w;
    window_init(&w, &several);
    predict(&w);
    int64_t tiles = 8;
    for (int a = 0; a < 3; a++) {
        tiles *= vx_sliding_count(several.shape[a], several.patch[a], 0.5);
    }
    cr_assert_eq(recorder_calls("add_tile"), tiles);
    cr_assert_eq(recorder_calls("cut_tile"), tiles);
    cr_assert_eq(recorder_calls("graph_launch"), tiles / 2 - 1, "all but the first");
    cr_assert_eq(recorder_calls("divide_tiles"), 1);
    window_release(&w);
}

/* Several networks: the weights change between two passes over the same sums. */
Test(cuda_sums, the_mean_of_two_networks) {
    struct window w;
    struct vx_err err = {0};
    float *host = NULL;
    window_init(&w, &several);
    for (int there = 0; there < 2; there++) {
        recorder_change(there ? &(struct recorder_options){.execute = true} : &no_room);
        cr_assert_eq(vx_predictor_begin(w.predictor, several.shape, w.logits, &err), VX_OK);
        for (uint64_t fold = 0; fold < 2; fold++) {
            rig_randomize(&w.rig, 20 + fold);
            cr_assert_eq(
                vx_predictor_add(w.predictor, w.image, several.shape, w.logits, NULL, NULL, &err),
                VX_OK, "%s", err.text);
        }
        cr_assert_eq(vx_predictor_finish(w.predictor, several.shape, 2, w.logits, &err), VX_OK);
        if (!there) {
            host = malloc(w.n * sizeof *host);
            memcpy(host, w.logits, w.n * sizeof *host);
        }
    }
    check_equal(&w, host);
    free(host);
    window_release(&w);
}

/* stderr into a file while a prediction runs. */
static void logged(struct window *w, char text[2000]) {
    char path[] = "/tmp/vx-sums-XXXXXX";
    int to = mkstemp(path), before = dup(STDERR_FILENO);
    cr_assert(to >= 0 && before >= 0 && dup2(to, STDERR_FILENO) >= 0);
    predict(w);
    fflush(stderr);
    dup2(before, STDERR_FILENO);
    ssize_t n = pread(to, text, 1999, 0);
    text[n < 0 ? 0 : n] = '\0';
    close(before);
    close(to);
    unlink(path);
}

Test(cuda_sums, too_little_memory_is_said_once_and_the_host_goes_on) {
    struct window w;
    size_t room = 0, total = 0;
    char text[2000];
    window_init(&w, &several);
    predict(&w);
    const struct cuda_device *d = ((struct cuda_program *)w.program)->device;
    d->api->room(&room, &total);
    /* All but one byte of what image, sums and factors take, each rounded up to 256 bytes. */
    size_t need = 9 * 11 * 8 * sizeof(float), parts[] = {need, 3 * need, 18 * 4, 28 * 4, 4};
    need = 0;
    for (int i = 0; i < 5; i++) {
        need += (parts[i] + 255) / 256 * 256;
    }
    struct recorder_options o = {.execute = true, .memory = total - room + need - 1};
    recorder_change(&o);
    float *device = w.logits;
    w.logits = malloc(w.n * sizeof *w.logits);
    logged(&w, text);
    cr_assert(strstr(text, "cuda tiles_added_up_on_host"), "%s", text);
    cr_assert(strstr(text, "recorded:0: image and logits of 9 x 11 x 8 voxels need 0.0 MiB"), "%s",
              text);
    check_equal(&w, device);
    cr_assert_eq(recorder_calls("add_tile"), 0);
    logged(&w, text);
    cr_assert_str_eq(text, "", "said before");
    o.memory++;
    recorder_change(&o);
    predict(&w);
    cr_assert_gt(recorder_calls("add_tile"), 0, "one byte more is enough");
    free(device);
    window_release(&w);
}

static int stop_at_five(void *context, int64_t done, int64_t total) {
    (void)done;
    (void)total;
    return ++*(int *)context == 5;
}

Test(cuda_sums, a_prediction_cut_short_gives_its_memory_back) {
    struct window w;
    int ticks = 0;
    window_init(&w, &several);
    cr_assert_eq(
        vx_predictor_run(w.predictor, w.image, several.shape, w.logits, stop_at_five, &ticks, NULL),
        VX_E_CANCELLED);
    cr_assert_eq(recorder_calls("divide_tiles"), 0);
    predict(&w);
    window_release(&w);
}

Test(cuda_sums, what_is_no_number_is_told) {
    struct window w;
    struct vx_err err = {0};
    float *bad = calloc(8, sizeof *bad);
    window_init(&w, &several);
    bad[3] = NAN;
    cr_assert_eq(vx_state_upload(w.rig.state, w.m.net.ops[1].weight, VX_PART_WEIGHT, bad, NULL),
                 VX_OK);
    cr_assert_eq(vx_predictor_run(w.predictor, w.image, several.shape, w.logits, NULL, NULL, &err),
                 VX_E_DEVICE);
    cr_assert_str_eq(err.reason, "logits_not_finite");
    free(bad);
    window_release(&w);
}

Test(cuda_sums, every_call_may_fail) {
    static const char *const calls[] = {"room",     "allocate",     "clear",       "copy",
                                        "cut_tile", "event_sync",   "add_tile",    "divide_tiles",
                                        "enter",    "norm_forward", "event_record"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct window w;
        struct vx_err err = {0};
        window_init(&w, &several);
        recorder_change(&(struct recorder_options){
            .execute = true, .fail_call = calls[i], .fail_after = i == 2, .fail_code = 719});
        cr_assert_eq(
            vx_predictor_run(w.predictor, w.image, several.shape, w.logits, NULL, NULL, &err),
            VX_E_DEVICE, "%s", calls[i]);
        cr_assert_str_eq(err.reason, "device_lost", "%s: %s", calls[i], err.text);
        window_release(&w);
    }
}

Test(cuda_sums, only_inference_and_at_most_a_batch) {
    struct window w;
    struct vx_err err = {0};
    struct vx_sums *sums = NULL;
    static const float ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const float *const axes[3] = {ones, ones, ones};
    const struct vx_tile tiles[3] = {{.start = {0}}};
    window_init(&w, &several);
    struct vx_program *train = rig_compile(&w.rig, VX_MODE_TRAIN, VX_BF16);
    cr_assert_eq(vx_sums_begin(train, several.shape, axes, &sums, &err), VX_E_INVALID);
    vx_program_free(train);
    cr_assert_eq(vx_sums_begin(w.program, several.shape, axes, &sums, &err), VX_OK);
    cr_assert_eq(vx_sums_image(sums, w.image, &err), VX_OK);
    cr_assert_eq(vx_sums_add(sums, tiles, 3, &err), VX_E_INVALID);
    cr_assert_eq(vx_sums_add(sums, tiles, 0, &err), VX_E_INVALID);
    vx_sums_free(sums);
    vx_sums_free(NULL);
    window_release(&w);
}
