/* Memory estimate and what follows from it: patch and batch size. */
#include "plan/planner/rules.h"

#include "base/err.h"

#include <math.h>
#include <string.h>

#define MAX_DATASET_FRACTION 0.05 /* of all voxels in one batch */
#define MIN_BATCH            2
#define CONVS_PER_STAGE      2

void vx_rule_features(int dims, int n_stages, int *ret) {
    int most = dims == 2 ? 512 : 320;
    for (int i = 0, f = 32; i < n_stages; i++, f *= 2) {
        ret[i] = f < most ? f : most;
    }
}

double vx_rule_feature_map_elements(const struct vx_topology *t, const int *features, int classes) {
    int size[3];
    double total = 0;
    memcpy(size, t->patch, sizeof size);
    for (int s = 0; s < t->n_stages; s++) {
        double voxels = 1;
        for (int a = 0; a < t->dims; a++) {
            size[a] /= t->strides[s][a];
            voxels *= size[a];
        }
        total += CONVS_PER_STAGE * features[s] * voxels; /* encoder */
        if (s < t->n_stages - 1) {
            total += (CONVS_PER_STAGE + 1) * features[s] *
                     voxels; /* decoder, transposed convolution included */
        }
        if (s == 0) {
            total += classes * voxels; /* the finest head */
        }
    }
    return total;
}

static double estimate(int dims, const struct vx_topology *t, const struct vx_rule_budget *budget) {
    int features[VX_MAX_STAGES];
    vx_rule_features(dims, t->n_stages, features);
    return vx_rule_feature_map_elements(t, features, budget->classes);
}

/* One step of the reduction: the axis that is largest relative to the median shape loses one
 * divisor. */
static bool reduce(int dims, const double *spacing, const double *median_shape,
                   struct vx_topology *t) {
    int axis = 0;
    for (int a = 1; a < dims; a++) {
        if (t->patch[a] / median_shape[a] >= t->patch[axis] / median_shape[axis]) {
            axis = a; /* the later axis wins ties, as a stable argsort does */
        }
    }
    double patch[3], trial[3];
    for (int a = 0; a < dims; a++) {
        patch[a] = trial[a] = t->patch[a];
    }
    trial[axis] -= t->divisor[axis];
    struct vx_topology next;
    if (!vx_rule_topology(dims, spacing, trial, &next)) {
        return false;
    }
    patch[axis] -= next.divisor[axis];
    return patch[axis] > 0 && vx_rule_topology(dims, spacing, patch, t);
}

int vx_rule_patch_and_batch(int dims, const double *spacing, const double *median_shape,
                            const struct vx_rule_budget *budget, struct vx_topology *ret_topology,
                            int *ret_batch, struct vx_err *err) {
    double product = 1, patch[3];
    for (int a = 0; a < dims; a++) {
        product *= 1 / spacing[a];
    }
    double edge =
        dims == 2 ? sqrt(2048.0 * 2048.0 / product) : cbrt(256.0 * 256.0 * 256.0 / product);
    for (int a = 0; a < dims; a++) {
        patch[a] = fmin(rint(1 / spacing[a] * edge), median_shape[a]);
    }
    struct vx_topology t;
    bool good = vx_rule_topology(dims, spacing, patch, &t);
    double elements = good ? estimate(dims, &t, budget) : 0;
    while (good && elements / budget->reference_batch * 2 > budget->reference) {
        good = reduce(dims, spacing, median_shape, &t);
        elements = good ? estimate(dims, &t, budget) : 0;
    }
    if (!good) {
        return vx_fail(err, VX_E_INVALID, "no_topology",
                       "no network of at most %d stages fits these shapes and spacings; check the "
                       "data set's geometry",
                       VX_MAX_STAGES);
    }
    double voxels = 1;
    for (int a = 0; a < dims; a++) {
        voxels *= t.patch[a];
    }
    double batch = rint(budget->reference / elements * budget->reference_batch);
    double cap = rint(budget->dataset_voxels * MAX_DATASET_FRACTION / voxels);
    *ret_batch = (int)fmax(fmin(batch, cap), MIN_BATCH);
    *ret_topology = t;
    return VX_OK;
}
