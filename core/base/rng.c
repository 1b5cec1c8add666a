#include "base/rng.h"

#include <math.h>

double vx_rng_normal(struct vx_rng *r) {
    /* (0, 1]: log is finite */
    double u = ((double)vx_rng_u32(r) + 1.0) * 0x1p-32;
    double v = (double)vx_rng_u32(r) * 0x1p-32;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}
