/* Which of the plans to take. Plans that cannot be measured are taken in the heuristics' order;
 * measured ones by time, and only with a second opinion: cuDNN has shipped engines that were fast
 * and wrong. */
#include "device/cuda/dnn/dnn.h"

#include "base/err.h"

#include <math.h>
#include <stdlib.h>

static void to_front(struct dnn_plan *list, int i) {
    struct dnn_plan taken = list[i];
    for (; i > 0; i--) {
        list[i] = list[i - 1];
    }
    list[0] = taken;
}

static int by_time(const void *a, const void *b) {
    const struct dnn_plan *x = a, *y = b;
    if ((x->ms < 0) != (y->ms < 0)) {
        return x->ms < 0 ? 1 : -1;
    }
    return x->ms != y->ms ? (x->ms < y->ms ? -1 : 1) : x->rank - y->rank;
}

/* The fastest plan of the next engine that is not plan i's, behind place `after`; -1: no more. */
static int next_opinion(const struct dnn_plan *list, int timed, int i, int after) {
    for (int k = after + 1; k < timed; k++) {
        bool first = list[k].engine != list[i].engine;
        for (int before = 0; first && before < k; before++) {
            first = list[before].engine != list[k].engine;
        }
        if (first) {
            return k;
        }
    }
    return -1;
}

static bool agree(struct dnn_plan *a, const struct dnn_plan *b, const struct dnn_trial *trial,
                  double tolerance) {
    if (trial->measure(trial->self, a, 0) < 0 || trial->measure(trial->self, b, 1) < 0) {
        return false;
    }
    double apart = trial->differ(trial->self);
    if (!(apart <= tolerance)) {
        return false;
    }
    a->checked_with = b->engine;
    return true;
}

/* Whether anybody agrees with plan i: up to three other engines are asked, and where there is only
 * one engine its next plan. */
static bool confirmed(struct dnn_plan *list, int timed, int i, const struct dnn_trial *trial,
                      double tolerance) {
    int other = next_opinion(list, timed, i, -1);
    if (other < 0) {
        return timed == 1 || agree(&list[i], &list[i == 0 ? 1 : 0], trial, tolerance);
    }
    for (int asked = 0; other >= 0 && asked < 3; asked++) {
        if (agree(&list[i], &list[other], trial, tolerance)) {
            return true;
        }
        other = next_opinion(list, timed, i, other);
    }
    return false;
}

static int none_fit(const struct dnn_plan *list, int n, const struct dnn_conv *c,
                    enum dnn_direction direction, const struct dnn_rules *rules,
                    struct vx_err *err) {
    int why[DNN_VARYING + 1] = {0};
    for (int i = 0; i < n; i++) {
        why[dnn_fitness(&list[i], c, rules)]++;
    }
    return vx_fail(err, VX_E_UNSUPPORTED, "no_plan",
                   "none of cuDNN's %d plans for the %s direction of a convolution %d -> %d "
                   "channels, %dx%dx%d can be taken: %d ask for more than %zu bytes of workspace, "
                   "%d are not repeatable",
                   n, dnn_direction_name(direction), c->in_channels, c->out_channels, c->in[0],
                   c->in[1], c->in[2], why[DNN_WORKSPACE_TOO_LARGE], rules->workspace,
                   why[DNN_VARYING]);
}

static int choose_by_trial(struct dnn_plan *list, int n, const struct dnn_conv *c,
                           enum dnn_direction direction, const struct dnn_rules *rules,
                           const struct dnn_trial *trial, double tolerance, struct vx_err *err) {
    enum dnn_fitness best = dnn_best_fitness(list, n, c, rules);
    int timed = 0;
    for (int i = 0; i < n; i++) {
        bool equal = dnn_fitness(&list[i], c, rules) == best;
        list[i].ms = equal ? trial->measure(trial->self, &list[i], 0) : -1;
        timed += list[i].ms >= 0;
    }
    qsort(list, (size_t)n, sizeof *list, by_time);
    for (int i = 0; i < timed; i++) {
        if (confirmed(list, timed, i, trial, tolerance)) {
            to_front(list, i);
            return VX_OK;
        }
    }
    return vx_fail(err, VX_E_DEVICE, "no_agreement",
                   "no two of cuDNN's %d plans that ran for the %s direction of a convolution %d "
                   "-> %d channels, %dx%dx%d agree on its result",
                   timed, dnn_direction_name(direction), c->in_channels, c->out_channels, c->in[0],
                   c->in[1], c->in[2]);
}

int dnn_choose(struct dnn_plan *list, int n, const struct dnn_conv *c, enum dnn_direction direction,
               const struct dnn_rules *rules, const struct dnn_trial *trial, double tolerance,
               struct vx_err *err) {
    enum dnn_fitness best = dnn_best_fitness(list, n, c, rules);
    if (best >= DNN_WORKSPACE_TOO_LARGE) {
        return none_fit(list, n, c, direction, rules, err);
    }
    if (trial) {
        return choose_by_trial(list, n, c, direction, rules, trial, tolerance, err);
    }
    int first = 0;
    while (dnn_fitness(&list[first], c, rules) != best) {
        first++;
    }
    to_front(list, first);
    return VX_OK;
}
