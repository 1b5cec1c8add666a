/* The engine on a toy device: order of samples, resuming anywhere, stopping, phases, errors. */
#include "base/own.h"
#include "checkpoint/checkpoint.h"
#include "session/timeline.h"
#include "toy_job.h"

#include <criterion/new/assert.h>
#include <unistd.h>

/* Weights, momentum and the part of the history that does not depend on the clock. */
struct end {
    float weight[8], momentum[8];
    char *history;
};

static struct end read_end(const char *dir) {
    char *path = vx_strf("%s/%s", dir, VX_CHECKPOINT_FINAL);
    struct vx_ckpt c;
    struct vx_err err = {0};
    cr_assert_eq(vx_ckpt_read(path, &c, &err), VX_OK, "%s", err.text);
    struct end e = {0};
    memcpy(e.weight, c.tensors[0].param, 6 * sizeof(float));
    memcpy(e.weight + 6, c.tensors[1].param, 2 * sizeof(float));
    memcpy(e.momentum, c.tensors[0].momentum, 6 * sizeof(float));
    memcpy(e.momentum + 6, c.tensors[1].momentum, 2 * sizeof(float));
    static const char *const clock_lists[] = {"epoch_start_timestamps", "epoch_end_timestamps",
                                              "epoch_seconds", "phase_ns", "loader_wait_ratio"};
    for (size_t i = 0; i < VX_COUNTOF(clock_lists); i++) {
        json_object_del(c.history, clock_lists[i]);
    }
    e.history = vx_json_canonical(c.history);
    vx_ckpt_release(&c);
    free(path);
    return e;
}

static void expect_same_end(const char *dir, const struct end *want, const char *what, int at) {
    struct end got = read_end(dir);
    cr_assert_eq(memcmp(got.weight, want->weight, sizeof(got.weight)), 0, "weights: %s %d", what,
                 at);
    cr_assert_eq(memcmp(got.momentum, want->momentum, sizeof(got.momentum)), 0, "momentum: %s %d",
                 what, at);
    cr_assert_str_eq(got.history, want->history, "%s %d", what, at);
    free(got.history);
}

/* An undisturbed run in a folder of its own. */
static struct end undisturbed(void) {
    char *dir = toy_dir();
    struct toy_job job;
    toy_job_init(&job, dir);
    struct vx_train_outcome out = {0};
    struct vx_err err = {0};
    cr_assert_eq(toy_job_live(&job, &out, &err), VX_OK, "%s", err.text);
    cr_assert(out.finished);
    cr_assert(eq(u64, out.batches, TOY_EPOCHS * TOY_TRAIN));
    cr_assert(eq(int, (int)out.epochs, TOY_EPOCHS));
    cr_assert(eq(u64, job.source.next, TOY_SAMPLES));
    cr_assert(le(int, job.source.most_held, 2 * TOY_BATCH));
    struct end e = read_end(dir);
    vx_remove_tree(dir, NULL);
    free(dir);
    return e;
}

static void live_to_the_end(const char *dir) {
    struct toy_job job;
    toy_job_init(&job, dir);
    struct vx_train_outcome out = {0};
    struct vx_err err = {0};
    cr_assert_eq(toy_job_live(&job, &out, &err), VX_OK, "%s", err.text);
    cr_assert(out.finished);
}

Test(train_engine, stop_at_any_sample_and_go_on) {
    struct end want = undisturbed();
    for (int at = 0; at < TOY_SAMPLES; at++) {
        char *dir = toy_dir();
        struct toy_job job;
        toy_job_init(&job, dir);
        job.source.stop_at = (uint64_t)at;
        struct vx_train_outcome out = {0};
        struct vx_err err = {0};
        cr_assert_eq(toy_job_live(&job, &out, &err), VX_OK, "%s", err.text);
        cr_assert(not(out.finished));
        uint64_t q = 0, batches = 0;
        cr_assert(eq(int, vx_train_position(dir, TOY_BATCH, &q, &batches, NULL), VX_OK));
        cr_assert(eq(u64, q, (uint64_t)(at / TOY_BATCH * TOY_BATCH)), "what had run is not lost");
        cr_assert(eq(u64, batches, out.batches));
        live_to_the_end(dir);
        expect_same_end(dir, &want, "stopped at sample", at);
        vx_remove_tree(dir, NULL);
        free(dir);
    }
    free(want.history);
}

