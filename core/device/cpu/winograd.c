/* Winograd convolutions as steps: which layers they suit, units and threads, weights in and out.
 * The arithmetic is in simd/winograd.h. Each direction stands for itself, so a layer may take its
 * gradient of the weights from oneDNN and the rest from here. */
#include "device/cpu/internal.h"

#include "base/err.h"
#include "device/cpu/simd/winograd.h"

#include <omp.h>
#include <string.h>

/* Tiles of a unit: enough to reuse weights, few enough for transforms to stay in a cache of
 * CACHE_BYTES. The gradient of the weights reads and writes dU once per unit and plane, which
 * outweighs transforms that spill. Planes of fewer than LEAST_TILES are not worth it (measured:
 * with 12, forward is as fast as oneDNN, the gradient of the weights half as fast). */
enum { MOST_TILES = 48, LEAST_TILES = 20, CACHE_BYTES = 384 << 10, WEIGHTS_CACHE_BYTES = 4 << 20 };

struct cpu_wino {
    const struct vx_op *op;
    int n; /* samples */
    struct vx_wino shape;
    bool turned;       /* the gradient of the input: channels change places, kernels are turned */
    struct cpu_view u; /* packed weights */
    struct cpu_view x, y;
    size_t scratch, weights; /* floats: of a unit, of dU */
    int groups, chunks;      /* of tile rows; of planes */
};

bool cpu_wino_suits(const struct cpu_program *p, const struct cpu_conv_shape *s) {
    if (!p->kernels->wino_forward || s->plain || s->float_out || s->bias) {
        return false;
    }
    bool deep = s->kernel[0] == 3 && s->pad[0] == 1, flat = s->kernel[0] == 1 && s->pad[0] == 0;
    bool square = s->kernel[1] == 3 && s->kernel[2] == 3 && s->pad[1] == 1 && s->pad[2] == 1;
    int tiles = (s->in[1] + 1) / 2 * ((s->in[2] + 1) / 2);
    bool dense = s->stride[0] == 1 && s->stride[1] == 1 && s->stride[2] == 1;
    return (deep || flat) && square && dense && tiles >= LEAST_TILES;
}

static void cut_into_units(const struct cpu_program *p, struct cpu_wino *w, int cache_bytes) {
    struct vx_wino *g = &w->shape;
    int columns = vx_wino_tile_columns(g), tile_rows = vx_wino_tile_rows(g);
    int tile_bytes = VX_WINO_COEFS * (g->planes * g->in_channels + g->out_channels) * 4;
    int tiles = cache_bytes / tile_bytes < MOST_TILES ? cache_bytes / tile_bytes : MOST_TILES;
    int most = tiles / columns > 1 ? tiles / columns : 1;
    w->groups = (tile_rows + most - 1) / most;
    g->rows = (tile_rows + w->groups - 1) / w->groups;
    w->groups = (tile_rows + g->rows - 1) / g->rows;
    /* A chunk repeats two planes of its neighbours' transforms. */
    int threads = p->device->threads;
    w->chunks = 1;
    while (w->n * w->groups * w->chunks % threads != 0 &&
           w->n * w->groups * w->chunks < 8 * threads && g->size[0] / (w->chunks + 1) >= 4) {
        w->chunks++;
    }
    w->scratch = vx_wino_scratch(g, p->kernels->block);
    w->weights = vx_wino_weights(g);
}

static struct vx_wino_unit unit_at(const struct cpu_wino *w, int i, int *ret_sample) {
    int chunk = i % w->chunks, group = i / w->chunks % w->groups;
    int tile_rows = vx_wino_tile_rows(&w->shape), end = (group + 1) * w->shape.rows;
    *ret_sample = i / w->chunks / w->groups;
    return (struct vx_wino_unit){.first_row = group * w->shape.rows,
                                 .end_row = end < tile_rows ? end : tile_rows,
                                 .first_plane = w->shape.size[0] * chunk / w->chunks,
                                 .end_plane = w->shape.size[0] * (chunk + 1) / w->chunks};
}

