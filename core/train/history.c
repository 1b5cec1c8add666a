/* Epoch history to JSON and back. Numbers are written by Jansson with 17 significant digits, which
 * gives the same double when read. */
#include "train/history.h"

#include "base/err.h"
#include "base/own.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { PHASES = 8 };

void vx_history_release(struct vx_history *h) {
    free(h->epochs);
    memset(h, 0, sizeof(*h));
}

int vx_history_add(struct vx_history *h, const struct vx_train_epoch *epoch, struct vx_err *err) {
    if (h->n == h->cap) {
        uint32_t cap = h->cap ? 2 * h->cap : 16;
        struct vx_train_epoch *grown = realloc(h->epochs, cap * sizeof(*grown));
        if (!grown) {
            return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the history of %u epochs", cap);
        }
        h->epochs = grown;
        h->cap = cap;
    }
    h->epochs[h->n++] = *epoch;
    return VX_OK;
}

/* The per-epoch lists that hold one number each. */
static const struct {
    const char *name;
    size_t offset;
} SCALARS[] = {
    {"mean_fg_dice", offsetof(struct vx_train_epoch, mean_fg_dice)},
    {"ema_fg_dice", offsetof(struct vx_train_epoch, ema_fg_dice)},
    {"train_losses", offsetof(struct vx_train_epoch, train_loss)},
    {"val_losses", offsetof(struct vx_train_epoch, val_loss)},
    {"lrs", offsetof(struct vx_train_epoch, learning_rate)},
    {"epoch_start_timestamps", offsetof(struct vx_train_epoch, start_time)},
    {"epoch_end_timestamps", offsetof(struct vx_train_epoch, end_time)},
    {"epoch_seconds", offsetof(struct vx_train_epoch, seconds)},
    {"loader_wait_ratio", offsetof(struct vx_train_epoch, loader_wait_ratio)},
    {"best_ema", offsetof(struct vx_train_epoch, best_ema)},
};

static double *scalar(struct vx_train_epoch *e, size_t field) {
    return (double *)((char *)e + SCALARS[field].offset);
}

static json_t *number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *scalar_list(const struct vx_history *h, size_t field) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < h->n; i++) {
        json_array_append_new(list, number(*scalar(&h->epochs[i], field)));
    }
    return list;
}

static json_t *dice_list(const struct vx_history *h) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < h->n; i++) {
        json_t *row = json_array();
        for (int c = 0; c < h->epochs[i].classes - 1; c++) {
            json_array_append_new(row, number(h->epochs[i].dice[c]));
        }
        json_array_append_new(list, row);
    }
    return list;
}

static json_t *phase_list(const struct vx_history *h) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < h->n; i++) {
        json_t *row = json_array();
        for (int p = 0; p < PHASES; p++) {
            json_array_append_new(row, json_integer((json_int_t)h->epochs[i].phase_ns[p]));
        }
        json_array_append_new(list, row);
    }
    return list;
}

json_t *vx_history_to_json(const struct vx_history *h) {
    json_t *out = json_object();
    int rc = 0;
    for (size_t f = 0; f < VX_COUNTOF(SCALARS); f++) {
        rc |= json_object_set_new(out, SCALARS[f].name, scalar_list(h, f));
    }
    rc |= json_object_set_new(out, "dice_per_class_or_region", dice_list(h));
    rc |= json_object_set_new(out, "phase_ns", phase_list(h));
    if (rc != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

/* The named list with exactly n entries; NULL and an error otherwise. */
static const json_t *list_of(const json_t *json, const char *name, size_t n, struct vx_err *err) {
    const json_t *list = json_object_get(json, name);
    if (!json_is_array(list) || json_array_size(list) != n) {
        vx_fail(err, VX_E_CORRUPT, "history", "the history's list %s does not hold %zu epochs",
                name, n);
        return NULL;
    }
    return list;
}

static int read_number(const json_t *value, const char *name, double *ret, struct vx_err *err) {
    if (json_is_null(value)) {
        *ret = NAN;
    } else if (json_is_number(value)) {
        *ret = json_number_value(value);
    } else {
        return vx_fail(err, VX_E_CORRUPT, "history", "the history's list %s holds a non-number",
                       name);
    }
    return VX_OK;
}

static int read_scalars(const json_t *json, struct vx_history *h, struct vx_err *err) {
    for (size_t f = 0; f < VX_COUNTOF(SCALARS); f++) {
        const json_t *list = list_of(json, SCALARS[f].name, h->n, err);
        if (!list) {
            return VX_E_CORRUPT;
        }
        for (uint32_t i = 0; i < h->n; i++) {
            int rc = read_number(json_array_get(list, i), SCALARS[f].name, scalar(&h->epochs[i], f),
                                 err);
            if (rc != VX_OK) {
                return rc;
            }
        }
    }
    return VX_OK;
}

static int read_rows(const json_t *json, int classes, struct vx_history *h, struct vx_err *err) {
    const json_t *dice = list_of(json, "dice_per_class_or_region", h->n, err);
    const json_t *phases = dice ? list_of(json, "phase_ns", h->n, err) : NULL;
    if (!phases) {
        return VX_E_CORRUPT;
    }
    for (uint32_t i = 0; i < h->n; i++) {
        struct vx_train_epoch *e = &h->epochs[i];
        const json_t *d = json_array_get(dice, i), *p = json_array_get(phases, i);
        if (json_array_size(d) != (size_t)classes - 1 || json_array_size(p) != PHASES) {
            return vx_fail(err, VX_E_CORRUPT, "history",
                           "epoch %u of the history is of another network", i);
        }
        e->epoch = i;
        e->classes = classes;
        for (int c = 0; c < classes - 1; c++) {
            int rc = read_number(json_array_get(d, (size_t)c), "dice_per_class_or_region",
                                 &e->dice[c], err);
            if (rc != VX_OK) {
                return rc;
            }
        }
        for (size_t k = 0; k < PHASES; k++) {
            e->phase_ns[k] = (uint64_t)json_integer_value(json_array_get(p, k));
        }
    }
    return VX_OK;
}

int vx_history_from_json(const json_t *json, int classes, struct vx_history *ret,
                         struct vx_err *err) {
    const json_t *first = json_object_get(json, SCALARS[0].name);
    if (!json_is_array(first) || classes < 2 || classes > 64) {
        return vx_fail(err, VX_E_CORRUPT, "history", "the history has no list %s", SCALARS[0].name);
    }
    size_t n = json_array_size(first);
    struct vx_history h = {.epochs = calloc(n ? n : 1, sizeof(*h.epochs)),
                           .n = (uint32_t)n,
                           .cap = (uint32_t)(n ? n : 1)};
    if (!h.epochs) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the history of %zu epochs", n);
    }
    int rc = read_scalars(json, &h, err);
    if (rc == VX_OK) {
        rc = read_rows(json, classes, &h, err);
    }
    if (rc != VX_OK) {
        vx_history_release(&h);
        return rc;
    }
    *ret = h;
    return VX_OK;
}