/* A device error ends the process without a last checkpoint, like a kill. */
static void crash_everywhere(double checkpoint_seconds) {
    struct end want = undisturbed();
    for (int at = 1; at <= TOY_SAMPLES / TOY_BATCH; at++) {
        char *dir = toy_dir();
        struct toy_job job;
        toy_job_init(&job, dir);
        job.config.checkpoint_seconds = checkpoint_seconds;
        job.device.fail_at = at;
        struct vx_train_outcome out = {0};
        struct vx_err err = {0};
        cr_assert(eq(int, toy_job_live(&job, &out, &err), VX_E_DEVICE));
        live_to_the_end(dir);
        expect_same_end(dir, &want, "crashed in run", at);
        vx_remove_tree(dir, NULL);
        free(dir);
    }
    free(want.history);
}

Test(train_engine, crash_anywhere_with_checkpoints_after_each_batch) {
    crash_everywhere(0);
}

Test(train_engine, crash_anywhere_with_the_first_checkpoint_only) {
    crash_everywhere(3600);
}

Test(train_engine, a_finished_job_does_nothing_more) {
    char *dir = toy_dir();
    live_to_the_end(dir);
    struct toy_job job;
    toy_job_init(&job, dir);
    struct vx_train_outcome out = {0};
    struct vx_err err = {0};
    cr_assert_eq(toy_job_live(&job, &out, &err), VX_OK, "%s", err.text);
    cr_assert(out.finished);
    cr_assert(eq(int, job.device.runs, 0));
    cr_assert(eq(u64, out.batches, TOY_EPOCHS * TOY_TRAIN));
    vx_remove_tree(dir, NULL);
    free(dir);
}

Test(train_engine, refuses_a_checkpoint_of_another_job) {
    char *dir = toy_dir();
    struct toy_job job;
    toy_job_init(&job, dir);
    job.source.stop_at = 6;
    struct vx_train_outcome out = {0};
    struct vx_err err = {0};
    cr_assert(eq(int, toy_job_live(&job, &out, &err), VX_OK));

    toy_job_init(&job, dir);
    job.config.learning_rate = 0.01;
    cr_assert(eq(int, toy_job_live(&job, &out, &err), VX_E_STATE));
    cr_assert_str_eq(err.reason, "other_schedule");
    cr_assert_not_null(strstr(err.text, "learning_rate"));
    cr_assert_not_null(strstr(err.where, VX_CHECKPOINT_LATEST));

    toy_job_init(&job, dir);
    job.config.recipe_digest = "00000000000000000000000000000000000000000000000000000000000000ff";
    cr_assert(eq(int, toy_job_live(&job, &out, &err), VX_E_STATE));
    cr_assert_str_eq(err.reason, "other_recipe");

    toy_job_init(&job, dir);
    job.params[1].shape[0] = 3;
    job.params[1].count = 3;
    cr_assert(eq(int, toy_job_live(&job, &out, &err), VX_E_STATE));
    cr_assert_str_eq(err.reason, "other_network");
    vx_remove_tree(dir, NULL);
    free(dir);
}

Test(train_engine, another_environment_is_approximate) {
    char *dir = toy_dir();
    struct toy_job job;
    json_t *then = json_pack("{s:i}", "threads", 2), *now = json_pack("{s:i}", "threads", 4);
    toy_job_init(&job, dir);
    job.config.environment = then;
    job.source.stop_at = 6;
    struct vx_train_outcome out = {0};
    cr_assert(eq(int, toy_job_live(&job, &out, NULL), VX_OK));
    cr_assert(not(out.approximate));
    toy_job_init(&job, dir);
    job.config.environment = now;
    struct vx_train *t;
    const char *why;
    cr_assert(eq(int, vx_train_open(&job.config, &t, NULL), VX_OK));
    cr_assert(vx_train_approximate(t, &why), "known before anything is trained");
    cr_assert_str_eq(why, "threads was 2, is 4");
    vx_train_close(t);
    toy_job_init(&job, dir);
    job.config.environment = now;
    cr_assert(eq(int, toy_job_live(&job, &out, NULL), VX_OK));
    cr_assert(out.finished);
    cr_assert(out.approximate);
    json_decref(then);
    json_decref(now);
    vx_remove_tree(dir, NULL);
    free(dir);
}

