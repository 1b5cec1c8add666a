/* From the spec of a job of type predict to what its process needs: the model's folder beneath the
 * results root, the input beneath the data root, the output beneath the results root or in the
 * job's folder, and a brief in STATE/jobs/ID/predict.json. The data set need not be registered: a
 * model from elsewhere may lie in the results root. Reads names, opens no volume. Thread: any. */
#ifndef VX_DAEMON_PREDICT_PLAN_H
#define VX_DAEMON_PREDICT_PLAN_H

#include <stdbool.h>
#include <stdint.h>

struct vx_config;
struct vx_err;
struct vx_job_spec;

#define VX_PREDICT_BRIEF "predict.json"

/* At submission, before anything is stored or made: what would keep the job from starting.
 * err->where is a JSON pointer into the request. Reasons: unknown_model, unknown_fold, no_folder,
 * outside_root, not_a_folder, output_in_model, path_too_long. */
int vx_predict_admit(const struct vx_job_spec *spec, const struct vx_config *config,
                     struct vx_err *err);
/* Writes the brief into job_dir, which exists; the output folder is made by the process, once it
 * has found the input good. *ret_brief_path: caller frees. */
int vx_predict_plan(const struct vx_job_spec *spec, int64_t job_id, const char *job_dir,
                    const struct vx_config *config, char **ret_brief_path, struct vx_err *err);
/* True for the path of such a brief. */
bool vx_predict_is_brief(const char *path);

#endif
