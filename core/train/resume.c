/* Checkpoints of the engine: what goes into one, and how training goes on from one. */
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "checkpoint/checkpoint.h"
#include "device/device.h"
#include "device/oplist.h"
#include "session/timeline.h"
#include "train/engine_private.h"
#include "train/schedule.h"
#include "train/writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct vx_ckpt_schedule schedule_of(const struct vx_train_config *c) {
    struct vx_ckpt_schedule s = {.lr0 = c->learning_rate,
                                 .epochs = c->epochs,
                                 .iterations_per_epoch = c->iterations,
                                 .validation_iterations = c->val_iterations,
                                 .poly_power = VX_POLY_POWER,
                                 .momentum = c->net->optimizer.momentum,
                                 .nesterov = true,
                                 .weight_decay = c->net->optimizer.weight_decay,
                                 .clip_norm = c->net->optimizer.clip_norm};
    return s;
}

static const char *digest_of(const struct vx_train_config *c) {
    static const char none[] = "0000000000000000000000000000000000000000000000000000000000000000";
    return c->recipe_digest ? c->recipe_digest : none;
}

static void replace(json_t **slot, json_t *value) {
    json_decref(*slot);
    *slot = value;
}

static json_t *copy_or_empty(const json_t *object) {
    return object ? json_deep_copy(object) : json_object();
}

/* What the trajectory depends on: as the caller says, and whether the device varies by itself. */
static json_t *environment_of(const struct vx_train *t) {
    json_t *environment = copy_or_empty(t->config.environment);
    if (t->varies) {
        json_object_set_new(environment, "deterministic", json_false());
    }
    return environment;
}

/* Everything but the numbers of the network. */
static int fill_words(const struct vx_train *t, struct vx_ckpt *c, struct vx_err *err) {
    const struct vx_train_config *config = &t->config;
    c->epoch = t->sum.epoch;
    c->iteration = t->sum.train_done;
    c->k = c->epoch * config->iterations + c->iteration;
    c->validation_k = c->epoch * config->val_iterations + t->sum.val_done;
    c->ema_dice = t->ema;
    c->best_ema_dice = t->best_ema;
    c->best_epoch = t->best_epoch;
    c->schedule = schedule_of(config);
    snprintf(c->recipe_digest, sizeof(c->recipe_digest), "%s", digest_of(config));
    replace(&c->history, vx_history_to_json(&t->history));
    replace(&c->environment, environment_of(t));
    replace(&c->network, copy_or_empty(config->network));
    replace(&c->quarantines, config->callbacks.quarantines
                                 ? config->callbacks.quarantines(config->callbacks.arg)
                                 : json_array());
    replace(&c->trainer, json_pack("{s:o, s:I, s:i}", "epoch_sum",
                                   vx_epoch_sum_to_json(&t->sum, config->net->classes), "seed",
                                   (json_int_t)config->seed, "batch_size", config->net->batch));
    if (!c->history || !c->environment || !c->quarantines || !c->network || !c->trainer) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the checkpoint's metadata");
    }
    return VX_OK;
}

int vx_train_snapshot(struct vx_train *t, int which, struct vx_err *err) {
    int rc = vx_train_settle(t, err);
    if (rc != VX_OK) {
        return rc;
    }
    uint64_t start = vx_now_ns();
    vx_train_report(t, VX_STEP_CHECKPOINTING);
    struct vx_ckpt *c = vx_writer_begin(t->writer);
    rc = vx_train_checkpoints_done(t, err);
    for (int i = 0; rc == VX_OK && i < t->config.net->n_params; i++) {
        rc = vx_state_download(t->state, i, VX_PART_WEIGHT, c->tensors[i].param, err);
        if (rc == VX_OK) {
            rc = vx_state_download(t->state, i, VX_PART_MOMENTUM, c->tensors[i].momentum, err);
        }
    }
    rc = rc != VX_OK ? rc : fill_words(t, c, err);
    rc = rc != VX_OK ? rc : vx_writer_start(t->writer, t->path[which], err);
    if (which == VX_PATH_LATEST) {
        t->snapshot_ns = vx_now_ns(); /* the best one does not put off what a resume needs */
    }
    vx_train_charge(t, VX_PHASE_CHECKPOINT, start);
    return rc;
}

