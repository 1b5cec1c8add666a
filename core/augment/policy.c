#include "augment/policy.h"

#include "base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RADIANS(degrees) ((degrees)*3.14159265358979323846 / 180.0)

const char *vx_transform_name(uint32_t transform) {
    static const char *const names[VX_T_COUNT] = {
        "spatial", "noise",          "blur",  "brightness", "contrast",
        "lowres",  "gamma_inverted", "gamma", "mirror",     "labels"};
    return transform < VX_T_COUNT ? names[transform] : "?";
}

static double max_of(double a, double b) {
    return a > b ? a : b;
}

/* One turn of the patch in the plane of axes a and b: both extents grow to what the turned patch
 * covers. */
static void grow(double f[3], const int32_t patch[3], int a, int b, double angle) {
    double c = cos(angle), s = sin(angle);
    f[a] = max_of(f[a], fabs(patch[a] * c + patch[b] * s));
    f[b] = max_of(f[b], fabs(patch[b] * c - patch[a] * s));
    /* the opposite turn would pair the extents the other way round; nnU-Net looks at one only */
}

/* The patch to sample from, so that rotated and enlarged samples are still covered (nnU-Net's
 * get_patch_size). */
static void initial_patch(const int32_t patch[3], bool planar, double limit, int32_t ret[3]) {
    double angle = limit < RADIANS(90) ? limit : RADIANS(90);
    double f[3] = {patch[0], patch[1], patch[2]};
    grow(f, patch, 1, 2, angle);
    if (!planar) {
        /* around axis 1 the row vector (z, x) turns the other way */
        grow(f, patch, 2, 0, angle);
        grow(f, patch, 0, 1, angle);
    }
    for (int i = 0; i < 3; i++) {
        ret[i] = planar && i == 0 ? patch[0] : (int32_t)(f[i] / 0.85);
    }
}

static int check_sizes(uint32_t dims, uint32_t channels, const int32_t patch[3]) {
    if ((dims != 2 && dims != 3) || channels < 1 || channels > VX_AUG_MAX_CHANNELS ||
        (dims == 2 && patch[0] != 1)) {
        return VX_E_INVALID;
    }
    int64_t voxels = 1;
    for (int i = 0; i < 3; i++) {
        if (patch[i] < 1 || patch[i] > 4096) {
            return VX_E_INVALID;
        }
        voxels *= patch[i];
    }
    return voxels <= 1 << 28 ? VX_OK : VX_E_INVALID;
}

int vx_aug_policy_none(uint32_t dims, uint32_t channels, const int32_t patch[3],
                       struct vx_aug_policy *ret) {
    int rc = check_sizes(dims, channels, patch);
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_aug_policy p = {.version = VX_AUG_VERSION,
                              .dims = dims,
                              .channels = channels,
                              .scale_lo = 1,
                              .scale_hi = 1,
                              .brightness_lo = 1,
                              .brightness_hi = 1,
                              .contrast_lo = 1,
                              .contrast_hi = 1,
                              .blur_sigma_lo = 0.5f,
                              .blur_sigma_hi = 1,
                              .zoom_lo = 1,
                              .zoom_hi = 1,
                              .gamma_lo = 1,
                              .gamma_hi = 1};
    memcpy(p.patch, patch, sizeof p.patch);
    memcpy(p.initial, patch, sizeof p.initial);
    *ret = p;
    return VX_OK;
}

int vx_aug_policy_default(uint32_t dims, uint32_t channels, const int32_t patch[3],
                          struct vx_aug_policy *ret) {
    struct vx_aug_policy p;
    int rc = vx_aug_policy_none(dims, channels, patch, &p);
    if (rc != VX_OK) {
        return rc;
    }
    int32_t largest = 0, smallest = INT32_MAX;
    for (int i = dims == 2 ? 1 : 0; i < 3; i++) {
        largest = patch[i] > largest ? patch[i] : largest;
        smallest = patch[i] < smallest ? patch[i] : smallest;
    }
    p.dummy_2d = dims == 3 && largest > 3 * patch[0];
    double limit = RADIANS(30);
    if (dims == 2) {
        limit = 2 * largest > 3 * smallest ? RADIANS(15) : RADIANS(180);
    } else if (p.dummy_2d) {
        limit = RADIANS(180);
    }
    p.rotation_limit = (float)limit;
    p.mirror_axes = dims == 2 ? 6u : 7u;
    initial_patch(patch, dims == 2 || p.dummy_2d, limit, p.initial);
    p.p_rotation = p.p_scaling = 0.2f;
    p.scale_lo = 0.7f, p.scale_hi = 1.4f;
    p.p_noise = 0.1f, p.noise_sigma_hi = 0.1f;
    p.p_blur = 0.2f, p.p_blur_channel = 0.5f;
    p.blur_sigma_lo = 0.5f, p.blur_sigma_hi = 1.0f;
    p.p_brightness = 0.15f, p.brightness_lo = 0.75f, p.brightness_hi = 1.25f;
    p.p_contrast = 0.15f, p.contrast_lo = 0.75f, p.contrast_hi = 1.25f;
    p.p_lowres = 0.25f, p.p_lowres_channel = 0.5f;
    p.zoom_lo = 0.5f, p.zoom_hi = 1.0f;
    p.p_gamma_inverted = 0.1f, p.p_gamma = 0.3f;
    p.gamma_lo = 0.7f, p.gamma_hi = 1.5f;
    p.p_mirror = 0.5f;
    *ret = p;
    return VX_OK;
}

static bool in_range(float x, float lo, float hi) {
    return x >= lo && x <= hi; /* false for NaN */
}

bool vx_aug_policy_valid(const struct vx_aug_policy *p) {
    if (p->version != VX_AUG_VERSION || check_sizes(p->dims, p->channels, p->patch) != VX_OK ||
        check_sizes(p->dims, p->channels, p->initial) != VX_OK) {
        return false;
    }
    bool planar = p->dims == 2 || p->dummy_2d;
    for (int i = 0; i < 3; i++) {
        if (p->initial[i] < p->patch[i]) {
            return false;
        }
    }
    const float chances[] = {p->p_rotation,       p->p_scaling,        p->p_noise,    p->p_blur,
                             p->p_blur_channel,   p->p_brightness,     p->p_contrast, p->p_lowres,
                             p->p_lowres_channel, p->p_gamma_inverted, p->p_gamma,    p->p_mirror};
    for (size_t i = 0; i < sizeof chances / sizeof *chances; i++) {
        if (!in_range(chances[i], 0, 1)) {
            return false;
        }
    }
    const float ranges[][4] = {/* low, high, least, most */
                               {p->scale_lo, p->scale_hi, 0.1f, 10},
                               {p->blur_sigma_lo, p->blur_sigma_hi, 0.01f, 3},
                               {p->brightness_lo, p->brightness_hi, 0, 10},
                               {p->contrast_lo, p->contrast_hi, 0, 10},
                               {p->zoom_lo, p->zoom_hi, 0.05f, 1},
                               {p->gamma_lo, p->gamma_hi, 0.05f, 4},
                               {0, p->noise_sigma_hi, 0, 100},
                               {0, p->rotation_limit, 0, 6.3f}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        const float *r = ranges[i];
        if (!in_range(r[0], r[2], r[1]) || !in_range(r[1], r[0], r[3])) {
            return false;
        }
    }
    return !(planar && p->initial[0] != p->patch[0]) &&
           (p->mirror_axes & ~(p->dims == 2 ? 6u : 7u)) == 0;
}