/* U = G g G' of one 3 x 3 kernel, 16 values stride apart. */
static void transform_kernel(const float *g, bool turned, float *u, size_t stride) {
    float t[4][3];
    for (int x = 0; x < 3; x++) {
        float a = g[turned ? 8 - x : x], b = g[turned ? 5 - x : 3 + x];
        float c = g[turned ? 2 - x : 6 + x];
        t[0][x] = a;
        t[1][x] = 0.5f * (a + b + c);
        t[2][x] = 0.5f * (a - b + c);
        t[3][x] = c;
    }
    for (int k = 0; k < 4; k++) {
        float *to = u + (size_t)k * 4 * stride;
        to[0] = t[k][0];
        to[stride] = 0.5f * (t[k][0] + t[k][1] + t[k][2]);
        to[2 * stride] = 0.5f * (t[k][0] - t[k][1] + t[k][2]);
        to[3 * stride] = t[k][2];
    }
}

/* dg = G' dU G, the adjoint. */
static void gather_kernel(const float *du, size_t stride, float *g) {
    float t[3][4];
    for (int x = 0; x < 4; x++) {
        float a = du[(size_t)x * stride], b = du[(size_t)(4 + x) * stride];
        float c = du[(size_t)(8 + x) * stride], d = du[(size_t)(12 + x) * stride];
        t[0][x] = a + 0.5f * (b + c);
        t[1][x] = 0.5f * (b - c);
        t[2][x] = 0.5f * (b + c) + d;
    }
    for (int y = 0; y < 3; y++) {
        g[3 * y] = t[y][0] + 0.5f * (t[y][1] + t[y][2]);
        g[3 * y + 1] = 0.5f * (t[y][1] - t[y][2]);
        g[3 * y + 2] = 0.5f * (t[y][1] + t[y][2]) + t[y][3];
    }
}

void cpu_wino_pack(const struct cpu_program *p, const struct cpu_wino *w, int o) {
    const struct cpu_tensor *in = &p->tensors[w->op->in[0]], *out = &p->tensors[w->op->out];
    int planes = w->shape.planes, block = p->kernels->block, to = cpu_physical_channel(out, o);
    const float *g = p->state->weight[w->op->weight] + (size_t)o * in->c * planes * 9;
    float *u = cpu_at(p, &w->u, 0);
    size_t stride = w->weights / VX_WINO_COEFS;
    for (int i = 0; i < in->c; i++) {
        int from = cpu_physical_channel(in, i);
        for (int k = 0; k < planes; k++, g += 9) {
            size_t at = w->turned ? vx_wino_weight_at(&w->shape, block, 0, from, to, planes - 1 - k)
                                  : vx_wino_weight_at(&w->shape, block, 0, to, from, k);
            transform_kernel(g, w->turned, u + at, stride);
        }
    }
}

static float *room_of(const struct cpu_program *p, size_t floats, int thread) {
    return (float *)cpu_at(p, &(struct cpu_view){.buffer = p->scratch}, 0) +
           floats * (size_t)thread;
}

static int run_forward(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    const struct cpu_wino *w = data;
    int units = w->n * w->groups * w->chunks;
    const float *u = cpu_at(p, &w->u, 0);
#pragma omp parallel for schedule(dynamic) num_threads(p->device->threads)
    for (int i = 0; i < units; i++) {
        int sample;
        struct vx_wino_unit unit = unit_at(w, i, &sample);
        p->kernels->wino_forward(&w->shape, &unit, cpu_at(p, &w->x, sample), u,
                                 cpu_at(p, &w->y, sample),
                                 room_of(p, w->scratch, omp_get_thread_num()));
    }
    return VX_OK;
}

/* Sums the threads' dU into the first, in the order of threads, and brings it to the state. */
static void finish_weights(struct cpu_program *p, const struct cpu_wino *w) {
    const struct cpu_tensor *in = &p->tensors[w->op->in[0]], *out = &p->tensors[w->op->out];
    int threads = p->device->threads, planes = w->shape.planes, block = p->kernels->block;
    size_t room = w->scratch + w->weights, stride = w->weights / VX_WINO_COEFS;
    float *du = room_of(p, room, 0);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (size_t i = 0; i < w->weights; i += 16) {
            for (int t = 1; t < threads; t++) {
                const float *part = room_of(p, room, t) + i;
                for (size_t k = 0; k < 16; k++) {
                    du[i + k] += part[k];
                }
            }
        }
#pragma omp for schedule(static)
        for (int o = 0; o < out->c; o++) {
            float *g = p->state->grad[w->op->weight] + (size_t)o * in->c * planes * 9;
            int to = cpu_physical_channel(out, o);
            for (int i = 0; i < in->c; i++) {
                int from = cpu_physical_channel(in, i);
                for (int k = 0; k < planes; k++, g += 9) {
                    gather_kernel(du + vx_wino_weight_at(&w->shape, block, 0, to, from, k), stride,
                                  g);
                }
            }
        }
    }
}

