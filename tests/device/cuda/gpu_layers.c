/* Where the milliseconds of a training step go: its launch steps one by one, timed by events on the
 * compute stream. Whole runs are put on the stream first, so that the host is ahead of the device
 * and no time between two events is a wait for the host. */
#include "gpu_check.h"
#include "gpu_host.h"

#include "base/err.h"
#include "device/cuda/internal.h"
#include "device/cuda/shape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COPIES = 20 };

struct layers {
    struct cuda_program *p;
    const struct cuda_api *api;
    const struct vx_run_input *in;
    int reps;
    struct CUevent_st **events; /* [n_steps + 1] */
    double *ms;                 /* [n_steps][reps] */
};

static void good(int code, const char *what) {
    struct vx_err err = {0};
    must(code ? vx_fail(&err, VX_E_DEVICE, NULL, "code %d", code) : VX_OK, &err, what);
}

static int by_value(const void *a, const void *b) {
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static double median(double *ms, int n) {
    qsort(ms, (size_t)n, sizeof *ms, by_value);
    return ms[n / 2];
}

static double between(const struct layers *l, int a, int b) {
    float ms = 0;
    good(l->api->event_ms(&ms, l->events[a], l->events[b]), "time of an event");
    return (double)ms;
}

static uint64_t start_run(const struct layers *l) {
    struct vx_err err = {0};
    uint64_t ticket = 0;
    must(vx_program_run(&l->p->base, l->in, &ticket, &err), &err, "run");
    return ticket;
}

static void wait_for(const struct layers *l, uint64_t ticket) {
    struct vx_err err = {0};
    must(vx_program_wait(&l->p->base, ticket, NULL, &err), &err, "wait");
}

static void time_steps(struct layers *l, int rep) {
    struct cuda_program *p = l->p;
    struct CUstream_st *stream = p->device->compute;
    start_run(l);
    uint64_t ticket = start_run(l);
    good(l->api->event_record(l->events[0], stream), "event");
    for (p->step = 0; p->step < p->n_steps; p->step++) {
        const struct cuda_step *s = &p->steps[p->step];
        good(s->run(p, s->data), s->name);
        good(l->api->event_record(l->events[p->step + 1], stream), "event");
    }
    good(l->api->event_sync(l->events[p->n_steps]), "steps");
    wait_for(l, ticket);
    for (int i = 0; i < p->n_steps; i++) {
        l->ms[i * l->reps + rep] = between(l, i, i + 1);
    }
}

/* A whole run behind another one, inputs and result included. */
static double time_run(const struct layers *l) {
    double ms[COPIES];
    for (int i = 0; i < COPIES; i++) {
        start_run(l);
        good(l->api->event_record(l->events[0], l->p->device->compute), "event");
        uint64_t ticket = start_run(l);
        good(l->api->event_record(l->events[1], l->p->device->compute), "event");
        wait_for(l, ticket);
        good(l->api->event_sync(l->events[1]), "run");
        ms[i] = between(l, 0, 1);
    }
    return median(ms, COPIES);
}

/* Bytes a second of a copy on the device, read and written. */
static double copy_rate(const struct layers *l) {
    size_t bytes = (size_t)1 << (network_stand_in ? 16 : 30);
    void *a = NULL, *b = NULL;
    double ms[COPIES];
    good(l->api->allocate(&a, bytes), "memory for a copy");
    good(l->api->allocate(&b, bytes), "memory for a copy");
    good(l->api->clear(a, bytes, l->p->device->compute), "copy");
    for (int i = 0; i < COPIES; i++) {
        good(l->api->event_record(l->events[0], l->p->device->compute), "event");
        good(l->api->copy(b, a, bytes, l->p->device->compute), "copy");
        good(l->api->event_record(l->events[1], l->p->device->compute), "event");
        good(l->api->event_sync(l->events[1]), "copy");
        ms[i] = between(l, 0, 1);
    }
    l->api->release(a);
    l->api->release(b);
    double middle = median(ms, COPIES);
    return middle > 0 ? 2e3 * (double)bytes / middle : 0;
}

/* --- what a step is --- */

struct step_is {
    const struct vx_op *op; /* NULL: of no layer */
    char what[32];
    bool conv;
    double gflop, bytes; /* bytes: that must cross the memory; 0: not known here */
};

static double tensor_bytes(const struct cuda_program *p, int tensor) {
    const struct cuda_tensor *t = &p->tensors[tensor];
    return (double)t->n * (double)t->voxels * t->padded * 2;
}

static double conv_gflop(const struct cuda_program *p, const struct vx_op *op) {
    struct dnn_conv c;
    cuda_conv_of(&p->net, op, &c);
    double all = 2e-9 * c.n * c.in_channels * c.out_channels;
    for (int a = 0; a < 3; a++) {
        all *= (double)c.kernel[a] * dnn_out_size(&c, a);
    }
    return all;
}

static double bytes_of(const struct cuda_program *p, const struct vx_op *op, const char *what) {
    if (!op) {
        bool update = strcmp(what, "update") == 0;
        /* weight and momentum in and out, gradient, copy; those of vectors have none */
        return update ? 20.0 * (double)p->state->n_filters + 20.0 * (double)p->state->n_vectors : 0;
    }
    const struct cuda_tensor *t = &p->tensors[op->out];
    bool copied = t->slice.buffer >= 0 && t->slice.buffer != t->value.buffer;
    double tensors = strcmp(what, "move") == 0       ? 2
                     : op->kind != VX_OP_NORM_ACT    ? 0
                     : strcmp(what, "forward") == 0  ? 3 + copied
                     : strcmp(what, "backward") == 0 ? 3 + 2 * t->n_grads
                                                     : 0;
    return tensors * tensor_bytes(p, op->out);
}

/* From the name that cuda_add_step gave. */
static struct step_is look_at(const struct cuda_program *p, int step) {
    struct step_is s = {0};
    const char *name = p->steps[step].name;
    int op = -1;
    if (sscanf(name, "%*s %d %31[^\n]", &op, s.what) == 2 && op >= 0 && op < p->net.n_ops) {
        s.op = &p->net.ops[op];
    } else {
        snprintf(s.what, sizeof s.what, "%.31s", name);
    }
    bool direction = strcmp(s.what, "forward") == 0 || strcmp(s.what, "data") == 0 ||
                     strcmp(s.what, "weights") == 0;
    s.conv = s.op && s.op->kind != VX_OP_NORM_ACT && direction;
    s.gflop = s.conv ? conv_gflop(p, s.op) : 0;
    s.bytes = s.conv ? 0 : bytes_of(p, s.op, s.what);
    return s;
}

static json_t *line_of(const struct cuda_program *p, const struct step_is *s, double ms) {
    char name[128];
    const char *layer = s->op && s->op->weight >= 0 ? p->net.params[s->op->weight].name : "";
    const char *end = strrchr(layer, '.');
    snprintf(name, sizeof name, "%.*s%s%s", (int)(end ? end - layer : 0), layer, end ? " " : "",
             s->what);
    json_t *o = json_pack("{s:s, s:b, s:o}", "step", name, "conv", s->conv, "ms", real(ms));
    if (s->gflop > 0) {
        json_object_set_new(o, "gflop", real(s->gflop));
        json_object_set_new(o, "tflops", real(s->gflop / ms));
    }
    if (s->bytes > 0) {
        json_object_set_new(o, "gb_per_s", real(s->bytes / ms * 1e-6));
    }
    return o;
}

/* --- the check --- */

static bool report(struct layers *l, const char *network) {
    double conv = 0, other = 0, bytes = 0, bytes_ms = 0, copy = copy_rate(l), whole = time_run(l);
    json_t *lines = json_array();
    for (int i = 0; i < l->p->n_steps; i++) {
        struct step_is s = look_at(l->p, i);
        double ms = median(l->ms + i * l->reps, l->reps);
        *(s.conv ? &conv : &other) += ms;
        bytes += s.bytes;
        bytes_ms += s.bytes > 0 ? ms : 0;
        json_array_append_new(lines, line_of(l->p, &s, ms));
    }
    print_line(json_pack("{s:s, s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "check", "layers",
                         "network", network, "steps", l->reps, "run_ms", real(whole), "conv_ms",
                         real(conv), "other_ms", real(other), "other_share",
                         real(other / (conv + other)), "other_gb_per_s",
                         real(bytes / bytes_ms * 1e-6), "copy_gb_per_s", real(copy * 1e-9),
                         "layers", lines),
               true);
    return true;
}

bool check_layers(const char *device, const char *network, int steps) {
    struct maker m;
    struct samples s;
    struct lent lent;
    struct vx_oplist *net = named(network, &m);
    samples_init(&s, net, 3);
    struct host h = open_host(device, net);
    struct vx_run_input in = lend(&h, &s, 0.01f, &lent);
    struct vx_program *program = compile(&h, VX_MODE_TRAIN, VX_BF16);
    struct cuda_program *p = (struct cuda_program *)program;
    struct layers l = {.p = p, .api = p->device->api, .in = &in, .reps = steps};
    l.events = calloc((size_t)p->n_steps + 2, sizeof *l.events);
    l.ms = calloc((size_t)p->n_steps * (size_t)steps, sizeof *l.ms);
    for (int i = 0; i < 3; i++) {
        run(program, &in); /* eager, captured, launched */
    }
    for (int i = 0; i <= p->n_steps; i++) {
        good(l.api->event_create(&l.events[i]), "event");
    }
    for (int i = 0; i < steps; i++) {
        time_steps(&l, i);
    }
    bool passed = report(&l, network);
    for (int i = 0; i <= p->n_steps; i++) {
        l.api->event_free(l.events[i]);
    }
    free(l.events);
    free(l.ms);
    vx_program_free(program);
    close_host(&h);
    lent_release(&lent);
    samples_release(&s);
    maker_release(&m);
    return passed;
}
