/* Dice + cross-entropy over the heads, and hard statistics: the definitions in device/oplist.h. */
#include "ref/ops.h"

#include <math.h>
#include <stdlib.h>

/* Nearest-exact: floor((o + 0.5) * in / out) in exact integers. */
static int pick(int o, int in, int out) {
    return (int)(((2 * (int64_t)o + 1) * in) / (2 * (int64_t)out));
}

/* Class of voxel v of sample n of the head; labels below 0 lie outside the image: background. */
static int target(const struct ref_tensor *logits, const int16_t *labels, const int shape[4], int n,
                  int z, int y, int x) {
    const int *s = logits->shape;
    size_t row =
        ((size_t)n * shape[1] + pick(z, shape[1], s[2])) * shape[2] + pick(y, shape[2], s[3]);
    int label = labels[row * shape[3] + pick(x, shape[3], s[4])];
    return label < 0 ? 0 : label;
}

struct head {
    const struct ref_tensor *logits;
    int classes;
    size_t voxels;                 /* of one sample */
    double *p;                     /* softmax, [N][C][voxels] */
    int *y;                        /* target, [N][voxels] */
    double *i_sum, *p_sum, *g_sum; /* [groups][C]; one group per sample, or one */
};

static void softmax_and_sums(struct head *h, bool batch_dice, double *ce) {
    int n_samples = h->logits->shape[0], classes = h->classes;
    *ce = 0;
    for (int n = 0; n < n_samples; n++) {
        int group = batch_dice ? 0 : n;
        for (size_t v = 0; v < h->voxels; v++) {
            const double *z = h->logits->value + (size_t)n * classes * h->voxels + v;
            double *p = h->p + (size_t)n * classes * h->voxels + v;
            double top = z[0], sum = 0;
            for (int c = 1; c < classes; c++) {
                top = fmax(top, z[(size_t)c * h->voxels]);
            }
            for (int c = 0; c < classes; c++) {
                sum += exp(z[(size_t)c * h->voxels] - top);
            }
            int y = h->y[(size_t)n * h->voxels + v];
            *ce -= z[(size_t)y * h->voxels] - top - log(sum);
            for (int c = 0; c < classes; c++) {
                double q = exp(z[(size_t)c * h->voxels] - top) / sum;
                p[(size_t)c * h->voxels] = q;
                h->p_sum[group * classes + c] += q;
                h->i_sum[group * classes + c] += c == y ? q : 0;
                h->g_sum[group * classes + c] += c == y;
            }
        }
    }
    *ce /= (double)n_samples * (double)h->voxels;
}

/* Mean Dice over groups and foreground classes; with slope, the derivatives of the loss by p:
 * slope[..][0] where the voxel is of the class, [1] elsewhere. */
static double mean_dice(const struct head *h, int groups, double smooth, double (*slope)[2]) {
    double sum = 0, count = (double)groups * (h->classes - 1);
    for (int g = 0; g < groups; g++) {
        for (int c = 0; c < h->classes; c++) {
            int k = g * h->classes + c;
            double raw = h->g_sum[k] + h->p_sum[k] + smooth, below = fmax(raw, 1e-8);
            double above = 2 * h->i_sum[k] + smooth;
            if (c == 0) {
                slope[k][0] = slope[k][1] = 0;
                continue;
            }
            sum += above / below;
            slope[k][1] = raw > 1e-8 ? above / (below * below) / count : 0;
            slope[k][0] = slope[k][1] - 2 / below / count;
        }
    }
    return sum / count;
}

static void gradient_of(const struct head *h, bool batch_dice, double (*slope)[2], double weight,
                        double *grad) {
    int n_samples = h->logits->shape[0], classes = h->classes;
    double per_voxel = 1 / ((double)n_samples * (double)h->voxels);
    for (int n = 0; n < n_samples; n++) {
        double(*s)[2] = slope + (batch_dice ? 0 : n * classes);
        for (size_t v = 0; v < h->voxels; v++) {
            const double *p = h->p + (size_t)n * classes * h->voxels + v;
            double *g = grad + (size_t)n * classes * h->voxels + v;
            int y = h->y[(size_t)n * h->voxels + v];
            double dot = 0;
            for (int c = 0; c < classes; c++) {
                dot += p[(size_t)c * h->voxels] * s[c][c != y];
            }
            for (int c = 0; c < classes; c++) {
                double q = p[(size_t)c * h->voxels];
                g[(size_t)c * h->voxels] +=
                    weight * (q * (s[c][c != y] - dot) + (q - (c == y)) * per_voxel);
            }
        }
    }
}

static void one_head(const struct vx_loss *loss, int index, struct head *h, const int16_t *labels,
                     const int label_shape[4], double *grad, struct vx_run_result *result) {
    const int *s = h->logits->shape;
    size_t v = 0;
    for (int n = 0; n < s[0]; n++) {
        for (int z = 0; z < s[2]; z++) {
            for (int y = 0; y < s[3]; y++) {
                for (int x = 0; x < s[4]; x++) {
                    h->y[v++] = target(h->logits, labels, label_shape, n, z, y, x);
                }
            }
        }
    }
    int groups = loss->batch_dice ? 1 : s[0];
    double ce, (*slope)[2] = calloc((size_t)groups * h->classes, sizeof *slope);
    softmax_and_sums(h, loss->batch_dice, &ce);
    double dice = mean_dice(h, groups, (double)loss->smooth, slope);
    result->loss += (double)loss->weight[index] * (ce - dice);
    if (index == 0) {
        result->ce = ce;
        result->dice = dice;
    }
    if (grad) {
        gradient_of(h, loss->batch_dice, slope, (double)loss->weight[index], grad);
    }
    free(slope);
}

void ref_loss(const struct vx_loss *loss, int classes, struct ref_tensor *tensors,
              const int16_t *labels, const int label_shape[4], bool gradient,
              struct vx_run_result *result) {
    for (int i = 0; i < loss->n_heads; i++) {
        if (loss->weight[i] == 0) {
            continue;
        }
        struct ref_tensor *t = &tensors[loss->logits[i]];
        size_t sums = (size_t)t->shape[0] * (size_t)classes;
        struct head h = {.logits = t,
                         .classes = classes,
                         .voxels = (size_t)t->shape[2] * t->shape[3] * t->shape[4],
                         .p = calloc(t->count, sizeof(double)),
                         .y = calloc(t->count, sizeof(int)),
                         .i_sum = calloc(3 * sums, sizeof(double))};
        h.p_sum = h.i_sum + sums;
        h.g_sum = h.p_sum + sums;
        one_head(loss, i, &h, labels, label_shape, gradient ? t->grad : NULL, result);
        free(h.p);
        free(h.y);
        free(h.i_sum);
    }
}

void ref_hard_statistics(const struct ref_tensor *logits, const int16_t *labels,
                         const int label_shape[4], struct vx_run_result *result) {
    const int *s = logits->shape;
    size_t voxels = (size_t)s[2] * s[3] * s[4];
    for (int n = 0; n < s[0]; n++) {
        for (size_t v = 0; v < voxels; v++) {
            const double *z = logits->value + (size_t)n * s[1] * voxels + v;
            int label = target(logits, labels, label_shape, n, (int)(v / s[4] / s[3]),
                               (int)(v / s[4] % s[3]), (int)(v % s[4]));
            int best = 0;
            for (int c = 1; c < s[1]; c++) {
                best = z[(size_t)c * voxels] > z[(size_t)best * voxels] ? c : best;
            }
            result->tp[best] += best == label;
            result->fp[best] += best != label;
            result->fn[label] += best != label;
        }
    }
}
