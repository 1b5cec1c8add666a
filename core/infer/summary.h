/* summary.json as nnU-Net v2 writes it: foreground_mean, mean per class, metric_per_case. NaN,
 * which JSON does not have, is null here. Thread: one at a time per object. */
#ifndef VX_INFER_SUMMARY_H
#define VX_INFER_SUMMARY_H

#include "infer/metrics.h"

struct vx_summary; /* classes and the counts of every case */

/* Copies classes. NULL when out of memory or where there are no classes or more than
 * VX_METRIC_MAX_CLASSES. */
struct vx_summary *vx_summary_create(const struct vx_metric_class *classes, size_t n_classes);
/* Accepts NULL; returns NULL. */
struct vx_summary *vx_summary_free(struct vx_summary *s);

/* counts: one per class. Files are named in the summary as given. */
int vx_summary_add(struct vx_summary *s, const char *prediction_file, const char *reference_file,
                   const struct vx_confusion *counts, struct vx_err *err);
size_t vx_summary_n_cases(const struct vx_summary *s);
/* Mean over the cases where it is a number; NaN where it is in none. */
double vx_summary_dice(const struct vx_summary *s, size_t class_index);
/* Plain mean over the classes but label 0; NaN where one of them is NaN. */
double vx_summary_foreground_dice(const struct vx_summary *s);
/* Atomic. */
int vx_summary_write(const struct vx_summary *s, const char *path, struct vx_err *err);

static inline void vx_own_summary(struct vx_summary **s) {
    vx_summary_free(*s);
}
#define vx_auto_summary __attribute__((cleanup(vx_own_summary)))

#endif
