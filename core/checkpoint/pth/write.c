#include "checkpoint/pth_write.h"

#include "base/err.h"
#include "base/own.h"
#include "checkpoint/pickle_write.h"
#include "checkpoint/pth/names.h"
#include "checkpoint/zip.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define TOP "archive"

/* nnU-Net's logger (training/logging/nnunet_logger.py) has these lists and no others. */
static const char *const lists[] = {
    "mean_fg_dice", "ema_fg_dice", "dice_per_class_or_region", "train_losses",
    "val_losses",   "lrs",         "epoch_start_timestamps",   "epoch_end_timestamps"};

struct writer {
    const struct vx_ckpt *c;
    const struct vx_pth_words *words;
    struct vx_pickle p;
    bool *moving; /* owned: tensor i has momentum other than zero */
};

/* PyTorch's shape; the rank, or 0 where a 2d kernel is deeper than 1. */
static int torch_shape(const struct writer *w, const struct vx_ckpt_tensor *t,
                       int64_t ret[VX_CKPT_MAX_RANK]) {
    int rank = 0;
    for (int a = 0; a < t->rank; a++) {
        if (w->words->dims == 2 && t->rank == 5 && a == 2) {
            if (t->shape[a] != 1) {
                return 0;
            }
        } else {
            ret[rank++] = t->shape[a];
        }
    }
    return rank;
}

static void write_tensor(struct writer *w, size_t i, uint64_t key) {
    int64_t shape[VX_CKPT_MAX_RANK];
    int rank = torch_shape(w, &w->c->tensors[i], shape);
    vx_pickle_tensor(&w->p, key, rank, shape);
}

