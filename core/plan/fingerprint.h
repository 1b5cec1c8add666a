/* The fingerprint of a data set as data: what planning needs to know about the cases (nnU-Net v2,
 * dataset_fingerprint.json). core/prepare extracts it. Thread: any. */
#ifndef VX_PLAN_FINGERPRINT_H
#define VX_PLAN_FINGERPRINT_H

#include "plan/dataset.h"

#include <jansson.h>
#include <stddef.h>

struct vx_err;

/* Intensities of foreground voxels (label > 0 inside the nonzero crop), each case with equal
 * weight. */
struct vx_intensity {
    double mean, median, std, min, max, percentile_00_5, percentile_99_5;
};

struct vx_fingerprint {
    int n_cases;
    double (*spacings)[3]; /* owned; raw spacing z, y, x in mm */
    int (*shapes)[3];      /* owned; voxels z, y, x after the nonzero crop */
    double median_relative_size_after_cropping;
    int n_channels;
    struct vx_intensity intensity[VX_MAX_CHANNELS];
};

/* Allocates the per-case arrays (zero). */
int vx_fingerprint_init(struct vx_fingerprint *fp, int n_cases, int n_channels, struct vx_err *err);
void vx_fingerprint_release(struct vx_fingerprint *fp);
/* nnU-Net's schema; new reference, NULL when out of memory. */
json_t *vx_fingerprint_to_json(const struct vx_fingerprint *fp);
int vx_fingerprint_from_json(const json_t *json, struct vx_fingerprint *ret, struct vx_err *err);
/* The part "foreground_intensity_properties_per_channel", which plans.json repeats. */
json_t *vx_intensity_to_json(const struct vx_intensity *list, int n);
int vx_intensity_from_json(const json_t *json, struct vx_intensity *list, int *ret_n,
                           struct vx_err *err);

#endif
