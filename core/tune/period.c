#include "tune/period.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* With a shorter period nearly every distance agrees by chance. */
enum { LEAST_SPIKES = 4, LEAST_PERIOD = 4 };

static double seconds_of(const struct vx_tune_step *s) {
    double sum = 0;
    for (int p = 0; p < VX_TUNE_PHASES; p++) {
        sum += s->phase[p];
    }
    return sum;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *values, size_t n) {
    qsort(values, n, sizeof *values, ascending);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* Median and where spikes begin: twice the median, and six times the median deviation above it. */
static double spike_limit(const double *seconds, size_t n, double *scratch, double *ret_median) {
    memcpy(scratch, seconds, n * sizeof *scratch);
    double median = median_of(scratch, n);
    for (size_t i = 0; i < n; i++) {
        scratch[i] = fabs(seconds[i] - median);
    }
    double scatter = median_of(scratch, n);
    *ret_median = median;
    return fmax(2 * median, median + 6 * scatter);
}

/* Spikes that follow each other at one distance. */
struct beat {
    double steps;  /* between them, median */
    double excess; /* seconds beyond the median step, all of them */
    size_t hits;
};

/* From spike `first` on: where the next is due, one is looked for a little before and after; one
 * that is missing is passed over. hit: index among the spikes of each that was found. */
static struct beat follow(const size_t *at, size_t n, const double *excess, size_t first,
                          size_t period, size_t end, size_t *hit) {
    double slack = fmax(1.0, 0.05 * (double)period);
    struct beat b = {.hits = 0};
    size_t k = first;
    for (double due = (double)at[first]; due < (double)end; due += (double)period) {
        while (k < n && (double)at[k] < due - slack) {
            k++;
        }
        size_t best = n;
        for (size_t j = k; j < n && (double)at[j] <= due + slack; j++) {
            best = best == n || excess[j] > excess[best] ? j : best;
        }
        if (best < n) {
            hit[b.hits++] = best;
            b.excess += excess[best];
            due = (double)at[best];
            k = best + 1;
        }
    }
    return b;
}

static double median_distance(const size_t *at, const size_t *hit, size_t hits, double *scratch) {
    for (size_t i = 1; i < hits; i++) {
        scratch[i - 1] = (double)(at[hit[i]] - at[hit[i - 1]]);
    }
    return median_of(scratch, hits - 1);
}

/* The distance between a spike and one of the next few that explains most of the lost time. A
 * rhythm must fill three quarters of its beats since it began, and explain half of the time that
 * spikes cost; where they came by chance, hardly any distance does both. beat->steps is 0 where
 * there is none; on return hit holds the indices among at. */
static struct beat rhythm(const size_t *at, size_t n, const double *excess, size_t end, size_t *hit,
                          double *scratch) {
    enum { NEXT_FEW = 4 };
    struct beat best = {0};
    double all = 0;
    size_t best_first = 0, best_period = 0;
    for (size_t i = 0; i < n; i++) {
        all += excess[i];
    }
    for (size_t i = 0; i + 1 < n; i++) {
        for (size_t j = i + 1; j < n && j <= i + NEXT_FEW; j++) {
            size_t period = at[j] - at[i];
            if (period < LEAST_PERIOD || period * (LEAST_SPIKES - 1) > end) {
                continue;
            }
            struct beat b = follow(at, n, excess, i, period, end, hit);
            double beats = (double)(end - at[i]) / (double)period; /* since it began */
            if (b.hits >= LEAST_SPIKES && (double)b.hits >= 0.75 * beats && b.excess >= all / 2 &&
                b.excess > best.excess) {
                best = b;
                best_first = i;
                best_period = period;
            }
        }
    }
    if (best.hits) {
        best = follow(at, n, excess, best_first, best_period, end, hit);
        best.steps = median_distance(at, hit, best.hits, scratch);
    }
    return best;
}

static enum vx_tune_phase grown_phase(const struct vx_tune_step *steps, size_t n, const size_t *at,
                                      size_t n_spikes) {
    double all[VX_TUNE_PHASES] = {0}, spikes[VX_TUNE_PHASES] = {0};
    for (size_t i = 0; i < n; i++) {
        for (int p = 0; p < VX_TUNE_PHASES; p++) {
            all[p] += steps[i].phase[p];
        }
    }
    for (size_t i = 0; i < n_spikes; i++) {
        for (int p = 0; p < VX_TUNE_PHASES; p++) {
            spikes[p] += steps[at[i]].phase[p];
        }
    }
    int best = 0;
    double most = -1;
    for (int p = 0; p < VX_TUNE_PHASES; p++) {
        double ordinary = (all[p] - spikes[p]) / (double)(n - n_spikes);
        double grown = spikes[p] / (double)n_spikes - ordinary;
        if (grown > most) {
            most = grown;
            best = p;
        }
    }
    return (enum vx_tune_phase)best;
}

/* Leaves of the spikes those that matter: at least a third of the size in which half of all lost
 * time lies. A busy machine adds small ones of its own, and each would break two distances. */
static size_t leave_large(const double *seconds, double median, size_t *at, size_t n,
                          double *scratch) {
    double all = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        scratch[i] = seconds[at[i]] - median;
        all += scratch[i];
    }
    qsort(scratch, n, sizeof *scratch, ascending);
    size_t half = 0;
    while (half + 1 < n && (sum += scratch[half]) < all / 2) {
        half++;
    }
    double least = scratch[half] / 3;
    size_t left = 0;
    for (size_t i = 0; i < n; i++) {
        if (seconds[at[i]] - median >= least) {
            at[left++] = at[i];
        }
    }
    return left;
}

