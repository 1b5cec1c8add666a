/* Pooling strides and kernel sizes from spacing and patch. */
#include "plan/planner/rules.h"

#include <math.h>
#include <string.h>

#define MIN_EDGE 4 /* smallest feature map edge */

/* The axes to pool next, as a bit set; 0: none. */
static unsigned poolable(int dims, const double *spacing, const double *size) {
    unsigned axes = 0;
    double finest = INFINITY;
    for (int a = 0; a < dims; a++) {
        if (size[a] >= 2 * MIN_EDGE) {
            axes |= 1u << a;
            finest = fmin(finest, spacing[a]);
        }
    }
    int n = 0, last = 0;
    for (int a = 0; a < dims; a++) {
        if ((axes & 1u << a) && spacing[a] / finest >= 2) {
            axes &= ~(1u << a);
        }
        if (axes & 1u << a) {
            n++;
            last = a;
        }
    }
    return n == 1 && size[last] < 3 * MIN_EDGE ? 0 : axes;
}

bool vx_rule_topology(int dims, const double *spacing, const double *patch,
                      struct vx_topology *ret) {
    struct vx_topology t = {.dims = dims};
    double cs[3], size[3];
    int kernel[3] = {1, 1, 1};
    for (int a = 0; a < dims; a++) {
        cs[a] = spacing[a];
        size[a] = patch[a];
        t.divisor[a] = 1;
        t.strides[0][a] = 1;
    }
    unsigned axes;
    while ((axes = poolable(dims, cs, size)) != 0) {
        if (t.n_stages + 2 > VX_MAX_STAGES) {
            return false;
        }
        double finest = INFINITY;
        for (int a = 0; a < dims; a++) {
            finest = fmin(finest, cs[a]);
        }
        for (int a = 0; a < dims; a++) {
            if (cs[a] / finest < 2) {
                kernel[a] = 3; /* once 3, always 3 */
            }
            t.kernels[t.n_stages][a] = kernel[a];
        }
        t.n_stages++;
        for (int a = 0; a < dims; a++) {
            bool pooled = axes & 1u << a;
            t.strides[t.n_stages][a] = pooled ? 2 : 1;
            if (pooled) {
                t.divisor[a] *= 2;
                cs[a] *= 2;
                size[a] = ceil(size[a] / 2);
            }
        }
    }
    for (int a = 0; a < dims; a++) {
        t.kernels[t.n_stages][a] = 3; /* bottleneck */
        t.patch[a] = (int)(ceil(patch[a] / t.divisor[a]) * t.divisor[a]);
    }
    t.n_stages++;
    *ret = t;
    return true;
}
