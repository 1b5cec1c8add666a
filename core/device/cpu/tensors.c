/* Which tensors a program needs, and where their channels lie: padding to whole blocks, the parts
 * of concatenations, the plain layout of a network input with few channels. */
#include "device/cpu/internal.h"

#include "base/err.h"

#include <string.h>

static int padded(const struct cpu_program *p, int channels) {
    int block = p->kernels->block;
    return (channels + block - 1) / block * block;
}

int cpu_physical_channel(const struct cpu_tensor *t, int logical) {
    for (int i = 0; i < t->n_parts; i++) {
        const struct cpu_part *part = &t->parts[i];
        if (logical >= part->logical && logical < part->logical + part->count) {
            return part->physical + logical - part->logical;
        }
    }
    return -1;
}

size_t cpu_block_offset(const struct cpu_program *p, const struct cpu_tensor *t, int block) {
    return (size_t)block * (size_t)p->kernels->block * t->voxels * t->element;
}

static bool op_needed(const struct cpu_program *p, const struct vx_op *op) {
    return p->tensors[op->out].needed;
}

static int bad_op(const struct cpu_program *p, const struct vx_op *op, const char *why,
                  struct vx_err *err) {
    return vx_fail(err, VX_E_INVALID, "bad_network", "operation %d of the network: %s",
                   (int)(op - p->net.ops), why);
}

static bool same_shape(const int *a, const int *b) {
    return memcmp(a, b, 5 * sizeof *a) == 0;
}

/* Shapes of one op against its parameters. */
static int check_op(const struct cpu_program *p, const struct vx_op *op, struct vx_err *err) {
    const int *in = p->net.tensors[op->in[0]].shape, *out = p->net.tensors[op->out].shape;
    bool ok = in[0] == out[0];
    switch (op->kind) {
    case VX_OP_CONV:
        for (int a = 0; a < 3; a++) {
            ok = ok && op->stride[a] > 0 &&
                 out[2 + a] == (in[2 + a] + 2 * op->pad[a] - op->kernel[a]) / op->stride[a] + 1;
        }
        return ok && op->weight >= 0 ? VX_OK : bad_op(p, op, "convolution of wrong shape", err);
    case VX_OP_CONV_TRANSPOSE:
        for (int a = 0; a < 3; a++) {
            ok = ok && op->kernel[a] == op->stride[a] && op->pad[a] == 0 &&
                 out[2 + a] == in[2 + a] * op->stride[a];
        }
        return ok && op->weight >= 0 ? VX_OK
                                     : bad_op(p, op,
                                              "transposed convolution of wrong shape, or kernel "
                                              "not equal to stride",
                                              err);
    case VX_OP_NORM_ACT:
        return same_shape(in, out) && op->weight >= 0 && op->bias >= 0
                   ? VX_OK
                   : bad_op(p, op, "normalisation of wrong shape", err);
    case VX_OP_CONCAT: {
        const int *b = p->net.tensors[op->in[1]].shape;
        ok = ok && b[0] == in[0] && out[1] == in[1] + b[1];
        for (int a = 2; a < 5; a++) {
            ok = ok && in[a] == b[a] && in[a] == out[a];
        }
        return ok ? VX_OK : bad_op(p, op, "concatenation of wrong shape", err);
    }
    }
    return bad_op(p, op, "of unknown kind", err);
}

/* Marks what the results of this mode depend on, and counts readers. */
static int mark_needed(struct cpu_program *p, struct vx_err *err) {
    const struct vx_loss *loss = &p->net.loss;
    if (p->mode == VX_MODE_INFER) {
        p->tensors[p->net.output].needed = p->tensors[p->net.output].is_logits = true;
    }
    for (int i = 0; p->mode != VX_MODE_INFER && i < loss->n_heads; i++) {
        if (loss->weight[i] != 0) {
            p->tensors[loss->logits[i]].needed = p->tensors[loss->logits[i]].is_logits = true;
        }
    }
    for (int i = p->net.n_ops - 1; i >= 0; i--) {
        const struct vx_op *op = &p->net.ops[i];
        if (!op_needed(p, op)) {
            continue;
        }
        int rc = check_op(p, op, err);
        if (rc != VX_OK) {
            return rc;
        }
        for (int k = 0; k < (op->kind == VX_OP_CONCAT ? 2 : 1); k++) {
            struct cpu_tensor *t = &p->tensors[op->in[k]];
            t->needed = true;
            if (op->kind != VX_OP_CONCAT) {
                t->readers++;
                t->norms += op->kind == VX_OP_NORM_ACT;
            } else if (t->concat >= 0 || op->in[0] == op->in[1]) {
                return vx_fail(err, VX_E_UNSUPPORTED, "bad_network",
                               "operation %d of the network concatenates a tensor that is "
                               "concatenated elsewhere too",
                               i);
            } else {
                t->concat = i;
                t->concat_input = k;
            }
        }
    }
    return VX_OK;
}

