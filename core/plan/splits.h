/* Cross-validation splits: splits_final.json by nnU-Net's rule (scikit-learn KFold(5, shuffle,
 * random_state 12345) over the sorted case names). Thread: any. */
#ifndef VX_PLAN_SPLITS_H
#define VX_PLAN_SPLITS_H

#include <jansson.h>
#include <stddef.h>

struct vx_err;

#define VX_FOLDS    5
#define VX_FOLD_ALL (-1)

/* One fold: indices into the case list that was given, ascending. */
struct vx_split {
    int *train, *val; /* owned */
    int n_train, n_val;
    int n_both; /* cases in both lists */
};
void vx_split_release(struct vx_split *split);

/* New reference: [{"train": [...], "val": [...]} x 5] for the cases (sorted inside; at least 5). */
json_t *vx_splits_create(const char *const *cases, int n_cases, struct vx_err *err);
/* fold 0..: that entry of splits (a splits_final.json); VX_FOLD_ALL: every case in both; a fold
 * past the end: nnU-Net's random 80:20 split seeded with 12345 + fold. Every named case must be
 * among `cases`, none twice in one list: VX_E_INVALID names the case. A case may be in both lists,
 * as in nnU-Net, which warns. */
int vx_split_fold(const json_t *splits, const char *const *cases, int n_cases, int fold,
                  struct vx_split *ret, struct vx_err *err);

#endif
