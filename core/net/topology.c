#include "net/topology.h"

#include "base/err.h"
#include "plan/plans.h"

#include <string.h>

static int check_stage(const struct vx_topology *t, int s, struct vx_err *err) {
    if (t->features[s] < 1) {
        return vx_fail(err, VX_E_INVALID, "features_per_stage", "stage %d has %d features", s,
                       t->features[s]);
    }
    if (t->convs[s] < 1 || t->convs[s] > VX_NET_MAX_CONVS) {
        return vx_fail(err, VX_E_INVALID, "n_conv_per_stage",
                       "stage %d has %d convolutions: 1 to %d are possible", s, t->convs[s],
                       VX_NET_MAX_CONVS);
    }
    for (int a = 0; a < 3; a++) {
        int k = t->kernel[s][a], stride = t->stride[s][a];
        if (k < 1 || k % 2 == 0 || k > 31) {
            return vx_fail(err, VX_E_INVALID, "kernel_sizes",
                           "kernel %d on axis %d of stage %d: it must be odd, 1 to 31", k, a, s);
        }
        if (stride < 1 || stride > 8 || (s == 0 && stride != 1)) {
            return vx_fail(
                err, VX_E_INVALID, "strides", "stride %d on axis %d of stage %d: %s", stride, a, s,
                s == 0 ? "the first stage keeps the input's size" : "1 to 8 are possible");
        }
    }
    return VX_OK;
}

static int set_sizes(struct vx_topology *t, const int patch[3], struct vx_err *err) {
    for (int a = 0; a < 3; a++) {
        int n = patch[a];
        for (int s = 0; s < t->stages; s++) {
            int stride = t->stride[s][a];
            if (n < 1 || n % stride != 0) {
                return vx_fail(err, VX_E_INVALID, "patch_size",
                               "patch size %d on axis %d cannot be divided by the strides up to "
                               "stage %d; choose a multiple of their product",
                               patch[a], a, s);
            }
            n /= stride;
            t->size[s][a] = n;
        }
    }
    return VX_OK;
}

int vx_topology_from_plan(const struct vx_plan_config *cfg, const int patch[3],
                          struct vx_topology *ret, struct vx_err *err) {
    struct vx_topology t = {.stages = cfg->n_stages, .batch_dice = cfg->batch_dice};
    if (t.stages < 2 || t.stages > VX_NET_MAX_STAGES) {
        return vx_fail(err, VX_E_INVALID, "n_stages", "%d stages: 2 to %d are possible", t.stages,
                       VX_NET_MAX_STAGES);
    }
    int rc = VX_OK;
    for (int s = 0; rc == VX_OK && s < t.stages; s++) {
        t.features[s] = cfg->features[s];
        t.convs[s] = cfg->convs_encoder[s];
        memcpy(t.kernel[s], cfg->kernels[s], sizeof(t.kernel[s]));
        memcpy(t.stride[s], cfg->strides[s], sizeof(t.stride[s]));
        rc = check_stage(&t, s, err);
    }
    for (int j = 0; rc == VX_OK && j < t.stages - 1; j++) {
        t.decoder_convs[j] = cfg->convs_decoder[j];
        if (t.decoder_convs[j] < 1 || t.decoder_convs[j] > VX_NET_MAX_CONVS) {
            rc = vx_fail(err, VX_E_INVALID, "n_conv_per_stage_decoder",
                         "decoder step %d has %d convolutions: 1 to %d are possible", j,
                         t.decoder_convs[j], VX_NET_MAX_CONVS);
        }
    }
    bool own_patch = patch[0] != 0 || patch[1] != 0 || patch[2] != 0;
    rc = rc != VX_OK ? rc : set_sizes(&t, own_patch ? patch : cfg->patch_size, err);
    if (rc == VX_OK) {
        *ret = t;
    }
    return rc;
}
