/* The kernels' source, compiled once per table: avx2.c, avx512.c and avx512_bf16.c include it. */
#include "kernels.h"
#include "vec.h"

#include <math.h>
#include <string.h>

static void moments(const void *x, size_t voxels, float *ret) {
    const act *p = x;
    vec sum = vec_all(0), squares = vec_all(0);
    for (size_t v = 0; v < voxels; v++) {
        sum += act_load(p + v * VEC);
    }
    vec mean = sum / vec_all((float)voxels);
    for (size_t v = 0; v < voxels; v++) {
        vec d = act_load(p + v * VEC) - mean;
        squares += d * d;
    }
    vec_store(ret, mean);
    vec_store(ret + VEC, squares);
}

static void norm_forward(const struct vx_norm_lanes *lanes, const void *x, void *out, void *copy,
                         size_t voxels) {
    const act *from = x;
    act *to = out, *second = copy;
    vec mean = vec_load(lanes->mean), beta = vec_load(lanes->beta), slope = vec_all(lanes->slope);
    vec scale = vec_load(lanes->inverse_std) * vec_load(lanes->gamma);
    for (size_t v = 0; v < voxels * VEC; v += VEC) {
        vec u = (act_load(from + v) - mean) * scale + beta;
        vec y = vec_if_positive(u, u, u * slope);
        act_store(to + v, y);
        if (second) {
            act_store(second + v, y);
        }
    }
}

static inline vec sum_at(const void *const *g, int n, size_t at) {
    vec sum = act_load((const act *)g[0] + at);
    for (int i = 1; i < n; i++) {
        sum += act_load((const act *)g[i] + at);
    }
    return sum;
}

/* Inlined with a constant n, so that the number of sources costs nothing per voxel. */
static inline __attribute__((always_inline)) void norm_reduce_n(const struct vx_norm_lanes *lanes,
                                                                const void *x, const void *const *g,
                                                                int n, size_t voxels, float *ret) {
    const act *from = x;
    vec mean = vec_load(lanes->mean), inverse_std = vec_load(lanes->inverse_std);
    vec gamma = vec_load(lanes->gamma), beta = vec_load(lanes->beta), slope = vec_all(lanes->slope);
    vec sum = vec_all(0), sum_hat = vec_all(0);
    for (size_t v = 0; v < voxels * VEC; v += VEC) {
        vec hat = (act_load(from + v) - mean) * inverse_std;
        vec dy = sum_at(g, n, v);
        vec du = vec_if_positive(hat * gamma + beta, dy, dy * slope);
        sum += du;
        sum_hat += du * hat;
    }
    vec_store(ret, sum);
    vec_store(ret + VEC, sum_hat);
}

static void norm_reduce(const struct vx_norm_lanes *lanes, const void *x, const void *const *g,
                        int n, size_t voxels, float *ret) {
    if (n == 1) {
        norm_reduce_n(lanes, x, g, 1, voxels, ret);
    } else if (n == 2) {
        norm_reduce_n(lanes, x, g, 2, voxels, ret);
    } else {
        norm_reduce_n(lanes, x, g, 3, voxels, ret);
    }
}

static inline __attribute__((always_inline)) void norm_backward_n(const struct vx_norm_lanes *lanes,
                                                                  const void *x,
                                                                  const void *const *g, int n,
                                                                  void *dx, size_t voxels) {
    const act *from = x;
    act *to = dx;
    vec mean = vec_load(lanes->mean), inverse_std = vec_load(lanes->inverse_std);
    vec gamma = vec_load(lanes->gamma), beta = vec_load(lanes->beta), slope = vec_all(lanes->slope);
    vec sum = vec_load(lanes->sum), sum_hat = vec_load(lanes->sum_hat);
    vec scale = gamma * inverse_std;
    for (size_t v = 0; v < voxels * VEC; v += VEC) {
        vec hat = (act_load(from + v) - mean) * inverse_std;
        vec dy = sum_at(g, n, v);
        vec du = vec_if_positive(hat * gamma + beta, dy, dy * slope);
        act_store(to + v, scale * (du - sum - hat * sum_hat));
    }
}

