#include "augment/clones.h"
#include "augment/parts.h"

VX_CLONES
static void mask_channel(float *restrict x, const int16_t *restrict label, size_t n) {
    for (size_t i = 0; i < n; i++) {
        x[i] = label[i] < 0 ? 0.0f : x[i];
    }
}

VX_CLONES
static void outside_to_background(int16_t *label, size_t n) {
    for (size_t i = 0; i < n; i++) {
        label[i] = label[i] < 0 ? 0 : label[i];
    }
}

void vx_aug_labels(float *image, int16_t *label, size_t n, uint32_t channels, uint32_t mask) {
    for (uint32_t c = 0; c < channels; c++) {
        if (mask >> c & 1u) {
            mask_channel(image + c * n, label, n);
        }
    }
    outside_to_background(label, n);
}
