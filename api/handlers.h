/* Inside this room only: one function per route; the table in router.c names them. */
#ifndef VX_API_HANDLERS_H
#define VX_API_HANDLERS_H

#include "api/request.h"

struct vx_dataset;
struct vx_job;

/* handlers/jobs.c, handlers/submit.c */
enum MHD_Result vx_h_jobs_list(struct vx_req *r);
enum MHD_Result vx_h_job_get(struct vx_req *r);
enum MHD_Result vx_h_job_cancel(struct vx_req *r);
enum MHD_Result vx_h_job_cancelled(struct vx_req *r);
enum MHD_Result vx_h_job_submit(struct vx_req *r);
enum MHD_Result vx_h_job_submitted(struct vx_req *r);
/* handlers/job_json.c: new references; full adds spec, result and links. */
json_t *vx_job_to_json(struct vx_api *api, const struct vx_job *job, bool full);

/* handlers/loader.c */
enum MHD_Result vx_h_job_loader(struct vx_req *r);
enum MHD_Result vx_h_job_loader_turn(struct vx_req *r);

/* handlers/history.c */
enum MHD_Result vx_h_job_events(struct vx_req *r);
enum MHD_Result vx_h_job_epochs(struct vx_req *r);

/* handlers/diagnosis.c */
enum MHD_Result vx_h_job_bottleneck(struct vx_req *r);
enum MHD_Result vx_h_job_telemetry(struct vx_req *r);
enum MHD_Result vx_h_job_tuning(struct vx_req *r);
enum MHD_Result vx_h_job_tuning_revert(struct vx_req *r); /* handlers/loader.c */

/* handlers/files.c */
enum MHD_Result vx_h_job_log(struct vx_req *r);
enum MHD_Result vx_h_artifacts(struct vx_req *r);
enum MHD_Result vx_h_artifact(struct vx_req *r);

/* handlers/datasets.c */
enum MHD_Result vx_h_datasets_list(struct vx_req *r);
enum MHD_Result vx_h_dataset_get(struct vx_req *r);
enum MHD_Result vx_h_dataset_plans(struct vx_req *r);
enum MHD_Result vx_h_dataset_submit(struct vx_req *r);
enum MHD_Result vx_h_dataset_submitted(struct vx_req *r);

/* handlers/system.c */
enum MHD_Result vx_h_livez(struct vx_req *r);
enum MHD_Result vx_h_readyz(struct vx_req *r);
enum MHD_Result vx_h_metrics(struct vx_req *r);
enum MHD_Result vx_h_devices(struct vx_req *r);
enum MHD_Result vx_h_system(struct vx_req *r);

/* handlers/page.c */
enum MHD_Result vx_h_page(struct vx_req *r);
enum MHD_Result vx_h_openapi(struct vx_req *r);
enum MHD_Result vx_h_asset(struct vx_req *r);

/* stream.c: the event stream of a job, events > after. */
enum MHD_Result vx_stream_start(struct vx_req *r, int64_t job_id, int64_t after);

#endif