static int write_weights(struct writer *w, struct vx_err *err) {
    vx_auto_free struct vx_pth_key *keys = NULL;
    size_t n = 0;
    int rc = vx_pth_keys(w->c, &keys, &n, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_pickle_str(&w->p, "network_weights");
    vx_pickle_ordered_dict(&w->p);
    for (size_t i = 0; i < n; i++) {
        vx_pickle_str(&w->p, keys[i].name);
        write_tensor(w, keys[i].tensor, keys[i].tensor);
    }
    vx_pickle_end(&w->p);
    return VX_OK;
}

/* What torch.optim.SGD's state_dict holds, with nnU-Net's values from the schedule. */
static void write_group(struct writer *w) {
    const struct vx_ckpt_schedule *s = &w->c->schedule;
    int64_t trained = w->c->epoch > 0 ? w->c->epoch - 1 : 0; /* the rate of the epoch done last */
    double left = s->epochs > 0 ? 1 - (double)trained / (double)s->epochs : 1;
    struct vx_pickle *p = &w->p;
    vx_pickle_dict(p);
    vx_pickle_str(p, "lr");
    vx_pickle_real(p, s->lr0 * pow(left > 0 ? left : 0, s->poly_power));
    vx_pickle_str(p, "momentum");
    vx_pickle_real(p, s->momentum);
    vx_pickle_str(p, "dampening");
    vx_pickle_int(p, 0);
    vx_pickle_str(p, "weight_decay");
    vx_pickle_real(p, s->weight_decay);
    vx_pickle_str(p, "nesterov");
    vx_pickle_bool(p, s->nesterov);
    vx_pickle_str(p, "maximize");
    vx_pickle_bool(p, false);
    vx_pickle_str(p, "foreach");
    vx_pickle_none(p);
    vx_pickle_str(p, "differentiable");
    vx_pickle_bool(p, false);
    vx_pickle_str(p, "fused");
    vx_pickle_none(p);
    vx_pickle_str(p, "initial_lr");
    vx_pickle_real(p, s->lr0);
    vx_pickle_str(p, "params");
    vx_pickle_list(p);
    for (size_t i = 0; i < w->c->n_tensors; i++) {
        vx_pickle_int(p, (int64_t)i);
    }
    vx_pickle_end(p);
    vx_pickle_end(p);
}

static void write_optimizer(struct writer *w) {
    struct vx_pickle *p = &w->p;
    vx_pickle_str(p, "optimizer_state");
    vx_pickle_dict(p);
    vx_pickle_str(p, "state");
    vx_pickle_dict(p);
    for (size_t i = 0; i < w->c->n_tensors; i++) {
        if (w->moving[i]) {
            vx_pickle_int(p, (int64_t)i);
            vx_pickle_dict(p);
            vx_pickle_str(p, "momentum_buffer");
            write_tensor(w, i, w->c->n_tensors + i);
            vx_pickle_end(p);
        }
    }
    vx_pickle_end(p);
    vx_pickle_str(p, "param_groups");
    vx_pickle_list(p);
    write_group(w);
    vx_pickle_end(p);
    vx_pickle_end(p);
    vx_pickle_str(p, "grad_scaler_state");
    vx_pickle_none(p);
}

/* Numbers as float, null as NaN: what the logger's plots can draw. */
static void write_figures(struct vx_pickle *p, const json_t *list) {
    const json_t *item;
    size_t i;
    vx_pickle_list(p);
    json_array_foreach(list, i, item) {
        if (json_is_array(item)) {
            write_figures(p, item);
        } else {
            vx_pickle_real(p, json_is_number(item) ? json_number_value(item) : NAN);
        }
    }
    vx_pickle_end(p);
}

static void write_logging(struct writer *w) {
    struct vx_pickle *p = &w->p;
    vx_pickle_str(p, "logging");
    vx_pickle_dict(p);
    for (size_t i = 0; i < VX_COUNTOF(lists); i++) {
        vx_pickle_str(p, lists[i]);
        write_figures(p, json_object_get(w->c->history, lists[i]));
    }
    vx_pickle_end(p);
    vx_pickle_str(p, "_best_ema");
    if (isfinite(w->c->best_ema_dice)) {
        vx_pickle_real(p, w->c->best_ema_dice);
    } else {
        vx_pickle_none(p);
    }
    vx_pickle_str(p, "current_epoch");
    vx_pickle_int(p, w->c->epoch);
}

static void write_json(struct vx_pickle *p, const char *name, const json_t *value) {
    vx_pickle_str(p, name);
    if (value) {
        vx_pickle_json(p, value);
    } else {
        vx_pickle_none(p);
    }
}

static void write_init_args(struct writer *w) {
    struct vx_pickle *p = &w->p;
    const char *fold = w->words->fold;
    bool digits = fold[0] != '\0' && strspn(fold, "0123456789") == strlen(fold);
    vx_pickle_str(p, "init_args");
    vx_pickle_dict(p);
    write_json(p, "plans", w->words->plans);
    vx_pickle_str(p, "configuration");
    vx_pickle_str(p, w->words->configuration);
    vx_pickle_str(p, "fold");
    if (digits) {
        vx_pickle_int(p, atoll(fold));
    } else {
        vx_pickle_str(p, fold);
    }
    write_json(p, "dataset_json", w->words->dataset_json);
    vx_pickle_str(p, "device");
    vx_pickle_device(p, "cpu");
    vx_pickle_end(p);
    vx_pickle_str(p, "trainer_name");
    vx_pickle_str(p, "nnUNetTrainer");
}

/* Array axes [D][H][W] as nnU-Net numbers them: within the network's axes. */
static void write_mirror_axes(struct writer *w) {
    const json_t *axes = json_object_get(w->c->network, "mirror_axes"), *axis;
    size_t i;
    vx_pickle_str(&w->p, "inference_allowed_mirroring_axes");
    if (json_array_size(axes) == 0) { /* of an empty tuple the predictor would take the maximum */
        vx_pickle_none(&w->p);
        return;
    }
    vx_pickle_tuple(&w->p);
    json_array_foreach(axes, i, axis) {
        vx_pickle_int(&w->p, json_integer_value(axis) - (w->words->dims == 2 ? 1 : 0));
    }
    vx_pickle_end(&w->p);
}

static int write_pickle(struct writer *w, char **ret, size_t *ret_len, struct vx_err *err) {
    vx_pickle_dict(&w->p);
    int rc = write_weights(w, err);
    if (rc != VX_OK) {
        return rc;
    }
    write_optimizer(w);
    write_logging(w);
    write_init_args(w);
    write_mirror_axes(w);
    vx_pickle_end(&w->p);
    return vx_pickle_finish(&w->p, ret, ret_len, err);
}

static bool any(const float *x, size_t n) {
    for (size_t i = 0; x && i < n; i++) {
        if (x[i] != 0) {
            return true;
        }
    }
    return false;
}

static int check(const struct writer *w, struct vx_err *err) {
    int64_t shape[VX_CKPT_MAX_RANK];
    for (size_t i = 0; i < w->c->n_tensors; i++) {
        const struct vx_ckpt_tensor *t = &w->c->tensors[i];
        if (!t->param || torch_shape(w, t, shape) == 0) {
            return vx_fail(err, VX_E_INVALID, "bad_checkpoint",
                           "parameter %s has no values, or no shape of a %dd network", t->name,
                           w->words->dims);
        }
        w->moving[i] = any(t->momentum, t->n);
    }
    return VX_OK;
}

static int add_storage(struct vx_zip_writer *zip, uint64_t key, const float *x, size_t n,
                       struct vx_err *err) {
    char name[48];
    snprintf(name, sizeof name, TOP "/data/%" PRIu64, key);
    return vx_zip_add(zip, name, x, n * sizeof *x, VX_ZIP_STORED, err);
}

static int add_members(const struct writer *w, struct vx_zip_writer *zip, const char *pickle,
                       size_t len, struct vx_err *err) {
    const struct vx_ckpt *c = w->c;
    int rc = vx_zip_add(zip, TOP "/data.pkl", pickle, len, VX_ZIP_STORED, err);
    if (rc == VX_OK) {
        rc = vx_zip_add(zip, TOP "/byteorder", "little", 6, VX_ZIP_STORED, err);
    }
    for (size_t i = 0; i < c->n_tensors && rc == VX_OK; i++) {
        rc = add_storage(zip, i, c->tensors[i].param, c->tensors[i].n, err);
    }
    for (size_t i = 0; i < c->n_tensors && rc == VX_OK; i++) {
        if (w->moving[i]) {
            rc = add_storage(zip, c->n_tensors + i, c->tensors[i].momentum, c->tensors[i].n, err);
        }
    }
    return rc == VX_OK ? vx_zip_add(zip, TOP "/version", "3\n", 2, VX_ZIP_STORED, err) : rc;
}

int vx_pth_write(const char *path, const struct vx_ckpt *c, const struct vx_pth_words *words,
                 struct vx_err *err) {
    vx_auto_free bool *moving = calloc(c->n_tensors + 1, sizeof *moving);
    vx_auto_free char *pickle = NULL;
    vx_auto_zip_writer struct vx_zip_writer *zip = NULL;
    struct writer w = {.c = c, .words = words, .p = VX_PICKLE_INIT, .moving = moving};
    size_t len = 0;
    if (!moving) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = check(&w, err);
    rc = rc == VX_OK ? write_pickle(&w, &pickle, &len, err) : rc;
    vx_pickle_release(&w.p);
    rc = rc == VX_OK ? vx_zip_create(path, &zip, err) : rc;
    rc = rc == VX_OK ? add_members(&w, zip, pickle, len, err) : rc;
    return rc == VX_OK ? vx_zip_commit(zip, err) : rc;
}
