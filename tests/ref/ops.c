/* The operations, written as their definitions. */
#include "ref/ops.h"

#include <math.h>
#include <string.h>

/* Index of (n, c, d, h, w). */
static size_t at(const struct ref_tensor *t, int n, int c, int d, int h, int w) {
    const int *s = t->shape;
    return ((((size_t)n * s[1] + c) * s[2] + d) * s[3] + h) * s[4] + w;
}

/* One (sample, output channel, input channel, tap) of a convolution: the output positions whose
 * tap lies inside the input. */
struct tap {
    int n, o, i, k[3];
    int lo[3], hi[3]; /* output range along each axis */
};

static void tap_range(const struct vx_op *op, const struct ref_tensor *in,
                      const struct ref_tensor *out, struct tap *t) {
    for (int a = 0; a < 3; a++) {
        int lo = 0, hi = out->shape[2 + a];
        while (lo < hi && lo * op->stride[a] + t->k[a] - op->pad[a] < 0) {
            lo++;
        }
        while (hi > lo && (hi - 1) * op->stride[a] + t->k[a] - op->pad[a] >= in->shape[2 + a]) {
            hi--;
        }
        t->lo[a] = lo;
        t->hi[a] = hi;
    }
}

/* Offset in the input of the row that output row (d, h) reads through this tap, for output
 * column 0. */
static ptrdiff_t input_row(const struct vx_op *op, const struct ref_tensor *in, const struct tap *t,
                           int d, int h) {
    int z = d * op->stride[0] + t->k[0] - op->pad[0];
    int y = h * op->stride[1] + t->k[1] - op->pad[1];
    return (ptrdiff_t)at(in, t->n, t->i, z, y, 0) + t->k[2] - op->pad[2];
}

typedef void (*tap_fn)(const struct vx_op *op, struct ref_tensor *in, const struct ref_tensor *out,
                       const struct tap *t, const double *weight, double *grad_weight);

static void for_each_tap(const struct vx_op *op, struct ref_tensor *in,
                         const struct ref_tensor *out, const double *weight, double *grad_weight,
                         tap_fn fn) {
    size_t w = 0;
    struct tap t;
    for (t.o = 0; t.o < out->shape[1]; t.o++) {
        for (t.i = 0; t.i < in->shape[1]; t.i++) {
            for (t.k[0] = 0; t.k[0] < op->kernel[0]; t.k[0]++) {
                for (t.k[1] = 0; t.k[1] < op->kernel[1]; t.k[1]++) {
                    for (t.k[2] = 0; t.k[2] < op->kernel[2]; t.k[2]++, w++) {
                        tap_range(op, in, out, &t);
                        for (t.n = 0; t.n < out->shape[0]; t.n++) {
                            fn(op, in, out, &t, weight + w, grad_weight ? grad_weight + w : NULL);
                        }
                    }
                }
            }
        }
    }
}

static void tap_forward(const struct vx_op *op, struct ref_tensor *in, const struct ref_tensor *out,
                        const struct tap *t, const double *weight, double *grad_weight) {
    (void)grad_weight;
    for (int d = t->lo[0]; d < t->hi[0]; d++) {
        for (int h = t->lo[1]; h < t->hi[1]; h++) {
            const double *x = in->value + input_row(op, in, t, d, h);
            double *y = out->value + at(out, t->n, t->o, d, h, 0);
            for (int w = t->lo[2]; w < t->hi[2]; w++) {
                y[w] += *weight * x[w * op->stride[2]];
            }
        }
    }
}

static void tap_backward(const struct vx_op *op, struct ref_tensor *in,
                         const struct ref_tensor *out, const struct tap *t, const double *weight,
                         double *grad_weight) {
    double sum = 0;
    for (int d = t->lo[0]; d < t->hi[0]; d++) {
        for (int h = t->lo[1]; h < t->hi[1]; h++) {
            ptrdiff_t row = input_row(op, in, t, d, h);
            const double *x = in->value + row, *dy = out->grad + at(out, t->n, t->o, d, h, 0);
            double *dx = in->grad + row;
            for (int w = t->lo[2]; w < t->hi[2]; w++) {
                sum += dy[w] * x[w * op->stride[2]];
                dx[w * op->stride[2]] += dy[w] * *weight;
            }
        }
    }
    if (grad_weight) {
        *grad_weight += sum;
    }
}

