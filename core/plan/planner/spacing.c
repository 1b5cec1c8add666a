/* Target spacing, transpose and median shape. */
#include "plan/planner/rules.h"

#include "base/err.h"
#include "base/own.h"

#include <math.h>
#include <stdlib.h>

#define ANISOTROPY 3.0

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double vx_rule_percentile(double *values, int n, double percent) {
    qsort(values, (size_t)n, sizeof *values, by_value);
    double at = percent / 100.0 * (n - 1);
    int low = (int)floor(at);
    int high = low + 1 < n ? low + 1 : low;
    double t = at - low;
    /* numpy's lerp, so that the last bit agrees: from whichever end is nearer */
    double diff = values[high] - values[low];
    return t >= 0.5 ? values[high] - diff * (1 - t) : values[low] + diff * t;
}

int vx_rule_target_spacing(const struct vx_fingerprint *fp, double ret_spacing[3],
                           struct vx_err *err) {
    vx_auto_free double *column = malloc((size_t)fp->n_cases * sizeof *column);
    if (!column) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    double target[3], shape[3];
    for (int a = 0; a < 3; a++) {
        for (int i = 0; i < fp->n_cases; i++) {
            column[i] = fp->spacings[i][a];
        }
        target[a] = vx_rule_percentile(column, fp->n_cases, 50);
        for (int i = 0; i < fp->n_cases; i++) {
            column[i] = fp->shapes[i][a];
        }
        shape[a] = vx_rule_percentile(column, fp->n_cases, 50);
    }
    int worst = 0;
    for (int a = 1; a < 3; a++) {
        worst = target[a] > target[worst] ? a : worst;
    }
    double *others[2] = {&target[worst == 0 ? 1 : 0], &target[worst == 2 ? 1 : 2]};
    double largest = fmax(*others[0], *others[1]);
    double smallest_shape = fmin(shape[worst == 0 ? 1 : 0], shape[worst == 2 ? 1 : 2]);
    if (target[worst] > ANISOTROPY * largest && ANISOTROPY * shape[worst] < smallest_shape) {
        for (int i = 0; i < fp->n_cases; i++) {
            column[i] = fp->spacings[i][worst];
        }
        double tenth = vx_rule_percentile(column, fp->n_cases, 10);
        target[worst] = tenth < largest ? largest + 1e-5 : tenth;
    }
    for (int a = 0; a < 3; a++) {
        ret_spacing[a] = target[a];
    }
    return VX_OK;
}

void vx_rule_transpose(const double spacing[3], int ret_forward[3], int ret_backward[3]) {
    int worst = 0;
    for (int a = 1; a < 3; a++) {
        worst = spacing[a] > spacing[worst] ? a : worst;
    }
    int n = 0;
    ret_forward[n++] = worst;
    for (int a = 0; a < 3; a++) {
        if (a != worst) {
            ret_forward[n++] = a;
        }
    }
    for (int a = 0; a < 3; a++) {
        ret_backward[ret_forward[a]] = a;
    }
}

int vx_rule_median_shape(const struct vx_fingerprint *fp, const double spacing[3],
                         double ret_shape[3], struct vx_err *err) {
    vx_auto_free double *column = malloc((size_t)fp->n_cases * sizeof *column);
    if (!column) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (int a = 0; a < 3; a++) {
        for (int i = 0; i < fp->n_cases; i++) {
            /* divide first, then multiply; half to even like Python's round */
            column[i] = rint(fp->spacings[i][a] / spacing[a] * fp->shapes[i][a]);
        }
        ret_shape[a] = vx_rule_percentile(column, fp->n_cases, 50);
    }
    return VX_OK;
}

int vx_rule_original_medians(const struct vx_fingerprint *fp, const int forward[3],
                             double ret_spacing[3], int ret_shape[3], struct vx_err *err) {
    vx_auto_free double *column = malloc((size_t)fp->n_cases * sizeof *column);
    if (!column) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (int a = 0; a < 3; a++) {
        for (int i = 0; i < fp->n_cases; i++) {
            column[i] = fp->spacings[i][forward[a]];
        }
        ret_spacing[a] = vx_rule_percentile(column, fp->n_cases, 50);
        for (int i = 0; i < fp->n_cases; i++) {
            column[i] = fp->shapes[i][forward[a]];
        }
        ret_shape[a] = (int)rint(vx_rule_percentile(column, fp->n_cases, 50));
    }
    return VX_OK;
}
