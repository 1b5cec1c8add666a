/* The direct kernels' source (see direct.h), part of body.h for float activations. */
#include "direct.h"
#include "product.h"

/* One tap of the kernel, and the output columns that it reads inside the input for. */
struct direct_tap {
    int index, k[3];
    int first, end;
    int from; /* input column of output column first */
};

static struct direct_tap direct_tap(const struct vx_direct *g, int index) {
    struct direct_tap t = {.index = index};
    t.k[2] = index % g->kernel[2];
    t.k[1] = index / g->kernel[2] % g->kernel[1];
    t.k[0] = index / g->kernel[2] / g->kernel[1];
    int shift = t.k[2] - g->pad[2], stride = g->stride[2];
    t.first = shift < 0 ? (-shift + stride - 1) / stride : 0;
    t.end = g->in[2] - 1 - shift < 0 ? 0 : (g->in[2] - 1 - shift) / stride + 1;
    t.end = t.end < g->out[2] ? t.end : g->out[2];
    t.from = t.first * stride + shift;
    return t;
}

/* Input index along an axis that output o reads through the tap; -1 outside. */
static inline int direct_input(const struct vx_direct *g, const struct direct_tap *t, int axis,
                               int o) {
    int i = o * g->stride[axis] + t->k[axis] - g->pad[axis];
    return i >= 0 && i < g->in[axis] ? i : -1;
}

/* Output index that reads input i through the tap; -1 for none. */
static inline int direct_output(const struct vx_direct *g, const struct direct_tap *t, int axis,
                                int i) {
    int o = i + g->pad[axis] - t->k[axis];
    if (o < 0 || o % g->stride[axis] != 0) {
        return -1;
    }
    o /= g->stride[axis];
    return o < g->out[axis] ? o : -1;
}

static inline size_t direct_row(const int size[3], int block, int plane, int row) {
    size_t at = ((size_t)block * (size_t)size[0] + (size_t)plane) * (size_t)size[1] + (size_t)row;
    return at * (size_t)size[2] * VEC;
}

/* out[m] += v[m] * u for rows vectors out_row apart, v v_row apart. */
static void direct_product(int rows, const float *v, size_t v_row, size_t v_step, const float *u,
                           size_t depth, float *out, size_t out_row) {
    int parts = (rows + PRODUCT_ROWS - 1) / PRODUCT_ROWS;
    for (int i = 0, m = 0; i < parts; i++) {
        int now = (rows - m) / (parts - i);
        struct segments s = {1, {v + (size_t)m * v_row}, {u}};
        product_rows(now, 1, true, &s, v_row, v_step, VEC, depth, out + (size_t)m * out_row,
                     out_row);
        m += now;
    }
}

static void direct_fill(float *row, int columns, const float *value) {
    vec v = value ? vec_load(value) : vec_all(0);
    for (int c = 0; c < columns; c++) {
        vec_store(row + (size_t)c * VEC, v);
    }
}

static int direct_taps(const struct vx_direct *g) {
    return g->kernel[0] * g->kernel[1] * g->kernel[2];
}

static void direct_forward(const struct vx_direct *g, int block, int plane, const float *x,
                           const float *weights, const float *bias, float *y) {
    size_t step = (size_t)g->stride[2] * VEC;
    for (int row = 0; row < g->out[1]; row++) {
        float *to = y + direct_row(g->out, block, plane, row);
        direct_fill(to, g->out[2], bias);
        for (int k = 0; k < direct_taps(g); k++) {
            struct direct_tap t = direct_tap(g, k);
            int d = direct_input(g, &t, 0, plane), h = direct_input(g, &t, 1, row);
            for (int b = 0; b < g->in_blocks && d >= 0 && h >= 0 && t.first < t.end; b++) {
                size_t w = ((size_t)k * g->in_blocks + b) * g->out_blocks + block;
                direct_product(t.end - t.first,
                               x + direct_row(g->in, b, d, h) + (size_t)t.from * VEC, step, 1,
                               weights + w * VEC * VEC, VEC, to + (size_t)t.first * VEC, VEC);
            }
        }
    }
}

static void direct_data(const struct vx_direct *g, int block, int plane, const float *dy,
                        const float *weights, float *dx) {
    size_t step = (size_t)g->stride[2] * VEC;
    for (int row = 0; row < g->in[1]; row++) {
        float *to = dx + direct_row(g->in, block, plane, row);
        direct_fill(to, g->in[2], NULL);
        for (int k = 0; k < direct_taps(g); k++) {
            struct direct_tap t = direct_tap(g, k);
            int d = direct_output(g, &t, 0, plane), h = direct_output(g, &t, 1, row);
            for (int b = 0; b < g->out_blocks && d >= 0 && h >= 0 && t.first < t.end; b++) {
                size_t w = ((size_t)k * g->out_blocks + b) * g->in_blocks + block;
                direct_product(t.end - t.first,
                               dy + direct_row(g->out, b, d, h) + (size_t)t.first * VEC, VEC, 1,
                               weights + w * VEC * VEC, VEC, to + (size_t)t.from * VEC, step);
            }
        }
    }
}

static void direct_weights(const struct vx_direct *g, int tap, int in_block, int out_block,
                           const float *x, const float *dy, float *dw) {
    struct direct_tap t = direct_tap(g, tap);
    size_t step = (size_t)g->stride[2] * VEC;
    for (int plane = 0; plane < g->out[0] && t.first < t.end; plane++) {
        int d = direct_input(g, &t, 0, plane);
        for (int row = 0; row < g->out[1] && d >= 0; row++) {
            int h = direct_input(g, &t, 1, row);
            if (h >= 0) {
                /* Rows are the lanes of the input's channels, the sum runs over columns. */
                direct_product(
                    VEC, x + direct_row(g->in, in_block, d, h) + (size_t)t.from * VEC, 1, step,
                    dy + direct_row(g->out, out_block, plane, row) + (size_t)t.first * VEC,
                    (size_t)(t.end - t.first), dw, VEC);
            }
        }
    }
}

static void direct_bias(const struct vx_direct *g, int out_block, const float *dy, float *db) {
    for (int plane = 0; plane < g->out[0]; plane++) {
        vec sum = vec_all(0);
        const float *from = dy + direct_row(g->out, out_block, plane, 0);
        for (size_t v = 0; v < (size_t)g->out[1] * (size_t)g->out[2]; v++) {
            sum += vec_load(from + v * VEC);
        }
        vec_store(db, vec_load(db) + sum);
    }
}
