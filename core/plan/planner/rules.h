/* The planner's single rules, private to this room. Arrays have `dims` elements (2 or 3), axes
 * after transpose_forward. Source: nnU-Net v2, ExperimentPlanner and its network topology helper.
 * Thread: any; pure. */
#ifndef VX_PLAN_RULES_H
#define VX_PLAN_RULES_H

#include "plan/plans.h"

/* numpy.median and numpy.percentile (linear interpolation between order statistics); values is
 * sorted in place. */
double vx_rule_percentile(double *values, int n, double percent);

/* Per-axis target spacing of the full resolution (raw axis order z, y, x). */
int vx_rule_target_spacing(const struct vx_fingerprint *fp, double ret_spacing[3],
                           struct vx_err *err);
/* transpose_forward = [axis of the largest spacing, the others ascending]. */
void vx_rule_transpose(const double spacing[3], int ret_forward[3], int ret_backward[3]);
/* Per-axis median of the shapes after resampling to spacing (raw axis order). */
int vx_rule_median_shape(const struct vx_fingerprint *fp, const double spacing[3],
                         double ret_shape[3], struct vx_err *err);

/* Medians over the cases as they are, in transposed order; the shape rounded. */
int vx_rule_original_medians(const struct vx_fingerprint *fp, const int forward[3],
                             double ret_spacing[3], int ret_shape[3], struct vx_err *err);

struct vx_topology {
    int dims, n_stages;
    int kernels[VX_MAX_STAGES + 1][3];
    int strides[VX_MAX_STAGES + 1][3];
    int divisor[3];
    int patch[3]; /* padded up to the divisor */
};
/* Pooling and kernels for a patch (may be fractional) at a spacing. False where more than
 * VX_MAX_STAGES are needed. */
bool vx_rule_topology(int dims, const double *spacing, const double *patch,
                      struct vx_topology *ret);

/* Number of convolution output elements for one sample, deep supervision off. */
double vx_rule_feature_map_elements(const struct vx_topology *t, const int *features, int classes);
/* Features per stage: 32 * 2^i, at most 320 in 3D and 512 in 2D. */
void vx_rule_features(int dims, int n_stages, int *ret);

struct vx_rule_budget {
    double reference;      /* feature map elements that fit the GPU target */
    int reference_batch;   /* 2 in 3D, 12 in 2D */
    double dataset_voxels; /* after resampling, over all training cases */
    int classes;
};
/* Initial patch, reduced until the network fits the budget, and the batch size. */
int vx_rule_patch_and_batch(int dims, const double *spacing, const double *median_shape,
                            const struct vx_rule_budget *budget, struct vx_topology *ret_topology,
                            int *ret_batch, struct vx_err *err);

#endif
