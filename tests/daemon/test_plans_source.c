/* Where a job's plan comes from: its own folder, nnU-Net's file, the registration, in this order.
 */
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/plans_source.h"
#include "plan/dataset.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct place {
    char root[64];
    char *job, *set;
};

static void set_up(struct place *p) {
    snprintf(p->root, sizeof p->root, "/tmp/voxeld-plans-XXXXXX");
    cr_assert(mkdtemp(p->root));
    p->job = vx_strf("%s/job", p->root);
    p->set = vx_strf("%s/Dataset001_X", p->root);
    cr_assert_eq(vx_mkdirs(p->job, 0755, NULL), VX_OK);
    cr_assert_eq(vx_mkdirs(p->set, 0755, NULL), VX_OK);
}

static void tear_down(struct place *p) {
    vx_remove_tree(p->root, NULL);
    free(p->job);
    free(p->set);
}

static void put(const char *dir, const char *file, const char *plans_name, int mark) {
    vx_auto_free char *path = vx_strf("%s/%s", dir, file);
    vx_auto_json json_t *o = json_pack("{s:s, s:i}", "plans_name", plans_name, "mark", mark);
    cr_assert_eq(vx_json_write_file(path, o, NULL), VX_OK);
}

static int find(const struct place *p, const char *name, const char *registered, int *ret_mark,
                struct vx_err *err) {
    static const struct vx_dataset_desc dataset = {.name = "Dataset001_X"};
    struct vx_plans_source source = {.name = name,
                                     .dataset = &dataset,
                                     .job_dir = p->job,
                                     .dataset_dir = p->set,
                                     .registered = registered};
    vx_auto_json json_t *plans = NULL;
    int rc = vx_plans_find(&source, &plans, err);
    *ret_mark = (int)json_integer_value(json_object_get(plans, "mark"));
    return rc;
}

Test(daemon_plans, the_nearest_source_wins) {
    struct place p;
    struct vx_err err = {0};
    int mark;
    set_up(&p);
    cr_expect_eq(find(&p, "nnUNetPlans", NULL, &mark, &err), VX_E_STATE);
    cr_expect_str_eq(err.reason, "dataset_not_ready");
    static const char registered[] = "{\"plans_name\": \"nnUNetPlans\", \"mark\": 3}";
    cr_expect_eq(find(&p, "nnUNetPlans", registered, &mark, &err), VX_OK);
    cr_expect_eq(mark, 3);
    put(p.set, "nnUNetPlans.json", "nnUNetPlans", 2);
    cr_expect_eq(find(&p, "nnUNetPlans", registered, &mark, &err), VX_OK);
    cr_expect_eq(mark, 2);
    put(p.job, "plans.json", "nnUNetPlans", 1);
    put(p.set, "nnUNetPlans.json", "nnUNetPlans", 20); /* edited while the job runs */
    cr_expect_eq(find(&p, "nnUNetPlans", registered, &mark, &err), VX_OK);
    cr_expect_eq(mark, 1);
    tear_down(&p);
}

Test(daemon_plans, plans_of_another_name) {
    struct place p;
    struct vx_err err = {0};
    int mark;
    set_up(&p);
    static const char registered[] = "{\"plans_name\": \"nnUNetPlans\", \"mark\": 3}";
    cr_expect_eq(find(&p, "mine", registered, &mark, &err), VX_E_NOT_FOUND);
    cr_expect_str_eq(err.reason, "unknown_plans");
    cr_expect_not_null(strstr(err.text, "Dataset001_X/mine.json"), "%s", err.text);
    put(p.set, "mine.json", "nnUNetPlans", 4); /* a copy whose name inside was forgotten */
    cr_expect_eq(find(&p, "mine", registered, &mark, &err), VX_E_INVALID);
    cr_expect_str_eq(err.reason, "plans_name");
    put(p.set, "mine.json", "mine", 4);
    cr_expect_eq(find(&p, "mine", registered, &mark, &err), VX_OK);
    cr_expect_eq(mark, 4);
    tear_down(&p);
}
