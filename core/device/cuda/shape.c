#include "device/cuda/shape.h"

#include "base/err.h"
#include "device/cuda/dnn/dnn.h"
#include "device/netlist.h"

#include <string.h>

enum { LANES = 8 };

bool cuda_is_logits(const struct vx_oplist *net, int tensor) {
    for (int i = 0; i < net->loss.n_heads; i++) {
        if (net->loss.logits[i] == tensor) {
            return true;
        }
    }
    return tensor == net->output;
}

static const struct vx_op *maker_of(const struct vx_oplist *net, int tensor) {
    for (int i = 0; i < net->n_ops; i++) {
        if (net->ops[i].out == tensor) {
            return &net->ops[i];
        }
    }
    return NULL;
}

int cuda_padded_channels(const struct vx_oplist *net, int tensor) {
    const struct vx_op *maker = maker_of(net, tensor);
    if (maker && maker->kind == VX_OP_CONCAT) {
        return cuda_padded_channels(net, maker->in[0]) + cuda_padded_channels(net, maker->in[1]);
    }
    return (net->tensors[tensor].shape[1] + LANES - 1) / LANES * LANES;
}

int64_t cuda_voxels(const struct vx_oplist *net, int tensor) {
    const int *shape = net->tensors[tensor].shape;
    return (int64_t)shape[2] * shape[3] * shape[4];
}

void cuda_conv_of(const struct vx_oplist *net, const struct vx_op *op, struct dnn_conv *ret) {
    int x = op->in[0], y = op->out;
    if (op->kind == VX_OP_CONV_TRANSPOSE) {
        x = op->out;
        y = op->in[0];
    }
    *ret = (struct dnn_conv){.n = net->tensors[x].shape[0],
                             .in_channels = cuda_padded_channels(net, x),
                             .out_channels = cuda_padded_channels(net, y)};
    memcpy(ret->in, net->tensors[x].shape + 2, sizeof ret->in);
    memcpy(ret->kernel, op->kernel, sizeof ret->kernel);
    memcpy(ret->stride, op->stride, sizeof ret->stride);
    memcpy(ret->pad, op->pad, sizeof ret->pad);
}

/* Filters are padded behind their last channel only, so what comes first in a concatenation must
 * need no padding. */
static int check_concat(const struct vx_oplist *net, const struct vx_op *op, struct vx_err *err) {
    int first = net->tensors[op->in[0]].shape[1];
    for (int i = 0; i < 2; i++) {
        const struct vx_op *maker = maker_of(net, op->in[i]);
        if (!maker || maker->kind == VX_OP_CONCAT || cuda_is_logits(net, op->in[i])) {
            return vx_fail(err, VX_E_UNSUPPORTED, "bad_network",
                           "device cuda cannot concatenate the network's input, its logits or a "
                           "concatenation");
        }
    }
    return first % LANES == 0
               ? VX_OK
               : vx_fail(err, VX_E_UNSUPPORTED, "channels_not_8",
                         "%d channels meet a skip connection: on device cuda features_per_stage "
                         "must be multiples of %d",
                         first, LANES);
}

static bool makes_other(const struct vx_oplist *net, int tensor) {
    for (int i = 0; i < net->n_ops; i++) {
        if (net->ops[i].in[0] == tensor ||
            (net->ops[i].kind == VX_OP_CONCAT && net->ops[i].in[1] == tensor)) {
            return true;
        }
    }
    return false;
}

int cuda_check_net(const struct vx_oplist *net, struct vx_err *err) {
    int rc = vx_netlist_check(net, err);
    if (rc != VX_OK) {
        return rc;
    }
    for (int i = 0; i < net->loss.n_heads; i++) {
        const struct vx_op *maker = maker_of(net, net->loss.logits[i]);
        if (!maker || maker->kind != VX_OP_CONV || makes_other(net, maker->out)) {
            return vx_fail(err, VX_E_UNSUPPORTED, "bad_network",
                           "device cuda wants every head to end in a convolution that nothing "
                           "else reads");
        }
    }
    for (int i = 0; rc == VX_OK && i < net->n_ops; i++) {
        rc = net->ops[i].kind == VX_OP_CONCAT ? check_concat(net, &net->ops[i], err) : VX_OK;
    }
    return rc;
}
