#include "plan/planner.h"

#include "plan/planner/rules.h"

#include "base/err.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define REFERENCE_3D     560000000.0 /* feature map elements that fit 8 GB at BATCH_3D */
#define REFERENCE_2D     85000000.0  /* and at BATCH_2D */
#define REFERENCE_GB     8.0
#define BATCH_3D         2
#define BATCH_2D         12
#define LOWRES_THRESHOLD 0.25 /* of the median case's voxels in one patch */
#define LOWRES_GROWTH    1.03

/* What every configuration of one data set shares. */
struct planning {
    const struct vx_dataset_desc *dataset;
    const struct vx_fingerprint *fp;
    double memory_gb;
    double spacing[3];      /* full resolution, transposed */
    double median_shape[3]; /* at that resolution, transposed */
};

static enum vx_norm norm_of_channel(const char *name) {
    static const struct {
        const char *name;
        enum vx_norm norm;
    } table[] = {{"ct", VX_NORM_CT},
                 {"nonorm", VX_NORM_NONE},
                 {"zscore", VX_NORM_ZSCORE},
                 {"rescale_to_0_1", VX_NORM_RESCALE_0_1},
                 {"rgb_to_0_1", VX_NORM_RGB_0_1}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strcasecmp(name, table[i].name) == 0) {
            return table[i].norm;
        }
    }
    return VX_NORM_ZSCORE;
}

static void fill_normalisation(const struct planning *p, struct vx_plan_config *c) {
    bool masked = p->fp->median_relative_size_after_cropping < 0.75;
    c->n_channels = p->dataset->n_channels;
    for (int i = 0; i < c->n_channels; i++) {
        c->norm[i] = norm_of_channel(p->dataset->channel_names[i]);
        c->use_mask_for_norm[i] = masked && c->norm[i] == VX_NORM_ZSCORE;
    }
}

/* spacing, median_shape: `dims` elements. */
static int plan_configuration(const struct planning *p, const char *name, int dims,
                              const double *spacing, const double *median_shape,
                              double dataset_voxels, struct vx_plan_config *ret,
                              struct vx_err *err) {
    struct vx_rule_budget budget = {.reference = (dims == 2 ? REFERENCE_2D : REFERENCE_3D) *
                                                 p->memory_gb / REFERENCE_GB,
                                    .reference_batch = dims == 2 ? BATCH_2D : BATCH_3D,
                                    .dataset_voxels = dataset_voxels,
                                    .classes = p->dataset->n_declared};
    struct vx_plan_config c = {.dims = dims, .order_data = 3, .order_seg = 1, .order_prob = 1};
    struct vx_topology t;
    int rc = vx_rule_patch_and_batch(dims, spacing, median_shape, &budget, &t, &c.batch_size, err);
    if (rc != VX_OK) {
        return rc;
    }
    snprintf(c.name, sizeof c.name, "%s", name);
    snprintf(c.data_identifier, sizeof c.data_identifier, "nnUNetPlans_%s", name);
    int skip = 3 - dims; /* 2d leaves axis 0 alone */
    for (int a = 0; a < 3; a++) {
        c.patch_size[a] = a < skip ? 1 : t.patch[a - skip];
        c.spacing[a] = a < skip ? 0 : spacing[a - skip];
        c.median_shape[a] = a < skip ? 1 : median_shape[a - skip];
        for (int s = 0; s < t.n_stages; s++) {
            c.kernels[s][a] = a < skip ? 1 : t.kernels[s][a - skip];
            c.strides[s][a] = a < skip ? 1 : t.strides[s][a - skip];
        }
    }
    c.n_stages = t.n_stages;
    vx_rule_features(dims, t.n_stages, c.features);
    for (int s = 0; s < t.n_stages; s++) {
        c.convs_encoder[s] = 2;
        if (s < t.n_stages - 1) {
            c.convs_decoder[s] = 2;
        }
    }
    fill_normalisation(p, &c);
    *ret = c;
    return VX_OK;
}

static double product3(const double *v) {
    return v[0] * v[1] * v[2];
}

/* Grows the spacing until a patch sees a quarter of the median case. *ret_kept: worth having beside
 * full resolution. */
