/* voxeld's own checkpoints: parameters, momentum and everything a training needs to go on, in one
 * safetensors file.
 *
 * Format 1: tensors "NAME" (parameters, F32, nnU-Net's unique state_dict names in PyTorch's order)
 * and, after all of them, "momentum.NAME" (the SGD buffers, same shapes; all or none). __metadata__
 * holds "format": "1", "voxeld": the canonical JSON text below, and "voxeld_sha256" of that text:
 *
 *   {"format": 1, "k": int, "epoch": int, "iteration": int, "validation_k": int,
 *    "ema_dice": number or null, "best_ema_dice": number or null, "best_epoch": int or null,
 *    "history": {"LIST": [one value per finished epoch, null where there is none]},
 *    "schedule": {"lr0", "epochs", "iterations_per_epoch", "validation_iterations", "poly_power",
 * "momentum", "nesterov", "weight_decay", "clip_norm"}, "recipe_digest": 64 hex digits,
 * "quarantines": [{"case", "from_k"[, "from_j", "val_from_k", "val_from_j"]}], "environment":
 * {"KEY": text, int or object}, "trainer": {state words}, "network": {the architecture}, "crc32":
 * [...]}
 *
 * crc32: one per tensor in file order, zlib's CRC-32 of its name, its shape as int64 words and its
 * values.
 *
 * A file is whole or refused: sizes, names, checksums of the text and of every tensor are compared.
 * Thread: any; one at a time per object, so a writer thread works on a copy (vx_ckpt_copy) of its
 * own. */
#ifndef VX_CHECKPOINT_CHECKPOINT_H
#define VX_CHECKPOINT_CHECKPOINT_H

#include "base/hash.h"
#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;

#define VX_CKPT_FORMAT   1 /* written; readers accept 1 to this */
#define VX_CKPT_MAX_RANK 5

struct vx_ckpt_tensor {
    char *name; /* owned */
    int rank;
    int64_t shape[VX_CKPT_MAX_RANK]; /* PyTorch's order, e.g. [out][in][kz][ky][kx] */
    size_t n;                        /* elements */
    float *param;                    /* owned, n values */
    float *momentum;                 /* owned, n values; NULL where the checkpoint has none */
};

struct vx_ckpt_schedule {
    double lr0;
    int64_t epochs, iterations_per_epoch, validation_iterations;
    double poly_power; /* lr(e) = lr0 * (1 - e / epochs)^poly_power */
    double momentum;
    bool nesterov;
    double weight_decay;
    double clip_norm; /* 0: no clipping */
};

struct vx_ckpt {
    size_t n_tensors, cap_tensors;
    struct vx_ckpt_tensor *tensors; /* owned */
    int64_t k;                      /* next train batch: everything below k has been applied */
    int64_t epoch, iteration;       /* where k lies: iteration of the epoch, both from 0 */
    int64_t validation_k;           /* next validation batch */
    double ema_dice, best_ema_dice; /* NaN until there is one */
    int64_t best_epoch;             /* -1 until there is one */
    struct vx_ckpt_schedule schedule;
    char recipe_digest[VX_SHA256_HEX];
    /* All owned; NULL is written as an empty object or array. JSON has no NaN: use null in lists.
     */
    json_t *history;     /* object of lists */
    json_t *quarantines; /* array of {"case", "from_k", ...}: no longer drawn from training batch
                            from_k on, sample from_j of it; the same of the validation batches */
    json_t *environment; /* object: build, isa, precision, threads, device, libraries */
    json_t *trainer;     /* object: words the engine needs to go on bit for bit */
    json_t *network;     /* object: what the parameters belong to */
};

/* An empty checkpoint at k = 0 (NaN averages, no tensors). */
void vx_ckpt_init(struct vx_ckpt *c);
void vx_ckpt_release(struct vx_ckpt *c);
/* Appends a tensor of zeros and returns it for filling (valid until the next call); NULL when out
 * of memory. with_momentum must be the same for all tensors of a checkpoint. */
struct vx_ckpt_tensor *vx_ckpt_add(struct vx_ckpt *c, const char *name, int rank,
                                   const int64_t *shape, bool with_momentum);
/* Index, or -1. */
int64_t vx_ckpt_find(const struct vx_ckpt *c, const char *name);
/* Makes dst (initialised) a deep copy of src, reusing the memory of tensors of equal shape: what an
 * asynchronous writer works on while training goes on. Where memory runs out dst is empty. */
int vx_ckpt_copy(struct vx_ckpt *dst, const struct vx_ckpt *src, struct vx_err *err);

/* Atomic and durable: path is the old file or the new one, whole. */
int vx_ckpt_write(const char *path, const struct vx_ckpt *c, struct vx_err *err);
/* Into ret, which need not be initialised; release it after success. VX_E_CORRUPT names a truncated
 * or lying file, VX_E_UNSUPPORTED a format newer than this voxeld. */
int vx_ckpt_read(const char *path, struct vx_ckpt *ret, struct vx_err *err);
/* The same without reading tensor data: tensors have names and shapes, param and momentum are NULL.
 */
int vx_ckpt_read_info(const char *path, struct vx_ckpt *ret, struct vx_err *err);

/* True where a run in environment now continues one in environment then bit for bit. Otherwise why
 * (may be NULL) gets "KEY was THEN, is NOW" for the first difference: the job then says trajectory:
 * approximate. */
bool vx_ckpt_same_environment(const json_t *then, const json_t *now, char *why, size_t size);

static inline void vx_own_ckpt(struct vx_ckpt *c) {
    vx_ckpt_release(c);
}
#define vx_auto_ckpt __attribute__((cleanup(vx_own_ckpt)))

#endif