static void norm_backward(const struct vx_norm_lanes *lanes, const void *x, const void *const *g,
                          int n, void *dx, size_t voxels) {
    if (n == 1) {
        norm_backward_n(lanes, x, g, 1, dx, voxels);
    } else if (n == 2) {
        norm_backward_n(lanes, x, g, 2, dx, voxels);
    } else {
        norm_backward_n(lanes, x, g, 3, dx, voxels);
    }
}

static void add(const void *const *src, int n, void *dst, size_t count) {
    for (size_t i = 0; i < count; i += VEC) {
        act_store((act *)dst + i, sum_at(src, n, i));
    }
}

static void spread(const void *src, const float *bias, void *dst, size_t step, size_t voxels) {
    vec b = vec_load(bias);
    for (size_t v = 0; v < voxels; v++) {
        act_store((act *)dst + v * step * VEC, act_load((const act *)src + v * VEC) + b);
    }
}

static void collect(const void *const *src, int n, size_t step, void *dst, float *bias,
                    size_t voxels) {
    vec total = vec_load(bias);
    for (size_t v = 0; v < voxels; v++) {
        vec g = sum_at(src, n, v * step * VEC);
        act_store((act *)dst + v * VEC, g);
        total += g;
    }
    vec_store(bias, total);
}

static void input_block(const float *src, size_t plane, int channels, void *dst, size_t voxels) {
    float lanes[VEC] = {0};
    for (size_t v = 0; v < voxels; v++) {
        for (int c = 0; c < channels; c++) {
            lanes[c] = src[(size_t)c * plane + v];
        }
        act_store((act *)dst + v * VEC, vec_load(lanes));
    }
}

static inline act act_of(float x) {
#ifdef VX_ACT_BF16
    act lanes[VEC];
    act_store(lanes, vec_all(x));
    return lanes[0];
#else
    return x;
#endif
}

static void input_plain(const float *src, void *dst, size_t count) {
    size_t i = 0;
    for (; i + VEC <= count; i += VEC) {
        act_store((act *)dst + i, vec_load(src + i));
    }
    for (; i < count; i++) {
        ((act *)dst)[i] = act_of(src[i]);
    }
}

static void scatter(const float *src, const int32_t *table, size_t count, void *dst) {
    size_t i = 0;
    act lanes[VEC];
    for (; i + VEC <= count; i += VEC) {
        act_store(lanes, vec_load(src + i));
        for (int k = 0; k < VEC; k++) {
            ((act *)dst)[table[i + (size_t)k]] = lanes[k];
        }
    }
    for (; i < count; i++) {
        ((act *)dst)[table[i]] = act_of(src[i]);
    }
}

/* Replaces the logits of one voxel by exp(z - top); returns the class of the largest (the lowest of
 * equals). */
static int softmax_blocks(const struct vx_loss_run *run, float *z, float *top, float *sum) {
    int best = 0, blocks = (run->classes + VEC - 1) / VEC;
    float m = -INFINITY, s = 0;
    for (int b = 0; b < blocks; b++) {
        int n = run->classes - b * VEC < VEC ? run->classes - b * VEC : VEC;
        vec v = vec_first(n, vec_load(z + (size_t)b * run->block_stride), -INFINITY);
        float here = vec_max_lane(v);
        if (here > m) {
            m = here;
            best = b * VEC + __builtin_ctz(vec_equal(v, here) | 1u << (VEC - 1));
        }
    }
    for (int b = 0; b < blocks; b++) {
        int n = run->classes - b * VEC < VEC ? run->classes - b * VEC : VEC;
        float *at = z + (size_t)b * run->block_stride;
        vec e = vec_first(n, vec_exp(vec_load(at) - vec_all(m)), 0);
        s += vec_sum_lanes(e);
        vec_store(at, e);
    }
    *top = m;
    *sum = s;
    return best;
}

/* The logarithms of a product of up to 64 sums (each 1 to 64) are taken at once. */
enum { LOG_BATCH = 64 };