/* out = bias, broadcast over samples and voxels. */
static void fill_bias(const double *bias, struct ref_tensor *out) {
    size_t voxels = (size_t)out->shape[2] * out->shape[3] * out->shape[4];
    for (int n = 0; n < out->shape[0]; n++) {
        for (int c = 0; c < out->shape[1]; c++) {
            double *y = out->value + at(out, n, c, 0, 0, 0);
            for (size_t v = 0; v < voxels; v++) {
                y[v] = bias ? bias[c] : 0;
            }
        }
    }
}

static void sum_bias(const struct ref_tensor *out, double *grad_bias) {
    size_t voxels = (size_t)out->shape[2] * out->shape[3] * out->shape[4];
    for (int n = 0; grad_bias && n < out->shape[0]; n++) {
        for (int c = 0; c < out->shape[1]; c++) {
            const double *dy = out->grad + at(out, n, c, 0, 0, 0);
            for (size_t v = 0; v < voxels; v++) {
                grad_bias[c] += dy[v];
            }
        }
    }
}

void ref_conv(const struct vx_op *op, const struct ref_tensor *in, const double *weight,
              const double *bias, struct ref_tensor *out) {
    fill_bias(bias, out);
    struct ref_tensor x = *in;
    for_each_tap(op, &x, out, weight, NULL, tap_forward);
}

void ref_conv_backward(const struct vx_op *op, struct ref_tensor *in, const double *weight,
                       const struct ref_tensor *out, double *grad_weight, double *grad_bias) {
    sum_bias(out, grad_bias);
    for_each_tap(op, in, out, weight, grad_weight, tap_backward);
}

void ref_conv_transpose(const struct vx_op *op, const struct ref_tensor *in, const double *weight,
                        const double *bias, struct ref_tensor *out) {
    const int *k = op->kernel, *s = in->shape;
    fill_bias(bias, out);
    for (int n = 0; n < s[0]; n++) {
        for (int i = 0; i < s[1]; i++) {
            for (int o = 0; o < out->shape[1]; o++) {
                const double *w = weight + ((size_t)i * out->shape[1] + o) * k[0] * k[1] * k[2];
                for (int z = 0; z < out->shape[2]; z++) {
                    for (int y = 0; y < out->shape[3]; y++) {
                        for (int x = 0; x < out->shape[4]; x++) {
                            int tap = ((z % k[0]) * k[1] + y % k[1]) * k[2] + x % k[2];
                            out->value[at(out, n, o, z, y, x)] +=
                                w[tap] * in->value[at(in, n, i, z / k[0], y / k[1], x / k[2])];
                        }
                    }
                }
            }
        }
    }
}

void ref_conv_transpose_backward(const struct vx_op *op, struct ref_tensor *in,
                                 const double *weight, const struct ref_tensor *out,
                                 double *grad_weight, double *grad_bias) {
    const int *k = op->kernel, *s = in->shape;
    sum_bias(out, grad_bias);
    for (int n = 0; n < s[0]; n++) {
        for (int i = 0; i < s[1]; i++) {
            for (int o = 0; o < out->shape[1]; o++) {
                size_t w0 = ((size_t)i * out->shape[1] + o) * k[0] * k[1] * k[2];
                for (int z = 0; z < out->shape[2]; z++) {
                    for (int y = 0; y < out->shape[3]; y++) {
                        for (int x = 0; x < out->shape[4]; x++) {
                            size_t w =
                                w0 + (size_t)(((z % k[0]) * k[1] + y % k[1]) * k[2] + x % k[2]);
                            size_t from = at(in, n, i, z / k[0], y / k[1], x / k[2]);
                            double dy = out->grad[at(out, n, o, z, y, x)];
                            in->grad[from] += dy * weight[w];
                            if (grad_weight) {
                                grad_weight[w] += dy * in->value[from];
                            }
                        }
                    }
                }
            }
        }
    }
}