static int run_weights(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    const struct cpu_wino *w = data;
    int units = w->n * w->groups * w->chunks, threads = p->device->threads;
    size_t room = w->scratch + w->weights;
    /* The share of a thread depends on the number of threads only, and so do the sums' bits. */
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) {
        float *du = room_of(p, room, t);
        memset(du, 0, w->weights * sizeof *du);
        for (int i = units * t / threads; i < units * (t + 1) / threads; i++) {
            int sample;
            struct vx_wino_unit unit = unit_at(w, i, &sample);
            p->kernels->wino_weights(&w->shape, &unit, cpu_at(p, &w->x, sample),
                                     cpu_at(p, &w->y, sample), du, du + w->weights);
        }
    }
    finish_weights(p, w);
    return VX_OK;
}

static struct cpu_wino *create(struct cpu_program *p, int op_index, bool turned,
                               const struct cpu_view *x, const struct cpu_view *y,
                               struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[op_index];
    const struct cpu_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    struct cpu_wino *w = cpu_allocate(p, sizeof *w, err);
    if (!w) {
        return NULL;
    }
    *w = (struct cpu_wino){.op = op, .n = in->n, .turned = turned, .x = *x, .y = *y};
    w->shape.in_channels = turned ? out->channels : in->channels;
    w->shape.out_channels = turned ? in->channels : out->channels;
    w->shape.planes = op->kernel[0];
    memcpy(w->shape.size, in->size, sizeof w->shape.size);
    return w;
}

int cpu_wino_forward(struct cpu_program *p, int op_index, bool turned, const struct cpu_view *x,
                     const struct cpu_view *y, struct vx_err *err) {
    struct cpu_wino *w = create(p, op_index, turned, x, y, err);
    if (!w) {
        return VX_E_NOMEM;
    }
    cut_into_units(p, w, CACHE_BYTES);
    size_t threads = (size_t)p->device->threads;
    int rc = cpu_need_scratch(p, threads * w->scratch * sizeof(float), err);
    rc = rc != VX_OK ? rc : cpu_new_bytes(p, w->weights * sizeof(float), &w->u, err);
    if (rc != VX_OK) {
        return rc;
    }
    cpu_keep(p, &w->u);
    struct cpu_layout layout = {.param = w->op->weight, .rows = p->tensors[w->op->out].c};
    rc = cpu_add_pack(p, &layout, &w->u, sizeof(float), w, err);
    struct cpu_step step = cpu_step_named(p, op_index, turned ? "backward data" : "forward");
    step.implementation = "own:winograd";
    step.run = run_forward;
    step.data = w;
    const struct cpu_view *uses[] = {&w->x, &w->y, &w->u, NULL};
    return rc != VX_OK ? rc : cpu_add_step(p, &step, uses, err);
}

int cpu_wino_weights(struct cpu_program *p, int op_index, const struct cpu_view *x,
                     const struct cpu_view *dy, struct vx_err *err) {
    struct cpu_wino *w = create(p, op_index, false, x, dy, err);
    if (!w) {
        return VX_E_NOMEM;
    }
    cut_into_units(p, w, WEIGHTS_CACHE_BYTES);
    size_t room = (w->scratch + w->weights) * sizeof(float);
    int rc = cpu_need_scratch(p, (size_t)p->device->threads * room, err);
    struct cpu_step step = cpu_step_named(p, op_index, "backward weights");
    step.implementation = "own:winograd";
    step.run = run_weights;
    step.data = w;
    const struct cpu_view *uses[] = {&w->x, &w->y, NULL};
    return rc != VX_OK ? rc : cpu_add_step(p, &step, uses, err);
}
