/* The timeline region: what happened. Step records and one progress record written by step; one
 * record per worker written by that worker. Readers (telemetry, supervisor) map it read-only and
 * always get consistent copies.
 *
 * All times are CLOCK_MONOTONIC nanoseconds (vx_now_ns), durations nanoseconds. Counters only grow
 * within one process; a new process in the same place starts from 0 with a new pid. Thread: each
 * record has one writer. */
#ifndef VX_SESSION_TIMELINE_H
#define VX_SESSION_TIMELINE_H

#include "session/shm.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;

#define VX_STEP_RECORDS        4096
#define VX_TIMELINE_PHASES     8
#define VX_TIMELINE_TRANSFORMS 16

/* Parts of a step; they add up to its wall time. */
enum vx_phase {
    VX_PHASE_WAIT_LOADER = 0,
    VX_PHASE_H2D,
    VX_PHASE_COMPUTE,
    VX_PHASE_SYNC,
    VX_PHASE_CHECKPOINT,
    VX_PHASE_VALIDATE,
    VX_PHASE_OTHER,
    VX_PHASE_COUNT
};

/* "wait_loader", "h2d", ...; "?" for numbers out of range. */
const char *vx_phase_name(uint32_t phase);

struct vx_step_record {
    uint64_t seq; /* 1, 2, ... over all step processes; written by vx_timeline_add_step */
    uint64_t k;   /* batch within its stream */
    uint32_t epoch;
    uint32_t stream; /* enum vx_stream */
    uint64_t start_ns;
    uint64_t phase_ns[VX_TIMELINE_PHASES];
    uint32_t depth; /* samples ready in the ring when the step arrived for its batch */
    uint32_t flags;
    double loss;
};

/* What step is doing. */
enum vx_step_state {
    VX_STEP_STARTING = 0,
    VX_STEP_TRAINING,
    VX_STEP_VALIDATING, /* validation batches at an epoch's end */
    VX_STEP_CHECKPOINTING,
    VX_STEP_TOTAL, /* sliding-window validation of whole cases at the end */
    VX_STEP_DONE,
    VX_STEP_FAILED,
    VX_STEP_STATES
};
const char *vx_step_state_name(uint32_t state);

struct vx_progress {
    uint64_t heartbeat_ns;                 /* set by vx_timeline_set_progress */
    uint64_t phase_ns[VX_TIMELINE_PHASES]; /* cumulative */
    uint64_t steps[2];                     /* batches done per stream by this process */
    uint64_t k;                            /* train batches done over the whole job */
    uint64_t checkpoint_k;                 /* train batches the newest checkpoint holds */
    uint64_t checkpoint_ns;                /* when it was completed; 0: none yet by this process */
    uint32_t epoch, epochs;
    uint32_t iteration, iterations; /* within the epoch's current stream */
    uint32_t state;                 /* enum vx_step_state */
    uint32_t case_index, cases;     /* while VX_STEP_TOTAL */
    int32_t pid;
    double loss;     /* of the last training batch; NaN while unknown */
    double val_loss; /* of the last epoch */
    double ema_dice; /* NaN before the first epoch's end */
    double best_dice;
};

enum vx_worker_state {
    VX_WORKER_NONE = 0, /* never used */
    VX_WORKER_STARTING,
    VX_WORKER_WAITING, /* for a slot */
    VX_WORKER_READING,
    VX_WORKER_AUGMENTING,
    VX_WORKER_LEFT, /* asked to leave, or end of the job */
    VX_WORKER_FAILED,
    VX_WORKER_STATES
};
const char *vx_worker_state_name(uint32_t state);

/* Which part of the case a worker is at; a killed one cannot say it any more. */
enum vx_worker_reading {
    VX_READING_NOTHING = 0,
    VX_READING_CASE, /* opening it, and the table of foreground voxels */
    VX_READING_IMAGE,
    VX_READING_LABEL,
    VX_WORKER_READINGS
};
/* "nothing", "case", "image", "seg". */
const char *vx_worker_reading_name(uint32_t reading);

