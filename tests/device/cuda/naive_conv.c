#include "naive_conv.h"

#include "device/kernels/fixture.h"

#include <stdlib.h>
#include <string.h>

/* All three tensors in double; the one that is made starts at zero and is summed up. */
struct sums {
    const struct dnn_conv *c;
    enum dnn_direction direction;
    double *x, *w, *y;
};

static double *unpacked(const uint16_t *from, int64_t n, bool zero) {
    double *to = calloc((size_t)n, sizeof *to);
    for (int64_t i = 0; i < n && !zero; i++) {
        to[i] = (double)host_from_bf16(from[i]);
    }
    return to;
}

/* One input voxel under one tap of an output voxel's window. */
static void one_pair(const struct sums *s, double *x, double *y, int64_t tap, int64_t taps) {
    const int channels = s->c->in_channels;
    for (int k = 0; k < s->c->out_channels; k++) {
        double *w = s->w + (k * taps + tap) * channels;
        if (s->direction == DNN_FORWARD) {
            double sum = 0;
            for (int i = 0; i < channels; i++) {
                sum += x[i] * w[i];
            }
            y[k] += sum;
            continue;
        }
        double *to = s->direction == DNN_DATA ? x : w;
        const double *from = s->direction == DNN_DATA ? w : x;
        for (int i = 0; i < channels; i++) {
            to[i] += y[k] * from[i];
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
            one_pair(s, s->x + voxel * c->in_channels, s->y + y * c->out_channels, tap, taps);
        }
    }
}

void naive_conv(const struct dnn_conv *c, enum dnn_direction direction, void *x, void *w, void *y) {
    struct sums s = {.c = c, .direction = direction};
    s.x = unpacked(x, dnn_x_elements(c), direction == DNN_DATA);
    s.w = unpacked(w, dnn_w_elements(c), direction == DNN_WEIGHTS);
    s.y = unpacked(y, dnn_y_elements(c), direction == DNN_FORWARD);
    const int out[3] = {dnn_out_size(c, 0), dnn_out_size(c, 1), dnn_out_size(c, 2)};
    int64_t voxel = 0;
    for (int n = 0; n < c->n; n++) {
        for (int i = 0; i < out[0] * out[1] * out[2]; i++) {
            const int at[3] = {i / (out[1] * out[2]), i / out[2] % out[1], i % out[2]};
            one_voxel(&s, n, at, voxel++);
        }
    }
    const int64_t counts[] = {dnn_y_elements(c), dnn_x_elements(c), dnn_w_elements(c)};
    const double *sums[] = {s.y, s.x, s.w};
    uint16_t *results[] = {y, x, w};
    for (int64_t i = 0; i < counts[direction]; i++) {
        results[direction][i] = host_to_bf16((float)sums[direction][i]);
    }
    free(s.x);
    free(s.w);
    free(s.y);
}
