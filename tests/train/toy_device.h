/* A backend that trains nothing but behaves like one: each run mixes its inputs into every weight
 * and momentum by plain float arithmetic, so that any sample lost, repeated or out of order, and
 * any state not restored, changes the final bits. */
#ifndef VX_TESTS_TRAIN_TOY_DEVICE_H
#define VX_TESTS_TRAIN_TOY_DEVICE_H

#include "base/err.h"
#include "device/device.h"
#include "device/oplist.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct toy_device {
    struct vx_device base;
    int fail_at; /* run number that fails, counted over all programs; 0: none */
    int runs;
    bool varies;
};

struct toy_state {
    struct vx_state base;
    const struct vx_oplist *net;
    float **weight, **momentum;
};

struct toy_program {
    struct vx_program base;
    const struct vx_oplist *net;
    enum vx_mode mode;
    uint64_t ticket;
    struct vx_run_result result[2];
};

static float **toy_arrays(const struct vx_oplist *net) {
    float **a = calloc((size_t)net->n_params, sizeof(*a));
    for (int i = 0; i < net->n_params; i++) {
        a[i] = calloc(net->params[i].count, sizeof(float));
    }
    return a;
}

static void toy_arrays_free(const struct vx_oplist *net, float **a) {
    for (int i = 0; i < net->n_params; i++) {
        free(a[i]);
    }
    free(a);
}

static int toy_state_create(struct vx_device *device, const struct vx_oplist *net,
                            struct vx_state **ret, struct vx_err *err) {
    (void)err;
    struct toy_state *s = calloc(1, sizeof(*s));
    s->base.device = device;
    s->net = net;
    s->weight = toy_arrays(net);
    s->momentum = toy_arrays(net);
    *ret = &s->base;
    return VX_OK;
}

static void toy_state_free(struct vx_state *state) {
    struct toy_state *s = (struct toy_state *)state;
    toy_arrays_free(s->net, s->weight);
    toy_arrays_free(s->net, s->momentum);
    free(s);
}

static float *toy_part(struct vx_state *state, int param, enum vx_state_part part) {
    struct toy_state *s = (struct toy_state *)state;
    return part == VX_PART_WEIGHT ? s->weight[param] : s->momentum[param];
}

static int toy_upload(struct vx_state *state, int param, enum vx_state_part part, const float *src,
                      struct vx_err *err) {
    (void)err;
    memcpy(toy_part(state, param, part), src,
           ((struct toy_state *)state)->net->params[param].count * sizeof(float));
    return VX_OK;
}

static int toy_download(struct vx_state *state, int param, enum vx_state_part part, float *dst,
                        struct vx_err *err) {
    (void)err;
    memcpy(dst, toy_part(state, param, part),
           ((struct toy_state *)state)->net->params[param].count * sizeof(float));
    return VX_OK;
}

static int toy_compile(struct vx_state *state, const struct vx_oplist *net, enum vx_mode mode,
                       enum vx_precision precision, struct vx_program **ret, struct vx_err *err) {
    (void)precision, (void)err;
    struct toy_program *p = calloc(1, sizeof(*p));
    p->base.state = state;
    p->net = net;
    p->mode = mode;
    *ret = &p->base;
    return VX_OK;
}

static void toy_program_free(struct vx_program *program) {
    free(program);
}

/* A number that depends on every sample of the batch and on its place. */
static float toy_digest(const struct toy_program *p, const struct vx_run_input *in) {
    float x = 0;
    for (int j = 0; j < p->net->batch; j++) {
        x += (float)(j + 1) * (in->images[j][0] + 0.25f * (float)in->labels[j][0]);
    }
    return x;
}

static void toy_train(struct toy_state *s, float x, float lr, struct vx_run_result *r) {
    for (int i = 0; i < s->net->n_params; i++) {
        for (size_t n = 0; n < s->net->params[i].count; n++) {
            float g = sinf(x + s->weight[i][n] + (float)n);
            s->momentum[i][n] = 0.9f * s->momentum[i][n] + g;
            s->weight[i][n] -= lr * s->momentum[i][n];
        }
    }
    r->loss = (double)(s->weight[0][0] * x) / 3.0;
}

static int toy_run(struct vx_program *program, const struct vx_run_input *in, uint64_t *ret_ticket,
                   struct vx_err *err) {
    struct toy_program *p = (struct toy_program *)program;
    struct toy_state *s = (struct toy_state *)program->state;
    struct toy_device *d = (struct toy_device *)s->base.device;
    if (++d->runs == d->fail_at) {
        return vx_fail(err, VX_E_DEVICE, "toy", "the toy device failed as told");
    }
    struct vx_run_result *r = &p->result[++p->ticket % 2];
    memset(r, 0, sizeof(*r));
    float x = toy_digest(p, in);
    if (p->mode == VX_MODE_TRAIN) {
        toy_train(s, x, in->learning_rate, r);
    } else {
        r->loss = (double)x / 7.0 + (double)s->weight[0][0];
        for (int c = 0; c < p->net->classes; c++) {
            r->tp[c] = (int64_t)(fabsf(x) * 100) % 50 + c;
            r->fp[c] = (int64_t)(fabsf(x) * 10) % 20;
            r->fn[c] = in->labels[0][0] + 3;
        }
    }
    *ret_ticket = p->ticket;
    return VX_OK;
}

static int toy_wait(struct vx_program *program, uint64_t ticket, struct vx_run_result *ret,
                    struct vx_err *err) {
    struct toy_program *p = (struct toy_program *)program;
    if (ticket + 1 < p->ticket || ticket > p->ticket) {
        return vx_fail(err, VX_E_STATE, NULL, "that ticket is gone");
    }
    if (ret) {
        *ret = p->result[ticket % 2];
    }
    return VX_OK;
}

static void toy_info(struct vx_device *device, struct vx_device_info *ret) {
    *ret = (struct vx_device_info){.varies = ((struct toy_device *)device)->varies};
}

static const struct vx_device_api TOY_API = {.abi = VX_DEVICE_ABI,
                                             .name = "toy",
                                             .info = toy_info,
                                             .state_create = toy_state_create,
                                             .state_free = toy_state_free,
                                             .state_upload = toy_upload,
                                             .state_download = toy_download,
                                             .compile = toy_compile,
                                             .program_free = toy_program_free,
                                             .run = toy_run,
                                             .wait = toy_wait};

#endif