static void moments(const double *x, size_t voxels, double eps, double *mean, double *inverse_std) {
    double sum = 0, squares = 0;
    for (size_t v = 0; v < voxels; v++) {
        sum += x[v];
    }
    *mean = sum / (double)voxels;
    for (size_t v = 0; v < voxels; v++) {
        squares += (x[v] - *mean) * (x[v] - *mean);
    }
    *inverse_std = 1 / sqrt(squares / (double)voxels + eps);
}

void ref_norm_act(const struct vx_op *op, const struct ref_tensor *in, const double *gamma,
                  const double *beta, struct ref_tensor *out) {
    size_t voxels = (size_t)in->shape[2] * in->shape[3] * in->shape[4];
    for (int n = 0; n < in->shape[0]; n++) {
        for (int c = 0; c < in->shape[1]; c++) {
            const double *x = in->value + at(in, n, c, 0, 0, 0);
            double *y = out->value + at(out, n, c, 0, 0, 0), mean, inverse_std;
            moments(x, voxels, (double)op->eps, &mean, &inverse_std);
            for (size_t v = 0; v < voxels; v++) {
                double u = (x[v] - mean) * inverse_std * gamma[c] + beta[c];
                y[v] = u > 0 ? u : u * (double)op->slope;
            }
        }
    }
}

void ref_norm_act_backward(const struct vx_op *op, struct ref_tensor *in, const double *gamma,
                           const double *beta, const struct ref_tensor *out, double *grad_gamma,
                           double *grad_beta) {
    size_t voxels = (size_t)in->shape[2] * in->shape[3] * in->shape[4];
    for (int n = 0; n < in->shape[0]; n++) {
        for (int c = 0; c < in->shape[1]; c++) {
            size_t base = at(in, n, c, 0, 0, 0);
            const double *x = in->value + base, *dy = out->grad + base;
            double mean, inverse_std, sum = 0, sum_hat = 0;
            moments(x, voxels, (double)op->eps, &mean, &inverse_std);
            for (int pass = 0; pass < 2; pass++) {
                for (size_t v = 0; v < voxels; v++) {
                    double hat = (x[v] - mean) * inverse_std;
                    double u = hat * gamma[c] + beta[c];
                    double du = u > 0 ? dy[v] : dy[v] * (double)op->slope;
                    if (pass == 0) {
                        sum += du;
                        sum_hat += du * hat;
                    } else {
                        in->grad[base + v] +=
                            gamma[c] * inverse_std *
                            (du - sum / (double)voxels - hat * sum_hat / (double)voxels);
                    }
                }
            }
            if (grad_gamma) {
                grad_gamma[c] += sum_hat;
                grad_beta[c] += sum;
            }
        }
    }
}

void ref_concat(const struct ref_tensor *a, const struct ref_tensor *b, struct ref_tensor *out) {
    size_t na = a->count / (size_t)a->shape[0], nb = b->count / (size_t)b->shape[0];
    for (size_t n = 0; n < (size_t)out->shape[0]; n++) {
        memcpy(out->value + n * (na + nb), a->value + n * na, na * sizeof(double));
        memcpy(out->value + n * (na + nb) + na, b->value + n * nb, nb * sizeof(double));
    }
}

void ref_concat_backward(struct ref_tensor *a, struct ref_tensor *b, const struct ref_tensor *out) {
    size_t na = a->count / (size_t)a->shape[0], nb = b->count / (size_t)b->shape[0];
    for (size_t n = 0; n < (size_t)out->shape[0]; n++) {
        const double *g = out->grad + n * (na + nb);
        for (size_t v = 0; v < na; v++) {
            a->grad[n * na + v] += g[v];
        }
        for (size_t v = 0; v < nb; v++) {
            b->grad[n * nb + v] += g[na + v];
        }
    }
}
