/* Agreement of two label maps, per label or region. Source: nnU-Net v2's evaluation. Thread: any.
 */
#ifndef VX_INFER_METRICS_H
#define VX_INFER_METRICS_H

#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_labelmap;

#define VX_METRIC_MAX_LABELS  64
#define VX_METRIC_NO_IGNORE   (-32768)
#define VX_METRIC_MAX_CLASSES 256

/* A label (n = 1) or a region: the union of its labels. */
struct vx_metric_class {
    int n;
    int16_t labels[VX_METRIC_MAX_LABELS];
};

struct vx_confusion {
    int64_t tp, fp, fn, tn; /* voxels */
};

/* One count per class. Voxels whose reference is ignore are left out (VX_METRIC_NO_IGNORE: none
 * are). VX_E_INVALID "shape_mismatch" where the shapes differ. */
int vx_metrics_count(const struct vx_labelmap *prediction, const struct vx_labelmap *reference,
                     const struct vx_metric_class *classes, size_t n_classes, int ignore,
                     struct vx_confusion *ret, struct vx_err *err);

/* 2 TP / (2 TP + FP + FN) and TP / (TP + FP + FN); NaN where the class is in neither map. */
double vx_metrics_dice(const struct vx_confusion *c);
double vx_metrics_iou(const struct vx_confusion *c);

#endif
