/* Initial weights, nnU-Net's InitWeights_He: kaiming_normal_ with a = 0.01 for every convolution,
 * biases 0; norms keep PyTorch's 1 and 0. fan_in of a transposed convolution is what PyTorch
 * computes from a weight of shape (in, out, kernel): out x kernel volume. */
#include "base/rng.h"
#include "device/oplist.h"
#include "net/net.h"

#include <math.h>

enum { STREAM_INIT = 2 };

void vx_net_init(const struct vx_oplist *net, uint64_t seed, float *const *values) {
    for (int i = 0; i < net->n_params; i++) {
        const struct vx_param *p = &net->params[i];
        float *v = values[i];
        if (p->init == VX_INIT_HE) {
            double sigma = sqrt(2.0 / (1.0 + 0.01 * 0.01) / p->fan_in);
            struct vx_rng rng = vx_rng_at(seed, STREAM_INIT, (uint32_t)i, 0, 0);
            for (size_t n = 0; n < p->count; n++) {
                v[n] = (float)(sigma * vx_rng_normal(&rng));
            }
        } else {
            float fill = p->init == VX_INIT_ONE ? 1.0f : 0.0f;
            for (size_t n = 0; n < p->count; n++) {
                v[n] = fill;
            }
        }
    }
}