int vx_train_checkpoints_done(struct vx_train *t, struct vx_err *err) {
    const char *path;
    uint64_t k;
    int rc = vx_writer_result(t->writer, &path, &k, err);
    if (rc != VX_OK || !path) {
        return rc;
    }
    t->progress->checkpoint_k = k;
    t->progress->checkpoint_ns = vx_now_ns();
    if (t->config.callbacks.checkpoint) {
        t->config.callbacks.checkpoint(t->config.callbacks.arg, path, k);
    }
    return VX_OK;
}

int vx_train_checkpoints_wait(struct vx_train *t, struct vx_err *err) {
    vx_writer_begin(t->writer);
    return vx_train_checkpoints_done(t, err);
}

/* The checkpoint that a job in dir goes on from: the final one where there is one. *ret is
 * malloc'ed, NULL where there is none. */
static int newest(const char *dir, char **ret, struct vx_err *err) {
    static const char *const names[] = {VX_CHECKPOINT_FINAL, VX_CHECKPOINT_LATEST};
    for (int i = 0; i < 2; i++) {
        char *path = vx_strf("%s/%s", dir, names[i]);
        if (!path) {
            return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a path");
        }
        if (vx_path_exists(path)) {
            *ret = path;
            return VX_OK;
        }
        free(path);
    }
    *ret = NULL;
    return VX_OK;
}

int vx_train_position(const char *dir, uint32_t batch, uint64_t *ret_q, uint64_t *ret_batches,
                      struct vx_err *err) {
    char *path;
    int rc = newest(dir, &path, err);
    if (rc != VX_OK) {
        return rc;
    }
    uint64_t batches = 0, all = 0;
    if (path) {
        struct vx_ckpt c;
        rc = vx_ckpt_read_info(path, &c, err);
        free(path);
        if (rc != VX_OK) {
            return rc;
        }
        batches = (uint64_t)c.k;
        all = (uint64_t)(c.k + c.validation_k);
        vx_ckpt_release(&c);
    }
    *ret_q = all * batch;
    *ret_batches = batches;
    return VX_OK;
}

int vx_train_quarantines(const char *dir, json_t **ret, struct vx_err *err) {
    char *path;
    struct vx_ckpt c;
    json_t *list = NULL;
    int rc = newest(dir, &path, err);
    if (rc == VX_OK && path) {
        rc = vx_ckpt_read_info(path, &c, err);
        if (rc == VX_OK) {
            list = json_incref(c.quarantines);
            vx_ckpt_release(&c);
        }
        free(path);
    }
    if (rc != VX_OK) {
        return rc;
    }
    *ret = list ? list : json_array();
    return *ret ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "no memory for a list");
}

static bool same_tensor(const struct vx_param *p, const struct vx_ckpt_tensor *c) {
    bool same = strcmp(p->name, c->name) == 0 && p->ndim == c->rank;
    for (int a = 0; same && a < p->ndim; a++) {
        same = p->shape[a] == c->shape[a];
    }
    return same;
}

static int check_network(const struct vx_oplist *net, const struct vx_ckpt *c, struct vx_err *err) {
    if (c->n_tensors != (size_t)net->n_params) {
        return vx_fail(err, VX_E_STATE, "other_network",
                       "the checkpoint holds %zu parameters, the network of this job has %d",
                       c->n_tensors, net->n_params);
    }
    for (int i = 0; i < net->n_params; i++) {
        if (!same_tensor(&net->params[i], &c->tensors[i])) {
            return vx_fail(err, VX_E_STATE, "other_network",
                           "the checkpoint's parameter %d, %s, is not this network's %s", i,
                           c->tensors[i].name, net->params[i].name);
        }
        if (!c->tensors[i].momentum) {
            return vx_fail(err, VX_E_STATE, "no_momentum",
                           "the checkpoint holds no momentum: training cannot go on from it");
        }
    }
    return VX_OK;
}

