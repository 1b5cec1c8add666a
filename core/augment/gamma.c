#include "augment/clones.h"
#include "augment/parts.h"
#include "augment/voxel.h"

#include <math.h>

/* x <- ((sign * x - min) / range)^exponent * range + min */
VX_CLONES
static void power(float *x, size_t n, float sign, float min, float range, float exponent) {
    float scale = range > 1e-7f ? range : 1e-7f;
    for (size_t i = 0; i < n; i++) {
        float unit = (sign * x[i] - min) / scale;
        x[i] = vx_unit_powf(unit, exponent) * range + min;
    }
}

VX_CLONES
static void restore(float *x, size_t n, float sign, float mean, float factor, float new_mean) {
    for (size_t i = 0; i < n; i++) {
        x[i] = sign * ((x[i] - mean) * factor + new_mean);
    }
}

void vx_aug_gamma(float *x, size_t n, float exponent, bool inverted) {
    struct vx_aug_stats before, after;
    float sign = inverted ? -1.0f : 1.0f;
    vx_aug_stats(x, n, &before);
    float min = inverted ? -before.max : before.min;
    power(x, n, sign, min, before.max - before.min, exponent);
    vx_aug_stats(x, n, &after);
    double deviation = sqrt(after.variance);
    double factor = sqrt(before.variance) / (deviation > 1e-7 ? deviation : 1e-7);
    restore(x, n, sign, (float)after.mean, (float)factor, sign * (float)before.mean);
}
