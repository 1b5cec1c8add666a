/* The session's ring behind the engine's interface. */
#include "base/err.h"
#include "session/ring.h"
#include "train/source.h"

static uint32_t ring_depth(struct vx_train_source *source) {
    return vx_ring_depth(((struct vx_ring_source *)source)->ring);
}

static int ring_take(struct vx_train_source *source, uint64_t timeout_ns,
                     struct vx_train_sample *ret, struct vx_err *err) {
    uint64_t q;
    struct vx_sample sample;
    int rc = vx_ring_take(((struct vx_ring_source *)source)->ring, timeout_ns, &q, &sample);
    if (rc != VX_OK) {
        return vx_fail(err, rc, NULL, "no sample from the loader: %s", vx_status_text(rc));
    }
    ret->q = q;
    ret->image = sample.image;
    ret->label = sample.label;
    return VX_OK;
}

static void ring_release(struct vx_train_source *source, uint64_t q) {
    vx_ring_release(((struct vx_ring_source *)source)->ring, q);
}

void vx_ring_source_init(struct vx_ring_source *source, struct vx_ring *ring) {
    source->base.depth = ring_depth;
    source->base.take = ring_take;
    source->base.release = ring_release;
    source->base.capacity = ring->slots;
    source->ring = ring;
}
