/* Brightness and contrast. */
#include "augment/clones.h"
#include "augment/parts.h"

VX_CLONES
void vx_aug_brightness(float *x, size_t n, float factor) {
    for (size_t i = 0; i < n; i++) {
        x[i] *= factor;
    }
}

VX_CLONES
static void stretch(float *x, size_t n, float mean, float factor, float lo, float hi) {
    for (size_t i = 0; i < n; i++) {
        float v = (x[i] - mean) * factor + mean;
        v = v < lo ? lo : v;
        x[i] = v > hi ? hi : v;
    }
}

void vx_aug_contrast(float *x, size_t n, float factor) {
    struct vx_aug_stats s;
    vx_aug_stats(x, n, &s);
    stretch(x, n, (float)s.mean, factor, s.min, s.max);
}
