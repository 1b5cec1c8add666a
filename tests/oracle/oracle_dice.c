/* Pseudo-Dice and its moving average, for tests/oracle/train.py.
 *
 * A list of epochs on stdin, each {tp, fp, fn} of the foreground classes; on stdout a list of
 * {dice, mean, ema}, null where there is no number. */
#include "base/own.h"
#include "train/dice.h"

#include <math.h>
#include <stdio.h>

enum { CLASSES = 64 };

static json_t *number(double v) {
    return isnan(v) ? json_null() : json_real(v);
}

static void read_counts(const json_t *epoch, const char *key, int64_t counts[CLASSES]) {
    const json_t *list = json_object_get(epoch, key);
    for (size_t c = 0; c < json_array_size(list) && c + 1 < CLASSES; c++) {
        counts[c + 1] = json_integer_value(json_array_get(list, c));
    }
}

int main(void) {
    vx_auto_json json_t *epochs = json_loadf(stdin, 0, NULL), *out = json_array();
    double ema = NAN;
    size_t i;
    json_t *epoch;
    json_array_foreach(epochs, i, epoch) {
        int64_t tp[CLASSES] = {0}, fp[CLASSES] = {0}, fn[CLASSES] = {0};
        double dice[CLASSES];
        int classes = 1 + (int)json_array_size(json_object_get(epoch, "tp"));
        read_counts(epoch, "tp", tp);
        read_counts(epoch, "fp", fp);
        read_counts(epoch, "fn", fn);
        double mean = vx_pseudo_dice(classes, tp, fp, fn, dice);
        ema = vx_dice_ema(ema, mean);
        json_t *list = json_array();
        for (int c = 0; c + 1 < classes; c++) {
            json_array_append_new(list, number(dice[c]));
        }
        json_array_append_new(out, json_pack("{s:o, s:o, s:o}", "dice", list, "mean", number(mean),
                                             "ema", number(ema)));
    }
    return json_dumpf(out, stdout, 0) == 0 ? 0 : 1;
}
