/* One augmentation worker: claims samples of the ring, reads, augments, publishes, until told to
 * leave.
 *
 * Runs in a process of its own (or a thread, in tests). It maps no device, writes no file, and
 * holds one scratch buffer; the prepared voxels come straight from the cache into the slot wherever
 * the sample is not interpolated. */
#ifndef VX_LOADER_WORKER_H
#define VX_LOADER_WORKER_H

#include <stdbool.h>
#include <stdint.h>

struct vx_control;
struct vx_err;
struct vx_pretence;
struct vx_recipe;
struct vx_ring;
struct vx_timeline;

/* Everything borrowed for the duration of the call. */
struct vx_worker_config {
    uint16_t id; /* index in the worker tables, < VX_WORKERS_MAX */
    struct vx_control *control;
    struct vx_timeline *timeline; /* mapped writable */
    struct vx_ring *ring;
    const struct vx_recipe *recipe;
    const char *cache_dir; /* the prepared store, DATASET/voxeld/KEY */
    int max_open_files;    /* with the knob keep_files_open; 0: by the descriptor limit */
    const char *stage_dir; /* copies of cases (cache/stage.h), read while the knob says so; NULL */
    int held_fd;           /* cases in memory (cache/held.h), the same; 0: none */
    /* Tells the supervisor that a case's files are damaged or gone. The worker then waits for its
     * answer (vx_control_answer) and reads the sample once more. NULL: nobody to tell. */
    void (*damaged)(void *ctx, uint32_t case_index, const struct vx_err *err);
    void *ctx;
    const struct vx_pretence *pretence; /* benchmarks only; NULL: real samples */
};

/* Returns VX_OK when told to leave (control: VX_WANT_LEAVE, or gate VX_GATE_STOPPED) and every
 * claim is given back. A case that cannot be read, and that nobody mended, ends it with the
 * reader's code, VX_E_CORRUPT as a rule, err->where naming the file, and *ret_case (NULL allowed)
 * the case index; the supervisor decides (retry, quarantine, fail). A ring that does not fit the
 * recipe is VX_E_INVALID. */
int vx_worker_run(const struct vx_worker_config *config, uint32_t *ret_case, struct vx_err *err);

#endif
