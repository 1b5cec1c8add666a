/* VX_OP_NORM_ACT: instance normalisation, affine map and leaky ReLU in one go, both directions.
 *
 * A unit is one channel block of one sample; a chunk is NORM_CHUNK voxels of it, small enough to
 * stay in the first-level cache. Moments are taken per chunk (mean first, then deviations) and
 * merged in double in the order of chunks, so the result neither suffers from large means nor
 * depends on the number of threads. Where the threads share the units evenly, one thread does both
 * passes over a unit while it is in cache; otherwise all threads share every unit. */
#include "device/cpu/internal.h"

#include "base/err.h"

#include <math.h>

enum { NORM_CHUNK = 256 };

struct norm {
    const struct vx_op *op;
    size_t voxels, chunks;
    int units, blocks, block; /* units = samples * blocks */
    size_t unit_bytes, chunk_bytes;
    struct cpu_view x, out, copy, grad; /* grad: of x */
    int n_sources;
    struct cpu_view sources[VX_NORM_SOURCES];
    const struct cpu_tensor *shape;
    struct vx_norm_lanes *lanes; /* [units] */
    float *partial;              /* [units][chunks][2][block] */
};

typedef void (*chunk_fn)(struct cpu_program *p, struct norm *m, int unit, size_t chunk);
typedef void (*unit_fn)(struct norm *m, int unit);

/* Start of the chunk in a view of x's shape; NULL for no view. */
static void *chunk_at(const struct cpu_program *p, const struct norm *m,
                      const struct cpu_view *view, int unit, size_t chunk) {
    if (view->buffer < 0) {
        return NULL;
    }
    char *sample = cpu_at(p, view, unit / m->blocks);
    return sample + (size_t)(unit % m->blocks) * m->unit_bytes + chunk * m->chunk_bytes;
}

static size_t chunk_voxels(const struct norm *m, size_t chunk) {
    size_t left = m->voxels - chunk * NORM_CHUNK;
    return left < NORM_CHUNK ? left : NORM_CHUNK;
}

static float *partial_of(struct norm *m, int unit, size_t chunk) {
    return m->partial + ((size_t)unit * m->chunks + chunk) * 2 * (size_t)m->block;
}

static void moments_chunk(struct cpu_program *p, struct norm *m, int unit, size_t chunk) {
    p->kernels->moments(chunk_at(p, m, &m->x, unit, chunk), chunk_voxels(m, chunk),
                        partial_of(m, unit, chunk));
}

static void moments_unit(struct norm *m, int unit) {
    struct vx_norm_lanes *lanes = &m->lanes[unit];
    for (int c = 0; c < m->block; c++) {
        double mean = 0, squares = 0;
        for (size_t k = 0; k < m->chunks; k++) {
            mean += (double)partial_of(m, unit, k)[c] * (double)chunk_voxels(m, k);
        }
        mean /= (double)m->voxels;
        for (size_t k = 0; k < m->chunks; k++) {
            const float *part = partial_of(m, unit, k);
            double d = (double)part[c] - mean;
            squares += (double)part[m->block + c] + d * d * (double)chunk_voxels(m, k);
        }
        lanes->mean[c] = (float)mean;
        lanes->inverse_std[c] = (float)(1 / sqrt(squares / (double)m->voxels + (double)m->op->eps));
    }
}

static void forward_chunk(struct cpu_program *p, struct norm *m, int unit, size_t chunk) {
    p->kernels->norm_forward(&m->lanes[unit], chunk_at(p, m, &m->x, unit, chunk),
                             chunk_at(p, m, &m->out, unit, chunk),
                             chunk_at(p, m, &m->copy, unit, chunk), chunk_voxels(m, chunk));
}

static void sources_at(const struct cpu_program *p, const struct norm *m, int unit, size_t chunk,
                       const void *ret[VX_NORM_SOURCES]) {
    for (int i = 0; i < m->n_sources; i++) {
        ret[i] = chunk_at(p, m, &m->sources[i], unit, chunk);
    }
}

