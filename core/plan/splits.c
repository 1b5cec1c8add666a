#include "plan/splits.h"

#include "plan/mt19937.h"

#include "base/err.h"
#include "base/own.h"

#include <stdlib.h>
#include <string.h>

#define SPLIT_SEED 12345

void vx_split_release(struct vx_split *split) {
    free(split->train);
    free(split->val);
    *split = (struct vx_split){0};
}

/* The cases in the order of their names, with their places in the caller's list. */
struct entry {
    const char *name;
    int at;
};

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static struct entry *sorted_entries(const char *const *cases, int n) {
    struct entry *sorted = malloc((size_t)(n > 0 ? n : 1) * sizeof *sorted);
    for (int i = 0; sorted && i < n; i++) {
        sorted[i] = (struct entry){cases[i], i};
    }
    if (sorted) {
        qsort(sorted, (size_t)n, sizeof *sorted, by_name);
    }
    return sorted;
}

json_t *vx_splits_create(const char *const *cases, int n_cases, struct vx_err *err) {
    if (n_cases < VX_FOLDS) {
        vx_fail(err, VX_E_INVALID, "too_few_cases",
                "%d cases cannot be split into %d folds; fold \"all\" trains on all", n_cases,
                VX_FOLDS);
        return NULL;
    }
    vx_auto_free struct entry *sorted = sorted_entries(cases, n_cases);
    vx_auto_free int64_t *order = malloc((size_t)n_cases * sizeof *order);
    vx_auto_free int *fold_of = malloc((size_t)n_cases * sizeof *fold_of);
    json_t *splits = json_array();
    if (!sorted || !order || !fold_of || !splits) {
        json_decref(splits);
        vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
        return NULL;
    }
    for (int i = 0; i < n_cases; i++) {
        order[i] = i;
    }
    struct vx_mt19937 mt;
    vx_mt_seed(&mt, SPLIT_SEED);
    vx_mt_shuffle(&mt, order, (size_t)n_cases);
    for (int fold = 0, at = 0; fold < VX_FOLDS; fold++) {
        int size = n_cases / VX_FOLDS + (fold < n_cases % VX_FOLDS ? 1 : 0);
        for (int i = 0; i < size; i++) {
            fold_of[order[at++]] = fold;
        }
    }
    for (int fold = 0; fold < VX_FOLDS; fold++) {
        json_t *train = json_array(), *val = json_array();
        for (int i = 0; i < n_cases; i++) {
            json_array_append_new(fold_of[i] == fold ? val : train, json_string(sorted[i].name));
        }
        json_array_append_new(splits, json_pack("{s:o, s:o}", "train", train, "val", val));
    }
    return splits;
}

/* Place in sorted, or -1. */
static int find_case(const struct entry *sorted, int n, const char *name) {
    struct entry key = {name, 0};
    const struct entry *found = bsearch(&key, sorted, (size_t)n, sizeof key, by_name);
    return found ? (int)(found - sorted) : -1;
}

/* roles, in the order of sorted: 0 unused, 1 train, 2 val, 3 both. */
static int mark(const json_t *list, const char *what, int role, const struct entry *sorted, int n,
                char *roles, struct vx_err *err) {
    if (!json_is_array(list) || json_array_size(list) == 0) {
        return vx_fail(err, VX_E_INVALID, "invalid_splits",
                       "splits_final.json: \"%s\" must be a list of cases", what);
    }
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)list, i, entry) {
        const char *name = json_string_value(entry);
        int at = name ? find_case(sorted, n, name) : -1;
        if (at < 0) {
            return vx_fail(err, VX_E_INVALID, "invalid_splits",
                           "splits_final.json names the case %s, which the data set does not have",
                           name ? name : "(no string)");
        }
        if (roles[at] & role) {
            return vx_fail(err, VX_E_INVALID, "invalid_splits",
                           "splits_final.json lists the case %s twice in \"%s\"", name, what);
        }
        roles[at] = (char)(roles[at] | role);
    }
    return VX_OK;
}

/* Indices with a role in the order of the names, which is nnU-Net's order within a fold. */
static int collect(const char *roles, const struct entry *sorted, int n, struct vx_split *ret,
                   struct vx_err *err) {
    struct vx_split s = {.train = calloc((size_t)n + 1, sizeof(int)),
                         .val = calloc((size_t)n + 1, sizeof(int))};
    if (!s.train || !s.val) {
        vx_split_release(&s);
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (int i = 0; i < n; i++) {
        if (roles[i] & 1) {
            s.train[s.n_train++] = sorted[i].at;
        }
        if (roles[i] & 2) {
            s.val[s.n_val++] = sorted[i].at;
        }
        s.n_both += roles[i] == 3;
    }
    *ret = s;
    return VX_OK;
}

/* numpy's RandomState(seed).choice(n, size, replace=False) is the head of a permutation. */
static int random_fold(int fold, int n, char *roles, struct vx_err *err) {
    vx_auto_free int64_t *order = malloc((size_t)(n > 0 ? n : 1) * sizeof *order);
    if (!order) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (int i = 0; i < n; i++) {
        order[i] = i;
    }
    struct vx_mt19937 mt;
    vx_mt_seed(&mt, (uint32_t)(SPLIT_SEED + fold));
    vx_mt_shuffle(&mt, order, (size_t)n);
    int train = (int)(n * 0.8);
    for (int i = 0; i < n; i++) {
        roles[order[i]] = i < train ? 1 : 2;
    }
    return VX_OK;
}

int vx_split_fold(const json_t *splits, const char *const *cases, int n_cases, int fold,
                  struct vx_split *ret, struct vx_err *err) {
    vx_auto_free char *roles = calloc((size_t)n_cases + 1, 1);
    vx_auto_free struct entry *sorted = sorted_entries(cases, n_cases);
    if (!roles || !sorted) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = VX_OK;
    if (fold == VX_FOLD_ALL) {
        memset(roles, 3, (size_t)n_cases);
    } else if (fold < 0 || !json_is_array(splits)) {
        return vx_fail(err, VX_E_INVALID, "invalid_splits",
                       "splits_final.json must hold a list of folds");
    } else if ((size_t)fold >= json_array_size(splits)) {
        rc = random_fold(fold, n_cases, roles, err);
    } else {
        const json_t *entry = json_array_get(splits, (size_t)fold);
        rc = mark(json_object_get(entry, "train"), "train", 1, sorted, n_cases, roles, err);
        if (rc == VX_OK) {
            rc = mark(json_object_get(entry, "val"), "val", 2, sorted, n_cases, roles, err);
        }
    }
    return rc == VX_OK ? collect(roles, sorted, n_cases, ret, err) : rc;
}
