/* The training engine: one network on one device, from its start or its newest checkpoint to its
 * last epoch.
 *
 * An epoch is `iterations` training batches and `val_iterations` validation batches, taken in order
 * from a source of samples. Learning rate: base x (1 - epoch / epochs)^0.9, set at the epoch's
 * start (nnU-Net's PolyLR). Pseudo-Dice: 2 tp / (2 tp + fp + fn) per foreground class over the
 * epoch's validation batches.
 *
 * Checkpoints go to dir/checkpoint_latest.safetensors (at batch 0, then whenever checkpoint_seconds
 * of work have passed, at any batch, also in the middle of an epoch; and when asked to stop),
 * checkpoint_best.safetensors (when the moving average of the pseudo-Dice rises) and
 * checkpoint_final.safetensors. A thread writes them from a snapshot while training goes on. A
 * resumed job ends with the same bits in weights and history as one that was never disturbed, given
 * the same build, device, precision and thread count.
 *
 * Nothing here knows the daemon: news leave through callbacks and the session's timeline.
 * Thread: all calls and callbacks on the caller's thread, except where noted. */
#ifndef VX_TRAIN_ENGINE_H
#define VX_TRAIN_ENGINE_H

#include "train/history.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vx_device;
struct vx_err;
struct vx_oplist;
struct vx_state;
struct vx_timeline;
struct vx_train;
struct vx_train_source;

#define VX_CHECKPOINT_LATEST "checkpoint_latest.safetensors"
#define VX_CHECKPOINT_BEST   "checkpoint_best.safetensors"
#define VX_CHECKPOINT_FINAL  "checkpoint_final.safetensors"

struct vx_train_callbacks {
    void *arg;
    /* An epoch has ended (not called again for epochs restored from a checkpoint). */
    void (*epoch)(void *arg, const struct vx_train_epoch *epoch, bool is_best);
    /* A checkpoint lies durably at path and holds `batches` finished training batches. */
    void (*checkpoint)(void *arg, const char *path, uint64_t batches);
    /* Cases that are out by now, for the checkpoint being written (checkpoint.h, quarantines): new
     * reference. NULL: none ever are. */
    json_t *(*quarantines)(void *arg);
};

struct vx_train_config {
    struct vx_device *device;    /* borrowed, outlives the engine, as do all pointers below */
    const struct vx_oplist *net; /* with batch and patch of training */
    int precision;               /* enum vx_precision */
    uint64_t seed;               /* of the initial weights */
    uint32_t epochs, iterations, val_iterations; /* val_iterations may be 0 */
    double learning_rate;                        /* base */
    struct vx_train_source *source;              /* positioned at vx_train_position's q */
    struct vx_timeline *timeline;                /* NULL: no records */
    const char *dir;                             /* exists */
    const char *pretrained; /* weights to start from, see pretrained.h; looked at only where dir has
                               no checkpoint; NULL: a random start */
    double checkpoint_seconds; /* <= 0: after every batch */
    const char *recipe_digest; /* what makes batches what they are (design: determinism), in hex,
                                  without cases that went out on the way: those are the
                                  checkpoint's quarantines. NULL: "" */
    const json_t
        *environment; /* object: build, isa, precision, threads, device, libraries; NULL: {} */
    const json_t
        *network; /* object: what the parameters belong to (the plan's architecture); NULL: {} */
    const atomic_bool *stop; /* set by anyone: checkpoint and return; NULL: never */
    struct vx_train_callbacks callbacks;
};

struct vx_train_outcome {
    bool finished;    /* false: stopped by request, resume later */
    bool approximate; /* not bit-exact: the device varies (vx_device_info), or the training was
                         resumed where the environment differed */
    uint64_t batches; /* training batches done over the whole job */
    double best_ema;  /* NaN before the first epoch's end */
    uint32_t epochs;  /* finished ones */
};

/* Where a job in dir goes on: *ret_q is the first sample it needs (0 for a new job), *ret_batches
 * the training batches it has done. batch: samples per batch. No device is touched: for the
 * supervisor, before it makes the ring. VX_E_CORRUPT where a checkpoint exists and cannot be read.
 */
int vx_train_position(const char *dir, uint32_t batch, uint64_t *ret_q, uint64_t *ret_batches,
                      struct vx_err *err);

/* The quarantines in the checkpoint that a job in dir goes on from: new reference to an array,
 * empty where there is none. No device is touched. */
int vx_train_quarantines(const char *dir, json_t **ret, struct vx_err *err);

/* Compiles the programs and loads checkpoint_latest where it exists (checkpoint_final: the job is
 * done, vx_train_run returns at once); otherwise initialises and writes the checkpoint of batch 0.
 * VX_E_STATE where a checkpoint belongs to another network, schedule or recipe; VX_E_INVALID
 * "weights_mismatch" where pretrained weights do not fit, with nothing written. */
int vx_train_open(const struct vx_train_config *config, struct vx_train **ret, struct vx_err *err);
/* Trains until the end or the stop flag. Both are VX_OK; ret says which. */
int vx_train_run(struct vx_train *train, struct vx_train_outcome *ret, struct vx_err *err);
/* The state with the present weights, for inference programs; owned by the engine. */
struct vx_state *vx_train_state(struct vx_train *train);
/* Whether it goes on where the environment differed (vx_train_outcome), known from open on;
 * *ret_why: "model was THIS, is THAT". Owned by the engine. */
bool vx_train_approximate(const struct vx_train *train, const char **ret_why);
/* Finished epochs, those from before a resume included; owned by the engine. */
const struct vx_history *vx_train_history(const struct vx_train *train);
/* Accepts NULL. Waits for a checkpoint that is being written. */
void vx_train_close(struct vx_train *train);

#endif
