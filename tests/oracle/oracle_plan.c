/* A list of {dataset, fingerprint, gpu_memory_gb, spacing} on stdin; a list of plans.json on
 * stdout. For tests/oracle/drawn.py. */
#include "base/err.h"
#include "base/json.h"
#include "base/own.h"
#include "plan/dataset.h"
#include "plan/fingerprint.h"
#include "plan/planner.h"
#include "plan/plans.h"

#include <stdio.h>

/* New reference: the plans, or the error's text. */
static json_t *plan(const json_t *task) {
    struct vx_dataset_desc dataset;
    struct vx_fingerprint fp = {0};
    static struct vx_plans plans;
    struct vx_json_problems ps = {0};
    struct vx_err err = {0};
    struct vx_planner_options options = {
        .gpu_memory_gb = json_number_value(json_object_get(task, "gpu_memory_gb"))};
    const json_t *spacing = json_object_get(task, "spacing");
    for (size_t a = 0; a < json_array_size(spacing) && a < 3; a++) {
        options.spacing[a] = json_number_value(json_array_get(spacing, a));
    }
    if (vx_dataset_parse("Dataset999_Drawn", json_object_get(task, "dataset"), &dataset, &ps) !=
        VX_OK) {
        return json_string(ps.list[0].text);
    }
    int rc = vx_fingerprint_from_json(json_object_get(task, "fingerprint"), &fp, &err);
    rc = rc == VX_OK ? vx_plan_experiment(&dataset, &fp, &options, &plans, &err) : rc;
    vx_fingerprint_release(&fp);
    return rc == VX_OK ? vx_plans_to_json(&plans) : json_string(err.text);
}

int main(void) {
    vx_auto_json json_t *tasks = json_loadf(stdin, 0, NULL);
    vx_auto_json json_t *answers = json_array();
    size_t i;
    json_t *task;
    json_array_foreach(tasks, i, task) {
        json_array_append_new(answers, plan(task));
    }
    return json_dumpf(answers, stdout, 0) == 0 ? 0 : 1;
}
