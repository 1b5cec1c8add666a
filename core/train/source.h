/* Where training samples come from: a small interface, so that the engine runs from the session's
 * ring as well as from arrays in a test.
 *
 * Samples are numbered by q in the order of the job's schedule (epoch by epoch, training batches,
 * then validation batches); a source hands them out in that order, beginning where it was set up.
 * Pointers stay valid until the sample is released. Thread: the engine's. */
#ifndef VX_TRAIN_SOURCE_H
#define VX_TRAIN_SOURCE_H

#include <stdint.h>

struct vx_err;
struct vx_ring;

struct vx_train_sample {
    uint64_t q;
    const float *image;   /* [C][D][H][W] */
    const int16_t *label; /* [D][H][W], 0 <= label < classes */
};

struct vx_train_source {
    /* Samples that can be ready or held at a time; 0: unknown, perhaps no more than a batch. */
    uint32_t capacity;
    /* Samples ready from the next one on without a gap. */
    uint32_t (*depth)(struct vx_train_source *source);
    /* The next sample, waiting at most timeout_ns. VX_E_TIMEOUT: none yet; VX_E_CANCELLED: the
     * session is being stopped; anything else ends the training. */
    int (*take)(struct vx_train_source *source, uint64_t timeout_ns, struct vx_train_sample *ret,
                struct vx_err *err);
    void (*release)(struct vx_train_source *source, uint64_t q);
};

/* The session's ring as a source. ring is borrowed, outlived by the session. */
struct vx_ring_source {
    struct vx_train_source base;
    struct vx_ring *ring;
};
void vx_ring_source_init(struct vx_ring_source *source, struct vx_ring *ring);

#endif