static void reduce_chunk(struct cpu_program *p, struct norm *m, int unit, size_t chunk) {
    const void *g[VX_NORM_SOURCES];
    sources_at(p, m, unit, chunk, g);
    p->kernels->norm_reduce(&m->lanes[unit], chunk_at(p, m, &m->x, unit, chunk), g, m->n_sources,
                            chunk_voxels(m, chunk), partial_of(m, unit, chunk));
}

static void reduce_unit(struct norm *m, int unit) {
    struct vx_norm_lanes *lanes = &m->lanes[unit];
    for (int c = 0; c < m->block; c++) {
        double sum = 0, sum_hat = 0;
        for (size_t k = 0; k < m->chunks; k++) {
            sum += (double)partial_of(m, unit, k)[c];
            sum_hat += (double)partial_of(m, unit, k)[m->block + c];
        }
        lanes->sum[c] = (float)(sum / (double)m->voxels);
        lanes->sum_hat[c] = (float)(sum_hat / (double)m->voxels);
    }
}

static void backward_chunk(struct cpu_program *p, struct norm *m, int unit, size_t chunk) {
    const void *g[VX_NORM_SOURCES];
    sources_at(p, m, unit, chunk, g);
    p->kernels->norm_backward(&m->lanes[unit], chunk_at(p, m, &m->x, unit, chunk), g, m->n_sources,
                              chunk_at(p, m, &m->grad, unit, chunk), chunk_voxels(m, chunk));
}

/* First over all chunks, then merge over the units, then second over all chunks. */
static void two_passes(struct cpu_program *p, struct norm *m, chunk_fn first, unit_fn merge,
                       chunk_fn second) {
    int threads = p->device->threads;
    if (m->units % threads == 0 || m->units >= 8 * threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int unit = 0; unit < m->units; unit++) {
            for (size_t k = 0; k < m->chunks; k++) {
                first(p, m, unit, k);
            }
            merge(m, unit);
            for (size_t k = 0; k < m->chunks; k++) {
                second(p, m, unit, k);
            }
        }
        return;
    }
    size_t all = (size_t)m->units * m->chunks;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (size_t i = 0; i < all; i++) {
            first(p, m, (int)(i / m->chunks), i % m->chunks);
        }
#pragma omp for schedule(static)
        for (int unit = 0; unit < m->units; unit++) {
            merge(m, unit);
        }
#pragma omp for schedule(static)
        for (size_t i = 0; i < all; i++) {
            second(p, m, (int)(i / m->chunks), i % m->chunks);
        }
    }
}

/* gamma and beta of this step; padded channels keep 0. */
static void load_affine(const struct cpu_program *p, struct norm *m) {
    const float *gamma = p->state->weight[m->op->weight], *beta = p->state->weight[m->op->bias];
    for (int c = 0; c < m->shape->c; c++) {
        int at = cpu_physical_channel(m->shape, c);
        for (int n = 0; n < m->shape->n; n++) {
            struct vx_norm_lanes *lanes = &m->lanes[n * m->blocks + at / m->block];
            lanes->gamma[at % m->block] = gamma[c];
            lanes->beta[at % m->block] = beta[c];
        }
    }
}

static int run_forward(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    struct norm *m = data;
    load_affine(p, m);
    two_passes(p, m, moments_chunk, moments_unit, forward_chunk);
    return VX_OK;
}

static void affine_gradients(const struct cpu_program *p, const struct norm *m) {
    float *gamma = p->state->grad[m->op->weight], *beta = p->state->grad[m->op->bias];
    for (int c = 0; c < m->shape->c; c++) {
        int at = cpu_physical_channel(m->shape, c);
        double sum = 0, sum_hat = 0;
        for (int n = 0; n < m->shape->n; n++) {
            const struct vx_norm_lanes *lanes = &m->lanes[n * m->blocks + at / m->block];
            sum += (double)lanes->sum[at % m->block] * (double)m->voxels;
            sum_hat += (double)lanes->sum_hat[at % m->block] * (double)m->voxels;
        }
        if (cpu_trainable(p, m->op->weight)) {
            gamma[c] = (float)sum_hat;
        }
        if (cpu_trainable(p, m->op->bias)) {
            beta[c] = (float)sum;
        }
    }
}