Test(train_engine, a_device_that_varies_is_approximate_throughout) {
    char *dir = toy_dir();
    struct toy_job job;
    struct vx_ckpt c;
    struct vx_train_outcome out = {0};
    vx_auto_free char *path = vx_strf("%s/" VX_CHECKPOINT_LATEST, dir);
    toy_job_init(&job, dir);
    job.device.varies = true;
    job.source.stop_at = 6;
    cr_assert(eq(int, toy_job_live(&job, &out, NULL), VX_OK));
    cr_assert(out.approximate, "from the first batch");
    cr_assert(eq(int, vx_ckpt_read(path, &c, NULL), VX_OK));
    cr_assert_eq(json_is_false(json_object_get(c.environment, "deterministic")), 1);
    vx_ckpt_release(&c);
    toy_job_init(&job, dir);
    job.device.varies = true;
    job.source.stop_at = 12;
    out.approximate = false;
    cr_assert(eq(int, toy_job_live(&job, &out, NULL), VX_OK));
    cr_assert(out.approximate, "resumed in the very same environment");
    toy_job_init(&job, dir);
    out.approximate = false;
    cr_assert(eq(int, toy_job_live(&job, &out, NULL), VX_OK));
    cr_assert(out.finished);
    cr_assert(out.approximate, "what came before varied");
    vx_remove_tree(dir, NULL);
    free(dir);
}

Test(train_engine, a_sample_out_of_order_is_an_error) {
    char *dir = toy_dir();
    struct toy_job job;
    toy_job_init(&job, dir);
    job.source.next = 1;
    struct vx_train_outcome out = {0};
    struct vx_err err = {0};
    cr_assert(eq(int, toy_job_live(&job, &out, &err), VX_E_STATE));
    cr_assert_str_eq(err.reason, "sample_order");
    vx_remove_tree(dir, NULL);
    free(dir);
}

Test(train_engine, a_checkpoint_that_cannot_be_written_ends_the_run) {
    char *dir = toy_dir();
    struct toy_job job;
    toy_job_init(&job, dir);
    struct vx_train *train = NULL;
    cr_assert(eq(int, vx_train_open(&job.config, &train, NULL), VX_OK));
    vx_remove_tree(dir, NULL);
    struct vx_train_outcome out = {0};
    struct vx_err err = {0};
    int rc = vx_train_run(train, &out, &err);
    cr_assert(ne(int, rc, VX_OK));
    cr_assert_not_null(strstr(err.where, ".safetensors"), "%s (%s)", err.text, err.where);
    vx_train_close(train);
    vx_remove_tree(dir, NULL);
    free(dir);
}

struct seen {
    int epochs, best, checkpoints;
    uint64_t last_k;
};

static void on_epoch(void *arg, const struct vx_train_epoch *epoch, bool is_best) {
    struct seen *s = arg;
    cr_assert(eq(int, (int)epoch->epoch, s->epochs));
    uint64_t all = 0;
    for (int p = 0; p < VX_PHASE_COUNT; p++) {
        all += epoch->phase_ns[p];
    }
    cr_assert(epsilon_eq(dbl, epoch->seconds, (double)all * 1e-9, 1e-9));
    s->epochs++;
    s->best += is_best;
}

static void on_checkpoint(void *arg, const char *path, uint64_t batches) {
    struct seen *s = arg;
    cr_assert(vx_path_exists(path));
    cr_assert(ge(u64, batches, s->last_k));
    s->last_k = batches;
    s->checkpoints++;
}

static void on_checkpoint_first_latest(void *arg, const char *path, uint64_t batches) {
    uint64_t *first = arg;
    if (batches > 0 && *first == 0 && strstr(path, VX_CHECKPOINT_LATEST)) {
        *first = batches;
    }
}

/* Epochs shorter than checkpoint_seconds, the first of which is always the best so far: its
 * checkpoint must not put off the one that a resume needs. */
