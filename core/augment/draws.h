/* All random choices of one sample's augmentation, drawn at once.
 *
 * Each is a pure function of (seed, stream, k, j, purpose): Philox with key = seed and counter =
 * (stream and purpose, k, j, index). A purpose number belongs to one use for ever; the sampler's
 * are listed here too, so that none is used twice. Distributions: nnU-Net v2's training
 * augmentation. Thread: any. */
#ifndef VX_AUGMENT_DRAWS_H
#define VX_AUGMENT_DRAWS_H

#include "augment/policy.h"

#include <stdbool.h>
#include <stdint.h>

enum vx_purpose {
    VX_PURPOSE_CASE = 1, /* core/loader/sampler */
    VX_PURPOSE_POSITION = 2,
    VX_PURPOSE_WINDOW = 3,   /* core/loader/window */
    VX_PURPOSE_SPATIAL = 16, /* one per transform from here on */
    VX_PURPOSE_NOISE = 17,   /* parameters; the voxels' values are VX_PURPOSE_NOISE_VOXELS */
    VX_PURPOSE_BLUR = 18,
    VX_PURPOSE_BRIGHTNESS = 19,
    VX_PURPOSE_CONTRAST = 20,
    VX_PURPOSE_LOWRES = 21,
    VX_PURPOSE_GAMMA_INVERTED = 22,
    VX_PURPOSE_GAMMA = 23,
    VX_PURPOSE_MIRROR = 24,
    VX_PURPOSE_NOISE_VOXELS = 32
};

struct vx_aug_params {
    uint64_t seed; /* the sample's key, for the noise of its voxels */
    uint32_t stream, k, j;
    bool spatial;   /* rotation or scaling happens */
    float angle[3]; /* radians around axis 0, 1, 2; 0 where not drawn */
    float scale;    /* 1 where not drawn; > 1 shows more of the volume */
    bool noise;
    float noise_sigma;                        /* standard deviation, shared by the channels */
    uint32_t blur;                            /* bit c: channel c is blurred */
    float blur_sigma[VX_AUG_MAX_CHANNELS][3]; /* per axis, voxels */
    bool brightness;
    float brightness_factor[VX_AUG_MAX_CHANNELS];
    bool contrast;
    float contrast_factor[VX_AUG_MAX_CHANNELS];
    uint32_t lowres; /* bit c */
    float zoom[VX_AUG_MAX_CHANNELS];
    bool gamma_inverted;
    float gamma_inverted_exponent[VX_AUG_MAX_CHANNELS];
    bool gamma;
    float gamma_exponent[VX_AUG_MAX_CHANNELS];
    uint32_t mirror; /* bit i: axis i */
};

/* Draws for a training sample. k counts batches over the whole job (its low 32 bits enter the
 * counter). */
void vx_aug_draw(const struct vx_aug_policy *p, uint64_t seed, uint32_t stream, uint64_t k,
                 uint32_t j, struct vx_aug_params *ret);
/* Nothing happens but the final labels (validation samples). */
void vx_aug_identity(struct vx_aug_params *ret);

#endif
