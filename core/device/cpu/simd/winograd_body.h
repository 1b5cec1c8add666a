/* The Winograd kernels' source (see winograd.h), part of body.h for float activations. */
#include "product.h"
#include "winograd.h"

/* Products of all rows, cut into nearly equal parts that fit the registers. Forward: rows are
 * tiles, k runs over channels. */
static void wino_forward_product(int rows, int wide, const struct segments *s, size_t v_row,
                                 size_t depth, float *out, size_t out_row) {
    int parts = (rows + PRODUCT_ROWS - 1) / PRODUCT_ROWS;
    for (int i = 0, m = 0; i < parts; i++) {
        int now = (rows - m) / (parts - i);
        struct segments part = *s;
        for (int n = 0; n < s->n; n++) {
            part.v[n] += (size_t)m * v_row;
        }
        float *to = out + (size_t)m * out_row;
        if (wide == 2) {
            product_rows(now, 2, false, &part, v_row, 1, 2 * VEC, depth, to, out_row);
        } else {
            product_rows(now, 1, false, &part, v_row, 1, VEC, depth, to, out_row);
        }
        m += now;
    }
}

/* Gradient of weights: rows are input channels, k runs over tiles. */
static void wino_weight_product(int channels, int wide, const struct segments *s, size_t v_row,
                                size_t u_row, size_t tiles, float *out) {
    int parts = (channels + PRODUCT_ROWS - 1) / PRODUCT_ROWS;
    for (int i = 0, m = 0; i < parts; i++) {
        int now = (channels - m) / (parts - i);
        struct segments part = *s;
        part.v[0] += m;
        float *to = out + (size_t)m * (size_t)wide * VEC;
        if (wide == 2) {
            product_rows(now, 2, true, &part, 1, v_row, u_row, tiles, to, 2 * VEC);
        } else {
            product_rows(now, 1, true, &part, 1, v_row, u_row, tiles, to, VEC);
        }
        m += now;
    }
}

/* Start of a row of one channel block; NULL outside of the image. */
static inline const float *wino_row(const struct vx_wino *w, const float *x, int block, int plane,
                                    int row) {
    if (row < 0 || row >= w->size[1]) {
        return NULL;
    }
    size_t at = ((size_t)block * (size_t)w->size[0] + (size_t)plane) * (size_t)w->size[1];
    return x + (at + (size_t)row) * (size_t)w->size[2] * VEC;
}

static inline vec wino_load(const float *row, int column, int width) {
    return row && column >= 0 && column < width ? vec_load(row + (size_t)column * VEC) : vec_all(0);
}

/* B' down the four rows of a tile row, for every column that its tiles read. */
static void wino_input_columns(const struct vx_wino *w, const float *const rows[4], float *tmp) {
    int columns = 2 * vx_wino_tile_columns(w) + 2, width = w->size[2];
    size_t line = (size_t)columns * VEC;
    for (int c = 0; c < columns; c++) {
        vec d[4];
        for (int r = 0; r < 4; r++) {
            d[r] = wino_load(rows[r], c - 1, width);
        }
        float *to = tmp + (size_t)c * VEC;
        vec_store(to, d[0] - d[2]);
        vec_store(to + line, d[1] + d[2]);
        vec_store(to + 2 * line, d[2] - d[1]);
        vec_store(to + 3 * line, d[1] - d[3]);
    }
}

/* V of one input plane: [16][tiles][in_channels]. */
static void wino_input(const struct vx_wino *w, const float *x, int plane,
                       const struct vx_wino_unit *unit, float *v, float *tmp) {
    int columns = vx_wino_tile_columns(w);
    size_t tiles = (size_t)(unit->end_row - unit->first_row) * (size_t)columns;
    size_t line = (size_t)(2 * columns + 2) * VEC, coef = tiles * (size_t)w->in_channels;
    for (int row = unit->first_row; row < unit->end_row; row++) {
        for (int b = 0; b < w->in_channels / VEC; b++) {
            const float *rows[4];
            for (int r = 0; r < 4; r++) {
                rows[r] = wino_row(w, x, b, plane, 2 * row - 1 + r);
            }
            wino_input_columns(w, rows, tmp);
            size_t tile = (size_t)(row - unit->first_row) * (size_t)columns;
            float *to = v + tile * (size_t)w->in_channels + (size_t)b * VEC;
            for (int c = 0; c < columns; c++, to += w->in_channels) {
                for (int k = 0; k < 4; k++) {
                    const float *d = tmp + (size_t)k * line + (size_t)c * 2 * VEC;
                    vec d1 = vec_load(d + VEC), d2 = vec_load(d + 2 * VEC);
                    float *at = to + (size_t)k * 4 * coef;
                    vec_store(at, vec_load(d) - d2);
                    vec_store(at + coef, d1 + d2);
                    vec_store(at + 2 * coef, d2 - d1);
                    vec_store(at + 3 * coef, d1 - vec_load(d + 3 * VEC));
                }
            }
        }
    }
}

