/* One sample's augmentation described in JSON: what tests/oracle/augment.py asks of oracle_augment,
 * and what the golden figures in tests/oracle/golden/augment.json hold.
 *
 * {dims, channels, patch, initial, dummy_2d, mask_channels, params}; params names only what
 * happens: angle [3] in radians, scale            noise (deviation), seed blur [C][3], lowres [C]
 * null for a channel that is left alone brightness, contrast, gamma_inverted, gamma [C] mirror bit
 * i: axis i */
#ifndef VX_TESTS_ORACLE_AUGMENT_TASK_H
#define VX_TESTS_ORACLE_AUGMENT_TASK_H

#include "augment/augment.h"
#include "base/err.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static inline float augment_number(const json_t *list, size_t i) {
    return (float)json_number_value(json_array_get(list, i));
}

static inline size_t augment_volume(const int32_t size[3]) {
    return (size_t)size[0] * (size_t)size[1] * (size_t)size[2];
}

/* Copies the numbers that are not null; returns the bits of their channels. */
static inline uint32_t augment_channels(const json_t *params, const char *key, float *to) {
    const json_t *list = json_object_get(params, key);
    uint32_t bits = 0;
    for (size_t c = 0; c < json_array_size(list); c++) {
        if (!json_is_null(json_array_get(list, c))) {
            to[c] = augment_number(list, c);
            bits |= 1u << c;
        }
    }
    return bits;
}

static inline void augment_params_read(const json_t *json, struct vx_aug_params *a) {
    const json_t *angle = json_object_get(json, "angle"), *scale = json_object_get(json, "scale");
    const json_t *noise = json_object_get(json, "noise"), *blur = json_object_get(json, "blur");
    vx_aug_identity(a);
    a->spatial = angle || scale;
    for (size_t i = 0; i < json_array_size(angle); i++) {
        a->angle[i] = augment_number(angle, i);
    }
    a->scale = scale ? (float)json_number_value(scale) : 1.0f;
    a->noise = noise != NULL;
    a->noise_sigma = (float)json_number_value(noise);
    a->seed = (uint64_t)json_integer_value(json_object_get(json, "seed"));
    for (size_t c = 0; c < json_array_size(blur); c++) {
        const json_t *sigma = json_array_get(blur, c);
        a->blur |= json_is_null(sigma) ? 0 : 1u << c;
        for (size_t i = 0; i < json_array_size(sigma); i++) {
            a->blur_sigma[c][i] = augment_number(sigma, i);
        }
    }
    a->brightness = augment_channels(json, "brightness", a->brightness_factor) != 0;
    a->contrast = augment_channels(json, "contrast", a->contrast_factor) != 0;
    a->lowres = augment_channels(json, "lowres", a->zoom);
    a->gamma_inverted = augment_channels(json, "gamma_inverted", a->gamma_inverted_exponent) != 0;
    a->gamma = augment_channels(json, "gamma", a->gamma_exponent) != 0;
    a->mirror = (uint32_t)json_integer_value(json_object_get(json, "mirror"));
}

/* False for a policy that cannot be. */
static inline bool augment_task_read(const json_t *json, struct vx_aug_policy *p,
                                     struct vx_aug_params *a) {
    const json_t *patch = json_object_get(json, "patch");
    const json_t *initial = json_object_get(json, "initial");
    int32_t size[3];
    for (size_t i = 0; i < 3; i++) {
        size[i] = (int32_t)json_integer_value(json_array_get(patch, i));
    }
    if (vx_aug_policy_none((uint32_t)json_integer_value(json_object_get(json, "dims")),
                           (uint32_t)json_integer_value(json_object_get(json, "channels")), size,
                           p) != VX_OK) {
        return false;
    }
    for (size_t i = 0; i < 3; i++) {
        p->initial[i] = (int32_t)json_integer_value(json_array_get(initial, i));
    }
    p->dummy_2d = json_is_true(json_object_get(json, "dummy_2d"));
    p->mask_channels = (uint32_t)json_integer_value(json_object_get(json, "mask_channels"));
    augment_params_read(json_object_get(json, "params"), a);
    return vx_aug_policy_valid(p);
}

/* What a loader reads: the box out of the initial patch, behind its margins. */
static inline void augment_cut_box(const struct vx_aug_policy *p, const struct vx_aug_box *b,
                                   const float *image, const int16_t *label, float *box_image,
                                   int16_t *box_label) {
    const int32_t *from = p->initial;
    size_t n = vx_aug_box_voxels(b), whole = augment_volume(from), row = (size_t)b->size[2];
    size_t dy = (size_t)(b->size[1] + 2 * b->margin[1]);
    size_t dx = (size_t)(b->size[2] + 2 * b->margin[2]);
    for (int32_t z = 0; z < b->size[0]; z++) {
        for (int32_t y = 0; y < b->size[1]; y++) {
            size_t at = ((size_t)(b->lo[0] + z) * (size_t)from[1] + (size_t)(b->lo[1] + y)) *
                            (size_t)from[2] +
                        (size_t)b->lo[2];
            size_t to = ((size_t)(b->margin[0] + z) * dy + (size_t)(b->margin[1] + y)) * dx +
                        (size_t)b->margin[2];
            for (uint32_t c = 0; c < p->channels; c++) {
                memcpy(box_image + c * n + to, image + c * whole + at, row * sizeof(float));
            }
            memcpy(box_label + to, label + at, row * sizeof(int16_t));
        }
    }
}

/* image [C][initial] and label [initial] to ret_image [C][patch] and ret_label [patch], as a worker
 * does it: only the box of the sample is looked at. False when out of memory. */
static inline bool augment_task_apply(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                                      const float *image, const int16_t *label, float *ret_image,
                                      int16_t *ret_label) {
    struct vx_aug_box box;
    vx_aug_source_box(p, a, &box);
    size_t n = vx_aug_box_voxels(&box);
    float *box_image = malloc(p->channels * n * sizeof(float));
    int16_t *box_label = malloc((n + 1) * sizeof(int16_t));
    void *scratch = aligned_alloc(64, vx_aug_scratch_bytes(p));
    bool ok = box_image && box_label && scratch;
    if (ok) {
        augment_cut_box(p, &box, image, label, box_image, box_label);
        vx_aug_box_clear_margins(&box, p->channels, box_image, box_label);
        vx_aug_apply(p, a, &box, box_image, box_label, ret_image, ret_label, scratch, NULL);
    }
    free(box_image);
    free(box_label);
    free(scratch);
    return ok;
}

#endif
