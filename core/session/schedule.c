#include "session/schedule.h"

/* Samples of one epoch. */
static uint64_t epoch_samples(const struct vx_sample_schedule *s) {
    return (uint64_t)s->batch * ((uint64_t)s->train_iterations + s->val_iterations);
}

struct vx_sample_ref vx_sample_at(const struct vx_sample_schedule *s, uint64_t q) {
    uint64_t per_epoch = epoch_samples(s);
    uint64_t epoch = q / per_epoch, rest = q % per_epoch;
    uint64_t train = (uint64_t)s->train_iterations * s->batch;
    struct vx_sample_ref r = {VX_STREAM_TRAIN, (uint32_t)epoch, 0, (uint32_t)(rest % s->batch)};
    if (rest < train) {
        r.k = epoch * s->train_iterations + rest / s->batch;
    } else {
        r.stream = VX_STREAM_VAL;
        r.k = epoch * s->val_iterations + (rest - train) / s->batch;
    }
    return r;
}

uint64_t vx_sample_q(const struct vx_sample_schedule *s, uint32_t stream, uint64_t k) {
    uint64_t per_epoch = epoch_samples(s);
    if (stream == VX_STREAM_TRAIN) {
        return k / s->train_iterations * per_epoch + k % s->train_iterations * s->batch;
    }
    return k / s->val_iterations * per_epoch +
           (s->train_iterations + k % s->val_iterations) * (uint64_t)s->batch;
}

uint64_t vx_sample_end(const struct vx_sample_schedule *s) {
    return epoch_samples(s) * s->epochs;
}
