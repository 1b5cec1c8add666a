/* Between model.c and model_folds.c. Private to this room. Thread: any. */
#ifndef VX_INFER_MODEL_INTERNAL_H
#define VX_INFER_MODEL_INTERNAL_H

#include "infer/model.h"

#include <jansson.h>

/* What the files of one fold say. */
struct model_words {
    struct vx_plans *plans;          /* owned, like all pointers here */
    json_t *plans_json;              /* of plans */
    json_t *dataset;                 /* as it was read */
    char *plans_path, *dataset_path; /* where they were read */
    char configuration[32];
    bool mirror_known; /* the checkpoint names its mirror axes */
    bool mirror[3];
};
void model_words_release(struct model_words *w);

/* Fills m->folds with names and paths, ascending; weights stay NULL. */
int model_find_folds(struct vx_model *m, const struct vx_model_options *options,
                     struct vx_err *err);
/* The part of plans.json and dataset.json that decides over predictions: new reference, NULL when
 * out of memory. */
json_t *model_deciding_words(const struct model_words *w);
/* VX_E_INVALID "folds_differ" names the first field that differs. */
int model_same_words(const struct model_words *a, const char *a_fold, const struct model_words *b,
                     const char *b_fold, struct vx_err *err);

#endif
