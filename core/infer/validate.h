/* Validation of a fold: every held-out case from the prepared store through the network to a label
 * file on its original grid, and its agreement with the raw label. Source: nnU-Net v2's
 * perform_actual_validation.
 *
 * Writes OUT_DIR/CASE.nii.gz (atomic, one after the other) and, after the last,
 * OUT_DIR/summary.json. A restarted validation keeps the predictions that are there already, as
 * long as they came from the same weights: OUT_DIR/.stamp holds the caller's word for them, and
 * where it differs earlier predictions are removed first. Memory: the image, its logits (limit
 * below), and the label maps of one case. Thread: that of the device. */
#ifndef VX_INFER_VALIDATE_H
#define VX_INFER_VALIDATE_H

#include "infer/metrics.h"
#include "infer/sliding.h"

struct vx_cache;

struct vx_validate_case {
    const char *name;      /* in the store */
    const char *reference; /* path of the raw label file */
};

/* After each case. done counts it; dice: of this case per class (NaN where absent in both maps).
 * Anything but 0 ends the validation with VX_E_CANCELLED; what is written stays. */
typedef int (*vx_validate_progress_fn)(void *context, size_t done, size_t total, const char *name,
                                       const double *dice, size_t n_classes);

struct vx_validate_options {
    struct vx_cache *cache;         /* borrowed, as all below */
    struct vx_predictor *predictor; /* infer/sliding.h */
    int transpose_forward[3];       /* the plan's */
    const struct vx_validate_case *cases;
    size_t n_cases;
    const struct vx_metric_class *classes; /* foreground labels in ascending order */
    size_t n_classes;
    int ignore;              /* VX_METRIC_NO_IGNORE */
    const char *out_dir;     /* made where it is missing */
    const char *final_dir;   /* where out_dir will lie in the end, for summary.json; NULL: there */
    const char *file_ending; /* ".nii.gz" or ".nii" */
    const char *stamp;       /* one line that names the weights */
    uint64_t
        max_logit_bytes; /* 0: 16 GiB; a case that needs more is VX_E_LIMIT "logits_too_large" */
    vx_validate_progress_fn progress; /* may be NULL */
    vx_sliding_tick_fn tick; /* may be NULL; per run of the network, counts within a case */
    void *context;           /* of both */
};

struct vx_validate_result {
    size_t n_cases, n_kept; /* kept: predictions of an earlier run */
    size_t n_classes;
    double dice[VX_METRIC_MAX_CLASSES]; /* mean over cases, by class; NaN where absent everywhere */
    double foreground_mean;             /* mean over classes */
};

int vx_validate(const struct vx_validate_options *options, struct vx_validate_result *ret,
                struct vx_err *err);

#endif
