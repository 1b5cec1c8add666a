/* A job's changes to a planned configuration. */
#include "plan/plans.h"

#include "base/err.h"

#include <stdio.h>
#include <string.h>

void vx_plan_divisor(const struct vx_plan_config *config, int ret_divisor[3]) {
    for (int a = 0; a < 3; a++) {
        ret_divisor[a] = 1;
        for (int s = 0; s < config->n_stages; s++) {
            ret_divisor[a] *= config->strides[s][a];
        }
    }
}

static int apply_features(struct vx_plan_config *c, const struct vx_plan_override *change,
                          struct vx_err *err) {
    if (change->n_features > c->n_stages) {
        vx_fail(err, VX_E_INVALID, "too_many_stages",
                "the plan has %d stages; features_per_stage may have 2 to %d entries", c->n_stages,
                c->n_stages);
        return vx_err_at(err, "/plan/features_per_stage"), VX_E_INVALID;
    }
    c->n_stages = change->n_features;
    memcpy(c->features, change->features, sizeof(int) * (size_t)change->n_features);
    return VX_OK;
}

static int check_patch(const struct vx_plan_config *c, struct vx_err *err) {
    int divisor[3], edge = 0;
    vx_plan_divisor(c, divisor);
    for (int a = 0; a < 3; a++) {
        if (a == 0 && (c->dims == 2) != (c->patch_size[0] == 1)) {
            vx_fail(err, VX_E_INVALID, "patch_size", "configuration %s takes a patch of %s axes",
                    c->name, c->dims == 2 ? "two" : "three");
            return vx_err_at(err, "/plan/patch_size"), VX_E_INVALID;
        }
        if (c->patch_size[a] % divisor[a] != 0) {
            int low = c->patch_size[a] / divisor[a] * divisor[a];
            vx_fail(err, VX_E_INVALID, "patch_size",
                    "axis %d of the patch, %d, must be a multiple of %d for these stages; %d or %d "
                    "would do",
                    a, c->patch_size[a], divisor[a], low > 0 ? low : divisor[a], low + divisor[a]);
            return vx_err_at(err, "/plan/patch_size/%d", c->dims == 2 ? a - 1 : a), VX_E_INVALID;
        }
        int left = c->patch_size[a] / divisor[a];
        edge = left > edge ? left : edge;
    }
    if (edge < 2) {
        vx_fail(err, VX_E_INVALID, "patch_size",
                "the patch shrinks to a single voxel at the last stage, which instance "
                "normalisation cannot work on");
        return vx_err_at(err, "/plan/patch_size"), VX_E_INVALID;
    }
    return VX_OK;
}

int vx_plan_apply(struct vx_plan_config *config, const struct vx_plan_override *change,
                  struct vx_err *err) {
    struct vx_plan_config c = *config;
    int rc = VX_OK;
    if (change->batch_size > 0) {
        c.batch_size = change->batch_size;
    }
    if (change->patch_size[0] > 0) {
        memcpy(c.patch_size, change->patch_size, sizeof c.patch_size);
    }
    if (change->n_features > 0) {
        rc = apply_features(&c, change, err);
    }
    if (rc == VX_OK) {
        rc = check_patch(&c, err);
    }
    if (rc == VX_OK) {
        *config = c;
    }
    return rc;
}
