/* Learning rate, pseudo-Dice, moving average and history, against figures worked out by hand. */
#include "base/err.h"
#include "base/own.h"
#include "train/dice.h"
#include "train/history.h"
#include "train/schedule.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <string.h>

/* nnU-Net's schedule at 1000 epochs from 0.01. */
Test(train_schedule, golden) {
    static const struct {
        uint32_t epoch;
        double lr, tolerance;
    } golden[] = {
        {0, 0.01, 0},           {1, 0.009991, 5e-7},     {100, 0.00909533, 5e-9},
        {250, 0.0077189, 5e-8}, {500, 0.00535887, 5e-9}, {900, 0.00125893, 5e-9},
        {999, 1.995e-5, 5e-9},
    };
    for (size_t i = 0; i < VX_COUNTOF(golden); i++) {
        double lr = vx_poly_lr(0.01, golden[i].epoch, 1000);
        cr_assert(fabs(lr - golden[i].lr) <= golden[i].tolerance, "epoch %u: %.9g", golden[i].epoch,
                  lr);
    }
}

Test(train_dice, by_hand) {
    /* Class 1: 2*6 / (2*6 + 2 + 2) = 0.75; class 2 absent; class 3: 0 / 5. */
    int64_t tp[4] = {100, 6, 0, 0}, fp[4] = {7, 2, 0, 5}, fn[4] = {7, 2, 0, 0};
    double dice[3];
    double mean = vx_pseudo_dice(4, tp, fp, fn, dice);
    cr_assert(eq(dbl, dice[0], 0.75));
    cr_assert(isnan(dice[1]));
    cr_assert(eq(dbl, dice[2], 0.0));
    cr_assert(eq(dbl, mean, 0.375));
    int64_t none[4] = {50, 0, 0, 0};
    int64_t zero[4] = {0};
    cr_assert(isnan(vx_pseudo_dice(4, none, zero, zero, dice)));
}

Test(train_dice, ema_by_hand) {
    double e = vx_dice_ema(NAN, 0.5);
    cr_assert(eq(dbl, e, 0.5));
    e = vx_dice_ema(e, 0.7);
    cr_assert(epsilon_eq(dbl, e, 0.52, 1e-15));
    cr_assert(epsilon_eq(dbl, vx_dice_ema(e, 0.2), 0.488, 1e-15));
    cr_assert(eq(dbl, vx_dice_ema(e, NAN), e), "an epoch without foreground changes nothing");
}

Test(train_history, round_trip_is_exact) {
    struct vx_history h = {0}, back = {0};
    for (uint32_t i = 0; i < 40; i++) {
        struct vx_train_epoch e = {.epoch = i, .classes = 3};
        e.train_loss = -1.0 / 3.0 * i;
        e.val_loss = i == 7 ? NAN : sqrt(i);
        e.dice[0] = i == 3 ? NAN : 1.0 / (1 + i);
        e.dice[1] = 0.1 * i;
        e.mean_fg_dice = e.ema_fg_dice = 0.1 + 0.2;
        e.learning_rate = vx_poly_lr(0.01, i, 1000);
        e.start_time = 1763874000.123 + i;
        e.phase_ns[2] = 12345678901234u;
        cr_assert(eq(int, vx_history_add(&h, &e, NULL), VX_OK));
    }
    json_t *json = vx_history_to_json(&h);
    cr_assert(not(zero(ptr, json)));
    char *text = json_dumps(json, JSON_COMPACT);
    json_t *parsed = json_loads(text, 0, NULL);
    cr_assert(not(zero(ptr, parsed)));
    cr_assert(eq(int, vx_history_from_json(parsed, 3, &back, NULL), VX_OK));
    cr_assert(eq(int, back.n, h.n));
    for (uint32_t i = 0; i < h.n; i++) {
        const struct vx_train_epoch *a = &h.epochs[i], *b = &back.epochs[i];
        cr_assert(eq(dbl, b->train_loss, a->train_loss));
        cr_assert(i == 7 ? isnan(b->val_loss) : b->val_loss == a->val_loss);
        cr_assert(i == 3 ? isnan(b->dice[0]) : b->dice[0] == a->dice[0]);
        cr_assert(eq(dbl, b->dice[1], a->dice[1]));
        cr_assert(eq(dbl, b->learning_rate, a->learning_rate));
        cr_assert(eq(dbl, b->start_time, a->start_time));
        cr_assert(eq(u64, b->phase_ns[2], a->phase_ns[2]));
    }
    free(text);
    json_decref(json);
    json_decref(parsed);
    vx_history_release(&h);
    vx_history_release(&back);
}

Test(train_history, refuses_lists_of_unequal_length) {
    json_t *json = json_loads("{\"mean_fg_dice\": [0.5, 0.6], \"ema_fg_dice\": [0.5]}", 0, NULL);
    struct vx_history h = {0};
    struct vx_err err = {0};
    cr_assert(eq(int, vx_history_from_json(json, 3, &h, &err), VX_E_CORRUPT));
    cr_assert(not(zero(ptr, strstr(err.text, "ema_fg_dice"))));
    json_decref(json);
}
