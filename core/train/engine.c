/* Epochs: open, run, close. One batch is batch.c, checkpoints are resume.c and writer.c. */
#include "train/engine.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "device/device.h"
#include "device/oplist.h"
#include "net/net.h"
#include "session/schedule.h"
#include "session/timeline.h"
#include "train/engine_private.h"
#include "train/pretrained.h"
#include "train/schedule.h"
#include "train/writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void vx_train_charge(struct vx_train *t, int phase, uint64_t start_ns) {
    t->phase_ns[phase] += vx_now_ns() - start_ns;
}

bool vx_train_stopping(const struct vx_train *t) {
    return t->config.stop && atomic_load_explicit(t->config.stop, memory_order_relaxed);
}

void vx_train_report(struct vx_train *t, uint32_t state) {
    t->progress->state = state;
    t->progress->epoch = t->sum.epoch;
    t->progress->ema_dice = t->ema;
    t->progress->best_dice = t->best_ema;
    if (t->config.timeline) {
        vx_timeline_set_progress(t->config.timeline, t->progress);
    }
}

struct vx_state *vx_train_state(struct vx_train *t) {
    return t->state;
}

const struct vx_history *vx_train_history(const struct vx_train *t) {
    return &t->history;
}

void vx_train_close(struct vx_train *t) {
    if (!t) {
        return;
    }
    vx_writer_free(t->writer);
    vx_program_free(t->program[VX_STREAM_TRAIN]);
    vx_program_free(t->program[VX_STREAM_VAL]);
    vx_state_free(t->state);
    vx_history_release(&t->history);
    for (int i = 0; i < 3; i++) {
        free(t->path[i]);
    }
    free(t->batch[0].record);
    free(t->batch[1].record);
    free(t->batch_memory);
    free(t->progress);
    free(t);
}

static int upload_initial(struct vx_train *t, struct vx_err *err) {
    const struct vx_oplist *net = t->config.net;
    float **values = vx_net_values_create(net);
    if (!values) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the initial weights");
    }
    vx_net_init(net, t->config.seed, values);
    int rc = t->config.pretrained ? vx_train_load_pretrained(net, t->config.pretrained, values, err)
                                  : VX_OK;
    for (int i = 0; rc == VX_OK && i < net->n_params; i++) {
        rc = vx_state_upload(t->state, i, VX_PART_WEIGHT, values[i], err);
    }
    vx_net_values_free(values);
    return rc;
}

static int check_config(const struct vx_train_config *c, struct vx_err *err) {
    if (c->epochs < 1 || c->iterations < 1) {
        return vx_fail(err, VX_E_INVALID, "training",
                       "%u epochs of %u iterations: both must be at least 1", c->epochs,
                       c->iterations);
    }
    if (!(c->learning_rate > 0) || !isfinite(c->learning_rate)) {
        return vx_fail(err, VX_E_INVALID, "training", "learning rate %g is not a positive number",
                       c->learning_rate);
    }
    return VX_OK;
}

static int make_parts(struct vx_train *t, struct vx_err *err) {
    const struct vx_train_config *c = &t->config;
    static const char *const names[3] = {VX_CHECKPOINT_LATEST, VX_CHECKPOINT_BEST,
                                         VX_CHECKPOINT_FINAL};
    for (int i = 0; i < 3; i++) {
        t->path[i] = vx_strf("%s/%s", c->dir, names[i]);
        if (!t->path[i]) {
            return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a path");
        }
    }
    int rc = vx_train_batches_create(t, err);
    rc = rc != VX_OK ? rc : vx_writer_create(c->net, &t->writer, err);
    rc = rc != VX_OK ? rc : vx_state_create(c->device, c->net, &t->state, err);
    rc = rc != VX_OK ? rc
                     : vx_program_compile(t->state, c->net, VX_MODE_TRAIN, c->precision,
                                          &t->program[VX_STREAM_TRAIN], err);
    if (rc == VX_OK && c->val_iterations > 0) {
        rc = vx_program_compile(t->state, c->net, VX_MODE_VALIDATE, c->precision,
                                &t->program[VX_STREAM_VAL], err);
    }
    return rc;
}