/* Room for n steps each. */
struct room {
    double *seconds, *excess, *scratch;
    size_t *at, *hit;
};

static bool find(const struct vx_tune_step *steps, size_t n, const struct room *r,
                 struct vx_tune_period *ret) {
    double wall = 0, median, sum = 0;
    size_t spikes = 0;
    for (size_t i = 0; i < n; i++) {
        r->seconds[i] = seconds_of(&steps[i]);
        wall += r->seconds[i];
    }
    double limit = spike_limit(r->seconds, n, r->scratch, &median);
    for (size_t i = 0; i < n; i++) {
        if (r->seconds[i] > limit) {
            r->at[spikes++] = i;
        }
    }
    spikes = leave_large(r->seconds, median, r->at, spikes, r->scratch);
    if (spikes < LEAST_SPIKES || spikes > n / 3) {
        return false;
    }
    for (size_t i = 0; i < spikes; i++) {
        r->excess[i] = r->seconds[r->at[i]] - median;
    }
    struct beat b = rhythm(r->at, spikes, r->excess, n, r->hit, r->scratch);
    if (b.steps <= 0) {
        return false;
    }
    for (size_t i = 0; i < b.hits; i++) {
        r->hit[i] = r->at[r->hit[i]];
        sum += r->seconds[r->hit[i]];
    }
    *ret = (struct vx_tune_period){b.steps, b.excess / wall, sum / (double)b.hits,
                                   grown_phase(steps, n, r->hit, b.hits)};
    return true;
}

bool vx_tune_find_period(const struct vx_tune_step *steps, size_t n, struct vx_tune_period *ret) {
    double *reals = malloc(3 * (n + 1) * sizeof *reals);
    size_t *indices = malloc(2 * (n + 1) * sizeof *indices);
    bool found = n >= 3 * LEAST_SPIKES && reals && indices;
    if (found) {
        const struct room r = {reals, reals + n, reals + 2 * n, indices, indices + n};
        found = find(steps, n, &r, ret);
    }
    free(reals);
    free(indices);
    return found;
}

void vx_tune_slope(const double *x, const double *y, size_t n, double *ret_slope,
                   double *ret_error) {
    double mx = 0, my = 0, sxx = 0, sxy = 0, rest = 0;
    *ret_slope = *ret_error = 0;
    if (n < 3) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        sxx += (x[i] - mx) * (x[i] - mx);
        sxy += (x[i] - mx) * (y[i] - my);
    }
    if (sxx <= 0) {
        return;
    }
    double slope = sxy / sxx;
    for (size_t i = 0; i < n; i++) {
        double d = y[i] - my - slope * (x[i] - mx);
        rest += d * d;
    }
    *ret_slope = slope;
    *ret_error = sqrt(rest / (double)(n - 2) / sxx);
}
