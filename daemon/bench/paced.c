#include "daemon/bench/paced.h"

#include "base/clock.h"
#include "base/err.h"
#include "device/device.h"
#include "device/oplist.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

/* One device a process, as there is one step a process. */
static struct {
    struct vx_paced_options o;
    uint64_t busy_until; /* when the last run ends; 0: nothing has run yet */
    uint64_t began, idle_ns, runs;
} paced;

struct paced_state {
    struct vx_state base;
    const struct vx_oplist *net; /* borrowed */
};

struct paced_program {
    struct vx_program base;
    uint64_t tickets;
    uint64_t done_at[2]; /* of the last two tickets */
};

static const struct vx_device_api api;

static int paced_open(int index, const struct vx_device_options *options, struct vx_device **ret,
                      struct vx_err *err) {
    (void)index;
    (void)options;
    *ret = calloc(1, sizeof **ret);
    if (!*ret) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the pretended device");
    }
    (*ret)->api = &api;
    prctl(PR_SET_TIMERSLACK, 1); /* wake at the deadline itself, not up to 50 us later */
    return VX_OK;
}

static void paced_close(struct vx_device *device) {
    free(device);
}

static void paced_info(struct vx_device *device, struct vx_device_info *ret) {
    (void)device;
    *ret = (struct vx_device_info){
        .name = VX_PACED_DEVICE, .isa = "none", .library = "none", .threads = 0, .bf16 = true};
    snprintf(ret->model, sizeof ret->model, "pretended, %.3f ms a step",
             (double)paced.o.step_ns * 1e-6);
}

static int paced_state_create(struct vx_device *device, const struct vx_oplist *net,
                              struct vx_state **ret, struct vx_err *err) {
    struct paced_state *s = calloc(1, sizeof *s);
    if (!s) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the pretended device");
    }
    s->base.device = device;
    s->net = net;
    *ret = &s->base;
    return VX_OK;
}

static void paced_state_free(struct vx_state *state) {
    free(state);
}

/* Nothing is kept: there is nothing to train. */
static int paced_upload(struct vx_state *state, int param, enum vx_state_part part,
                        const float *src, struct vx_err *err) {
    (void)state;
    (void)param;
    (void)part;
    (void)src;
    (void)err;
    return VX_OK;
}

static int paced_download(struct vx_state *state, int param, enum vx_state_part part, float *dst,
                          struct vx_err *err) {
    (void)part;
    (void)err;
    const struct vx_oplist *net = ((struct paced_state *)state)->net;
    memset(dst, 0, net->params[param].count * sizeof *dst);
    return VX_OK;
}

static int paced_compile(struct vx_state *state, const struct vx_oplist *net, enum vx_mode mode,
                         enum vx_precision precision, struct vx_program **ret, struct vx_err *err) {
    (void)net;
    (void)mode;
    (void)precision;
    struct paced_program *p = calloc(1, sizeof *p);
    if (!p) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the pretended device");
    }
    p->base.state = state;
    *ret = &p->base;
    return VX_OK;
}

static void paced_program_free(struct vx_program *program) {
    free(program);
}

static size_t paced_program_memory(struct vx_program *program) {
    (void)program;
    return 0;
}

/* Of the run that starts now. */
static uint64_t length(uint64_t start) {
    paced.began = paced.began ? paced.began : start;
    double hours = (double)(start - paced.began) * 1e-9 / 3600;
    bool spike = paced.o.spike_every && (paced.runs + 1) % paced.o.spike_every == 0;
    return (uint64_t)((double)paced.o.step_ns * (1 + paced.o.growth * hours)) +
           (spike ? paced.o.spike_ns : 0);
}

static int paced_run(struct vx_program *program, const struct vx_run_input *in,
                     uint64_t *ret_ticket, struct vx_err *err) {
    (void)in;
    (void)err;
    struct paced_program *p = (struct paced_program *)program;
    uint64_t now = vx_now_ns(), start = now > paced.busy_until ? now : paced.busy_until;
    paced.idle_ns += paced.busy_until ? start - paced.busy_until : 0;
    paced.busy_until = start + length(start);
    p->tickets++;
    p->done_at[p->tickets % 2] = paced.busy_until;
    *ret_ticket = p->tickets;
    paced.runs++;
    if (paced.o.on_run) {
        paced.o.on_run(paced.o.ctx, paced.runs);
    }
    return VX_OK;
}

static int paced_wait(struct vx_program *program, uint64_t ticket, struct vx_run_result *ret,
                      struct vx_err *err) {
    const struct paced_program *p = (struct paced_program *)program;
    if (ticket == 0 || ticket > p->tickets || ticket + 2 <= p->tickets) {
        return vx_fail(err, VX_E_STATE, NULL, "run %llu of the pretended device is not known",
                       (unsigned long long)ticket);
    }
    uint64_t done = p->done_at[ticket % 2];
    struct timespec t = {(time_t)(done / 1000000000u), (long)(done % 1000000000u)};
    while (vx_now_ns() < done &&
           clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
    }
    if (ret) {
        *ret = (struct vx_run_result){.loss = NAN, .ended_ns = done};
    }
    return VX_OK;
}

static int paced_read_logits(struct vx_program *program, float *dst, struct vx_err *err) {
    (void)program;
    (void)dst;
    return vx_fail(err, VX_E_UNSUPPORTED, NULL, "a pretended device predicts nothing");
}

static const struct vx_device_api api = {
    .abi = VX_DEVICE_ABI,
    .name = VX_PACED_DEVICE,
    .open = paced_open,
    .close = paced_close,
    .info = paced_info,
    .state_create = paced_state_create,
    .state_free = paced_state_free,
    .state_upload = paced_upload,
    .state_download = paced_download,
    .compile = paced_compile,
    .program_free = paced_program_free,
    .program_memory = paced_program_memory,
    .run = paced_run,
    .wait = paced_wait,
    .read_logits = paced_read_logits,
};

int vx_paced_register(const struct vx_paced_options *options, struct vx_err *err) {
    paced.o = *options;
    return vx_device_register(&api, err);
}

uint64_t vx_paced_idle_ns(void) {
    return paced.idle_ns;
}
