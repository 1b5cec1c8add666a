/* Cost of a network, counted over its op list. */
#include "net/estimate.h"

#include "device/oplist.h"
#include "net/net.h"

#include <stdbool.h>

static int64_t elements(const struct vx_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < 5; i++) {
        n *= t->shape[i];
    }
    return n;
}

static int64_t kernel_volume(const struct vx_op *op) {
    return (int64_t)op->kernel[0] * op->kernel[1] * op->kernel[2];
}

/* A head that carries no loss is not evaluated. */
static bool is_idle_head(const struct vx_oplist *net, const struct vx_op *op) {
    for (int i = 0; i < net->loss.n_heads; i++) {
        if (net->loss.logits[i] == op->out) {
            return net->loss.weight[i] == 0.0f;
        }
    }
    return op->weight >= 0 && !net->params[op->weight].trainable;
}

static int64_t op_macs(const struct vx_oplist *net, const struct vx_op *op) {
    const struct vx_tensor *in = &net->tensors[op->in[0]], *out = &net->tensors[op->out];
    if (op->kind == VX_OP_CONV) {
        return is_idle_head(net, op) ? 0 : elements(out) * in->shape[1] * kernel_volume(op);
    }
    /* Kernel = stride: every input voxel meets every tap once. */
    return op->kind == VX_OP_CONV_TRANSPOSE ? elements(in) * out->shape[1] * kernel_volume(op) : 0;
}

/* The largest set of tensors that is alive at once during a forward pass. */
static int64_t largest_live_set(const struct vx_oplist *net) {
    int64_t largest = 0;
    for (int now = 0; now < net->n_ops; now++) {
        int64_t live = 0;
        for (int t = 0; t < net->n_tensors; t++) {
            int made = t == net->input ? -1 : net->n_ops, used = -1;
            for (int i = 0; i < net->n_ops; i++) {
                made = net->ops[i].out == t ? i : made;
                used = net->ops[i].in[0] == t || net->ops[i].in[1] == t ? i : used;
            }
            live += made <= now && (used >= now || made == now) ? elements(&net->tensors[t]) : 0;
        }
        largest = live > largest ? live : largest;
    }
    return largest;
}

void vx_net_estimate(const struct vx_oplist *net, int bytes_per_value,
                     struct vx_net_estimate *ret) {
    struct vx_net_estimate e = {.parameters = vx_oplist_param_count(net)};
    int64_t widest = 0;
    for (int i = 0; i < net->n_tensors; i++) {
        int64_t n = elements(&net->tensors[i]);
        e.activation_values += n;
        widest = n > widest ? n : widest;
    }
    for (int i = 0; i < net->n_ops; i++) {
        e.forward_macs += op_macs(net, &net->ops[i]);
    }
    e.step_flop = 6 * e.forward_macs;
    /* Weights, momentum and gradients in fp32. */
    e.train_bytes = (e.activation_values + 2 * widest) * bytes_per_value + 3 * e.parameters * 4;
    e.infer_bytes = largest_live_set(net) * bytes_per_value + e.parameters * 4;
    *ret = e;
}
