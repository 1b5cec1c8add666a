/* Where a job's plan comes from. In this order:
 *
 *   1. the job's own folder: a job is planned once and keeps its plan, whatever is edited later;
 *   2. PREPROCESSED/DatasetXXX_Name/NAME.json, as nnU-Net writes it or people edit it;
 *   3. where the spec asks for a memory target or a spacing, a new plan from the fingerprint,
 *      called NAME; a file of that name is then in the way and refused;
 *   4. the plan that voxeld made when the data set was registered ("nnUNetPlans" only).
 *
 * NAME is the spec's "plans" and must be the file's plans_name too: results are filed under it.
 * Nothing is written. Thread: any. */
#ifndef VX_DAEMON_PLANS_SOURCE_H
#define VX_DAEMON_PLANS_SOURCE_H

#include <jansson.h>

struct vx_dataset_desc;
struct vx_err;
struct vx_planner_options;

struct vx_plans_source {
    const char *name; /* of the plans: "nnUNetPlans" */
    const struct vx_dataset_desc *dataset;
    const char *job_dir;     /* may not exist yet */
    const char *dataset_dir; /* in the preprocessed root; may not exist */
    const char *registered;  /* JSON text, NULL: none */
    const char *fingerprint; /* the same */
    double gpu_memory_gb;    /* 0: not asked for */
    double spacing[3];       /* z, y, x in mm; all 0: not asked for */
};

/* PREPROCESSED/DatasetXXX_Name/NAME.json; caller frees, NULL when out of memory. */
char *vx_plans_path(const char *dataset_dir, const char *name);
/* *ret: new reference. VX_E_NOT_FOUND "unknown_plans" says where the file was looked for,
 * VX_E_INVALID "plans_name" where the file has another name inside, VX_E_STATE "dataset_not_ready"
 * where nothing was planned, VX_E_EXISTS "plans_exist"; err->where is /plans or the file. */
int vx_plans_find(const struct vx_plans_source *source, json_t **ret, struct vx_err *err);

/* Plans of that name from a fingerprint; *ret: new reference. */
int vx_plans_make(const struct vx_dataset_desc *dataset, const json_t *fingerprint,
                  const struct vx_planner_options *options, const char *name, json_t **ret,
                  struct vx_err *err);

#endif
