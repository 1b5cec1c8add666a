/* plans.json as data: what the planner decides and what preparation and the network are built from.
 *
 * Axes are in the order after transpose_forward (D, H, W = axes 0, 1, 2); 2d configurations use D =
 * 1 for patch, kernel and stride, and their JSON lists have two elements. Plain structs: copy
 * freely. Thread: any. */
#ifndef VX_PLAN_PLANS_H
#define VX_PLAN_PLANS_H

#include "plan/dataset.h"
#include "plan/fingerprint.h"

#include <jansson.h>
#include <stdbool.h>

struct vx_err;

#define VX_MAX_STAGES  9
#define VX_MAX_CONFIGS 16

enum vx_norm {
    VX_NORM_ZSCORE,
    VX_NORM_CT,
    VX_NORM_NONE,
    VX_NORM_RESCALE_0_1,
    VX_NORM_RGB_0_1,
};
/* nnU-Net's class name, e.g. "CTNormalization". */
const char *vx_norm_name(enum vx_norm norm);

struct vx_plan_config {
    char name[32]; /* "3d_fullres", "2d", ... */
    char data_identifier[64];
    int dims; /* 2 or 3 */
    int batch_size;
    int patch_size[3];
    double median_shape[3]; /* of the resampled cases, voxels; may end in .5 */
    double spacing[3];      /* target, mm; 2d: axis 0 is not resampled and 0 here */
    int n_channels;
    enum vx_norm norm[VX_MAX_CHANNELS];
    bool use_mask_for_norm[VX_MAX_CHANNELS];
    int n_stages;
    int features[VX_MAX_STAGES];
    int kernels[VX_MAX_STAGES][3];
    int strides[VX_MAX_STAGES][3]; /* strides[0] is 1,1,1 */
    int convs_encoder[VX_MAX_STAGES];
    int convs_decoder[VX_MAX_STAGES - 1]; /* from the coarsest decoder step */
    bool batch_dice;
    int order_data, order_data_z, order_seg, order_seg_z, order_prob,
        order_prob_z; /* spline orders of resampling */
};

struct vx_plans {
    char dataset_name[128];
    char plans_name[64];          /* "nnUNetPlans" */
    char image_reader_writer[64]; /* "SimpleITKIO" for .nii.gz, "NibabelIO" for .nii */
    int transpose_forward[3], transpose_backward[3];
    double original_median_spacing[3]; /* after transpose_forward, mm */
    int original_median_shape[3];      /* after transpose_forward, voxels */
    int n_channels;
    struct vx_intensity intensity[VX_MAX_CHANNELS];
    int n_configs;
    struct vx_plan_config configs[VX_MAX_CONFIGS];
};

/* NULL where there is no such configuration. */
const struct vx_plan_config *vx_plans_config(const struct vx_plans *plans, const char *name);

/* Gives the plans another name, the data identifiers that begin with the old one included. */
void vx_plans_rename(struct vx_plans *plans, const char *name);

/* nnU-Net's plans.json; new reference, NULL when out of memory. */
json_t *vx_plans_to_json(const struct vx_plans *plans);
/* Reads plans written or edited by people, voxeld or nnU-Net, the network in today's form or in
 * that of nnU-Net's first v2 releases. Inheritance between configurations is resolved.
 * Configurations that ask for what voxeld does not have (another network, resampling function or
 * normalisation, a cascade) are left out; vx_plans_read_config says why. VX_E_INVALID names the
 * field, in any configuration, that contradicts another or is missing. */
int vx_plans_from_json(const json_t *json, struct vx_plans *ret, struct vx_err *err);
/* One configuration of plans.json, or why it cannot be used: VX_E_NOT_FOUND
 * "unknown_configuration" lists those that there are, VX_E_UNSUPPORTED "unsupported_plans" names
 * field and value, VX_E_INVALID "invalid_plans" the field. */
int vx_plans_read_config(const json_t *json, const char *name, struct vx_plan_config *ret,
                         struct vx_err *err);

/* Voxels per stage divide evenly: product of the strides per axis. */
void vx_plan_divisor(const struct vx_plan_config *config, int ret_divisor[3]);

/* A job's changes to a configuration; zero means unchanged. */
struct vx_plan_override {
    int batch_size;
    int patch_size[3]; /* all zero: unchanged; D, H, W (2d: D = 1) */
    int n_features;    /* 0: unchanged; otherwise the number of stages */
    int features[VX_MAX_STAGES];
};
/* Applies it: fewer stages keep the first kernels and strides; more stages than planned are
 * refused. VX_E_INVALID says what does not fit (err->where is a JSON pointer below /plan) and what
 * would. */
int vx_plan_apply(struct vx_plan_config *config, const struct vx_plan_override *change,
                  struct vx_err *err);

#endif
