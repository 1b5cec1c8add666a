/* Milliseconds of whole runs, by the host's clock. */
#include "gpu_check.h"
#include "gpu_host.h"

#include "base/clock.h"
#include "base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The value behind bf16: a backend that does not know it refuses it. */
enum { FP16 = VX_BF16 + 1 };

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

/* False where the backend has no such precision; err says why. */
static bool measure(struct host *h, const struct vx_run_input *in, int steps,
                    enum vx_precision precision, struct speed *ret, struct vx_err *err) {
    static const enum vx_mode modes[] = {VX_MODE_TRAIN, VX_MODE_VALIDATE, VX_MODE_INFER};
    *ret = (struct speed){0};
    for (int i = 0; i < 3; i++) {
        uint64_t start = vx_now_ns();
        struct vx_program *p = NULL;
        int rc = vx_program_compile(h->state, h->net, modes[i], precision, &p, err);
        if (rc == VX_E_UNSUPPORTED) {
            return false;
        }
        must(rc, err, "compile");
        ret->planned += (double)(vx_now_ns() - start) * 1e-9;
        ret->ms[i] = median_ms(p, in, steps);
        if (i == 0) {
            ret->loss = run(p, in).loss;
            ret->memory = vx_program_memory(p);
        }
        vx_program_free(p);
    }
    return true;
}

bool check_speed(const char *device, const char *network, int steps, const char *precision) {
    struct maker m;
    struct samples s;
    struct lent l;
    struct speed v;
    struct vx_err err = {0};
    struct vx_oplist *net = named(network, &m);
    samples_init(&s, net, 3);
    struct host h = open_host(device, net);
    struct vx_run_input in = lend(&h, &s, 0.01f, &l);
    bool half = strcmp(precision, "fp16") == 0, passed = true;
    if (measure(&h, &in, steps, half ? (enum vx_precision)FP16 : VX_BF16, &v, &err)) {
        passed = isfinite(v.loss);
        print_line(json_pack("{s:s, s:s, s:s, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:I}", "check",
                             "speed", "network", network, "precision", precision, "batch",
                             net->batch, "steps", steps, "train_ms", real(v.ms[0]), "validate_ms",
                             real(v.ms[1]), "infer_ms", real(v.ms[2]), "plan_seconds",
                             real(v.planned), "loss", real(v.loss), "memory_bytes",
                             (json_int_t)v.memory),
                   passed);
    } else {
        passed = half; /* bf16 must be there */
        print_line(json_pack("{s:s, s:s, s:s, s:s}", "check", "speed", "network", network,
                             "precision", precision, "skipped", err.text),
                   passed);
    }
    close_host(&h);
    lent_release(&l);
    samples_release(&s);
    maker_release(&m);
    return passed;
}
