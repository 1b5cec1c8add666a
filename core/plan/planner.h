/* The experiment planner: fingerprint and dataset.json to plans (nnU-Net v2, ExperimentPlanner).
 * One rule per file: spacing.c (target spacing, transpose, median shape), topology.c, vram.c
 * (estimate and reduction loop), planner.c. Thread: any; pure. */
#ifndef VX_PLAN_PLANNER_H
#define VX_PLAN_PLANNER_H

#include <stdbool.h>

struct vx_dataset_desc;
struct vx_err;
struct vx_fingerprint;
struct vx_plan_config;
struct vx_plans;

struct vx_planner_options {
    double gpu_memory_gb; /* 0: 8, as nnU-Net plans for */
    double spacing[3]; /* all zero: planned; otherwise the full-resolution target spacing, z, y, x
                          in mm */
};

/* Fills *ret with "2d" and, for volumes, "3d_fullres" (and "3d_lowres" where the full resolution is
 * too large for its patch). options may be NULL. */
int vx_plan_experiment(const struct vx_dataset_desc *dataset, const struct vx_fingerprint *fp,
                       const struct vx_planner_options *options, struct vx_plans *ret,
                       struct vx_err *err);

/* Bytes that each sample of a batch takes in training, by the measure that batch sizes are planned
 * with: feature maps beside those that fit 8 GB. classes includes background. */
double vx_plan_sample_bytes(const struct vx_plan_config *config, int classes);

#endif
