/* See plans_source.h. */
#include "daemon/plans_source.h"

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/own.h"

#include "plan/dataset.h"
#include "plan/fingerprint.h"
#include "plan/planner.h"
#include "plan/plans.h"

#include <stdlib.h>
#include <string.h>

#define MAX_BYTES    (64u << 20)
#define DEFAULT_NAME "nnUNetPlans"

char *vx_plans_path(const char *dataset_dir, const char *name) {
    return vx_strf("%s/%s.json", dataset_dir, name);
}

/* A copied file whose name inside was forgotten would mix its results with the original's. */
static int check_name(const json_t *plans, const char *name, const char *path, struct vx_err *err) {
    const char *inside = json_string_value(json_object_get(plans, "plans_name"));
    if (inside && strcmp(inside, name) == 0) {
        return VX_OK;
    }
    vx_fail(err, VX_E_INVALID, "plans_name",
            "%s has the plans_name \"%.60s\"; results are filed under it, so make it \"%s\"", path,
            inside ? inside : "", name);
    return vx_err_at(err, "%s", path);
}

static int of_file(const struct vx_plans_source *s, const char *path, json_t **ret,
                   struct vx_err *err) {
    vx_auto_json json_t *json = NULL;
    int rc = vx_json_load_file(path, MAX_BYTES, &json, err);
    rc = rc == VX_OK ? check_name(json, s->name, path, err) : rc;
    if (rc == VX_OK) {
        vx_log_info("plans", "source=\"%s\" dataset=%s", path, s->dataset->name);
        *ret = vx_steal(json);
    }
    return rc;
}

static int of_registration(const struct vx_plans_source *s, const char *path, json_t **ret,
                           struct vx_err *err) {
    if (strcmp(s->name, DEFAULT_NAME) != 0) {
        vx_fail(err, VX_E_NOT_FOUND, "unknown_plans",
                "there is no %s; put the plans there, as nnU-Net does, or leave \"plans\" away",
                path);
        return vx_err_at(err, "/plans");
    }
    if (!s->registered) {
        return vx_fail(err, VX_E_STATE, "dataset_not_ready",
                       "data set %s has no plan; register it again", s->dataset->name);
    }
    return vx_json_parse(s->registered, strlen(s->registered), MAX_BYTES, 32, ret, err);
}

int vx_plans_make(const struct vx_dataset_desc *dataset, const json_t *fingerprint,
                  const struct vx_planner_options *options, const char *name, json_t **ret,
                  struct vx_err *err) {
    vx_auto_free struct vx_plans *plans = calloc(1, sizeof *plans);
    struct vx_fingerprint fp = {0};
    int rc = plans ? vx_fingerprint_from_json(fingerprint, &fp, err)
                   : vx_fail(err, VX_E_NOMEM, NULL, "planning");
    rc = rc == VX_OK ? vx_plan_experiment(dataset, &fp, options, plans, err) : rc;
    vx_fingerprint_release(&fp);
    if (rc == VX_OK) {
        vx_plans_rename(plans, name);
        *ret = vx_plans_to_json(plans);
        rc = *ret ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "planning");
    }
    return rc;
}

/* A plan for other wishes than nnU-Net's defaults, from what the registration measured. */
static int of_fingerprint(const struct vx_plans_source *s, const char *path, json_t **ret,
                          struct vx_err *err) {
    if (vx_path_exists(path)) {
        vx_fail(err, VX_E_EXISTS, "plans_exist",
                "%s is there: give \"plans\" another name, or leave plan.gpu_memory_gb and "
                "plan.spacing away to use it",
                path);
        return vx_err_at(err, "/plans");
    }
    if (!s->fingerprint) {
        return vx_fail(err, VX_E_STATE, "dataset_not_ready",
                       "data set %s has no fingerprint; register it again", s->dataset->name);
    }
    struct vx_planner_options options = {.gpu_memory_gb = s->gpu_memory_gb};
    memcpy(options.spacing, s->spacing, sizeof options.spacing);
    vx_auto_json json_t *json = NULL;
    int rc = vx_json_parse(s->fingerprint, strlen(s->fingerprint), MAX_BYTES, 32, &json, err);
    return rc == VX_OK ? vx_plans_make(s->dataset, json, &options, s->name, ret, err) : rc;
}

int vx_plans_find(const struct vx_plans_source *s, json_t **ret, struct vx_err *err) {
    vx_auto_free char *kept = vx_strf("%s/plans.json", s->job_dir);
    vx_auto_free char *file = vx_plans_path(s->dataset_dir, s->name);
    if (!kept || !file) {
        return vx_fail(err, VX_E_NOMEM, NULL, "planning");
    }
    if (vx_path_exists(kept)) {
        return vx_json_load_file(kept, MAX_BYTES, ret, err);
    }
    if (s->gpu_memory_gb > 0 || s->spacing[0] > 0) {
        return of_fingerprint(s, file, ret, err);
    }
    return vx_path_exists(file) ? of_file(s, file, ret, err) : of_registration(s, file, ret, err);
}
