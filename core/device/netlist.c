#include "device/netlist.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

/* Behind each other, each on a boundary that suits all of them. */
static size_t rounded(size_t bytes) {
    return (bytes + 15) / 16 * 16;
}

int vx_netlist_copy(const struct vx_oplist *net, struct vx_oplist *ret, struct vx_err *err) {
    size_t tensors = (size_t)net->n_tensors * sizeof *net->tensors;
    size_t params = (size_t)net->n_params * sizeof *net->params;
    size_t ops = (size_t)net->n_ops * sizeof *net->ops;
    char *block = malloc(rounded(tensors) + rounded(params) + rounded(ops) + 1);
    if (!block) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to plan a program");
    }
    *ret = *net;
    ret->tensors = memcpy(block, net->tensors, tensors);
    ret->params = memcpy(block + rounded(tensors), net->params, params);
    ret->ops = memcpy(block + rounded(tensors) + rounded(params), net->ops, ops);
    return VX_OK;
}

int vx_netlist_check(const struct vx_oplist *net, struct vx_err *err) {
    bool good = net->classes >= 2 && net->classes <= VX_MAX_CLASSES && net->loss.n_heads >= 1 &&
                net->loss.n_heads <= VX_MAX_HEADS;
    return good ? VX_OK
                : vx_fail(err, VX_E_INVALID, "bad_network",
                          "%d classes and %d heads: there are 2 to %d and 1 to %d", net->classes,
                          net->loss.n_heads, VX_MAX_CLASSES, VX_MAX_HEADS);
}

int vx_netlist_check_params(const struct vx_oplist *net, const struct vx_param *params,
                            int n_params, struct vx_err *err) {
    bool same = net->n_params == n_params;
    for (int i = 0; same && i < n_params; i++) {
        same = net->params[i].count == params[i].count;
    }
    return same ? VX_OK
                : vx_fail(err, VX_E_INVALID, "bad_network",
                          "the op list has other parameters than the state");
}

const char *vx_op_name(enum vx_op_kind kind) {
    static const char *const names[] = {[VX_OP_CONV] = "conv",
                                        [VX_OP_NORM_ACT] = "norm",
                                        [VX_OP_CONV_TRANSPOSE] = "transpose",
                                        [VX_OP_CONCAT] = "concat"};
    return names[kind];
}
