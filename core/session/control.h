/* The control region: what the supervisor wants. Written by the supervisor only, read by step and
 * the workers.
 *
 * The word `changed` counts changes and is a futex: vx_control_wait sleeps until it moves. Workers
 * that sleep on the ring are woken through the ring (vx_session_gate in ring.h does both). Thread:
 * writers one at a time. */
#ifndef VX_SESSION_CONTROL_H
#define VX_SESSION_CONTROL_H

#include "session/shm.h"

#include <stdbool.h>
#include <stdint.h>

struct vx_err;

#define VX_WORKERS_MAX 64

/* How the prepared store is read; the numbers of cache/policy.h, enum vx_reading. */
enum vx_cache_mode {
    VX_CACHE_AUTO = 0,
    VX_CACHE_OPEN = 1,   /* files are opened for each read */
    VX_CACHE_KEEP = 2,   /* files stay open */
    VX_CACHE_WARM = 3,   /* and the page cache is filled */
    VX_CACHE_STAGE = 4,  /* and cases are copied to a faster folder */
    VX_CACHE_MEMORY = 5, /* decoded arrays in shared memory */
    VX_CACHE_MODES
};
enum vx_gate { VX_GATE_OPEN = 0, VX_GATE_PAUSED = 1, VX_GATE_STOPPED = 2 };

/* Live knobs. Later ones are added at the end. */
struct vx_knobs {
    uint32_t workers_wanted;
    uint32_t window;          /* samples ahead of the trainer; 0: as many as there are slots */
    uint32_t keep_files_open; /* 0 or 1; VX_CACHE_OPEN and VX_CACHE_KEEP overrule it */
    uint32_t cache_mode;      /* enum vx_cache_mode: what is wanted */
    int32_t nice;             /* of workers */
    /* enum vx_cache_mode: where workers look first, which is what came of cache_mode. They read the
     * files of the store wherever something is not there. */
    uint32_t reading;
};

/* Whether files stay open: what the cache mode says, else the knob. */
bool vx_knobs_keep_open(const struct vx_knobs *k);

#define VX_EXCLUSIONS_MAX 64

/* A case that is not shown any more from sample from_j[s] of batch from_k[s] of stream s on
 * (loader/recipe.h, struct vx_quarantine). */
struct vx_exclusion {
    uint32_t case_index;
    uint32_t from_j[2];
    uint32_t reserved;
    uint64_t from_k[2];
};

struct vx_exclusions {
    uint32_t version; /* another one after every change; 0: never set */
    uint32_t n;
    struct vx_exclusion list[VX_EXCLUSIONS_MAX];
};

enum vx_worker_want { VX_WANT_NONE = 0, VX_WANT_RUN = 1, VX_WANT_LEAVE = 2 };

struct vx_control {
    struct vx_shm shm;
};

/* Supervisor: makes the region with gate VX_GATE_OPEN and the given knobs. */
int vx_control_create(const struct vx_knobs *knobs, struct vx_control *ret, struct vx_err *err);
/* Others: maps it read-only; owns fd on success. */
int vx_control_map(int fd, struct vx_control *ret, struct vx_err *err);
void vx_control_close(struct vx_control *c);

/* Supervisor. Each change bumps `changed` and wakes who waits for it. */
void vx_control_set_knobs(struct vx_control *c, const struct vx_knobs *knobs);
void vx_control_set_gate(struct vx_control *c, enum vx_gate gate);
/* Set while the ring's gate is closed and no slot is being filled; a worker looks after each claim,
 * so none is filled by the old list once the gate is open again. version is assigned. */
void vx_control_set_exclusions(struct vx_control *c, const struct vx_exclusions *x);
/* VX_WANT_LEAVE reaches a worker that sleeps on the ring only with vx_ring_kick after it. */
void vx_control_set_worker(struct vx_control *c, uint32_t worker, int32_t pid,
                           enum vx_worker_want want);

/* Anyone. These two return false (and leave *ret) where the supervisor died while writing. */
bool vx_control_knobs(const struct vx_control *c, struct vx_knobs *ret);
bool vx_control_exclusions(const struct vx_control *c, struct vx_exclusions *ret);
enum vx_gate vx_control_gate(const struct vx_control *c);
enum vx_worker_want vx_control_worker(const struct vx_control *c, uint32_t worker,
                                      int32_t *ret_pid);
uint32_t vx_control_changed(const struct vx_control *c);

/* A worker that reported a damaged case waits for the supervisor's answer: a count per worker that
 * vx_control_answer (supervisor) raises once the case was looked after, well or badly. */
void vx_control_answer(struct vx_control *c, uint32_t worker);
uint32_t vx_control_answers(const struct vx_control *c, uint32_t worker);
/* Sleeps until `changed` differs from seen or timeout_ns passed; spurious returns are allowed. */
void vx_control_wait(const struct vx_control *c, uint32_t seen, uint64_t timeout_ns);

#endif
