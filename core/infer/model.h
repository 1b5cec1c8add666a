/* A trained model, as voxeld and nnU-Net lay it out:
 *
 *   RESULTS/DatasetXXX_Name/TRAINER__PLANS__CONFIGURATION/
 *     plans.json, dataset.json
 *     fold_X/checkpoint_{final,best}.safetensors, else .pth as nnU-Net writes it
 *            (and, of voxeld, plans.json, dataset.json)
 *
 * Opening checks all that a prediction rests on: the plan (it may not contradict itself), every
 * parameter of every fold against the plan's network (name and shape), and that all folds were
 * trained for the same input and output: same configuration, spacing, patch, network,
 * normalisation, transposition, intensities, labels, mirror axes. A fold's own plans.json counts
 * before the model's, because a job may have changed it for that fold alone. Batch size and what
 * else only training needs may differ.
 *
 * Weights are kept in memory, 4 bytes per parameter and fold. Thread: any; read-only once opened.
 */
#ifndef VX_INFER_MODEL_H
#define VX_INFER_MODEL_H

#include "base/hash.h"

#include <stdbool.h>
#include <stddef.h>

struct vx_dataset_desc;
struct vx_err;
struct vx_oplist;
struct vx_plan_config;
struct vx_plans;

#define VX_MODEL_MAX_FOLDS 32

struct vx_model_options {
    const char *dir;          /* the model's folder */
    const char *const *folds; /* "0", "3", "all" */
    size_t n_folds;           /* 0: every numbered fold that has the checkpoint, else fold_all */
    const char *checkpoint;   /* "final" or "best"; NULL: "final" */
};

struct vx_model_fold {
    char name[8];    /* "0", "all" */
    char *path;      /* of the checkpoint */
    float **weights; /* [n_params] in the order of net's parameters, PyTorch's layout */
};

struct vx_model { /* owned throughout */
    char *dir;
    char *plans_path, *dataset_path; /* the files that count */
    struct vx_plans *plans;
    const struct vx_plan_config *config; /* inside plans */
    struct vx_dataset_desc *dataset;
    struct vx_oplist *net; /* of one tile: what the weights belong to */
    size_t n_folds;
    struct vx_model_fold folds[VX_MODEL_MAX_FOLDS];
    bool mirror[3];             /* array axes that training mirrored */
    char digest[VX_SHA256_HEX]; /* of everything above that predictions depend on */
};

/* Reasons: model_not_found, fold_not_found, unknown_configuration, weights_mismatch (names the
 * parameter and both shapes), folds_differ (names the folds and the field), channel_mismatch,
 * bad_checkpoint; and those of the readers of plans, dataset.json and checkpoints. */
int vx_model_open(const struct vx_model_options *options, struct vx_model **ret,
                  struct vx_err *err);
/* Accepts NULL; returns NULL. */
struct vx_model *vx_model_free(struct vx_model *m);

static inline void vx_own_model(struct vx_model **m) {
    vx_model_free(*m);
}
#define vx_auto_model __attribute__((cleanup(vx_own_model)))

#endif
