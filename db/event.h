/* Events: what happened to a job or a data set, in one sequence of ids that only grows. They feed
 * the event streams of the API. State changes write theirs by themselves (db/job.h); add others
 * with vx_db_event_add. Types in use: "state" {state, previous, phase, reason_code,
 * reason_message}, "epoch" (one row of history), "crash", "checkpoint", "dataset" {name, state},
 * "log" {level, text}, "device_lost" {device, uuid, code, message, ...}, "trajectory" {trajectory,
 * message}. */
#ifndef VX_DB_EVENT_H
#define VX_DB_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_db;
struct vx_err;

struct vx_event {
    int64_t id;
    int64_t job_id; /* 0: not about a job */
    int64_t ts_ms;
    char type[32];
    char *data; /* JSON object; owned */
};

struct vx_event_list {
    struct vx_event *v; /* owned */
    size_t n;
};
void vx_event_list_release(struct vx_event_list *list);

/* data: a JSON object; NULL is {}. ret_id may be NULL. */
int vx_db_event_add(struct vx_db *db, int64_t job_id, const char *type, const char *data,
                    int64_t *ret_id, struct vx_err *err);
/* Reads. Has the job an event of that type? */
int vx_db_event_has(struct vx_db *db, int64_t job_id, const char *type, bool *ret,
                    struct vx_err *err);
/* Reads. Events with id > after_id, oldest first, at most limit (1 to 1000). job_id 0: of
 * everything. */
int vx_db_events_since(struct vx_db *db, int64_t job_id, int64_t after_id, int limit,
                       struct vx_event_list *ret, struct vx_err *err);
/* Reads. The highest id given out so far; 0 while there is none. */
int vx_db_event_last(struct vx_db *db, int64_t *ret_id, struct vx_err *err);

#endif
