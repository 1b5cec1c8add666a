/* Inheritance between configurations (nnU-Net v2, PlansManager): how people change a batch or a
 * patch without repeating the rest. */
#include "plan/plans/reading.h"

#include "base/err.h"
#include "base/own.h"

#include <stdio.h>
#include <string.h>

/* More generations than this are a mistake in the file, and a bound on the recursion. */
#define MAX_GENERATIONS 16

static int unknown(const json_t *configs, const char *name, const char *child, struct vx_err *err) {
    char list[256] = "";
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)configs, key, value) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", key);
    }
    if (child) {
        vx_fail(err, VX_E_INVALID, "invalid_plans",
                "plans: configuration %s inherits from \"%.60s\", which is not there", child, name);
        return vx_err_at(err, "/configurations/%s/inherits_from", child);
    }
    return vx_fail(err, VX_E_NOT_FOUND, "unknown_configuration",
                   "the plan has no configuration \"%.60s\"; it has: %s", name, list);
}

static int resolve(const json_t *configs, const char *name, const char *child, int generation,
                   json_t **ret, struct vx_err *err) {
    json_t *own = json_object_get(configs, name);
    if (!json_is_object(own)) {
        return unknown(configs, name, child, err);
    }
    const json_t *parent = json_object_get(own, "inherits_from");
    if (!parent) {
        *ret = json_deep_copy(own);
        return *ret ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "reading plans");
    }
    if (!json_is_string(parent) || generation == MAX_GENERATIONS) {
        vx_fail(err, VX_E_INVALID, "invalid_plans",
                json_is_string(parent)
                    ? "plans: configuration %s inherits from itself, directly or through others"
                    : "plans: configuration %s: inherits_from must be the name of another",
                name);
        return vx_err_at(err, "/configurations/%s/inherits_from", name);
    }
    vx_auto_json json_t *merged = NULL;
    int rc = resolve(configs, json_string_value(parent), name, generation + 1, &merged, err);
    if (rc != VX_OK) {
        return rc;
    }
    json_object_update(merged, own);
    json_object_del(merged, "inherits_from");
    *ret = vx_steal(merged);
    return VX_OK;
}

int plans_inherit(const json_t *configs, const char *name, json_t **ret, struct vx_err *err) {
    return resolve(configs, name, NULL, 0, ret, err);
}
