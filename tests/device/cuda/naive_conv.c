#include "naive_conv.h"

#include "device/kernels/fixture.h"

#include <stdlib.h>
#include <string.h>

/* Calls term(x, w, y) with the element numbers of every product of the convolution. */
struct sums {
    const struct dnn_conv *c;
    enum dnn_direction direction;
    const uint16_t *x, *w, *y;
    double *out;
};

static void one_pair(const struct sums *s, int64_t x, int64_t y, int64_t tap, int64_t taps) {
    const struct dnn_conv *c = s->c;
    for (int k = 0; k < c->out_channels; k++) {
        const int64_t w = ((int64_t)k * taps + tap) * c->in_channels;
        for (int i = 0; i < c->in_channels; i++) {
            switch (s->direction) {
            case DNN_FORWARD:
                s->out[y + k] +=
                    (double)host_from_bf16(s->x[x + i]) * (double)host_from_bf16(s->w[w + i]);
                break;
            case DNN_DATA:
                s->out[x + i] +=
                    (double)host_from_bf16(s->y[y + k]) * (double)host_from_bf16(s->w[w + i]);
                break;
            case DNN_WEIGHTS:
                s->out[w + i] +=
                    (double)host_from_bf16(s->y[y + k]) * (double)host_from_bf16(s->x[x + i]);
                break;
            }
        }
    }
}

/* One output voxel with the input voxels under its window. */
static void one_voxel(const struct sums *s, int n, const int at[3], int64_t y) {
    const struct dnn_conv *c = s->c;
    const int *k = c->kernel;
    int64_t taps = (int64_t)k[0] * k[1] * k[2];
    for (int tap = 0; tap < taps; tap++) {
        const int offset[3] = {tap / (k[1] * k[2]), tap / k[2] % k[1], tap % k[2]};
        int64_t voxel = n;
        bool inside = true;
        for (int a = 0; a < 3; a++) {
            int p = at[a] * c->stride[a] + offset[a] - c->pad[a];
            inside = inside && p >= 0 && p < c->in[a];
            voxel = voxel * c->in[a] + p;
        }
        if (inside) {
            one_pair(s, voxel * c->in_channels, y * c->out_channels, tap, taps);
        }
    }
}

void naive_conv(const struct dnn_conv *c, enum dnn_direction direction, void *x, void *w, void *y) {
    const int64_t counts[] = {dnn_y_elements(c), dnn_x_elements(c), dnn_w_elements(c)};
    uint16_t *to = direction == DNN_FORWARD ? y : direction == DNN_DATA ? x : w;
    struct sums s = {.c = c, .direction = direction, .x = x, .w = w, .y = y};
    s.out = calloc((size_t)counts[direction], sizeof *s.out);
    const int out[3] = {dnn_out_size(c, 0), dnn_out_size(c, 1), dnn_out_size(c, 2)};
    int64_t voxel = 0;
    for (int n = 0; n < c->n; n++) {
        for (int i = 0; i < out[0] * out[1] * out[2]; i++) {
            const int at[3] = {i / (out[1] * out[2]), i / out[2] % out[1], i % out[2]};
            one_voxel(&s, n, at, voxel++);
        }
    }
    for (int64_t i = 0; i < counts[direction]; i++) {
        to[i] = host_to_bf16((float)s.out[i]);
    }
    free(s.out);
}
