/* Jobs in the database: the queue, the state machine, idempotency keys.
 *
 * The state machine lives in SQL (table job_transitions and a trigger): no code path can make a
 * transition that is not in the table. Every transition and every insertion writes an event of type
 * "state" in the same transaction. Functions marked "reads" take any connection; the others need
 * the one given to a store operation (db/store.h). Times are milliseconds since 1970. */
#ifndef VX_DB_JOB_H
#define VX_DB_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_db;
struct vx_err;

/* The words are those of the API. */
#define VX_JOB_STATE_LIST(X)                                                                       \
    X(QUEUED, "queued")                                                                            \
    X(PREPARING, "preparing")                                                                      \
    X(READY, "ready")                                                                              \
    X(RUNNING, "running")                                                                          \
    X(PAUSING, "pausing")                                                                          \
    X(PAUSED, "paused")                                                                            \
    X(CANCELLING, "cancelling")                                                                    \
    X(SUCCEEDED, "succeeded")                                                                      \
    X(FAILED, "failed")                                                                            \
    X(CANCELLED, "cancelled")

enum vx_job_state {
#define VX_X(name, word) VX_JOB_##name,
    VX_JOB_STATE_LIST(VX_X)
#undef VX_X
        VX_JOB_STATES
};

/* The word of a state; NULL for a number that is none. */
const char *vx_job_state_word(enum vx_job_state state);
/* -1 for an unknown word. */
int vx_job_state_parse(const char *word);
bool vx_job_state_final(enum vx_job_state state); /* succeeded, failed, cancelled */

/* Crashes of its own without a new checkpoint between them that end a job. */
#define VX_JOB_MAX_CRASHES 3

struct vx_job {
    int64_t id; /* from 1, never reused */
    enum vx_job_state state;
    char type[16];
    char dataset[128];
    char configuration[32];
    char fold[16];
    char results_name[64];
    char phase[48];           /* what it is doing within the state; may be empty */
    char reason_code[48];     /* why it is in this state; empty where there is nothing to say */
    char reason_message[512]; /* for people */
    int priority;
    int spec_version;
    int crashes;          /* of its own, since the newest checkpoint */
    int64_t checkpoint_k; /* steps done at the newest checkpoint; -1 before the first */
    int64_t created_ms, updated_ms;
    int64_t started_ms, finished_ms; /* first time running, end; 0 before */
    int64_t version;                 /* grows with every change of the row */
    char *spec;                      /* canonical JSON; owned, never NULL */
    char *progress;                  /* JSON object; owned, NULL before the first */
    char *result;                    /* JSON object; owned, NULL before the end */
};
void vx_job_release(struct vx_job *job);

struct vx_job_list {
    struct vx_job *v; /* owned */
    size_t n;
};
void vx_job_list_release(struct vx_job_list *list);

struct vx_job_new {
    const char *type;
    const char *spec; /* canonical JSON */
    int spec_version;
    const char *dataset, *configuration, *fold, *results_name; /* NULL is stored as "" */
    int priority;
    int64_t max_unfinished; /* refuse with VX_E_LIMIT "queue_full" at so many jobs not ended; 0: no
                               limit */
};
/* A new job in state queued. */
int vx_db_job_insert(struct vx_db *db, const struct vx_job_new *job, int64_t *ret_id,
                     struct vx_err *err);

/* Reads. VX_E_NOT_FOUND "job_not_found". Release *ret. */
int vx_db_job_get(struct vx_db *db, int64_t id, struct vx_job *ret, struct vx_err *err);

struct vx_job_query {
    unsigned states;     /* bits 1u << VX_JOB_*; 0: every state */
    const char *dataset; /* NULL: any */
    int64_t before_id;   /* only ids below it (the cursor); 0: from the newest */
    int limit;           /* 1 to 1000; 0: 100 */
    bool by_priority;    /* highest priority, then oldest (the scheduler's order; no cursor); else
                            newest first */
};
/* Reads. An empty list is VX_OK. Release *ret. */
int vx_db_job_list(struct vx_db *db, const struct vx_job_query *query, struct vx_job_list *ret,
                   struct vx_err *err);
