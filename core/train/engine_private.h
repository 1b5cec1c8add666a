/* The engine's own state, shared by engine.c (epochs), batch.c (one batch) and resume.c
 * (checkpoints). Private to this room. */
#ifndef VX_TRAIN_ENGINE_PRIVATE_H
#define VX_TRAIN_ENGINE_PRIVATE_H

#include "train/engine.h"
#include "train/epoch_sum.h"

#include <stdbool.h>
#include <stdint.h>

struct vx_program;
struct vx_progress;
struct vx_step_record;
struct vx_writer;

/* A batch whose samples are held and whose run may still be under way. */
struct vx_train_batch {
    bool held;    /* samples are not given back yet */
    bool running; /* started, result not read yet */
    bool open;    /* its iteration has not ended: the record lacks its phases */
    struct vx_program *program;
    uint64_t ticket;
    uint64_t *q;         /* [batch] */
    const float **image; /* [batch], pointers into the source */
    const int16_t **label;
    uint32_t taken;                /* samples in the arrays */
    uint64_t wait_from, wait_to;   /* when its samples were waited for; 0: they were ready */
    struct vx_step_record *record; /* owned */
};

struct vx_train {
    struct vx_train_config config;
    struct vx_state *state;
    struct vx_program *program[2]; /* index: enum vx_stream */
    struct vx_writer *writer;
    struct vx_history history;
    struct vx_epoch_sum sum; /* of the epoch in progress */
    double ema, best_ema;    /* NaN before the first epoch's end */
    int64_t best_epoch;      /* -1 before */
    bool finished, approximate;
    bool varies;       /* the device gives other bits every time */
    char differs[160]; /* what makes it approximate */

    struct vx_train_batch batch[2]; /* used in turn: one runs while the next is taken */
    int current;
    void *batch_memory; /* owned: the arrays of both */

    uint64_t iteration_start_ns;  /* end of the iteration before */
    uint64_t phase_ns[8];         /* of the iteration in progress */
    uint64_t snapshot_ns;         /* when the last checkpoint was begun */
    struct vx_progress *progress; /* owned */
    char *path[3];                /* latest, best, final; owned */
};

enum { VX_PATH_LATEST, VX_PATH_BEST, VX_PATH_FINAL };

/* Adds the time since start to a phase (enum vx_phase) of the iteration in progress. */
void vx_train_charge(struct vx_train *t, int phase, uint64_t start_ns);
/* Publishes the progress record with this enum vx_step_state. */
void vx_train_report(struct vx_train *t, uint32_t state);
bool vx_train_stopping(const struct vx_train *t);

/* batch.c. One batch of a stream; its figures are in t->sum at the latest after the next one, or
 * before return where last is set. VX_E_CANCELLED: asked to stop, no sample is held. */
int vx_train_one_batch(struct vx_train *t, uint32_t stream, bool last, struct vx_err *err);
/* Reads the results of all runs under way into the sums and gives their samples back. */
int vx_train_settle(struct vx_train *t, struct vx_err *err);
/* Gives back whatever is held, after an error. */
void vx_train_drop(struct vx_train *t);
int vx_train_batches_create(struct vx_train *t, struct vx_err *err);

/* resume.c. Starts writing a checkpoint of the present state (settles first). */
int vx_train_snapshot(struct vx_train *t, int which, struct vx_err *err);
/* Tells the callback about checkpoints that were completed meanwhile, and fails as they failed. */
int vx_train_checkpoints_done(struct vx_train *t, struct vx_err *err);
int vx_train_checkpoints_wait(struct vx_train *t, struct vx_err *err);
/* Loads the newest checkpoint into state, sums and history; *ret_found false where there is none.
 */
int vx_train_resume(struct vx_train *t, bool *ret_found, struct vx_err *err);

#endif
