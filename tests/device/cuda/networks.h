/* The networks that the CUDA backend is held to, as op lists, and the convolutions of each. */
#ifndef VX_TESTS_DEVICE_CUDA_NETWORKS_H
#define VX_TESTS_DEVICE_CUDA_NETWORKS_H

#include "device/cuda/dnn/dnn.h"

struct vx_oplist;

/* One convolution of a network and what is asked of it. */
struct network_conv {
    struct dnn_conv conv;
    char layer[48];
    bool direction[3]; /* by dnn_direction */
    int count;         /* layers of the network with this very shape */
};

enum { NETWORK_MAX_CONVS = 128 };

int network_count(void);
const char *network_name(int network);
/* NULL for a network that core/net cannot build (residual encoders): only its convolutions are
 * known. The caller frees it with vx_oplist_free. */
struct vx_oplist *network_build(int network);
/* Distinct convolutions, in order of execution. */
int network_convs(int network, struct network_conv ret[NETWORK_MAX_CONVS]);

#endif
