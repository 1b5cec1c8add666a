/* Op lists as backends keep and check them. Private to this room. Thread: any. */
#ifndef VX_DEVICE_NETLIST_H
#define VX_DEVICE_NETLIST_H

#include "device/oplist.h"

struct vx_err;

/* A copy with arrays of its own, all in one block: free(ret->tensors) gives it back. */
int vx_netlist_copy(const struct vx_oplist *net, struct vx_oplist *ret, struct vx_err *err);
/* VX_E_INVALID "bad_network" where classes or heads are not in range. */
int vx_netlist_check(const struct vx_oplist *net, struct vx_err *err);
/* The same where net has other parameters than a state with these. */
int vx_netlist_check_params(const struct vx_oplist *net, const struct vx_param *params,
                            int n_params, struct vx_err *err);
/* What steps of this kind are called: "conv". */
const char *vx_op_name(enum vx_op_kind kind);

#endif
