#include "infer/metrics.h"
#include "base/err.h"
#include "base/own.h"
#include "volume/volume.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define ALL_LABELS 65536 /* values of int16 */

/* Labels that classes speak of get numbers from 1, everything else 0; index[label + 32768]. */
static int number_labels(const struct vx_metric_class *classes, size_t n_classes, uint16_t *index) {
    int n = 1;
    for (size_t c = 0; c < n_classes; c++) {
        for (int i = 0; i < classes[c].n; i++) {
            uint16_t *slot = &index[classes[c].labels[i] - INT16_MIN];
            if (*slot == 0) {
                *slot = (uint16_t)n++;
            }
        }
    }
    return n;
}

/* Table of pairs (number in prediction, number in reference), ignored voxels left out. */
static void count_pairs(const struct vx_labelmap *p, const struct vx_labelmap *r,
                        const uint16_t *index, int n, int ignore, int64_t *pairs) {
    int64_t voxels = vx_shape_count(p->shape);
    for (int64_t i = 0; i < voxels; i++) {
        if (r->data[i] == ignore && ignore != VX_METRIC_NO_IGNORE) {
            continue;
        }
        pairs[index[p->data[i] - INT16_MIN] * n + index[r->data[i] - INT16_MIN]]++;
    }
}

static struct vx_confusion sum_class(const struct vx_metric_class *k, const uint16_t *index, int n,
                                     const int64_t *pairs, bool *member) {
    memset(member, 0, (size_t)n * sizeof *member);
    for (int i = 0; i < k->n; i++) {
        member[index[k->labels[i] - INT16_MIN]] = true;
    }
    struct vx_confusion c = {0};
    for (int p = 0; p < n; p++) {
        for (int r = 0; r < n; r++) {
            int64_t v = pairs[p * n + r];
            *(member[p] ? member[r] ? &c.tp : &c.fp : member[r] ? &c.fn : &c.tn) += v;
        }
    }
    return c;
}

int vx_metrics_count(const struct vx_labelmap *p, const struct vx_labelmap *r,
                     const struct vx_metric_class *classes, size_t n_classes, int ignore,
                     struct vx_confusion *ret, struct vx_err *err) {
    if (memcmp(p->shape, r->shape, sizeof p->shape) != 0) {
        return vx_fail(err, VX_E_INVALID, "shape_mismatch",
                       "the prediction has %lld x %lld x %lld voxels (x, y, z), the reference %lld "
                       "x %lld x %lld",
                       (long long)p->shape[2], (long long)p->shape[1], (long long)p->shape[0],
                       (long long)r->shape[2], (long long)r->shape[1], (long long)r->shape[0]);
    }
    for (size_t c = 0; c < n_classes; c++) {
        if (classes[c].n < 1 || classes[c].n > VX_METRIC_MAX_LABELS) {
            return vx_fail(err, VX_E_INVALID, NULL, "class %zu has %d labels; 1 to %d are possible",
                           c, classes[c].n, VX_METRIC_MAX_LABELS);
        }
    }
    vx_auto_free uint16_t *index = calloc(ALL_LABELS, sizeof *index);
    int n = index ? number_labels(classes, n_classes, index) : 1;
    vx_auto_free int64_t *pairs = calloc((size_t)n * (size_t)n, sizeof *pairs);
    vx_auto_free bool *member = calloc((size_t)n, sizeof *member);
    if (!index || !pairs || !member) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to compare label maps");
    }
    count_pairs(p, r, index, n, ignore, pairs);
    for (size_t c = 0; c < n_classes; c++) {
        ret[c] = sum_class(&classes[c], index, n, pairs, member);
    }
    return VX_OK;
}

double vx_metrics_dice(const struct vx_confusion *c) {
    int64_t either = c->tp + c->fp + c->fn;
    return either == 0 ? NAN : 2.0 * (double)c->tp / (double)(either + c->tp);
}

double vx_metrics_iou(const struct vx_confusion *c) {
    int64_t either = c->tp + c->fp + c->fn;
    return either == 0 ? NAN : (double)c->tp / (double)either;
}
