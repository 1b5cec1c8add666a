/* Milliseconds of whole runs, by the host's clock. */
#include "gpu_check.h"
#include "gpu_host.h"

#include "base/clock.h"
#include "base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b) {
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Median over runs that follow each other as a training's do: started before the one before has
 * been waited for. */
static double median_ms(struct vx_program *p, const struct vx_run_input *in, int steps) {
    double *ms = malloc((size_t)steps * sizeof *ms);
    struct vx_err err = {0};
    uint64_t ticket = 0, before = 0;
    for (int i = 0; i < 4; i++) {
        run(p, in);
    }
    must(vx_program_run(p, in, &ticket, &err), &err, "run");
    uint64_t last = vx_now_ns();
    for (int i = 0; i < steps; i++) {
        before = ticket;
        must(vx_program_run(p, in, &ticket, &err), &err, "run");
        must(vx_program_wait(p, before, NULL, &err), &err, "wait");
        uint64_t now = vx_now_ns();
        ms[i] = (double)(now - last) * 1e-6;
        last = now;
    }
    must(vx_program_wait(p, ticket, NULL, &err), &err, "wait");
    qsort(ms, (size_t)steps, sizeof *ms, by_value);
    double median = ms[steps / 2];
    free(ms);
    return median;
}

struct speed {
    double ms[3]; /* TRAIN, VALIDATE, INFER */
    double planned, loss;
    size_t memory;
};

static void measure(struct host *h, const struct vx_run_input *in, int steps, struct speed *ret) {
    static const enum vx_mode modes[] = {VX_MODE_TRAIN, VX_MODE_VALIDATE, VX_MODE_INFER};
    *ret = (struct speed){0};
    for (int i = 0; i < 3; i++) {
        uint64_t start = vx_now_ns();
        struct vx_program *p = compile(h, modes[i], VX_BF16);
        ret->planned += (double)(vx_now_ns() - start) * 1e-9;
        ret->ms[i] = median_ms(p, in, steps);
        if (i == 0) {
            ret->loss = run(p, in).loss;
            ret->memory = vx_program_memory(p);
        }
        vx_program_free(p);
    }
}

bool check_speed(const char *device, const char *network, int steps) {
    struct maker m;
    struct samples s;
    struct lent l;
    struct speed v;
    struct vx_oplist *net = named(network, &m);
    samples_init(&s, net, 3);
    struct host h = open_host(device, net);
    struct vx_run_input in = lend(&h, &s, 0.01f, &l);
    measure(&h, &in, steps, &v);
    bool passed = isfinite(v.loss);
    print_line(json_pack("{s:s, s:s, s:s, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:I}", "check",
                         "speed", "network", network, "precision", "bf16", "batch", net->batch,
                         "steps", steps, "train_ms", real(v.ms[0]), "validate_ms", real(v.ms[1]),
                         "infer_ms", real(v.ms[2]), "plan_seconds", real(v.planned), "loss",
                         real(v.loss), "memory_bytes", (json_int_t)v.memory),
               passed);
    close_host(&h);
    lent_release(&l);
    samples_release(&s);
    maker_release(&m);
    return passed;
}
