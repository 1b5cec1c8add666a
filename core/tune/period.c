#include "tune/period.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_SPIKES = 4 };

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

/* The distances agree: their median, or 0. */
static double regular(const size_t *at, size_t n, double *scratch) {
    for (size_t i = 1; i < n; i++) {
        scratch[i - 1] = (double)(at[i] - at[i - 1]);
    }
    double period = median_of(scratch, n - 1);
    double slack = fmax(1.0, 0.1 * period);
    size_t agree = 0;
    for (size_t i = 1; i < n; i++) {
        agree += fabs((double)(at[i] - at[i - 1]) - period) <= slack;
    }
    /* with a short period nearly every distance agrees by chance */
    return period >= 4 && 4 * agree >= 3 * (n - 1) ? period : 0;
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

/* seconds and scratch: n values each; at: n indices. */
static bool find(const struct vx_tune_step *steps, size_t n, double *seconds, double *scratch,
                 size_t *at, struct vx_tune_period *ret) {
    double wall = 0, median, excess = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        seconds[i] = seconds_of(&steps[i]);
        wall += seconds[i];
    }
    double limit = spike_limit(seconds, n, scratch, &median);
    size_t spikes = 0;
    for (size_t i = 0; i < n; i++) {
        if (seconds[i] > limit) {
            at[spikes++] = i;
            excess += seconds[i] - median;
            sum += seconds[i];
        }
    }
    if (spikes < LEAST_SPIKES || spikes > n / 3) {
        return false;
    }
    double period = regular(at, spikes, scratch);
    if (period <= 0) {
        return false;
    }
    *ret = (struct vx_tune_period){period, excess / wall, sum / (double)spikes,
                                   grown_phase(steps, n, at, spikes)};
    return true;
}

bool vx_tune_find_period(const struct vx_tune_step *steps, size_t n, struct vx_tune_period *ret) {
    double *seconds = malloc((n + 1) * sizeof *seconds),
           *scratch = malloc((n + 1) * sizeof *scratch);
    size_t *at = malloc((n + 1) * sizeof *at);
    bool found = n >= 3 * LEAST_SPIKES && seconds && scratch && at &&
                 find(steps, n, seconds, scratch, at, ret);
    free(seconds);
    free(scratch);
    free(at);
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
