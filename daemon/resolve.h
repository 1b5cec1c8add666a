/* From a job's spec and its data set to everything that is needed to run it: the plan with the
 * job's overrides, the KEY and folder of its prepared data, split and recipe, and the session's
 * brief. Of a prediction only the brief (predict/plan.h). Reads small files and computes; takes
 * milliseconds to tens of them, so the daemon runs it on libuv's thread pool, never on the loop.
 * Thread: any. */
#ifndef VX_DAEMON_RESOLVE_H
#define VX_DAEMON_RESOLVE_H

#include <stdbool.h>
#include <stdint.h>

struct vx_config;
struct vx_err;

struct vx_resolve_input {
    int64_t job_id;
    const char *spec;    /* canonical JSON of core/spec */
    const char *job_dir; /* made where missing; plans.json, dataset.json and session.json are
                            written there */
    const char *raw_dir; /* the raw data set; may be NULL for a prediction */
    const char *plans, *fingerprint; /* JSON as verify made them; NULL: none. See plans_source.h */
    const struct vx_config *config;
    bool any_path; /* pretrained weights may lie anywhere (voxeld train) */
    bool gpu;      /* it will run on one: the loader has the other cores */
};

struct vx_resolved {
    char key[65];
    char configuration[128];
    char *dataset_dir; /* in the preprocessed root; owned, like all pointers here */
    char *store_dir;   /* the prepared store */
    char *plans_path;  /* STATE/jobs/ID/plans.json */
    char *brief_path;  /* STATE/jobs/ID/session.json or predict.json */
    bool complete;     /* the prepared data is all there */
    bool prepare_only; /* a job of type prepare: done when the data is complete */
};

/* A job that was resolved before keeps its brief as long as its store's KEY is the same. Errors
 * carry a reason code for the job. */
int vx_resolve(const struct vx_resolve_input *in, struct vx_resolved *ret, struct vx_err *err);
void vx_resolved_release(struct vx_resolved *r);

#endif
