/* Weights between the state's order and the layouts that primitives want.
 *
 * oneDNN's blocked layouts split every index into digits, each with its own stride; so the place
 * of a weight is a sum of one term per index, and two small tables describe any of them, padded
 * channels included (nobody writes those: they stay zero). */
#include "device/cpu/internal.h"

#include "base/err.h"

#include <stdlib.h>

int cpu_layout_create(struct cpu_program *p, int param, int rows, int columns,
                      struct cpu_layout *ret, struct vx_err *err) {
    *ret = (struct cpu_layout){.param = param, .rows = rows, .columns = columns};
    ret->row = cpu_allocate(p, (size_t)rows * sizeof *ret->row, err);
    ret->column = ret->row ? cpu_allocate(p, (size_t)columns * sizeof *ret->column, err) : NULL;
    return ret->column ? VX_OK : VX_E_NOMEM;
}

int cpu_add_pack(struct cpu_program *p, const struct cpu_layout *layout, const struct cpu_view *to,
                 size_t element, const struct cpu_wino *wino, struct vx_err *err) {
    struct cpu_pack *packs = realloc(p->packs, (size_t)(p->n_packs + 1) * sizeof *packs);
    if (!packs) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to plan a program");
    }
    p->packs = packs;
    packs[p->n_packs++] =
        (struct cpu_pack){.layout = *layout, .to = *to, .element = element, .wino = wino};
    return VX_OK;
}

static void pack_floats(const float *src, const int32_t *table, size_t count, float *dst) {
    for (size_t i = 0; i < count; i++) {
        dst[table[i]] = src[i];
    }
}

static void pack_row(const struct cpu_program *p, const struct cpu_pack *pack, int r) {
    const struct cpu_layout *l = &pack->layout;
    if (pack->wino) {
        cpu_wino_pack(p, pack->wino, r);
        return;
    }
    const float *src = p->state->weight[l->param] + (size_t)r * (size_t)l->columns;
    char *dst = (char *)cpu_at(p, &pack->to, 0) + (size_t)l->row[r] * pack->element;
    if (pack->element == sizeof(float)) {
        pack_floats(src, l->column, (size_t)l->columns, (float *)dst);
    } else {
        p->kernels->scatter(src, l->column, (size_t)l->columns, dst);
    }
}

void cpu_repack(struct cpu_program *p) {
    if (p->packed_version == p->state->version) {
        return;
    }
#pragma omp parallel num_threads(p->device->threads)
    for (int i = 0; i < p->n_packs; i++) {
#pragma omp for schedule(static) nowait
        for (int r = 0; r < p->packs[i].layout.rows; r++) {
            pack_row(p, &p->packs[i], r);
        }
    }
    p->packed_version = p->state->version;
}

struct unpack {
    struct cpu_layout layout;
    struct cpu_view from;
};

static int run_unpack(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    const struct unpack *u = data;
    const struct cpu_layout *l = &u->layout;
    const float *from = cpu_at(p, &u->from, 0);
#pragma omp parallel for schedule(static) num_threads(p->device->threads)
    for (int r = 0; r < l->rows; r++) {
        const float *src = from + l->row[r];
        float *dst = p->state->grad[l->param] + (size_t)r * (size_t)l->columns;
        for (int c = 0; c < l->columns; c++) {
            dst[c] = src[l->column[c]];
        }
    }
    return VX_OK;
}

int cpu_add_unpack(struct cpu_program *p, int op, const struct cpu_layout *layout,
                   const struct cpu_view *from, struct vx_err *err) {
    struct unpack *u = cpu_allocate(p, sizeof *u, err);
    if (!u) {
        return VX_E_NOMEM;
    }
    *u = (struct unpack){.layout = *layout, .from = *from};
    struct cpu_step step = cpu_step_named(p, op, "gradient to the state");
    step.run = run_unpack;
    step.data = u;
    return cpu_add_step(p, &step, (const struct cpu_view *[]){&u->from, NULL}, err);
}
