/* The supervisor of one training: shared memory, one `voxeld step`, N `voxeld augment`.
 *
 * vx_session_run blocks in the calling thread (the GPU worker thread, or main of `voxeld train`)
 * until the training has ended, was stopped, or cannot go on. It spawns, reaps, frees what a dead
 * worker had claimed, brings workers back with growing pauses, and restarts a crashed step from its
 * newest checkpoint while the pool stays warm: it closes the gate of the ring, waits until no slot
 * is being written, sets the ring to the sample that the new step needs, and opens the gate again.
 * A step that starts (first or again) says where it is with a line {"event":"loaded","q":Q} and
 * takes nothing until the ring stands at Q with an open gate. */
#ifndef VX_DAEMON_SESSION_SUPERVISOR_H
#define VX_DAEMON_SESSION_SUPERVISOR_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vx_brief;
struct vx_err;

/* What other threads may ask of a running session. Any thread; idempotent. */
enum vx_session_request {
    VX_SESSION_STOP = 1,   /* checkpoint and end; to be resumed later */
    VX_SESSION_CANCEL = 2, /* end; nobody needs it any more */
    VX_SESSION_TURN = 4,   /* knobs: vx_session_turn */
    /* Against a hang: every worker is killed and made anew; the trainer is killed and goes on from
     * its checkpoint, which counts as a crash of its own. */
    VX_SESSION_RESTART_LOADER = 8,
    VX_SESSION_RESTART_STEP = 16,
    /* The device is gone, whatever the trainer makes of it: it is killed, and the session ends with
     * VX_SESSION_DEVICE_LOST. */
    VX_SESSION_DEVICE_GONE = 32,
};

/* Knobs that turn while it runs; the samples stay the same whatever they are. In a wish, -1 leaves
 * one as it is; the supervisor keeps each within what the brief was planned for. */
struct vx_session_knobs {
    int workers;         /* 1 to the brief's workers_max */
    int window;          /* samples ahead of the trainer; 0: all slots */
    int keep_files_open; /* 0, 1; told: as vx_knobs_keep_open has it */
    int cache_mode;      /* session/control.h, enum vx_cache_mode */
    int reading;         /* the same: what came of it; of no meaning in a wish, as the next */
    int deciding;        /* 0, 1: what comes of cache_mode is not known yet */
};

struct vx_session_mailbox {
    int eventfd; /* owned */
    atomic_uint requests;
    atomic_int wishes[4]; /* the members of struct vx_session_knobs */
};
int vx_session_mailbox_init(struct vx_session_mailbox *m, struct vx_err *err);
void vx_session_mailbox_release(struct vx_session_mailbox *m);
void vx_session_ask(struct vx_session_mailbox *m, enum vx_session_request request);
/* Takes effect at once where a session runs, and is kept for a resume of the job. */
void vx_session_turn(struct vx_session_mailbox *m, const struct vx_session_knobs *wish);
/* The supervisor's end: takes the wishes out. */
void vx_session_wishes(struct vx_session_mailbox *m, struct vx_session_knobs *ret);

enum vx_session_end {
    VX_SESSION_SUCCEEDED, /* step trained, validated and said so */
    VX_SESSION_STOPPED,   /* by VX_SESSION_STOP: resume later */
    VX_SESSION_CANCELLED,
    VX_SESSION_FAILED,      /* see err */
    VX_SESSION_DEVICE_LOST, /* see err; its checkpoint stands, another device may go on */
};

/* All on the supervisor's thread. */
struct vx_session_events {
    void *ctx;
    /* One JSON line of step. Borrowed. */
    void (*line)(void *ctx, const json_t *line);
    /* Step crashed; evidence is a JSON object (borrowed): exit status, signal, last words, RSS, k.
     * Returns false where the job must not go on (third crash without a new checkpoint). */
    bool (*crashed)(void *ctx, const json_t *evidence, bool had_new_checkpoint);
    /* The device failed (death.h), which is no crash of the job's; the session ends. evidence: as
     * that of a crash. Borrowed. NULL: a failed device counts as a crash, for want of another. */
    void (*device_lost)(void *ctx, const json_t *evidence);
    /* A worker died or failed; the session goes on. Borrowed: "reason" (session/death.h), exit
     * status, signal, its last words, the case, sample and file it was at, its memory. */
    void (*worker_lost)(void *ctx, const json_t *evidence);
    /* A case is shown no more (row: session/live.h). fresh: since now, else since before this
     * session. Borrowed. */
    void (*quarantined)(void *ctx, const json_t *row, bool fresh);
    /* The knobs as they are: at the start (change NULL), then after each change, which is {"knob",
     * "from", "to"}. Borrowed. */
    void (*knobs)(void *ctx, const struct vx_session_knobs *now, const json_t *change);
    /* The timeline and ring exist: descriptors stay open until vx_session_run returns (dup them to
     * keep). */
    void (*mapped)(void *ctx, int timeline_fd, int ring_fd);
    /* The session's memory is about to go: no reader may use the descriptors any more. */
    void (*unmapped)(void *ctx);
};

struct vx_session_options {
    const struct vx_brief *brief; /* borrowed */
    const char *brief_path;       /* children read it */
    const char *device;           /* for device/device.h; NULL: the brief's */
    const char *gpu; /* UUID of the one GPU that step may see, as cuda:0; NULL: no restriction */
    struct vx_session_mailbox *mailbox;
    struct vx_session_events events;
    uint64_t memory_limit; /* of step, bytes; 0: none */
};

/* VX_OK for every end but VX_SESSION_FAILED, where err holds the reason; it does for
 * VX_SESSION_DEVICE_LOST as well. *ret_result (may be NULL):
 * the result object of step, new reference, or NULL. */
int vx_session_run(const struct vx_session_options *options, enum vx_session_end *ret_end,
                   json_t **ret_result, struct vx_err *err);

#endif
