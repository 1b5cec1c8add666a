/* Prediction of new cases: every case of a folder prepared, through the networks of a model's
 * folds, and out to OUT_DIR/CASE.nii.gz on its original grid; with probabilities also CASE.npz and
 * CASE.pkl. Source: nnU-Net v2's predict_from_files.
 *
 * OUT_DIR also gets the model's dataset.json and plans.json, as nnU-Net's later tools want them.
 * Files are atomic, and the label map is written last: where it is, the others are whole. What an
 * earlier run left is kept on request where it is whole, not older than its images, and under the
 * same stamp (stamp.h); under another stamp it is removed before anything is begun. Cases overlap
 * as in pipeline.h. Memory per case, counted against the budget: what preparing needs
 * (prepare/case.h); image and logits; logits and what exporting needs (export.h, probabilities.h).
 * Thread: that of the device, and two of its own. */
#ifndef VX_INFER_PREDICT_H
#define VX_INFER_PREDICT_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_ensemble;
struct vx_err;
struct vx_model;
struct vx_rawset;

/* One case has ended. */
struct vx_predict_news {
    const char *name;
    size_t done, total; /* cases, this one included */
    bool kept;          /* found whole: nothing was computed */
    double seconds_prepare, seconds_network, seconds_export;
};

struct vx_predict_options {
    const struct vx_model *model; /* borrowed, as all below */
    struct vx_ensemble *ensemble; /* of model */
    const struct vx_rawset *raw;  /* the cases: every image there, no labels */
    const char *out_dir;          /* made where it is missing */
    const json_t *args;           /* written to predict_args.json there */
    bool probabilities;
    bool keep;                /* what is there already; false: everything is made anew */
    uint64_t memory_bytes;    /* budget; 0: no limit */
    uint64_t max_logit_bytes; /* 0: 16 GiB; a case that needs more is VX_E_LIMIT
                                 "logits_too_large" */
    /* After every case: first those kept, then the others, both in the order of raw. Any thread,
     * one call at a time. May be NULL. */
    void (*news)(void *context, const struct vx_predict_news *news);
    /* After every run of the network; thread of the device. May be NULL. */
    void (*tick)(void *context, const char *name, int64_t done, int64_t total);
    const atomic_bool *stop; /* set by anyone: VX_E_CANCELLED soon; what is written stays */
    void *context;
};

struct vx_predict_result {
    size_t n_cases, n_kept;
};

int vx_predict(const struct vx_predict_options *options, struct vx_predict_result *ret,
               struct vx_err *err);

#endif
