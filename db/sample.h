/* The time series of a job: samples a second, ten seconds and a minute long, kept for an hour, a
 * day and for ever. What a sample holds is telemetry's business: here it is a JSON object. */
#ifndef VX_DB_SAMPLE_H
#define VX_DB_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

struct vx_db;
struct vx_err;

struct vx_sample_row {
    int64_t job_id;
    int step;      /* seconds: 1, 10 or 60 */
    int64_t ts_ms; /* its end */
    char *data;    /* JSON object; owned */
};

struct vx_sample_list {
    struct vx_sample_row *v; /* owned */
    size_t n;
};
void vx_sample_list_release(struct vx_sample_list *list);

/* How long samples of a step are kept, in ms; 0: for ever. -1 for a step that is none. */
int64_t vx_db_sample_keep_ms(int step);
/* Replaces a sample of the same job, step and time; outdated ones of that job and step go. */
int vx_db_sample_add(struct vx_db *db, const struct vx_sample_row *row, struct vx_err *err);
/* Reads. Samples with ts_ms > since_ms, oldest first, at most limit (1 to 5000). */
int vx_db_samples(struct vx_db *db, int64_t job_id, int step, int64_t since_ms, int limit,
                  struct vx_sample_list *ret, struct vx_err *err);

#endif