static int concat_parts(const struct cpu_program *p, const struct vx_op *op, struct cpu_tensor *out,
                        struct vx_err *err) {
    const struct cpu_tensor *a = &p->tensors[op->in[0]], *b = &p->tensors[op->in[1]];
    if (a->n_parts + b->n_parts > CPU_MAX_PARTS) {
        return vx_fail(err, VX_E_UNSUPPORTED, "bad_network",
                       "operation %d of the network concatenates more than %d tensors",
                       (int)(op - p->net.ops), CPU_MAX_PARTS);
    }
    out->channels = a->channels + b->channels;
    out->n_parts = 0;
    for (int i = 0; i < a->n_parts; i++) {
        out->parts[out->n_parts++] = a->parts[i];
    }
    for (int i = 0; i < b->n_parts; i++) {
        struct cpu_part part = b->parts[i];
        part.logical += a->c;
        part.physical += a->channels;
        out->parts[out->n_parts++] = part;
    }
    return VX_OK;
}

static int place_channels(struct cpu_program *p, struct vx_err *err) {
    struct cpu_tensor *input = &p->tensors[p->net.input];
    input->channels = input->plain ? input->c : padded(p, input->c);
    input->n_parts = 1;
    input->parts[0] = (struct cpu_part){0, 0, input->c};
    for (int i = 0; i < p->net.n_ops; i++) {
        const struct vx_op *op = &p->net.ops[i];
        struct cpu_tensor *out = &p->tensors[op->out], *in = &p->tensors[op->in[0]];
        if (!out->needed) {
            continue;
        }
        if (op->kind == VX_OP_CONCAT) {
            int rc = concat_parts(p, op, out, err);
            if (rc != VX_OK) {
                return rc;
            }
        } else if (op->kind == VX_OP_NORM_ACT) {
            out->channels = in->channels;
            out->n_parts = in->n_parts;
            memcpy(out->parts, in->parts, sizeof out->parts);
        } else {
            out->channels = padded(p, out->c);
            out->n_parts = 1;
            out->parts[0] = (struct cpu_part){0, 0, out->c};
        }
    }
    return VX_OK;
}

struct cpu_conv_shape cpu_conv_shape_of(const struct cpu_program *p, const struct vx_op *op) {
    const struct cpu_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
    struct cpu_conv_shape s = {.n = in->n,
                               .in_channels = in->channels,
                               .out_channels = padded(p, out->c),
                               .plain = in->plain,
                               .float_out = out->is_logits,
                               .directions = {true}};
    memcpy(s.in, in->size, sizeof s.in);
    memcpy(s.out, out->size, sizeof s.out);
    memcpy(s.kernel, op->kernel, sizeof s.kernel);
    memcpy(s.stride, op->stride, sizeof s.stride);
    memcpy(s.pad, op->pad, sizeof s.pad);
    /* A normalisation takes any bias out again, value and gradient. */
    bool normalised = out->readers == 1 && out->norms == 1 && out->concat < 0;
    s.bias = op->bias >= 0 && !normalised;
    s.directions[CPU_BACKWARD_DATA] = p->learning && in->wants_grad;
    s.directions[CPU_BACKWARD_WEIGHTS] = p->learning && cpu_trainable(p, op->weight);
    return s;
}

/* The network's input may stay as it is where every layer that reads it has a fast path for that:
 * one to three channels would otherwise be padded to a whole block. */
static bool input_stays_plain(struct cpu_program *p) {
    struct cpu_tensor *input = &p->tensors[p->net.input];
    if (input->concat >= 0 || input->c >= p->kernels->block) {
        return false;
    }
    input->channels = input->c;
    input->plain = true;
    for (int i = 0; i < p->net.n_ops; i++) {
        const struct vx_op *op = &p->net.ops[i];
        if (!op_needed(p, op) || op->in[0] != p->net.input) {
            continue;
        }
        struct cpu_conv_shape shape = cpu_conv_shape_of(p, op);
        /* The same answer in every mode, so that their forward passes give the same bits. */
        shape.directions[CPU_BACKWARD_WEIGHTS] = true;
        if (op->kind != VX_OP_CONV || !cpu_conv_supported(p, &shape)) {
            input->plain = false;
        }
    }
    return input->plain;
}

int cpu_plan_tensors(struct cpu_program *p, struct vx_err *err) {
    for (int i = 0; i < p->net.n_tensors; i++) {
        const int *shape = p->net.tensors[i].shape;
        struct cpu_tensor *t = &p->tensors[i];
        t->n = shape[0];
        t->c = shape[1];
        memcpy(t->size, shape + 2, sizeof t->size);
        t->voxels = (size_t)shape[2] * (size_t)shape[3] * (size_t)shape[4];
        t->concat = -1;
        t->value = t->slice = CPU_NO_VIEW;
        t->wants_grad = p->learning && p->net.tensors[i].kind != VX_TENSOR_INPUT;
    }
    int rc = mark_needed(p, err);
    for (int i = 0; rc == VX_OK && i < p->net.n_tensors; i++) {
        struct cpu_tensor *t = &p->tensors[i];
        t->element = t->is_logits ? sizeof(float) : p->kernels->element;
        if (t->is_logits && (t->readers || t->concat >= 0)) {
            rc = vx_fail(err, VX_E_UNSUPPORTED, "bad_network",
                         "logits that another operation reads (tensor %d)", i);
        }
    }
    if (rc == VX_OK) {
        p->tensors[p->net.input].plain = input_stays_plain(p);
        rc = place_channels(p, err);
    }
    return rc;
}