struct vx_worker_record {
    uint64_t heartbeat_ns; /* set by vx_timeline_set_worker */
    uint64_t samples;
    uint64_t read_ns; /* reading, without decompressing */
    uint64_t decompress_ns;
    uint64_t augment_ns[VX_TIMELINE_TRANSFORMS]; /* augment/policy.h, enum vx_transform */
    uint64_t wait_ns;                            /* for a slot */
    uint64_t bytes_read;
    uint64_t opens;
    uint64_t minor_faults, major_faults;
    uint64_t cpu_ns;
    uint64_t rss_anon;   /* bytes */
    uint64_t q;          /* sample in work */
    uint32_t case_index; /* of that sample; UINT32_MAX before the first */
    uint32_t state;      /* enum vx_worker_state */
    int32_t pid;
    /* enum vx_worker_reading: also of one that waits for a repair or failed over it; else 0 outside
     * of VX_WORKER_READING */
    uint32_t reading;
    uint64_t open_ns; /* part of read_ns: opening files */
    uint64_t bytes_decoded;
    uint64_t bytes_held;   /* taken from shared memory instead of files */
    uint64_t stage_faults; /* copies that were damaged, and given up */
};

/* What brings the prepared store nearer is doing; written by the session's keeper. */
enum vx_nearing {
    VX_NEARING_NOTHING = 0, /* files are read where they lie */
    VX_NEARING_WORKING,
    VX_NEARING_DONE,
    VX_NEARING_STOPPED, /* short of memory or room: the rest is read from files */
    VX_NEARINGS
};
/* "nothing", "working", "done", "stopped". */
const char *vx_nearing_name(uint32_t state);

struct vx_keeper_record {
    uint64_t heartbeat_ns; /* set by vx_timeline_set_keeper */
    uint64_t bytes_done, bytes_total;
    uint32_t cases_done, cases_total;
    uint32_t mode;  /* control.h, enum vx_cache_mode */
    uint32_t state; /* enum vx_nearing */
};

struct vx_timeline {
    struct vx_shm shm;
    uint64_t next_seq; /* writer's count of step records */
};

int vx_timeline_create(struct vx_timeline *ret, struct vx_err *err);
/* Owns fd on success. */
int vx_timeline_map(int fd, bool writable, struct vx_timeline *ret, struct vx_err *err);
void vx_timeline_close(struct vx_timeline *t);

/* step: appends a record (r->seq is ignored and assigned); old ones are overwritten after
 * VX_STEP_RECORDS. A new step process goes on after the numbers of the one before. */
void vx_timeline_add_step(struct vx_timeline *t, const struct vx_step_record *r);
/* step: replaces the progress record and stamps its heartbeat. */
void vx_timeline_set_progress(struct vx_timeline *t, const struct vx_progress *p);
/* worker number w: replaces its record and stamps its heartbeat. */
void vx_timeline_set_worker(struct vx_timeline *t, uint32_t w, const struct vx_worker_record *r);
/* keeper: replaces its record and stamps its heartbeat. */
void vx_timeline_set_keeper(struct vx_timeline *t, const struct vx_keeper_record *r);

/* Readers. vx_timeline_steps copies records with seq > after, oldest first, at most max, and
 * returns how many; those overwritten meanwhile are left out (gaps in seq show it). The others
 * return false while nothing was written. */
size_t vx_timeline_steps(const struct vx_timeline *t, uint64_t after, struct vx_step_record *out,
                         size_t max);
uint64_t vx_timeline_last_seq(const struct vx_timeline *t);
bool vx_timeline_progress(const struct vx_timeline *t, struct vx_progress *ret);
bool vx_timeline_worker(const struct vx_timeline *t, uint32_t w, struct vx_worker_record *ret);
bool vx_timeline_keeper(const struct vx_timeline *t, struct vx_keeper_record *ret);

#endif
