/* Publishing a finished training into the results root, laid out as nnU-Net's:
 *
 *   RESULTS/DatasetXXX_Name/NAME__PLANS__CONFIGURATION/           plans.json, dataset.json
 *     fold_F/      plans.json, dataset.json, checkpoint_{best,final}.{safetensors,pth},
 * progress.png, training_log_*.txt, validation/ with summary.json, voxeld_job.json
 *
 * The model folder's plans.json and dataset.json, which nnU-Net's predictor reads for every fold,
 * are those of the model's first fold; a fold that is the only one brings its own.
 *
 * The fold folder is put together under a temporary name (hard links where the file system allows,
 * else copies) and renamed into place, so a reader sees all of it or nothing; doing it again after
 * a crash is harmless. Thread: any. */
#ifndef VX_DAEMON_RESULTS_PUBLISH_H
#define VX_DAEMON_RESULTS_PUBLISH_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;

/* Where a fold lies. */
struct vx_result_place {
    const char *results_root;
    const char *dataset;
    const char *name, *plans, *configuration; /* NAME__PLANS__CONFIGURATION */
    const char *fold;                         /* "0" or "all" */
};

struct vx_publish {
    const char *job_dir;
    struct vx_result_place place;
    int64_t job_id;
    bool replace;
    const json_t *job; /* stored as voxeld_job.json: {"id", "spec", "result"} */
};

/* The fold folder's path; caller frees; NULL when out of memory. */
char *vx_publish_path(const struct vx_result_place *place);
/* *ret_path: the fold folder, caller frees. VX_E_EXISTS "result_exists" where another job's result
 * lies there and replace is not set; with replace it is kept as fold_F.ID of the job that made it
 * (or of this one). */
int vx_publish(const struct vx_publish *p, char **ret_path, struct vx_err *err);
/* Whether job job_id could publish at fold_dir as things stand: VX_OK, also where it lies there
 * already, or VX_E_EXISTS "result_exists". */
int vx_publish_check(const char *fold_dir, int64_t job_id, bool replace, struct vx_err *err);

#endif
