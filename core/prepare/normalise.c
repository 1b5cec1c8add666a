#include "prepare/normalise.h"

#include "base/err.h"
#include "plan/plans.h"

#include <math.h>

#define EPSILON 1e-8f

/* Of all voxels, or of those with seg >= 0 where seg is not NULL. Returns how many. */
static size_t moments(const float *x, const int16_t *seg, size_t n, float *ret_mean,
                      float *ret_std) {
    double sum = 0, squares = 0;
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        if (!seg || seg[i] >= 0) {
            sum += x[i];
            used++;
        }
    }
    double mean = used ? sum / (double)used : 0;
    for (size_t i = 0; i < n; i++) {
        if (!seg || seg[i] >= 0) {
            squares += (x[i] - mean) * (x[i] - mean);
        }
    }
    *ret_mean = (float)mean;
    *ret_std = (float)sqrt(used ? squares / (double)used : 0);
    return used;
}

static void range(const float *x, size_t n, float *ret_lo, float *ret_hi) {
    float lo = INFINITY, hi = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    *ret_lo = lo;
    *ret_hi = hi;
}

static void zscore(const int16_t *seg, float *x, size_t n) {
    float mean, std;
    moments(x, seg, n, &mean, &std);
    float divisor = fmaxf(std, EPSILON);
    for (size_t i = 0; i < n; i++) {
        if (!seg || seg[i] >= 0) {
            x[i] = (x[i] - mean) / divisor;
        }
    }
}

static void ct(const struct vx_intensity *p, float *x, size_t n) {
    float lo = (float)p->percentile_00_5, hi = (float)p->percentile_99_5, mean = (float)p->mean;
    float divisor = (float)fmax(p->std, 1e-8);
    for (size_t i = 0; i < n; i++) {
        float v = x[i] < lo ? lo : x[i];
        v = v > hi ? hi : v;
        x[i] = (v - mean) / divisor;
    }
}

int vx_normalise(int norm, bool use_mask, const struct vx_intensity *intensity, const int16_t *seg,
                 float *data, size_t n, struct vx_err *err) {
    float lo, hi;
    switch ((enum vx_norm)norm) {
    case VX_NORM_ZSCORE:
        zscore(use_mask ? seg : NULL, data, n);
        return VX_OK;
    case VX_NORM_CT:
        ct(intensity, data, n);
        return VX_OK;
    case VX_NORM_NONE:
        return VX_OK;
    case VX_NORM_RESCALE_0_1:
        range(data, n, &lo, &hi);
        for (size_t i = 0; i < n; i++) {
            data[i] = (data[i] - lo) / fmaxf(hi - lo, EPSILON);
        }
        return VX_OK;
    case VX_NORM_RGB_0_1:
        range(data, n, &lo, &hi);
        if (lo < 0 || hi > 255) {
            return vx_fail(err, VX_E_INVALID, "rgb_range",
                           "a channel named rgb_to_0_1 must hold values from 0 to 255, not %g to "
                           "%g; rename the channel in dataset.json",
                           (double)lo, (double)hi);
        }
        for (size_t i = 0; i < n; i++) {
            data[i] /= 255.0f;
        }
        return VX_OK;
    }
    return vx_fail(err, VX_E_INVALID, "bad_plan", "normalisation %d is unknown", norm);
}
