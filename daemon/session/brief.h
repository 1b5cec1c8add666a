/* The brief of one training: everything that the session, its step and its workers need, as one
 * JSON file (STATE/jobs/ID/session.json). Written once when the job is planned; a resumed job reads
 * the same brief, so it goes on with the same plan, split, recipe and threads whatever changed
 * around it. Thread: constant after it was made. */
#ifndef VX_DAEMON_SESSION_BRIEF_H
#define VX_DAEMON_SESSION_BRIEF_H

#include "session/schedule.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct vx_err;
struct vx_result_place;

#define VX_BRIEF_FORMAT 1

struct vx_brief {
    int64_t job_id;
    char *dir;     /* the job's folder: checkpoints, log, validation */
    char *dataset; /* DatasetXXX_Name */
    char *configuration;
    char *fold;      /* "0" or "all" */
    char *name;      /* of the results */
    char *raw_dir;   /* the raw data set */
    char *cache_dir; /* the prepared store, DATASET/voxeld/KEY */
    char *results_root;
    char *device;    /* "cpu:0", "auto" */
    char *precision; /* "auto", "fp32", "bf16" */
    bool replace;
    uint32_t channels, classes; /* classes includes background */
    uint32_t patch[3];          /* D, H, W */
    struct vx_sample_schedule schedule;
    uint64_t seed;
    double learning_rate, momentum, weight_decay;
    double checkpoint_seconds;
    int threads; /* of step on the CPU; fixed at job start */
    int nice;
    uint32_t workers, workers_max, slots, window, keep_files_open;
    json_t *spec;   /* canonical job spec */
    json_t *recipe; /* vx_recipe_from_json */
    json_t *plans;  /* plans.json with the job's overrides */
    json_t *dataset_json;
    char *pretrained; /* NULL: a random start; else the file with the weights of batch 0 */
    char *cache;      /* how the store is read: a word of cache/policy.h; NULL: "auto" */
    char *stage_dir;  /* the folder that cases may be staged below; NULL: none */
    json_t *bench;    /* NULL: a training; else how the device is paced (bench/settings.h) */
};

/* Atomic. */
int vx_brief_write(const char *path, const struct vx_brief *b, struct vx_err *err);
/* VX_E_CORRUPT names what is wrong. *ret is heap memory. */
int vx_brief_read(const char *path, struct vx_brief **ret, struct vx_err *err);
/* Where its result will lie; pointers are borrowed from b. */
void vx_brief_place(const struct vx_brief *b, struct vx_result_place *ret);
/* session/control.h, enum vx_cache_mode: what the brief's word for it says. */
uint32_t vx_brief_cache_mode(const struct vx_brief *b);
/* Threads that step keeps busy on a device (NULL: the brief's): one on a GPU. A job may begin on
 * one and go on on the CPU. */
int vx_brief_threads(const struct vx_brief *b, const char *device);
/* Accepts NULL. */
void vx_brief_free(struct vx_brief *b);
/* Frees what an embedded brief holds. */
void vx_brief_release(struct vx_brief *b);

#endif
