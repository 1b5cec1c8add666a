/* nnU-Net's pseudo-Dice and moving average without nnU-Net: what its trainer logged for made-up
 * counts (tests/oracle/golden/train.json, written by tests/oracle/run train --golden). */
#include "base/err.h"
#include "base/json.h"
#include "base/own.h"
#include "train/dice.h"

#include <criterion/criterion.h>
#include <math.h>

enum { CLASSES = 4 };

static void read_counts(const json_t *epoch, const char *key, int64_t counts[CLASSES]) {
    const json_t *list = json_object_get(epoch, key);
    cr_assert_eq(json_array_size(list), CLASSES - 1);
    counts[0] = 12345; /* background does not count */
    for (size_t c = 1; c < CLASSES; c++) {
        counts[c] = json_integer_value(json_array_get(list, c - 1));
    }
}

Test(train_oracle, pseudo_dice_is_nnunets) {
    vx_auto_json json_t *golden = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_json_load_file("tests/oracle/golden/train.json", 1 << 20, &golden, &err), VX_OK,
                 "%s", err.text);
    double ema = NAN;
    int absent = 0;
    size_t i;
    json_t *epoch;
    json_array_foreach(json_object_get(golden, "epochs"), i, epoch) {
        int64_t tp[CLASSES], fp[CLASSES], fn[CLASSES];
        double dice[CLASSES - 1];
        read_counts(epoch, "tp", tp);
        read_counts(epoch, "fp", fp);
        read_counts(epoch, "fn", fn);
        double mean = vx_pseudo_dice(CLASSES, tp, fp, fn, dice);
        ema = vx_dice_ema(ema, mean);
        for (size_t c = 0; c + 1 < CLASSES; c++) {
            const json_t *want = json_array_get(json_object_get(epoch, "dice"), c);
            absent += json_is_null(want);
            cr_assert(json_is_null(want) ? isnan(dice[c])
                                         : fabs(dice[c] - json_number_value(want)) < 1e-6,
                      "epoch %zu class %zu: %g", i, c + 1, dice[c]);
        }
        cr_assert_float_eq(mean, json_number_value(json_object_get(epoch, "mean")), 1e-6);
        cr_assert_float_eq(ema, json_number_value(json_object_get(epoch, "ema")), 1e-6);
    }
    cr_assert_geq(i, 12);
    cr_assert_geq(absent, 5, "classes that are absent are among the epochs");
}
