/* The tuning log of a job: every change of a loader knob, who made it and why, what it was
 * predicted to do and what it did. Rows are never deleted or changed but for their outcome. */
#ifndef VX_DB_TUNING_H
#define VX_DB_TUNING_H

#include <stddef.h>
#include <stdint.h>

struct vx_db;
struct vx_err;

struct vx_tuning {
    int64_t job_id;
    int n;                   /* from 1, within the job */
    int64_t ts_ms, ended_ms; /* 0: still on trial */
    char who[16];            /* "tuner", "user", "daemon" */
    char knob[24];           /* "workers", "prefetch", "keep_files_open", "cache" */
    char from_value[24], to_value[24];
    char why[32];           /* verdict code, or "request" */
    char outcome[16];       /* "trial", "kept", "reverted", "applied", "advised" */
    double predicted;       /* relative change of the mean step; NaN where nothing was predicted */
    double measured, noise; /* of a finished trial; else NaN */
};

struct vx_tuning_list {
    struct vx_tuning *v; /* owned */
    size_t n;
};
void vx_tuning_list_release(struct vx_tuning_list *list);

/* row->n is ignored and assigned; *ret_n may be NULL. Writes an event of type "tuning". One that
 * was on trial is overtaken: "applied", and nothing was measured of it. */
int vx_db_tuning_add(struct vx_db *db, const struct vx_tuning *row, int *ret_n, struct vx_err *err);
/* The outcome of row n, with an event of type "tuning". VX_E_NOT_FOUND. */
int vx_db_tuning_finish(struct vx_db *db, int64_t job_id, int n, const char *outcome,
                        int64_t ended_ms, double measured, double noise, struct vx_err *err);
/* Reads. The newest row that is still on trial; VX_E_NOT_FOUND where there is none. */
int vx_db_tuning_on_trial(struct vx_db *db, int64_t job_id, int *ret_n, struct vx_err *err);
/* Reads. Rows > after in order, at most limit (1 to 1000). */
int vx_db_tuning_list(struct vx_db *db, int64_t job_id, int after, int limit,
                      struct vx_tuning_list *ret, struct vx_err *err);
/* Reads. VX_E_NOT_FOUND "tuning_not_found". */
int vx_db_tuning_get(struct vx_db *db, int64_t job_id, int n, struct vx_tuning *ret,
                     struct vx_err *err);

#endif
