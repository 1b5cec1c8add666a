/* Inside daemon/keeper only: the process that brings a session's prepared store nearer to its
 * workers. Thread: the process's only one. */
#ifndef VX_DAEMON_KEEPER_KEEPER_H
#define VX_DAEMON_KEEPER_KEEPER_H

#include "cache/cache.h"
#include "cache/held.h"
#include "cache/policy.h"
#include "cache/stage.h"
#include "cache/storage.h"
#include "session/control.h"
#include "session/ring.h"
#include "session/timeline.h"

struct vx_brief;
struct vx_err;

struct keeper {
    const struct vx_brief *brief;
    struct vx_control control;
    struct vx_timeline timeline;
    struct vx_ring ring;      /* where the trainer is: only looked at */
    struct vx_recipe *recipe; /* owned; which cases a stretch of sharded epochs needs */
    uint32_t *place;          /* owned; [recipe's cases]: index in the store, UINT32_MAX: none */
    struct vx_cache *cache;   /* owned, as all here */
    struct vx_storage storage;
    bool careful; /* an earlier one was killed: nothing that needs memory is begun */
    size_t n_cases;
    uint64_t *file_bytes, *dense_bytes; /* [n_cases] of the store */
    uint8_t *failures;                  /* [n_cases]: how often a case could not be held */
    uint64_t store_bytes, decoded_bytes;

    enum vx_reading asked; /* what is being served */
    bool served;           /* asked is known at all */
    enum vx_reading mode;  /* what came of it */
    char reason[320];
    bool finished; /* nothing is left to do for it */
    struct vx_stage *stage;
    struct vx_held *held;

    struct vx_keeper_record record;
    uint64_t said_ns, began_ns;
    uint64_t memory_looked_ns;
};

/* decide.c: what was asked into mode and reason, with the facts of this moment; says the event
 * "cache". What the former mode held is let go. */
int keeper_decide(struct keeper *k, enum vx_reading asked, struct vx_err *err);

/* work.c: goes on with the mode until it is done, or keeper_interrupted. Sets `finished` where
 * nothing is left. Errors end the process: the supervisor starts another. */
int keeper_work(struct keeper *k, struct vx_err *err);
/* window.c: the same for memory with sharded epochs: the cases of the present stretch and of the
 * next, the others let go of. Never finished. */
int keeper_hold_windows(struct keeper *k, struct vx_err *err);
bool keeper_has_windows(const struct keeper *k);
/* Decoded bytes of two windows, at most. */
uint64_t keeper_window_bytes(const struct keeper *k);
/* Loads case i of the store into memory, at the pace that leaves the storage to others. */
int keeper_load(struct keeper *k, size_t i, struct vx_err *err);
void keeper_show(struct keeper *k, bool always);

/* Something else is wanted, or the session ends. */
bool keeper_interrupted(const struct keeper *k);
/* Sleeps, but no longer than until keeper_interrupted. */
void keeper_nap(struct keeper *k, uint64_t ns);

#endif