static void softmax(const struct vx_loss_run *run, struct vx_loss_sums *sums) {
    int blocks = (run->classes + VEC - 1) / VEC;
    double product = 1;
    for (size_t v = 0; v < run->voxels; v++) {
        float *z = run->logits + v * VEC, top, sum;
        int y = run->targets[v];
        size_t y_at = (size_t)(y / VEC) * run->block_stride + (size_t)(y % VEC);
        float z_y = z[y_at];
        int best = softmax_blocks(run, z, &top, &sum);
        sums->ce += (double)(top - z_y);
        product *= (double)sum;
        if (v % LOG_BATCH == LOG_BATCH - 1) {
            sums->ce += log(product);
            product = 1;
        }
        sums->target[y]++;
        sums->predicted[best]++;
        sums->tp[y] += best == y;
        vec scale = vec_all(1.0f / sum);
        for (int b = 0; b < blocks; b++) {
            float *at = z + (size_t)b * run->block_stride;
            vec_store(at, vec_load(at) * scale);
        }
        sums->intersection[y] += (double)z[y_at];
        for (int c = 0; c < run->classes; c++) {
            sums->p[c] += (double)z[(size_t)(c / VEC) * run->block_stride + (size_t)(c % VEC)];
        }
    }
    sums->ce += log(product);
}

static void loss_gradient(const struct vx_loss_run *run, const struct vx_loss_slopes *slopes,
                          void *dst) {
    int blocks = (run->classes + VEC - 1) / VEC;
    vec one = vec_all(slopes->cross_entropy), zero = vec_all(0);
    for (size_t v = 0; v < run->voxels; v++) {
        const float *p = run->logits + v * VEC;
        act *to = (act *)dst + v * VEC;
        int y = run->targets[v];
        float dot = 0;
        for (int b = 0; b < blocks; b++) {
            vec s = vec_load(slopes->out + b * VEC);
            s = y / VEC == b ? vec_with_lane(s, y % VEC, vec_load(slopes->in + b * VEC)) : s;
            dot += vec_sum_lanes(vec_load(p + (size_t)b * run->block_stride) * s);
        }
        for (int b = 0; b < blocks; b++) {
            vec s = vec_load(slopes->out + b * VEC), hit = zero;
            if (y / VEC == b) {
                s = vec_with_lane(s, y % VEC, vec_load(slopes->in + b * VEC));
                hit = vec_with_lane(zero, y % VEC, one);
            }
            vec q = vec_load(p + (size_t)b * run->block_stride);
            act_store(to + (size_t)b * run->block_stride, q * (s - vec_all(dot) + one) - hit);
        }
    }
}

static double square_sum(const float *x, size_t count) {
    double sum = 0;
    size_t i = 0;
    /* Short runs in float, their sums in double. */
    for (; i + 8 * VEC <= count; i += 8 * VEC) {
        vec s = vec_all(0);
        for (size_t k = 0; k < 8 * VEC; k += VEC) {
            vec v = vec_load(x + i + k);
            s += v * v;
        }
        sum += (double)vec_sum_lanes(s);
    }
    for (; i < count; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return sum;
}

static void sgd(const struct vx_sgd *o, float *weight, float *momentum, const float *grad,
                size_t count) {
    for (size_t i = 0; i < count; i++) {
        float g = o->scale * grad[i] + o->decay * weight[i];
        float v = o->momentum * momentum[i] + g;
        momentum[i] = v;
        weight[i] -= o->rate * (g + o->momentum * v);
    }
}

#ifndef VX_ACT_BF16
#include "direct_body.h"
#include "winograd_body.h"
#endif

const struct vx_cpu_kernels VX_TABLE = {
    .block = VEC,
    .element = sizeof(act),
    .moments = moments,
    .norm_forward = norm_forward,
    .norm_reduce = norm_reduce,
    .norm_backward = norm_backward,
    .add = add,
    .spread = spread,
    .collect = collect,
    .input_block = input_block,
    .input_plain = input_plain,
    .scatter = scatter,
    .softmax = softmax,
    .loss_gradient = loss_gradient,
#ifndef VX_ACT_BF16
    .direct_forward = direct_forward,
    .direct_data = direct_data,
    .direct_weights = direct_weights,
    .direct_bias = direct_bias,
    .wino_forward = wino_forward,
    .wino_weights = wino_weights,
#endif
    .square_sum = square_sum,
    .sgd = sgd,
};
