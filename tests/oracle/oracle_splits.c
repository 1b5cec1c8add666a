/* Splits of case names, for tests/oracle/plan.py and train.py.
 *
 * usage: oracle_splits                 case names on stdin, one a line; splits_final.json on stdout
 *        oracle_splits FOLD [FILE]     the fold ("all" or a number) as {"train": [...], "val":
 * [...]}, of FILE where it is given */
#include "base/err.h"
#include "base/own.h"
#include "plan/splits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *names_of(char *const *names, const int *indices, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(list, json_string(names[indices[i]]));
    }
    return list;
}

static json_t *fold_of(char **names, int n, const json_t *splits, const char *fold,
                       struct vx_err *err) {
    struct vx_split split = {0};
    int number = strcmp(fold, "all") == 0 ? VX_FOLD_ALL : atoi(fold);
    if (vx_split_fold(splits, (const char *const *)names, n, number, &split, err) != VX_OK) {
        return NULL;
    }
    json_t *out = json_pack("{s:o, s:o}", "train", names_of(names, split.train, split.n_train),
                            "val", names_of(names, split.val, split.n_val));
    vx_split_release(&split);
    return out;
}

int main(int argc, char **argv) {
    char *names[4096], line[512];
    int n = 0;
    while (n < 4096 && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        names[n++] = strdup(line);
    }
    struct vx_err err = {0};
    json_t *splits = argc > 2 ? json_load_file(argv[2], 0, NULL)
                              : vx_splits_create((const char *const *)names, n, &err);
    json_t *out = argc > 1 ? fold_of(names, n, splits, argv[1], &err) : json_incref(splits);
    if (out) {
        json_dumpf(out, stdout, 0);
    } else {
        fprintf(stderr, "oracle_splits: %s\n", err.text);
    }
    int rc = out ? 0 : 1;
    json_decref(out);
    json_decref(splits);
    for (int i = 0; i < n; i++) {
        free(names[i]);
    }
    return rc;
}