Test(train_engine, the_best_checkpoint_does_not_put_off_the_latest) {
    char *dir = toy_dir();
    struct toy_job job;
    toy_job_init(&job, dir);
    uint64_t first = 0;
    job.source.sleep_ns = 10000000;
    const double per_batch = TOY_BATCH * 0.01;
    job.config.checkpoint_seconds = (TOY_TRAIN + TOY_VAL + 2) * per_batch;
    job.config.callbacks = (struct vx_train_callbacks){&first, NULL, on_checkpoint_first_latest};
    struct vx_train_outcome out = {0};
    cr_assert(eq(int, toy_job_live(&job, &out, NULL), VX_OK));
    cr_assert(gt(u64, first, 0));
    cr_assert(lt(u64, first, 2 * TOY_TRAIN)); /* in the second epoch at the latest */
    vx_remove_tree(dir, NULL);
    free(dir);
}

Test(train_engine, callbacks_and_timeline) {
    char *dir = toy_dir();
    struct toy_job job;
    toy_job_init(&job, dir);
    struct vx_timeline timeline;
    cr_assert(eq(int, vx_timeline_create(&timeline, NULL), VX_OK));
    struct seen seen = {0};
    job.source.sleep_ns = 2000000;
    job.config.timeline = &timeline;
    job.config.checkpoint_seconds = 0;
    job.config.callbacks = (struct vx_train_callbacks){&seen, on_epoch, on_checkpoint};
    uint64_t start = vx_now_ns();
    struct vx_train_outcome out = {0};
    cr_assert(eq(int, toy_job_live(&job, &out, NULL), VX_OK));
    uint64_t wall = vx_now_ns() - start;
    cr_assert(eq(int, seen.epochs, TOY_EPOCHS));
    cr_assert(ge(int, seen.best, 1));
    /* At the start, after every batch, at each best epoch, at the end. */
    int batches = TOY_EPOCHS * (TOY_TRAIN + TOY_VAL);
    cr_assert(eq(int, seen.checkpoints, 1 + batches + seen.best + 1));
    cr_assert(eq(u64, seen.last_k, TOY_EPOCHS * TOY_TRAIN));

    struct vx_step_record r[64];
    size_t n = vx_timeline_steps(&timeline, 0, r, 64);
    cr_assert(eq(sz, n, (size_t)batches));
    uint64_t k[2] = {0, 0}, waited = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        int in_epoch = (int)i % (TOY_TRAIN + TOY_VAL);
        cr_assert(eq(u32, r[i].stream, in_epoch < TOY_TRAIN ? 0u : 1u));
        cr_assert(eq(u64, r[i].k, k[r[i].stream]));
        k[r[i].stream]++;
        uint64_t sum = 0;
        for (int p = 0; p < VX_PHASE_COUNT; p++) {
            sum += r[i].phase_ns[p];
        }
        if (i + 1 < n) {
            cr_assert(eq(u64, r[i + 1].start_ns, r[i].start_ns + sum),
                      "phases add up to wall time");
        }
        waited += r[i].phase_ns[VX_PHASE_WAIT_LOADER];
        all += sum;
    }
    cr_assert(ge(u64, waited, (uint64_t)batches * TOY_BATCH * 2000000));
    cr_assert(le(u64, all, wall));
    struct vx_progress p;
    cr_assert(vx_timeline_progress(&timeline, &p));
    cr_assert(eq(u32, p.state, VX_STEP_DONE));
    cr_assert(eq(u64, p.k, TOY_EPOCHS * TOY_TRAIN));
    cr_assert(eq(u64, p.steps[1], TOY_EPOCHS * TOY_VAL));
    vx_timeline_close(&timeline);
    vx_remove_tree(dir, NULL);
    free(dir);
}

Test(train_engine, a_ready_loader_is_no_wait) {
    char *dir = toy_dir();
    struct toy_job job;
    toy_job_init(&job, dir);
    struct vx_train *train = NULL;
    cr_assert(eq(int, vx_train_open(&job.config, &train, NULL), VX_OK));
    struct vx_train_outcome out = {0};
    cr_assert(eq(int, vx_train_run(train, &out, NULL), VX_OK));
    const struct vx_history *h = vx_train_history(train);
    cr_assert(eq(u32, h->n, TOY_EPOCHS));
    for (uint32_t e = 0; e < h->n; e++) {
        cr_assert(eq(u64, h->epochs[e].phase_ns[VX_PHASE_WAIT_LOADER], 0));
        cr_assert(eq(dbl, h->epochs[e].loader_wait_ratio, 0));
    }
    vx_train_close(train);
    vx_remove_tree(dir, NULL);
    free(dir);
}
