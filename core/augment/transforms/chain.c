#include "augment/transforms/chain.h"

#include "base/clock.h"

#include <assert.h>

/* Values of a block: 16 KiB, a third of the first cache of today's CPUs. */
enum { BLOCK = 4096 };

void vx_aug_lap(uint64_t *ns, enum vx_transform t, uint64_t *mark) {
    if (ns) {
        uint64_t now = vx_now_ns();
        ns[t] += now - *mark;
        *mark = now;
    }
}

void vx_chain_add(struct vx_chain *c, enum vx_op_kind kind, enum vx_transform transform, float v0,
                  float v1, float v2, float v3) {
    assert(c->n_ops < VX_OPS_MAX);
    c->op[c->n_ops++] = (struct vx_op){kind, transform, {v0, v1, v2, v3}};
}

void vx_chain_make(struct vx_chain *c, vx_plane_fn *plane, void *ctx, enum vx_transform transform) {
    assert(!c->plane && !c->n_ops);
    c->plane = plane;
    c->plane_ctx = ctx;
    c->plane_transform = transform;
}

/* One operation on rows * width values from index `at` of the channel on. */
static void run_op(const struct vx_chain *c, const struct vx_op *op, size_t at, size_t rows,
                   size_t width) {
    const struct vx_aug_kernels *k = c->kernels;
    float *x = c->x + at;
    size_t n = rows * width;
    switch (op->kind) {
    case VX_OP_REVERSE:
        for (size_t r = 0; r < rows; r++) {
            k->reverse(x + r * width, width);
        }
        break;
    case VX_OP_NOISE:
        k->noise(x, n, &c->noise, c->number + at, op->v[0]);
        break;
    case VX_OP_SCALE:
        k->scale(x, n, op->v[0]);
        break;
    case VX_OP_STRETCH:
        k->stretch(x, n, op->v[0], op->v[1], op->v[2], op->v[3]);
        break;
    case VX_OP_POWER:
        k->power(x, n, op->v[0], op->v[1], op->v[2], op->v[3]);
        break;
    case VX_OP_RESTORE:
        k->restore(x, n, op->v[0], op->v[1], op->v[2], op->v[3]);
        break;
    case VX_OP_MASK:
        k->mask(x, c->label + at, n);
        break;
    }
}

/* The lanes start afresh in every block, so sums depend on the channel's shape alone. */
static void begin_sums(struct vx_aug_sums *s, float first) {
    s->shift = (double)first;
    for (int l = 0; l < VX_LANES; l++) {
        s->sum[l] = s->squares[l] = 0;
        s->min[l] = s->max[l] = first;
    }
}

static void end_sums(const struct vx_aug_sums *s, size_t n, struct vx_aug_stats *ret) {
    struct vx_aug_stats r = {s->min[0], s->max[0], 0, 0};
    double sum = 0, squares = 0;
    for (int l = 0; l < VX_LANES; l++) {
        sum += s->sum[l];
        squares += s->squares[l];
        r.min = s->min[l] < r.min ? s->min[l] : r.min;
        r.max = s->max[l] > r.max ? s->max[l] : r.max;
    }
    r.mean = s->shift + sum / (double)n;
    double about_mean = squares - sum * sum / (double)n;
    r.variance = n > 1 && about_mean > 0 ? about_mean / (double)(n - 1) : 0;
    *ret = r;
}

/* All noted operations, and sums where wanted, on rows from index `at` on. */
static void run_block(const struct vx_chain *c, size_t at, size_t rows, enum vx_transform transform,
                      struct vx_aug_sums *sums) {
    size_t width = (size_t)c->size[2];
    for (int i = 0; i < c->n_ops; i++) {
        run_op(c, &c->op[i], at, rows, width);
        vx_aug_lap(c->ns, c->op[i].transform, c->mark);
    }
    if (sums) {
        if (at == 0) {
            begin_sums(sums, c->x[0]);
        }
        c->kernels->sum(c->x + at, rows * width, sums);
        vx_aug_lap(c->ns, transform, c->mark);
    }
}

void vx_chain_run(struct vx_chain *c, enum vx_transform transform, struct vx_aug_stats *ret_stats) {
    if (!c->plane && !c->n_ops && !ret_stats) {
        return;
    }
    size_t height = (size_t)c->size[1], width = (size_t)c->size[2];
    size_t step = BLOCK / width > 0 ? BLOCK / width : 1;
    struct vx_aug_sums sums;
    for (int32_t z = 0; z < c->size[0]; z++) {
        if (c->plane) {
            c->plane(c->plane_ctx, z);
            vx_aug_lap(c->ns, c->plane_transform, c->mark);
        }
        for (size_t y = 0; y < height; y += step) {
            run_block(c, ((size_t)z * height + y) * width, step < height - y ? step : height - y,
                      transform, ret_stats ? &sums : NULL);
        }
    }
    c->plane = NULL;
    c->n_ops = 0;
    if (ret_stats) {
        end_sums(&sums, (size_t)c->size[0] * height * width, ret_stats);
    }
}