static int check_schedule(const struct vx_train_config *config, const struct vx_ckpt *c,
                          struct vx_err *err) {
    const struct vx_ckpt_schedule want = schedule_of(config), *got = &c->schedule;
    const struct {
        const char *name;
        double want, got;
    } numbers[] = {
        {"epochs", (double)want.epochs, (double)got->epochs},
        {"iterations_per_epoch", (double)want.iterations_per_epoch,
         (double)got->iterations_per_epoch},
        {"validation_iterations", (double)want.validation_iterations,
         (double)got->validation_iterations},
        {"learning_rate", want.lr0, got->lr0},
        {"momentum", want.momentum, got->momentum},
        {"weight_decay", want.weight_decay, got->weight_decay},
        {"clip_norm", want.clip_norm, got->clip_norm},
        {"seed", (double)config->seed,
         (double)json_integer_value(json_object_get(c->trainer, "seed"))},
        {"batch_size", (double)config->net->batch,
         (double)json_integer_value(json_object_get(c->trainer, "batch_size"))},
    };
    for (size_t i = 0; i < VX_COUNTOF(numbers); i++) {
        if (numbers[i].want != numbers[i].got) {
            return vx_fail(err, VX_E_STATE, "other_schedule",
                           "the checkpoint was made with %s %.9g, this job has %.9g",
                           numbers[i].name, numbers[i].got, numbers[i].want);
        }
    }
    const char *digest = digest_of(config);
    if (strcmp(digest, c->recipe_digest) != 0) {
        return vx_fail(err, VX_E_STATE, "other_recipe",
                       "the checkpoint was made from other samples (recipe %s, this job %s)",
                       c->recipe_digest, digest);
    }
    return VX_OK;
}

static int upload(struct vx_train *t, const struct vx_ckpt *c, struct vx_err *err) {
    int rc = VX_OK;
    for (int i = 0; rc == VX_OK && i < t->config.net->n_params; i++) {
        rc = vx_state_upload(t->state, i, VX_PART_WEIGHT, c->tensors[i].param, err);
        if (rc == VX_OK) {
            rc = vx_state_upload(t->state, i, VX_PART_MOMENTUM, c->tensors[i].momentum, err);
        }
    }
    return rc;
}

static int restore(struct vx_train *t, const struct vx_ckpt *c, struct vx_err *err) {
    const struct vx_train_config *config = &t->config;
    int classes = config->net->classes;
    int rc = check_network(config->net, c, err);
    rc = rc != VX_OK ? rc : check_schedule(config, c, err);
    rc = rc != VX_OK ? rc
                     : vx_epoch_sum_from_json(json_object_get(c->trainer, "epoch_sum"), classes,
                                              &t->sum, err);
    rc = rc != VX_OK ? rc : vx_history_from_json(c->history, classes, &t->history, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (t->sum.epoch != c->epoch || t->history.n != c->epoch || t->sum.train_done != c->iteration ||
        t->sum.val_done > config->val_iterations || t->sum.train_done > config->iterations) {
        return vx_fail(err, VX_E_CORRUPT, "checkpoint",
                       "the checkpoint's epoch %lld, history of %u and sums of epoch %u disagree",
                       (long long)c->epoch, t->history.n, t->sum.epoch);
    }
    t->ema = c->ema_dice;
    t->best_ema = c->best_ema_dice;
    t->best_epoch = c->best_epoch;
    t->finished = t->sum.epoch >= config->epochs;
    json_t *now = environment_of(t);
    t->approximate =
        !vx_ckpt_same_environment(c->environment, now, t->differs, sizeof t->differs) || t->varies;
    json_decref(now);
    t->progress->k = t->progress->checkpoint_k = (uint64_t)c->k;
    return upload(t, c, err);
}

int vx_train_resume(struct vx_train *t, bool *ret_found, struct vx_err *err) {
    char *path;
    int rc = newest(t->config.dir, &path, err);
    if (rc != VX_OK) {
        return rc;
    }
    *ret_found = path != NULL;
    if (!path) {
        return VX_OK;
    }
    struct vx_ckpt c;
    rc = vx_ckpt_read(path, &c, err);
    if (rc == VX_OK) {
        rc = restore(t, &c, err);
        vx_ckpt_release(&c);
    }
    if (rc != VX_OK) {
        vx_err_at(err, "%s", path);
    }
    free(path);
    return rc;
}
