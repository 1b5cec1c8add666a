#include "daemon/telemetry/trend.h"

#include "tune/period.h"

#include <stdbool.h>
#include <stdlib.h>

#define BIN_NS        10000000000ull
#define LEAST_HOURS   (600.0 / 3600)
#define LEAST_SHARE   0.03 /* of the mean, over the time that is known */
#define LEAST_OF_HALF 0.33 /* of the whole's slope, in each half */

enum { LEAST_BINS = 30 };

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void close_bin(struct vx_trend *t) {
    uint32_t n = t->open.n;
    qsort(t->open.value, n, sizeof *t->open.value, ascending);
    t->v[t->n % VX_TREND_BINS].ns = t->open.began_ns + t->open.sum_ns / n;
    t->v[t->n % VX_TREND_BINS].median = t->open.value[n / 2];
    t->n++;
    t->open.n = 0;
}

void vx_trend_add(struct vx_trend *t, uint64_t ns, double value) {
    if (t->open.n && ns < t->open.began_ns) {
        return;
    }
    if (t->open.n && ns - t->open.began_ns >= BIN_NS) {
        close_bin(t);
    }
    if (!t->open.n) {
        t->open.began_ns = ns;
        t->open.sum_ns = 0;
    }
    if (t->open.n < VX_TREND_VALUES) {
        t->open.sum_ns += ns - t->open.began_ns;
        t->open.value[t->open.n++] = value;
    }
}

double vx_trend_growth(const struct vx_trend *t, double *ret_mean) {
    double x[VX_TREND_BINS], y[VX_TREND_BINS], mean = 0;
    uint64_t from = t->n > VX_TREND_BINS ? t->n - VX_TREND_BINS : 0;
    size_t n = (size_t)(t->n - from), half = n / 2;
    for (size_t i = 0; i < n; i++) {
        uint64_t at = (from + i) % VX_TREND_BINS;
        x[i] = (double)(t->v[at].ns - t->v[from % VX_TREND_BINS].ns) * 1e-9 / 3600;
        y[i] = t->v[at].median;
        mean += y[i] / (double)n;
    }
    if (ret_mean) {
        *ret_mean = mean;
    }
    if (n < LEAST_BINS || x[n - 1] < LEAST_HOURS) {
        return 0;
    }
    double slope, error, first, second, unused;
    vx_tune_slope(x, y, n, &slope, &error);
    vx_tune_slope(x, y, half, &first, &unused);
    vx_tune_slope(x + half, y + half, n - half, &second, &unused);
    bool grows = slope > 3 * error && slope * x[n - 1] >= LEAST_SHARE * mean;
    return grows && first >= LEAST_OF_HALF * slope && second >= LEAST_OF_HALF * slope ? slope : 0;
}
