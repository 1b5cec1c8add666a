/* Which transforms a sample may get, with which probabilities and ranges: the augmentation part of
 * a recipe.
 *
 * The default is nnU-Net v2's training augmentation (trainer nnUNetTrainer): same transforms,
 * order, probabilities and ranges. Axis order is that of the arrays: 0 = D (z), 1 = H, 2 = W; a 2d
 * configuration has D = 1 everywhere. Plain data, no pointers: it can be copied, hashed and sent to
 * a device. Thread: any. */
#ifndef VX_AUGMENT_POLICY_H
#define VX_AUGMENT_POLICY_H

#include <stdbool.h>
#include <stdint.h>

/* Of formulas, draw order and purposes; any change that moves a byte raises it.
 * 3: low resolution picks voxels by PyTorch's float arithmetic.
 * 4: mirroring comes first, so noise is numbered and sums are taken in the mirrored sample; sums go
 *    block by block; polynomials and interpolation round once per a * b + c. */
#define VX_AUG_VERSION      4
#define VX_AUG_MAX_CHANNELS 32

/* In the order of application. The numbers index times per transform. */
enum vx_transform {
    VX_T_SPATIAL = 0, /* rotation and scaling; also the plain copy when neither is drawn */
    VX_T_NOISE,
    VX_T_BLUR,
    VX_T_BRIGHTNESS,
    VX_T_CONTRAST,
    VX_T_LOWRES,
    VX_T_GAMMA_INVERTED,
    VX_T_GAMMA,
    VX_T_MIRROR, /* along axis 2 where nothing is interpolated; all else of it costs nothing */
    VX_T_LABELS, /* masking of channels, -1 -> 0, mirroring of labels along axis 2 */
    VX_T_COUNT
};

/* "spatial", "noise", ... ; "?" for numbers out of range. */
const char *vx_transform_name(uint32_t transform);

struct vx_aug_policy {
    uint32_t version;       /* VX_AUG_VERSION */
    uint32_t dims;          /* 2 or 3 */
    uint32_t channels;      /* 1 .. VX_AUG_MAX_CHANNELS */
    int32_t patch[3];       /* final patch F */
    int32_t initial[3];     /* initial patch S, which the spatial transform samples from */
    uint32_t dummy_2d;      /* 3d only: axis 0 is treated as if each slice were a 2d image */
    uint32_t mirror_axes;   /* bit i: axis i may be mirrored */
    uint32_t mask_channels; /* bit c: channel c is 0 where the label is -1 (use_mask_for_norm) */
    float rotation_limit;   /* radians; angles are uniform in +- limit */
    float p_rotation, p_scaling, scale_lo, scale_hi;
    float p_noise, noise_sigma_hi;
    float p_blur, p_blur_channel, blur_sigma_lo, blur_sigma_hi;
    float p_brightness, brightness_lo, brightness_hi;
    float p_contrast, contrast_lo, contrast_hi;
    float p_lowres, p_lowres_channel, zoom_lo, zoom_hi;
    float p_gamma_inverted, p_gamma, gamma_lo, gamma_hi;
    float p_mirror; /* per allowed axis */
};

/* nnU-Net's defaults for a final patch (patch[0] = 1 when dims = 2): rotation limits, dummy 2d,
 * mirror axes and initial patch by its rules. mask_channels starts at 0. VX_E_INVALID for
 * impossible sizes or channel counts. */
int vx_aug_policy_default(uint32_t dims, uint32_t channels, const int32_t patch[3],
                          struct vx_aug_policy *ret);
/* No augmentation: initial = final patch, all probabilities 0. */
int vx_aug_policy_none(uint32_t dims, uint32_t channels, const int32_t patch[3],
                       struct vx_aug_policy *ret);
/* Sizes and ranges are sane (a policy that came from outside). */
bool vx_aug_policy_valid(const struct vx_aug_policy *p);

#endif
