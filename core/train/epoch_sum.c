#include "train/epoch_sum.h"

#include "base/err.h"
#include "session/timeline.h"
#include "train/dice.h"

#include <math.h>
#include <string.h>

_Static_assert(VX_PHASE_COUNT <= 8, "epochs keep eight phases");

void vx_epoch_sum_start(struct vx_epoch_sum *sum, uint32_t epoch) {
    memset(sum, 0, sizeof(*sum));
    sum->epoch = epoch;
}

void vx_epoch_sum_finish(const struct vx_epoch_sum *sum, int classes, double previous_ema,
                         struct vx_train_epoch *ret) {
    memset(ret, 0, sizeof(*ret));
    ret->epoch = sum->epoch;
    ret->classes = classes;
    ret->train_loss = sum->train_loss / sum->train_done;
    ret->val_loss = sum->val_done ? sum->val_loss / sum->val_done : NAN;
    ret->mean_fg_dice = vx_pseudo_dice(classes, sum->tp, sum->fp, sum->fn, ret->dice);
    ret->ema_fg_dice = vx_dice_ema(previous_ema, ret->mean_fg_dice);
    ret->start_time = sum->start_time;
    uint64_t all = 0;
    for (int p = 0; p < 8; p++) {
        ret->phase_ns[p] = sum->phase_ns[p];
        all += sum->phase_ns[p];
    }
    ret->seconds = (double)all * 1e-9;
    ret->loader_wait_ratio = all ? (double)sum->phase_ns[VX_PHASE_WAIT_LOADER] / (double)all : 0;
}

static json_t *int_list(const int64_t *values, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(list, json_integer(values[i]));
    }
    return list;
}

json_t *vx_epoch_sum_to_json(const struct vx_epoch_sum *sum, int classes) {
    int64_t phases[8];
    for (int p = 0; p < 8; p++) {
        phases[p] = (int64_t)sum->phase_ns[p];
    }
    return json_pack(
        "{s:i, s:i, s:i, s:o, s:o, s:f, s:o, s:o, s:o, s:o}", "epoch", (int)sum->epoch,
        "train_done", (int)sum->train_done, "val_done", (int)sum->val_done, "train_loss",
        isfinite(sum->train_loss) ? json_real(sum->train_loss) : json_null(), "val_loss",
        isfinite(sum->val_loss) ? json_real(sum->val_loss) : json_null(), "start_time",
        sum->start_time, "tp", int_list(sum->tp, classes), "fp", int_list(sum->fp, classes), "fn",
        int_list(sum->fn, classes), "phase_ns", int_list(phases, 8));
}

static int read_ints(const json_t *json, const char *name, int n, int64_t *ret,
                     struct vx_err *err) {
    const json_t *list = json_object_get(json, name);
    if (json_array_size(list) != (size_t)n) {
        return vx_fail(err, VX_E_CORRUPT, "epoch_sum",
                       "the checkpoint's sums of the epoch in progress lack %d numbers %s", n,
                       name);
    }
    for (int i = 0; i < n; i++) {
        ret[i] = json_integer_value(json_array_get(list, (size_t)i));
    }
    return VX_OK;
}

/* JSON has no NaN: a sum that is not finite was written as null and goes on as NaN. */
static double real_or_nan(const json_t *json, const char *name) {
    const json_t *value = json_object_get(json, name);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

int vx_epoch_sum_from_json(const json_t *json, int classes, struct vx_epoch_sum *ret,
                           struct vx_err *err) {
    struct vx_epoch_sum s = {0};
    if (!json_is_object(json)) {
        return vx_fail(err, VX_E_CORRUPT, "epoch_sum",
                       "the checkpoint has no sums of the epoch in progress");
    }
    s.epoch = (uint32_t)json_integer_value(json_object_get(json, "epoch"));
    s.train_done = (uint32_t)json_integer_value(json_object_get(json, "train_done"));
    s.val_done = (uint32_t)json_integer_value(json_object_get(json, "val_done"));
    s.train_loss = real_or_nan(json, "train_loss");
    s.val_loss = real_or_nan(json, "val_loss");
    s.start_time = json_number_value(json_object_get(json, "start_time"));
    int64_t phases[8];
    int rc = read_ints(json, "tp", classes, s.tp, err);
    rc = rc != VX_OK ? rc : read_ints(json, "fp", classes, s.fp, err);
    rc = rc != VX_OK ? rc : read_ints(json, "fn", classes, s.fn, err);
    rc = rc != VX_OK ? rc : read_ints(json, "phase_ns", 8, phases, err);
    if (rc != VX_OK) {
        return rc;
    }
    for (int p = 0; p < 8; p++) {
        s.phase_ns[p] = (uint64_t)phases[p];
    }
    *ret = s;
    return VX_OK;
}
