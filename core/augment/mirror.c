#include "augment/clones.h"
#include "augment/parts.h"

#include <string.h>

/* Rows stay whole unless x is mirrored; y and z only move rows. The two types share one body. */
#define MIRROR(name, type)                                                                         \
    VX_CLONES static void name##_reverse(type *x, size_t n) {                                      \
        for (size_t i = 0; i < n / 2; i++) {                                                       \
            type t = x[i];                                                                         \
            x[i] = x[n - 1 - i];                                                                   \
            x[n - 1 - i] = t;                                                                      \
        }                                                                                          \
    }                                                                                              \
    VX_CLONES static void name##_swap(type *restrict a, type *restrict b, size_t n) {              \
        for (size_t i = 0; i < n; i++) {                                                           \
            type t = a[i];                                                                         \
            a[i] = b[i];                                                                           \
            b[i] = t;                                                                              \
        }                                                                                          \
    }                                                                                              \
    void name(type *x, const int32_t size[3], uint32_t axes) {                                     \
        size_t d = (size_t)size[0], h = (size_t)size[1], w = (size_t)size[2];                      \
        if (axes & 1u) {                                                                           \
            for (size_t z = 0; z < d / 2; z++) {                                                   \
                name##_swap(x + z * h * w, x + (d - 1 - z) * h * w, h * w);                        \
            }                                                                                      \
        }                                                                                          \
        for (size_t z = 0; z < d; z++) {                                                           \
            type *plane = x + z * h * w;                                                           \
            for (size_t y = 0; axes & 2u && y < h / 2; y++) {                                      \
                name##_swap(plane + y * w, plane + (h - 1 - y) * w, w);                            \
            }                                                                                      \
            for (size_t y = 0; axes & 4u && y < h; y++) {                                          \
                name##_reverse(plane + y * w, w);                                                  \
            }                                                                                      \
        }                                                                                          \
    }

MIRROR(vx_aug_mirror_image, float)
MIRROR(vx_aug_mirror_label, int16_t)