static int run_backward(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    struct norm *m = data;
    two_passes(p, m, reduce_chunk, reduce_unit, backward_chunk);
    affine_gradients(p, m);
    return VX_OK;
}

static struct norm *create(struct cpu_program *p, int op_index, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[op_index];
    const struct cpu_tensor *t = &p->tensors[op->out];
    int block = p->kernels->block;
    struct norm *m = cpu_allocate(p, sizeof *m, err);
    if (!m) {
        return NULL;
    }
    *m = (struct norm){.op = op,
                       .voxels = t->voxels,
                       .chunks = (t->voxels + NORM_CHUNK - 1) / NORM_CHUNK,
                       .units = t->n * t->channels / block,
                       .blocks = t->channels / block,
                       .block = block,
                       .unit_bytes = cpu_block_offset(p, t, 1),
                       .chunk_bytes = (size_t)NORM_CHUNK * (size_t)block * t->element,
                       .shape = t};
    m->lanes = cpu_allocate(p, (size_t)m->units * sizeof *m->lanes, err);
    size_t partials = (size_t)m->units * m->chunks * 2 * (size_t)block;
    m->partial = m->lanes ? cpu_allocate(p, partials * sizeof *m->partial, err) : NULL;
    for (int i = 0; m->partial && i < m->units; i++) {
        m->lanes[i].slope = op->slope;
    }
    return m->partial ? m : NULL;
}

int cpu_layer_norm(struct cpu_program *p, int op_index, void **ret, struct vx_err *err) {
    struct norm *m = create(p, op_index, err);
    if (!m) {
        return VX_E_NOMEM;
    }
    struct cpu_tensor *in = &p->tensors[m->op->in[0]], *out = &p->tensors[m->op->out];
    int rc = VX_OK;
    if (!p->learning && in->readers == 1 && in->concat < 0 && out->concat < 0) {
        out->value = in->value; /* nobody needs the input afterwards */
    } else {
        rc = cpu_place(p, out, false, err);
    }
    m->x = in->value;
    m->out = out->value;
    m->copy = cpu_same_view(&out->value, &out->slice) ? CPU_NO_VIEW : out->slice;
    struct cpu_step step = cpu_step_named(p, op_index, "forward");
    step.run = run_forward;
    step.data = m;
    rc = rc != VX_OK
             ? rc
             : cpu_add_step(p, &step, (const struct cpu_view *[]){&m->x, &m->out, &m->copy, NULL},
                            err);
    if (rc == VX_OK) {
        *ret = m;
    }
    return rc;
}

int cpu_layer_norm_backward(struct cpu_program *p, int op_index, void *made, struct vx_err *err) {
    struct norm *m = made;
    struct cpu_tensor *in = &p->tensors[m->op->in[0]], *out = &p->tensors[m->op->out];
    if (!in->wants_grad) {
        return vx_fail(err, VX_E_UNSUPPORTED, "bad_network",
                       "operation %d normalises the network's input", op_index);
    }
    int rc = cpu_merge_grads(p, out, VX_NORM_SOURCES, err);
    if (rc == VX_OK && in->readers == 1 && in->concat < 0) {
        m->grad = m->x; /* the last use of the input */
    } else if (rc == VX_OK) {
        rc = cpu_new_grad(p, in, &m->grad, err);
    }
    const struct cpu_view *uses[VX_NORM_SOURCES + 3] = {&m->x, &m->grad};
    m->n_sources = out->n_grads;
    for (int i = 0; rc == VX_OK && i < out->n_grads; i++) {
        m->sources[i] = out->grads[i];
        uses[2 + i] = &m->sources[i];
    }
    struct cpu_step step = cpu_step_named(p, op_index, "backward");
    step.run = run_backward;
    step.data = m;
    rc = rc != VX_OK ? rc : cpu_add_step(p, &step, uses, err);
    return rc != VX_OK ? rc : cpu_add_grad(p, in, &m->grad, err);
}