/* A' M A of one tile, written where it lies inside the image. */
static inline void wino_output_tile(const float *m, size_t coef, float *y0, float *y1, bool right) {
    vec top[4], bottom[4];
    for (int k = 0; k < 4; k++) {
        vec m0 = vec_load(m + (size_t)k * coef), m1 = vec_load(m + (size_t)(4 + k) * coef);
        vec m2 = vec_load(m + (size_t)(8 + k) * coef), m3 = vec_load(m + (size_t)(12 + k) * coef);
        top[k] = m0 + m1 + m2;
        bottom[k] = m1 - m2 - m3;
    }
    vec_store(y0, top[0] + top[1] + top[2]);
    if (right) {
        vec_store(y0 + VEC, top[1] - top[2] - top[3]);
    }
    if (y1) {
        vec_store(y1, bottom[0] + bottom[1] + bottom[2]);
        if (right) {
            vec_store(y1 + VEC, bottom[1] - bottom[2] - bottom[3]);
        }
    }
}

static void wino_output(const struct vx_wino *w, const float *m, int plane,
                        const struct vx_wino_unit *unit, float *y) {
    int columns = vx_wino_tile_columns(w), width = w->size[2];
    size_t tiles = (size_t)(unit->end_row - unit->first_row) * (size_t)columns;
    size_t coef = tiles * (size_t)w->out_channels;
    for (int row = unit->first_row; row < unit->end_row; row++) {
        for (int b = 0; b < w->out_channels / VEC; b++) {
            size_t tile = (size_t)(row - unit->first_row) * (size_t)columns;
            const float *from = m + tile * (size_t)w->out_channels + (size_t)b * VEC;
            float *y0 = (float *)wino_row(w, y, b, plane, 2 * row);
            float *y1 = (float *)wino_row(w, y, b, plane, 2 * row + 1);
            for (int c = 0; c < columns; c++, from += w->out_channels) {
                size_t at = (size_t)c * 2 * VEC;
                wino_output_tile(from, coef, y0 + at, y1 ? y1 + at : NULL, 2 * c + 1 < width);
            }
        }
    }
}

/* One row of (A dY) times A'. */
static inline void wino_gradient_row(float *to, size_t coef, vec left, vec right) {
    vec_store(to, left);
    vec_store(to + coef, left + right);
    vec_store(to + 2 * coef, left - right);
    vec_store(to + 3 * coef, -right);
}

/* Z = A dY A' of one plane of the gradient: [16][tiles][out_channels]. */
static void wino_gradient(const struct vx_wino *w, const float *dy, int plane,
                          const struct vx_wino_unit *unit, float *z) {
    int columns = vx_wino_tile_columns(w), width = w->size[2];
    size_t tiles = (size_t)(unit->end_row - unit->first_row) * (size_t)columns;
    size_t coef = tiles * (size_t)w->out_channels;
    for (int row = unit->first_row; row < unit->end_row; row++) {
        for (int b = 0; b < w->out_channels / VEC; b++) {
            size_t tile = (size_t)(row - unit->first_row) * (size_t)columns;
            float *to = z + tile * (size_t)w->out_channels + (size_t)b * VEC;
            const float *g0 = wino_row(w, dy, b, plane, 2 * row);
            const float *g1 = wino_row(w, dy, b, plane, 2 * row + 1);
            for (int c = 0; c < columns; c++, to += w->out_channels) {
                vec l0 = wino_load(g0, 2 * c, width), l1 = wino_load(g1, 2 * c, width);
                vec r0 = wino_load(g0, 2 * c + 1, width), r1 = wino_load(g1, 2 * c + 1, width);
                wino_gradient_row(to, coef, l0, r0);
                wino_gradient_row(to + 4 * coef, coef, l0 + l1, r0 + r1);
                wino_gradient_row(to + 8 * coef, coef, l0 - l1, r0 - r1);
                wino_gradient_row(to + 12 * coef, coef, -l1, -r1);
            }
        }
    }
}

