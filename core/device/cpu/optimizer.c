/* The last step of a learning program: the gradient's norm, clipping, SGD with Nesterov momentum.
 * Formulas: device/oplist.h. The norm is summed in double over pieces of fixed size, in order. */
#include "device/cpu/internal.h"

#include "base/err.h"

#include <math.h>

enum { PIECE = 16384 };

/* A run of one parameter. */
struct piece {
    int param;
    size_t first, count;
    double squares;
};

struct optimizer {
    size_t n;
    struct piece *pieces;
};

static void update(struct cpu_program *p, const struct optimizer *o, double norm) {
    const struct vx_optimizer *rule = &p->net.optimizer;
    struct vx_sgd sgd = {.scale = (float)fmin(1, (double)rule->clip_norm / (norm + 1e-6)),
                         .decay = rule->weight_decay,
                         .momentum = rule->momentum,
                         .rate = p->input->learning_rate};
#pragma omp parallel for schedule(static) num_threads(p->device->threads)
    for (size_t i = 0; i < o->n; i++) {
        const struct piece *k = &o->pieces[i];
        p->kernels->sgd(&sgd, p->state->weight[k->param] + k->first,
                        p->state->momentum[k->param] + k->first,
                        p->state->grad[k->param] + k->first, k->count);
    }
    p->state->version++;
}

static int run_optimizer(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    struct optimizer *o = data;
#pragma omp parallel for schedule(static) num_threads(p->device->threads)
    for (size_t i = 0; i < o->n; i++) {
        struct piece *k = &o->pieces[i];
        k->squares = p->kernels->square_sum(p->state->grad[k->param] + k->first, k->count);
    }
    double squares = 0;
    for (size_t i = 0; i < o->n; i++) {
        squares += o->pieces[i].squares;
    }
    p->result->grad_norm = sqrt(squares);
    if (p->mode == VX_MODE_TRAIN) {
        update(p, o, p->result->grad_norm);
    }
    return VX_OK;
}

int cpu_build_optimizer(struct cpu_program *p, struct vx_err *err) {
    struct optimizer *o = cpu_allocate(p, sizeof *o, err);
    size_t n = 0;
    for (int i = 0; i < p->net.n_params; i++) {
        n += cpu_trainable(p, i) ? (p->net.params[i].count + PIECE - 1) / PIECE : 0;
    }
    if (!o || !(o->pieces = cpu_allocate(p, (n + 1) * sizeof *o->pieces, err))) {
        return VX_E_NOMEM;
    }
    for (int i = 0; i < p->net.n_params; i++) {
        size_t count = p->net.params[i].count;
        for (size_t at = 0; cpu_trainable(p, i) && at < count; at += PIECE) {
            o->pieces[o->n++] = (struct piece){
                .param = i, .first = at, .count = count - at < PIECE ? count - at : PIECE};
        }
    }
    struct cpu_step step = cpu_step_named(p, -1, "optimizer");
    step.run = run_optimizer;
    step.data = o;
    return cpu_add_step(p, &step, (const struct cpu_view *[]){NULL}, err);
}
