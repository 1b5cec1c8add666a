/* One batch: samples from the source, a run on the device, its result one batch later.
 *
 * The next batch is taken while the one before runs, and handed over before that has ended wherever
 * the samples come in time: the device then goes on without a gap. Of the time in which samples
 * were waited for, only what lies behind the end of the run before counts as waiting for the
 * loader; until then the device was busy. A source too small for two batches would not give the
 * second one: there the run before is waited for first. */
#include "base/clock.h"
#include "base/err.h"
#include "device/device.h"
#include "device/oplist.h"
#include "session/schedule.h"
#include "session/timeline.h"
#include "train/engine_private.h"
#include "train/schedule.h"
#include "train/source.h"
#include "train/writer.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t POLL_NS = 200000000; /* how often a waiting engine looks at its stop flag */

int vx_train_batches_create(struct vx_train *t, struct vx_err *err) {
    size_t n = (size_t)t->config.net->batch;
    size_t each = n * (sizeof(uint64_t) + sizeof(float *) + sizeof(int16_t *));
    char *memory = calloc(2, each);
    if (!memory) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a batch of %zu samples", n);
    }
    t->batch_memory = memory;
    for (int i = 0; i < 2; i++) {
        struct vx_train_batch *b = &t->batch[i];
        char *at = memory + (size_t)i * each;
        b->q = (uint64_t *)at;
        b->image = (const float **)(at + n * sizeof(uint64_t));
        b->label = (const int16_t **)(at + n * (sizeof(uint64_t) + sizeof(float *)));
        b->record = calloc(1, sizeof(*b->record));
        if (!b->record) {
            return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a step record");
        }
    }
    return VX_OK;
}

static void give_back(struct vx_train *t, struct vx_train_batch *b) {
    for (uint32_t j = 0; j < b->taken; j++) {
        t->config.source->release(t->config.source, b->q[j]);
    }
    b->taken = 0;
    b->held = false;
}

void vx_train_drop(struct vx_train *t) {
    for (int i = 0; i < 2; i++) {
        struct vx_train_batch *b = &t->batch[i];
        if (b->running) {
            vx_program_wait(b->program, b->ticket, NULL, NULL);
            b->running = false;
        }
        give_back(t, b);
    }
}

static void publish(struct vx_train *t, const struct vx_train_batch *b) {
    if (t->config.timeline) {
        vx_timeline_add_step(t->config.timeline, b->record);
    }
}

static void add_result(struct vx_train *t, struct vx_train_batch *b,
                       const struct vx_run_result *result) {
    struct vx_epoch_sum *sum = &t->sum;
    b->record->loss = result->loss;
    t->progress->steps[b->record->stream]++;
    if (b->record->stream == VX_STREAM_TRAIN) {
        sum->train_loss += result->loss;
        sum->train_done++;
        t->progress->loss = result->loss;
        return;
    }
    sum->val_loss += result->loss;
    sum->val_done++;
    for (int c = 0; c < t->config.net->classes; c++) {
        sum->tp[c] += result->tp[c];
        sum->fp[c] += result->fp[c];
        sum->fn[c] += result->fn[c];
    }
}

static enum vx_phase phase_of(const struct vx_train_batch *b) {
    return b->record->stream == VX_STREAM_TRAIN ? VX_PHASE_COMPUTE : VX_PHASE_VALIDATE;
}

/* *ret_ended_ns (NULL allowed): when the device was done with it; 0 where that is long ago. */
static int settle_one(struct vx_train *t, struct vx_train_batch *b, uint64_t *ret_ended_ns,
                      struct vx_err *err) {
    if (!b->running) {
        return VX_OK;
    }
    uint64_t start = vx_now_ns();
    struct vx_run_result result;
    int rc = vx_program_wait(b->program, b->ticket, &result, err);
    b->running = false;
    if (rc == VX_OK) {
        vx_train_charge(t, phase_of(b), start);
        if (ret_ended_ns) {
            *ret_ended_ns = result.ended_ns;
        }
        add_result(t, b, &result);
        if (!b->open) {
            publish(t, b);
        }
    }
    give_back(t, b);
    return rc;
}

int vx_train_settle(struct vx_train *t, struct vx_err *err) {
    /* The older one first, so that sums are added in the order of the batches. */
    int rc = settle_one(t, &t->batch[!t->current], NULL, err);
    return rc != VX_OK ? rc : settle_one(t, &t->batch[t->current], NULL, err);
}

/* The sample that comes next by the schedule; the sums count settled batches only, so those still
 * running are added. */
static uint64_t expected_q(const struct vx_train *t, uint32_t taken) {
    const struct vx_train_config *c = &t->config;
    uint64_t done = t->sum.train_done + t->sum.val_done;
    uint64_t running = t->batch[!t->current].running ? 1 : 0;
    uint64_t before = (uint64_t)t->sum.epoch * (c->iterations + c->val_iterations);
    return (before + done + running) * (uint64_t)c->net->batch + taken;
}

static int take_one(struct vx_train *t, struct vx_train_batch *b, struct vx_err *err) {
    for (;;) {
        if (vx_train_stopping(t)) {
            return vx_fail(err, VX_E_CANCELLED, NULL, "asked to stop");
        }
        struct vx_train_sample sample;
        struct vx_train_source *source = t->config.source;
        int rc = source->take(source, POLL_NS, &sample, err);
        if (rc == VX_E_TIMEOUT) {
            vx_train_report(t, t->progress->state);
            continue;
        }
        if (rc != VX_OK) {
            return rc;
        }
        uint64_t want = expected_q(t, b->taken);
        b->q[b->taken] = sample.q;
        b->image[b->taken] = sample.image;
        b->label[b->taken] = sample.label;
        b->taken++;
        b->held = true;
        if (sample.q != want) {
            return vx_fail(err, VX_E_STATE, "sample_order",
                           "the loader gave sample %llu where training stands at %llu",
                           (unsigned long long)sample.q, (unsigned long long)want);
        }
        return VX_OK;
    }
}

