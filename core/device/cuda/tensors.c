/* Which tensors a program needs, and who reads them. */
#include "device/cuda/internal.h"

#include "base/err.h"
#include "device/cuda/shape.h"

#include <string.h>

static int bad_op(const struct cuda_program *p, int op, const char *why, struct vx_err *err) {
    (void)p;
    return vx_fail(err, VX_E_UNSUPPORTED, "bad_network", "operation %d of the network: %s", op,
                   why);
}

static int check_op(const struct cuda_program *p, int index, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[index];
    const int *in = p->net.tensors[op->in[0]].shape, *out = p->net.tensors[op->out].shape;
    bool ok = in[0] == out[0];
    for (int a = 0; a < 3; a++) {
        int want = in[2 + a];
        if (op->kind == VX_OP_CONV) {
            want = op->stride[a] < 1
                       ? -1
                       : (in[2 + a] + 2 * op->pad[a] - op->kernel[a]) / op->stride[a] + 1;
        } else if (op->kind == VX_OP_CONV_TRANSPOSE) {
            want = in[2 + a] * op->stride[a];
            ok = ok && op->kernel[a] == op->stride[a] && op->pad[a] == 0;
        }
        ok = ok && out[2 + a] == want;
    }
    bool has_params = op->kind == VX_OP_CONCAT || op->weight >= 0;
    return ok && has_params ? VX_OK : bad_op(p, index, "its shapes do not fit together", err);
}

/* Heads of the loss that are evaluated. */
static void pick_heads(struct cuda_program *p) {
    const struct vx_loss *loss = &p->net.loss;
    if (p->mode == VX_MODE_INFER) {
        p->tensors[p->net.output].needed = true;
        return;
    }
    for (int i = 0; i < loss->n_heads; i++) {
        if (i == 0 || loss->weight[i] != 0) {
            p->heads[p->n_heads++] = i;
            p->tensors[loss->logits[i]].needed = true;
        }
    }
}

static int note_readers(struct cuda_program *p, int index, struct vx_err *err) {
    const struct vx_op *op = &p->net.ops[index];
    for (int k = 0; k < (op->kind == VX_OP_CONCAT ? 2 : 1); k++) {
        struct cuda_tensor *t = &p->tensors[op->in[k]];
        t->needed = true;
        if (op->kind != VX_OP_CONCAT) {
            t->readers++;
            t->norms += op->kind == VX_OP_NORM_ACT;
        } else if (t->concat >= 0) {
            return bad_op(p, index, "it concatenates a tensor that is concatenated already", err);
        } else {
            t->concat = index;
            t->concat_input = k;
        }
    }
    return VX_OK;
}

int cuda_plan_tensors(struct cuda_program *p, struct vx_err *err) {
    for (int i = 0; i < p->net.n_tensors; i++) {
        const int *shape = p->net.tensors[i].shape;
        p->tensors[i] = (struct cuda_tensor){.n = shape[0],
                                             .c = shape[1],
                                             .padded = cuda_padded_channels(&p->net, i),
                                             .voxels = cuda_voxels(&p->net, i),
                                             .is_logits = cuda_is_logits(&p->net, i),
                                             .concat = -1,
                                             .value = CUDA_NO_VIEW,
                                             .slice = CUDA_NO_VIEW};
        p->tensors[i].wants_grad = p->learning && i != p->net.input;
    }
    pick_heads(p);
    int rc = VX_OK;
    for (int i = p->net.n_ops - 1; rc == VX_OK && i >= 0; i--) {
        if (p->tensors[p->net.ops[i].out].needed) {
            rc = check_op(p, i, err);
            rc = rc != VX_OK ? rc : note_readers(p, i, err);
        }
    }
    return rc;
}
