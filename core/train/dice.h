/* Pseudo-Dice and its moving average. Source: nnU-Net v2's trainer and logger. Thread: any. */
#ifndef VX_TRAIN_DICE_H
#define VX_TRAIN_DICE_H

#include <stdint.h>

/* dice[c - 1] = 2 tp / (2 tp + fp + fn) of class c = 1 .. classes - 1, NaN where the denominator is
 * 0. Arrays are indexed by class, background at 0. Returns the mean over those that are not NaN,
 * NaN where all are. */
double vx_pseudo_dice(int classes, const int64_t *tp, const int64_t *fp, const int64_t *fn,
                      double *dice);

/* 0.9 x previous + 0.1 x value; the value itself where previous is NaN, and previous where the
 * value is NaN (an epoch whose validation batches held no foreground tells nothing). */
double vx_dice_ema(double previous, double value);

#endif