/* Reads. Jobs per state, for the metrics and the queue limit. */
int vx_db_job_counts(struct vx_db *db, int64_t ret_counts[VX_JOB_STATES], struct vx_err *err);

struct vx_job_change {
    enum vx_job_state to;
    const char *phase;          /* NULL: empty */
    const char *reason_code;    /* NULL: empty */
    const char *reason_message; /* NULL: empty; longer than the field is cut */
    const char *result;         /* JSON object; NULL leaves what is stored */
};
/* VX_E_STATE "illegal_transition" where the table does not allow it (also from a state to itself).
 */
int vx_db_job_transition(struct vx_db *db, int64_t id, const struct vx_job_change *change,
                         struct vx_err *err);

/* The first job in state `from` by priority, then age, is put into state `to`; VX_E_NOT_FOUND
 * "queue_empty" where there is none. Release *ret, which shows the new state. */
int vx_db_job_pick(struct vx_db *db, enum vx_job_state from, enum vx_job_state to,
                   const char *phase, struct vx_job *ret, struct vx_err *err);

/* Why a ready job waits; both empty: for its turn. Nothing happens to one that is not ready (any
 * more). No event. */
int vx_db_job_waits(struct vx_db *db, int64_t id, const char *code, const char *message,
                    struct vx_err *err);

/* phase NULL leaves the phase; progress NULL leaves the progress. No event. VX_E_STATE once the job
 * has ended. */
int vx_db_job_progress(struct vx_db *db, int64_t id, const char *phase, const char *progress,
                       struct vx_err *err);

/* A checkpoint that holds k done steps is on the disk. A k above the stored one clears the crash
 * counter. */
int vx_db_job_checkpoint(struct vx_db *db, int64_t id, int64_t k, struct vx_err *err);

/* A person asks to end it: queued, ready, paused become cancelled at once; preparing, running,
 * pausing become cancelling (the daemon ends them and makes them cancelled); an ended or cancelling
 * job stays as it is. Idempotent. *ret_state is the state afterwards. */
int vx_db_job_cancel(struct vx_db *db, int64_t id, enum vx_job_state *ret_state,
                     struct vx_err *err);

/* The job's own processes died while it was preparing or running (not by a stop of the daemon).
 * evidence is a JSON object (exit status, signal, last error, RSS, worker, file), stored as an
 * event of type "crash" with the count added as "crashes". With a checkpoint newer than the last
 * crash the count starts anew at 1. The third without one ends the job as failed, reason
 * "crashed_repeatedly", evidence in its result; before that preparing goes to queued, running to
 * ready. cancelling becomes cancelled, pausing paused. *ret_state is the state afterwards. */
int vx_db_job_crashed(struct vx_db *db, int64_t id, const char *evidence, bool had_new_checkpoint,
                      enum vx_job_state *ret_state, struct vx_err *err);

/* At the daemon's start, before anything else: what a daemon that ended left under way. preparing,
 * ready and running become queued (reason "daemon_restarted"; they keep their age, and a running
 * one resumes from its checkpoint), cancelling becomes cancelled, pausing paused. No crash is
 * counted. *ret_n jobs were changed. */
int vx_db_jobs_recover(struct vx_db *db, int *ret_n, struct vx_err *err);

/* Idempotency keys of the API: one request per (scope, key). */
struct vx_idem {
    const char *scope; /* method, path and caller */
    const char *key;
    const char *digest; /* of the request's body */
};
/* Reads. VX_E_NOT_FOUND: not seen yet. VX_E_EXISTS "idempotency_key_reused": seen with another
 * body. VX_OK: *ret_id is what the first request made (job id). */
int vx_db_idem_find(struct vx_db *db, const struct vx_idem *idem, int64_t *ret_id,
                    struct vx_err *err);
/* Keys older than seven days are dropped on the way. */
int vx_db_idem_store(struct vx_db *db, const struct vx_idem *idem, int64_t id, struct vx_err *err);

#endif