static int plan_lowres(const struct planning *p, const struct vx_plan_config *full,
                       struct vx_plan_config *ret, bool *ret_kept, struct vx_err *err) {
    double spacing[3], median = product3(p->median_shape);
    double patch = (double)full->patch_size[0] * full->patch_size[1] * full->patch_size[2];
    memcpy(spacing, p->spacing, sizeof spacing);
    *ret_kept = false;
    bool planned = false;
    while (patch / median < LOWRES_THRESHOLD) {
        double most = fmax(spacing[0], fmax(spacing[1], spacing[2]));
        bool uneven = most / spacing[0] > 2 || most / spacing[1] > 2 || most / spacing[2] > 2;
        double shape[3];
        for (int a = 0; a < 3; a++) {
            if (!uneven || most / spacing[a] > 2) {
                spacing[a] *= LOWRES_GROWTH;
            }
        }
        median = 1;
        for (int a = 0; a < 3; a++) {
            double size = p->spacing[a] / spacing[a] * p->median_shape[a];
            median *= size;
            shape[a] = rint(size);
        }
        int rc = plan_configuration(p, "3d_lowres", 3, spacing, shape,
                                    median * p->dataset->num_training, ret, err);
        if (rc != VX_OK) {
            return rc;
        }
        planned = true;
        patch = (double)ret->patch_size[0] * ret->patch_size[1] * ret->patch_size[2];
    }
    *ret_kept = planned && product3(p->median_shape) / median >= 2;
    return VX_OK;
}

int vx_plan_experiment(const struct vx_dataset_desc *dataset, const struct vx_fingerprint *fp,
                       const struct vx_planner_options *options, struct vx_plans *ret,
                       struct vx_err *err) {
    if (fp->n_channels != dataset->n_channels) {
        return vx_fail(err, VX_E_INVALID, "channel_mismatch",
                       "the fingerprint has %d channels, dataset.json %d", fp->n_channels,
                       dataset->n_channels);
    }
    double target[3], shape[3];
    int rc = vx_rule_target_spacing(fp, target, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (options && options->spacing[0] > 0) {
        memcpy(target, options->spacing, sizeof target);
    }
    rc = vx_rule_median_shape(fp, target, shape, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_plans plans = {.n_channels = fp->n_channels};
    struct planning p = {.dataset = dataset,
                         .fp = fp,
                         .memory_gb = options && options->gpu_memory_gb > 0 ? options->gpu_memory_gb
                                                                            : REFERENCE_GB};
    snprintf(plans.dataset_name, sizeof plans.dataset_name, "%s", dataset->name);
    snprintf(plans.plans_name, sizeof plans.plans_name, "nnUNetPlans");
    snprintf(plans.image_reader_writer, sizeof plans.image_reader_writer, "%s",
             strcmp(dataset->file_ending, ".nii") == 0 ? "NibabelIO" : "SimpleITKIO");
    memcpy(plans.intensity, fp->intensity, sizeof plans.intensity);
    vx_rule_transpose(target, plans.transpose_forward, plans.transpose_backward);
    for (int a = 0; a < 3; a++) {
        p.spacing[a] = target[plans.transpose_forward[a]];
        p.median_shape[a] = shape[plans.transpose_forward[a]];
    }
    rc = vx_rule_original_medians(fp, plans.transpose_forward, plans.original_median_spacing,
                                  plans.original_median_shape, err);
    if (rc != VX_OK) {
        return rc;
    }
    double voxels = product3(p.median_shape) * dataset->num_training;
    struct vx_plan_config full, low;
    bool volumes = p.median_shape[0] != 1, lowres = false;
    if (volumes) {
        rc = plan_configuration(&p, "3d_fullres", 3, p.spacing, p.median_shape, voxels, &full, err);
        if (rc == VX_OK) {
            rc = plan_lowres(&p, &full, &low, &lowres, err);
        }
        full.batch_dice = lowres; /* a cascade's second stage learns over the batch */
    }
    struct vx_plan_config *flat = &plans.configs[plans.n_configs++];
    if (rc == VX_OK) {
        rc = plan_configuration(&p, "2d", 2, p.spacing + 1, p.median_shape + 1, voxels, flat, err);
        flat->batch_dice = true;
    }
    if (rc != VX_OK) {
        return rc;
    }
    if (lowres) {
        plans.configs[plans.n_configs++] = low;
    }
    if (volumes) {
        plans.configs[plans.n_configs++] = full;
    }
    *ret = plans;
    return VX_OK;
}

double vx_plan_sample_bytes(const struct vx_plan_config *config, int classes) {
    struct vx_topology t = {.dims = 3, .n_stages = config->n_stages}; /* 2d: D = 1 throughout */
    memcpy(t.patch, config->patch_size, sizeof t.patch);
    memcpy(t.strides, config->strides, sizeof config->strides);
    bool flat = config->dims == 2;
    double fit = flat ? REFERENCE_2D * BATCH_2D : REFERENCE_3D * BATCH_3D;
    return vx_rule_feature_map_elements(&t, config->features, classes) / fit * REFERENCE_GB *
           1073741824.0;
}
