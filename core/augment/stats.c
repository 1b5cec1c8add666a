#include "augment/clones.h"
#include "augment/parts.h"

#include <math.h>

enum { LANES = 16 };

struct lanes {
    double sum[LANES], squares[LANES];
    float min[LANES], max[LANES];
};

/* n is a multiple of LANES. Squares are of x - shift, which keeps them from cancelling. */
VX_CLONES
static void accumulate(const float *restrict x, size_t n, double shift, struct lanes *restrict s) {
    struct lanes a = *s;
    for (size_t i = 0; i < n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float v = x[i + (size_t)l];
            a.min[l] = v < a.min[l] ? v : a.min[l];
            a.max[l] = v > a.max[l] ? v : a.max[l];
            double d = (double)v - shift;
            a.sum[l] += d;
            a.squares[l] += d * d;
        }
    }
    *s = a;
}

void vx_aug_stats(const float *x, size_t n, struct vx_aug_stats *ret) {
    struct lanes s;
    double shift = x[0];
    for (int l = 0; l < LANES; l++) {
        s.sum[l] = s.squares[l] = 0;
        s.min[l] = s.max[l] = x[0];
    }
    size_t whole = n / LANES * LANES;
    accumulate(x, whole, shift, &s);
    double sum = 0, squares = 0;
    struct vx_aug_stats r = {x[0], x[0], 0, 0};
    for (int l = 0; l < LANES; l++) {
        sum += s.sum[l];
        squares += s.squares[l];
        r.min = s.min[l] < r.min ? s.min[l] : r.min;
        r.max = s.max[l] > r.max ? s.max[l] : r.max;
    }
    for (size_t i = whole; i < n; i++) {
        double d = (double)x[i] - shift;
        sum += d;
        squares += d * d;
        r.min = x[i] < r.min ? x[i] : r.min;
        r.max = x[i] > r.max ? x[i] : r.max;
    }
    r.mean = shift + sum / (double)n;
    double about_mean = squares - sum * sum / (double)n;
    r.variance = n > 1 && about_mean > 0 ? about_mean / (double)(n - 1) : 0;
    *ret = r;
}