/* Where a unit keeps its transforms. */
struct wino_room {
    size_t tiles;
    float *v[3]; /* by input plane modulo the kernel's planes */
    float *m, *tmp;
    int ready; /* input planes below this one are in v, as far as they are needed */
};

static struct wino_room wino_room(const struct vx_wino *w, const struct vx_wino_unit *unit,
                                  float *scratch) {
    struct wino_room room = {.tiles = (size_t)(unit->end_row - unit->first_row) *
                                      (size_t)vx_wino_tile_columns(w)};
    size_t plane = VX_WINO_COEFS * room.tiles * (size_t)w->in_channels;
    for (int p = 0; p < w->planes; p++) {
        room.v[p] = scratch + (size_t)p * plane;
    }
    room.m = scratch + (size_t)w->planes * plane;
    room.tmp = room.m + VX_WINO_COEFS * room.tiles * (size_t)w->out_channels;
    room.ready = unit->first_plane - w->planes / 2;
    return room;
}

/* Transforms the input planes that output plane d is the first to need; returns the segments of
 * coefficient 0 (u: offsets of kernel planes as pointers from u). */
static struct segments wino_planes(const struct vx_wino *w, struct wino_room *room,
                                   const struct vx_wino_unit *unit, const float *x, int d,
                                   int ret_plane[3]) {
    int reach = w->planes / 2;
    struct segments s = {0};
    for (; room->ready <= d + reach; room->ready++) {
        if (room->ready >= 0 && room->ready < w->size[0]) {
            wino_input(w, x, room->ready, unit, room->v[room->ready % w->planes], room->tmp);
        }
    }
    for (int p = 0; p < w->planes; p++) {
        int in = d + p - reach;
        if (in >= 0 && in < w->size[0]) {
            s.v[s.n] = room->v[in % w->planes];
            ret_plane[s.n++] = p;
        }
    }
    return s;
}

static void wino_forward(const struct vx_wino *w, const struct vx_wino_unit *unit, const float *x,
                         const float *u, float *y, float *scratch) {
    struct wino_room room = wino_room(w, unit, scratch);
    size_t in = (size_t)w->in_channels, out = (size_t)w->out_channels;
    for (int d = unit->first_plane; d < unit->end_plane; d++) {
        int plane[3];
        struct segments planes = wino_planes(w, &room, unit, x, d, plane);
        for (int k = 0; k < VX_WINO_COEFS; k++) {
            for (size_t o = 0; o < out; o += 2 * VEC) {
                int wide = out - o > VEC ? 2 : 1;
                struct segments s = planes;
                for (int n = 0; n < s.n; n++) {
                    s.v[n] += (size_t)k * room.tiles * in;
                    s.u[n] = u + vx_wino_weight_at(w, VEC, k, (int)o, 0, plane[n]);
                }
                wino_forward_product((int)room.tiles, wide, &s, in, in,
                                     room.m + (size_t)k * room.tiles * out + o, out);
            }
        }
        wino_output(w, room.m, d, unit, y);
    }
}

static void wino_weights(const struct vx_wino *w, const struct vx_wino_unit *unit, const float *x,
                         const float *dy, float *du, float *scratch) {
    struct wino_room room = wino_room(w, unit, scratch);
    size_t in = (size_t)w->in_channels, out = (size_t)w->out_channels;
    for (int d = unit->first_plane; d < unit->end_plane; d++) {
        int plane[3];
        struct segments planes = wino_planes(w, &room, unit, x, d, plane);
        wino_gradient(w, dy, d, unit, room.m);
        for (int k = 0; k < VX_WINO_COEFS; k++) {
            for (size_t o = 0; o < out; o += 2 * VEC) {
                for (int n = 0; n < planes.n; n++) {
                    struct segments s = {1,
                                         {planes.v[n] + (size_t)k * room.tiles * in},
                                         {room.m + (size_t)k * room.tiles * out + o}};
                    wino_weight_product((int)in, out - o > VEC ? 2 : 1, &s, in, out, room.tiles,
                                        du + vx_wino_weight_at(w, VEC, k, (int)o, 0, plane[n]));
                }
            }
        }
    }
}
