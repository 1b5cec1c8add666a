/* A network without a library: a program whose logits are a given function of its input, for tests
 * of what happens around it. Only VX_MODE_INFER. */
#ifndef VX_TESTS_INFER_FAKE_DEVICE_H
#define VX_TESTS_INFER_FAKE_DEVICE_H

#include "device/device.h"
#include "device/oplist.h"

#include <stdint.h>

struct fake;

/* Logit of a class at voxel p (z, y, x) of a tile: image is [channels][patch]. */
typedef double (*fake_logit_fn)(const struct fake *f, const float *image, int cls,
                                const int64_t p[3]);

struct fake {
    struct vx_device device;
    struct vx_state state;
    struct vx_program program;
    struct vx_device_api api;
    struct vx_tensor tensor;
    struct vx_oplist net;
    fake_logit_fn logit;
    const float *const *images; /* of the last run; the caller's */
    uint64_t runs;
};

static inline int64_t fake_index(const struct fake *f, int channel, const int64_t p[3]) {
    const int *s = f->tensor.shape;
    return ((channel * s[2] + p[0]) * s[3] + p[1]) * s[4] + p[2];
}

static inline struct fake *fake_of(struct vx_program *program) {
    return (struct fake *)((char *)program - offsetof(struct fake, program));
}

static inline int fake_run(struct vx_program *program, const struct vx_run_input *in,
                           uint64_t *ret_ticket, struct vx_err *err) {
    (void)err;
    struct fake *f = fake_of(program);
    f->images = in->images;
    *ret_ticket = ++f->runs;
    return 0;
}

static inline int fake_wait(struct vx_program *program, uint64_t ticket, struct vx_run_result *ret,
                            struct vx_err *err) {
    (void)program;
    (void)ticket;
    (void)ret;
    (void)err;
    return 0;
}

static inline int fake_read_logits(struct vx_program *program, float *dst, struct vx_err *err) {
    (void)err;
    const struct fake *f = fake_of(program);
    const int *s = f->tensor.shape;
    for (int n = 0; n < s[0]; n++) {
        for (int k = 0; k < f->net.classes; k++) {
            for (int64_t z = 0; z < s[2]; z++) {
                for (int64_t y = 0; y < s[3]; y++) {
                    for (int64_t x = 0; x < s[4]; x++) {
                        const int64_t p[3] = {z, y, x};
                        *dst++ = (float)f->logit(f, f->images[n], k, p);
                    }
                }
            }
        }
    }
    return 0;
}

static inline void fake_init(struct fake *f, int batch, int channels, int classes,
                             const int patch[3], fake_logit_fn logit) {
    *f = (struct fake){.logit = logit};
    f->tensor =
        (struct vx_tensor){VX_TENSOR_INPUT, {batch, channels, patch[0], patch[1], patch[2]}};
    f->net.batch = batch;
    f->net.classes = classes;
    f->net.n_tensors = 1;
    f->net.tensors = &f->tensor;
    f->api = (struct vx_device_api){.abi = VX_DEVICE_ABI,
                                    .name = "fake",
                                    .run = fake_run,
                                    .wait = fake_wait,
                                    .read_logits = fake_read_logits};
    f->device.api = &f->api;
    f->state.device = &f->device;
    f->program.state = &f->state;
}

#endif