static int take_batch(struct vx_train *t, struct vx_train_batch *b, struct vx_err *err) {
    struct vx_train_source *source = t->config.source;
    uint32_t n = (uint32_t)t->config.net->batch;
    b->record->depth = source->depth(source);
    bool ready = b->record->depth >= n;
    if (!ready && source->capacity < 2 * n) {
        int rc = settle_one(t, &t->batch[!t->current], NULL, err);
        if (rc != VX_OK) {
            return rc;
        }
        ready = source->depth(source) >= n;
    }
    uint64_t start = vx_now_ns();
    int rc = VX_OK;
    while (rc == VX_OK && b->taken < n) {
        rc = take_one(t, b, err);
    }
    b->wait_from = ready ? 0 : start;
    b->wait_to = ready ? 0 : vx_now_ns();
    if (rc != VX_OK) {
        give_back(t, b);
    }
    return rc;
}

/* ended_ns: of the run before, 0 where it had ended when the waiting began. */
static void charge_wait(struct vx_train *t, const struct vx_train_batch *b,
                        const struct vx_train_batch *before, uint64_t ended_ns) {
    uint64_t from = ended_ns > b->wait_from ? ended_ns : b->wait_from;
    uint64_t waited = b->wait_to > from ? b->wait_to - from : 0;
    t->phase_ns[VX_PHASE_WAIT_LOADER] += waited;
    t->phase_ns[phase_of(before)] += b->wait_to - b->wait_from - waited;
}

static int start_run(struct vx_train *t, struct vx_train_batch *b, uint32_t stream,
                     struct vx_err *err) {
    struct vx_run_input in = {.images = b->image,
                              .labels = b->label,
                              .learning_rate = (float)vx_poly_lr(t->config.learning_rate,
                                                                 t->sum.epoch, t->config.epochs)};
    uint64_t start = vx_now_ns();
    b->program = t->program[stream];
    int rc = vx_program_run(b->program, &in, &b->ticket, err);
    vx_train_charge(t, phase_of(b), start);
    if (rc != VX_OK) {
        give_back(t, b);
        return rc;
    }
    b->running = true;
    return VX_OK;
}

/* Closes the iteration: whatever no phase claimed is `other`, so that phases add up to wall time.
 */
static void close_iteration(struct vx_train *t, struct vx_train_batch *b) {
    uint64_t now = vx_now_ns(), wall = now - t->iteration_start_ns, known = 0;
    for (int p = 0; p < VX_PHASE_COUNT; p++) {
        known += t->phase_ns[p];
    }
    t->phase_ns[VX_PHASE_OTHER] += wall > known ? wall - known : 0;
    for (int p = 0; p < VX_PHASE_COUNT; p++) {
        b->record->phase_ns[p] = t->phase_ns[p];
        t->sum.phase_ns[p] += t->phase_ns[p];
        t->progress->phase_ns[p] += t->phase_ns[p];
    }
    memset(t->phase_ns, 0, sizeof(t->phase_ns));
    t->iteration_start_ns = now;
    b->open = false;
    if (!b->running) {
        publish(t, b);
    }
}

/* A checkpoint that is still being written puts the next one off, unless one is wanted after every
 * batch. */
static bool checkpoint_due(const struct vx_train *t) {
    if (t->config.checkpoint_seconds <= 0) {
        return true;
    }
    double seconds = (double)(vx_now_ns() - t->snapshot_ns) * 1e-9;
    return seconds >= t->config.checkpoint_seconds && !vx_writer_busy(t->writer);
}

int vx_train_one_batch(struct vx_train *t, uint32_t stream, bool last, struct vx_err *err) {
    const struct vx_train_config *c = &t->config;
    struct vx_train_batch *b = &t->batch[t->current], *before = &t->batch[!t->current];
    uint32_t in_epoch = stream == VX_STREAM_TRAIN ? t->sum.train_done : t->sum.val_done;
    uint32_t per_epoch = stream == VX_STREAM_TRAIN ? c->iterations : c->val_iterations;
    in_epoch += before->running ? 1 : 0;
    memset(b->record, 0, sizeof(*b->record));
    b->record->epoch = t->sum.epoch;
    b->record->stream = stream;
    b->record->k = (uint64_t)t->sum.epoch * per_epoch + in_epoch;
    b->record->start_ns = t->iteration_start_ns;
    int rc = take_batch(t, b, err);
    if (rc != VX_OK) {
        return rc;
    }
    b->open = true;
    rc = start_run(t, b, stream, err);
    uint64_t ended_ns = 0;
    rc = rc != VX_OK ? rc : settle_one(t, before, &ended_ns, err);
    charge_wait(t, b, before, ended_ns);
    if (rc == VX_OK && last) {
        rc = settle_one(t, b, NULL, err);
    }
    rc = rc != VX_OK ? rc : vx_train_checkpoints_done(t, err);
    if (rc == VX_OK && checkpoint_due(t)) {
        rc = vx_train_snapshot(t, VX_PATH_LATEST, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    close_iteration(t, b);
    t->current = !t->current;
    t->progress->k = (uint64_t)t->sum.epoch * c->iterations +
                     (stream == VX_STREAM_TRAIN ? in_epoch + 1 : c->iterations);
    t->progress->iteration = in_epoch + 1;
    t->progress->iterations = per_epoch;
    vx_train_report(t, stream == VX_STREAM_TRAIN ? VX_STEP_TRAINING : VX_STEP_VALIDATING);
    return VX_OK;
}
