#include "base/err.h"
#include "base/own.h"
#include "plan/mt19937.h"
#include "plan/splits.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* First outputs of MT19937 seeded with 5489, from its authors' reference program. */
Test(plan_mt19937, reference_outputs) {
    struct vx_mt19937 mt;
    vx_mt_seed(&mt, 5489);
    cr_assert_eq(vx_mt_u32(&mt), 3499211612u);
    cr_assert_eq(vx_mt_u32(&mt), 581869302u);
    for (int i = 2; i < 9999; i++) {
        vx_mt_u32(&mt);
    }
    cr_assert_eq(vx_mt_u32(&mt), 4123659995u); /* the 10000th, also required of std::mt19937 */
}

static char names[400][16];
static const char *cases[400];

static void make_cases(int n) {
    for (int i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "case_%03d", i);
        cases[i] = names[i];
    }
}

static void check_val(int n, int fold, const int *golden, int count) {
    struct vx_err err = {0};
    struct vx_split split;
    make_cases(n);
    vx_auto_json json_t *splits = vx_splits_create(cases, n, &err);
    cr_assert_not_null(splits);
    cr_assert_eq(vx_split_fold(splits, cases, n, fold, &split, &err), VX_OK, "%s", err.text);
    cr_assert_eq(split.n_val, count);
    cr_assert_eq(split.n_train, n - count);
    for (int i = 0; i < count; i++) {
        cr_expect_eq(split.val[i], golden[i], "n=%d fold %d: val[%d] = %d", n, fold, i,
                     split.val[i]);
    }
    vx_split_release(&split);
}

Test(plan_splits, kfold_goldens) {
    check_val(10, 0, (int[]){0, 7}, 2);
    check_val(10, 4, (int[]){2, 5}, 2);
    check_val(13, 2, (int[]){8, 11, 12}, 3);
    check_val(20, 0, (int[]){3, 8, 13, 16}, 4);
    check_val(32, 0, (int[]){0, 3, 8, 12, 15, 18, 27}, 7);
    check_val(32, 4, (int[]){1, 2, 4, 5, 9, 29}, 6);
}

Test(plan_splits, hippocampus_sums) {
    static const int sums[5] = {6744, 6892, 6615, 6587, 6832};
    struct vx_err err = {0};
    make_cases(260);
    vx_auto_json json_t *splits = vx_splits_create(cases, 260, &err);
    for (int fold = 0; fold < 5; fold++) {
        struct vx_split split;
        cr_assert_eq(vx_split_fold(splits, cases, 260, fold, &split, &err), VX_OK);
        int sum = 0;
        for (int i = 0; i < split.n_val; i++) {
            sum += split.val[i];
        }
        cr_expect_eq(sum, sums[fold]);
        vx_split_release(&split);
    }
}

Test(plan_splits, all_and_beyond) {
    struct vx_err err = {0};
    struct vx_split split;
    make_cases(10);
    vx_auto_json json_t *splits = vx_splits_create(cases, 10, &err);
    cr_assert_eq(vx_split_fold(splits, cases, 10, VX_FOLD_ALL, &split, &err), VX_OK);
    cr_expect_eq(split.n_train, 10);
    cr_expect_eq(split.n_val, 10);
    vx_split_release(&split);
    cr_assert_eq(vx_split_fold(splits, cases, 10, 7, &split, &err), VX_OK);
    cr_expect_eq(split.n_train, 8);
    cr_expect_eq(split.n_val, 2);
    /* what numpy's RandomState(12352).choice(10, 8, replace=False) leaves */
    cr_expect_eq(split.val[0], 3);
    cr_expect_eq(split.val[1], 5);
    vx_split_release(&split);
}

/* Indices are places in the caller's list, ordered by name whatever the list's order. */
Test(plan_splits, order_of_the_case_list_does_not_matter) {
    struct vx_err err = {0};
    struct vx_split split;
    make_cases(200);
    const char *backwards[200];
    for (int i = 0; i < 200; i++) {
        backwards[i] = cases[199 - i];
    }
    vx_auto_json json_t *a = vx_splits_create(cases, 200, &err);
    vx_auto_json json_t *b = vx_splits_create(backwards, 200, &err);
    cr_assert(json_equal(a, b));
    static const int numpy[8] = {1, 7, 17, 37, 44, 55, 56, 58}; /* RandomState(12350), fold 5 */
    cr_assert_eq(vx_split_fold(b, backwards, 200, 5, &split, &err), VX_OK);
    for (int i = 0; i < 8; i++) {
        cr_expect_eq(split.val[i], 199 - numpy[i]);
    }
    vx_split_release(&split);
}

Test(plan_splits, foreign_and_doubled_cases_are_named) {
    struct vx_err err = {0};
    struct vx_split split;
    make_cases(5);
    vx_auto_json json_t *splits =
        json_pack("[{s:[s], s:[s]}]", "train", "case_000", "val", "case_009");
    cr_assert_eq(vx_split_fold(splits, cases, 5, 0, &split, &err), VX_E_INVALID);
    cr_expect_not_null(strstr(err.text, "case_009"));
    json_decref(splits);
    splits = json_pack("[{s:[s,s], s:[s]}]", "train", "case_001", "case_001", "val", "case_002");
    cr_assert_eq(vx_split_fold(splits, cases, 5, 0, &split, &err), VX_E_INVALID);
    cr_expect_not_null(strstr(err.text, "case_001 twice"));
    cr_assert_null(vx_splits_create(cases, 4, &err));
    cr_expect_str_eq(err.reason, "too_few_cases");
}

/* nnU-Net trains with a warning where people validate on cases that they train with. */
Test(plan_splits, lists_may_overlap) {
    struct vx_err err = {0};
    struct vx_split split;
    make_cases(5);
    vx_auto_json json_t *splits = json_pack("[{s:[s,s,s], s:[s,s]}]", "train", "case_003",
                                            "case_001", "case_000", "val", "case_001", "case_004");
    cr_assert_eq(vx_split_fold(splits, cases, 5, 0, &split, &err), VX_OK, "%s", err.text);
    cr_assert_eq(split.n_train, 3);
    cr_assert(split.train[0] == 0 && split.train[1] == 1 && split.train[2] == 3);
    cr_assert_eq(split.n_val, 2);
    cr_assert(split.val[0] == 1 && split.val[1] == 4);
    cr_assert_eq(split.n_both, 1);
    vx_split_release(&split);
}
