/* Where a job's plan comes from. In this order:
 *
 *   1. the job's own folder: a job is planned once and keeps its plan, whatever is edited later;
 *   2. PREPROCESSED/DatasetXXX_Name/NAME.json, as nnU-Net writes it or people edit it;
 *   3. the plan that voxeld made when the data set was registered ("nnUNetPlans" only).
 *
 * NAME is the spec's "plans" and must be the file's plans_name too: results are filed under it.
 * Nothing is written. Thread: any. */
#ifndef VX_DAEMON_PLANS_SOURCE_H
#define VX_DAEMON_PLANS_SOURCE_H

#include <jansson.h>

struct vx_err;

struct vx_plans_source {
    const char *name;        /* of the plans: "nnUNetPlans" */
    const char *dataset;     /* for messages */
    const char *job_dir;     /* may not exist yet */
    const char *dataset_dir; /* in the preprocessed root; may not exist */
    const char *registered;  /* JSON text, NULL: none */
};

/* PREPROCESSED/DatasetXXX_Name/NAME.json; caller frees, NULL when out of memory. */
char *vx_plans_path(const char *dataset_dir, const char *name);
/* *ret: new reference. VX_E_NOT_FOUND "unknown_plans" says where the file was looked for,
 * VX_E_INVALID "plans_name" where the file has another name inside, VX_E_STATE "dataset_not_ready"
 * where nothing was planned; err->where is /plans or the file. */
int vx_plans_find(const struct vx_plans_source *source, json_t **ret, struct vx_err *err);

#endif