int vx_train_open(const struct vx_train_config *config, struct vx_train **ret, struct vx_err *err) {
    int rc = check_config(config, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_train *t = calloc(1, sizeof(*t));
    struct vx_progress *progress = calloc(1, sizeof(*progress));
    if (!t || !progress) {
        free(t);
        free(progress);
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the training engine");
    }
    struct vx_device_info info;
    vx_device_describe(config->device, &info);
    t->config = *config;
    t->progress = progress;
    t->varies = t->approximate = info.varies;
    if (t->varies) {
        snprintf(t->differs, sizeof t->differs, "device %s gives other bits every time", info.name);
    }
    t->ema = t->best_ema = NAN;
    t->best_epoch = -1;
    t->progress->epochs = config->epochs;
    t->progress->iterations = config->iterations;
    t->progress->pid = getpid();
    t->progress->loss = t->progress->val_loss = NAN;
    vx_train_report(t, VX_STEP_STARTING);
    bool found = false;
    rc = make_parts(t, err);
    rc = rc != VX_OK ? rc : vx_train_resume(t, &found, err);
    if (rc == VX_OK && !found) {
        vx_epoch_sum_start(&t->sum, 0);
        rc = upload_initial(t, err);
        rc = rc != VX_OK ? rc : vx_train_snapshot(t, VX_PATH_LATEST, err);
    }
    if (rc != VX_OK) {
        vx_train_close(t);
        return rc;
    }
    t->snapshot_ns = vx_now_ns();
    *ret = t;
    return VX_OK;
}

/* The epoch's figures into history, then the best checkpoint where the average has risen. The sums
 * of the next epoch are started first: a checkpoint always says where training goes on. */
static int end_epoch(struct vx_train *t, struct vx_err *err) {
    const struct vx_train_config *c = &t->config;
    struct vx_train_epoch epoch;
    vx_epoch_sum_finish(&t->sum, c->net->classes, t->ema, &epoch);
    epoch.learning_rate = vx_poly_lr(c->learning_rate, t->sum.epoch, c->epochs);
    epoch.end_time = (double)vx_wall_ms() * 1e-3;
    bool is_best =
        !isnan(epoch.ema_fg_dice) && (isnan(t->best_ema) || epoch.ema_fg_dice > t->best_ema);
    t->ema = epoch.ema_fg_dice;
    t->best_ema = is_best ? t->ema : t->best_ema;
    t->best_epoch = is_best ? (int64_t)t->sum.epoch : t->best_epoch;
    epoch.best_ema = t->best_ema;
    t->progress->val_loss = epoch.val_loss;
    int rc = vx_history_add(&t->history, &epoch, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_epoch_sum_start(&t->sum, t->sum.epoch + 1);
    if (is_best) {
        rc = vx_train_snapshot(t, VX_PATH_BEST, err);
    }
    if (rc == VX_OK && c->callbacks.epoch) {
        c->callbacks.epoch(c->callbacks.arg, &epoch, is_best);
    }
    return rc;
}

static int run_epoch(struct vx_train *t, struct vx_err *err) {
    const struct vx_train_config *c = &t->config;
    if (t->sum.start_time == 0) {
        t->sum.start_time = (double)vx_wall_ms() * 1e-3;
    }
    int rc = VX_OK;
    for (uint32_t i = t->sum.train_done; rc == VX_OK && i < c->iterations; i++) {
        rc = vx_train_one_batch(t, VX_STREAM_TRAIN, i + 1 == c->iterations, err);
    }
    for (uint32_t i = t->sum.val_done; rc == VX_OK && i < c->val_iterations; i++) {
        rc = vx_train_one_batch(t, VX_STREAM_VAL, i + 1 == c->val_iterations, err);
    }
    return rc != VX_OK ? rc : end_epoch(t, err);
}

static int write_final(struct vx_train *t, struct vx_err *err) {
    int rc = vx_train_snapshot(t, VX_PATH_FINAL, err);
    rc = rc != VX_OK ? rc : vx_train_checkpoints_wait(t, err);
    if (rc == VX_OK) {
        t->finished = true;
        unlink(t->path[VX_PATH_LATEST]);
        vx_train_report(t, VX_STEP_DONE);
    }
    return rc;
}

/* Asked to stop: what has run counts, and lies on disk before this returns. */
static int stop_here(struct vx_train *t, struct vx_err *err) {
    int rc = vx_train_snapshot(t, VX_PATH_LATEST, err);
    return rc != VX_OK ? rc : vx_train_checkpoints_wait(t, err);
}

bool vx_train_approximate(const struct vx_train *t, const char **ret_why) {
    *ret_why = t->differs;
    return t->approximate;
}

int vx_train_run(struct vx_train *t, struct vx_train_outcome *ret, struct vx_err *err) {
    int rc = VX_OK;
    /* Opening was no part of any iteration. */
    memset(t->phase_ns, 0, sizeof(t->phase_ns));
    t->iteration_start_ns = vx_now_ns();
    while (rc == VX_OK && !t->finished && t->sum.epoch < t->config.epochs) {
        rc = run_epoch(t, err);
    }
    if (rc == VX_OK && !t->finished) {
        rc = write_final(t, err);
    } else if (rc == VX_E_CANCELLED) {
        rc = stop_here(t, err);
    }
    if (rc != VX_OK) {
        vx_train_drop(t);
        vx_train_report(t, VX_STEP_FAILED);
        return rc;
    }
    ret->finished = t->finished;
    ret->approximate = t->approximate;
    ret->batches = (uint64_t)t->sum.epoch * t->config.iterations + t->sum.train_done;
    ret->best_ema = t->best_ema;
    ret->epochs = t->history.n;
    return VX_OK;
}
