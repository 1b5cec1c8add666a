#include "train/dice.h"

#include <math.h>

double vx_pseudo_dice(int classes, const int64_t *tp, const int64_t *fp, const int64_t *fn,
                      double *dice) {
    double sum = 0;
    int defined = 0;
    for (int c = 1; c < classes; c++) {
        int64_t below = 2 * tp[c] + fp[c] + fn[c];
        dice[c - 1] = below > 0 ? 2.0 * (double)tp[c] / (double)below : NAN;
        if (below > 0) {
            sum += dice[c - 1];
            defined++;
        }
    }
    return defined > 0 ? sum / defined : NAN;
}

double vx_dice_ema(double previous, double value) {
    if (isnan(previous)) {
        return value;
    }
    return isnan(value) ? previous : 0.9 * previous + 0.1 * value;
}
