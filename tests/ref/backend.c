/* The vtable: states, programs, and the walk over the op list forwards and backwards. */
#include "ref/ref.h"

#include "base/err.h"
#include "device/oplist.h"
#include "ref/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ref_state {
    struct vx_state base;
    int n_params;
    size_t *count;
    double **weight, **momentum, **grad; /* [n_params], owned */
};

struct ref_program {
    struct vx_program base;
    struct vx_oplist net; /* own copy of the arrays */
    enum vx_mode mode;
    struct ref_tensor *tensors;
    int16_t *labels; /* [N][D][H][W] */
    uint64_t ticket;
    struct vx_run_result results[2]; /* of ticket t in [t % 2] */
};

static int ref_open(int index, const struct vx_device_options *options, struct vx_device **ret,
                    struct vx_err *err) {
    (void)options;
    if (index != 0) {
        return vx_fail(err, VX_E_NOT_FOUND, NULL, "ref has one device, not number %d", index);
    }
    struct vx_device *device = calloc(1, sizeof *device);
    if (!device) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a device");
    }
    device->api = &vx_ref_api;
    *ret = device;
    return VX_OK;
}

static void ref_close(struct vx_device *device) {
    free(device);
}

static void ref_info(struct vx_device *device, struct vx_device_info *ret) {
    (void)device;
    *ret = (struct vx_device_info){.threads = 1, .bf16 = false, .memory_bytes = (size_t)1 << 32};
    snprintf(ret->name, sizeof ret->name, "ref:0");
    snprintf(ret->model, sizeof ret->model, "reference loops");
    snprintf(ret->isa, sizeof ret->isa, "double");
    snprintf(ret->library, sizeof ret->library, "none");
}

static void ref_state_free(struct vx_state *base) {
    struct ref_state *state = (struct ref_state *)base;
    if (!state) {
        return;
    }
    for (int i = 0; i < state->n_params; i++) {
        free(state->weight[i]);
        free(state->momentum[i]);
        free(state->grad[i]);
    }
    free(state->weight);
    free(state->momentum);
    free(state->grad);
    free(state->count);
    free(state);
}

static int ref_state_create(struct vx_device *device, const struct vx_oplist *net,
                            struct vx_state **ret, struct vx_err *err) {
    (void)err;
    struct ref_state *state = calloc(1, sizeof *state);
    size_t n = (size_t)net->n_params;
    state->base.device = device;
    state->n_params = net->n_params;
    state->count = calloc(n, sizeof *state->count);
    state->weight = calloc(n, sizeof *state->weight);
    state->momentum = calloc(n, sizeof *state->momentum);
    state->grad = calloc(n, sizeof *state->grad);
    for (size_t i = 0; i < n; i++) {
        state->count[i] = net->params[i].count;
        state->weight[i] = calloc(state->count[i], sizeof(double));
        state->momentum[i] = calloc(state->count[i], sizeof(double));
        state->grad[i] = calloc(state->count[i], sizeof(double));
    }
    *ret = &state->base;
    return VX_OK;
}

static double *part_of(struct ref_state *state, int param, enum vx_state_part part) {
    if (param < 0 || param >= state->n_params) {
        return NULL;
    }
    return part == VX_PART_WEIGHT     ? state->weight[param]
           : part == VX_PART_MOMENTUM ? state->momentum[param]
                                      : state->grad[param];
}

static int ref_upload(struct vx_state *base, int param, enum vx_state_part part, const float *src,
                      struct vx_err *err) {
    struct ref_state *state = (struct ref_state *)base;
    double *to = part_of(state, param, part);
    if (!to || part == VX_PART_GRADIENT) {
        return vx_fail(err, VX_E_INVALID, NULL, "parameter %d cannot be uploaded", param);
    }
    for (size_t i = 0; i < state->count[param]; i++) {
        to[i] = (double)src[i];
    }
    return VX_OK;
}

static int ref_download(struct vx_state *base, int param, enum vx_state_part part, float *dst,
                        struct vx_err *err) {
    struct ref_state *state = (struct ref_state *)base;
    const double *from = part_of(state, param, part);
    if (!from) {
        return vx_fail(err, VX_E_INVALID, NULL, "there is no parameter %d", param);
    }
    for (size_t i = 0; i < state->count[param]; i++) {
        dst[i] = (float)from[i];
    }
    return VX_OK;
}

static void ref_program_free(struct vx_program *base) {
    struct ref_program *p = (struct ref_program *)base;
    if (!p) {
        return;
    }
    for (int i = 0; i < p->net.n_tensors; i++) {
        free(p->tensors[i].value);
        free(p->tensors[i].grad);
    }
    free(p->tensors);
    free(p->labels);
    free(p->net.tensors);
    free(p->net.params);
    free(p->net.ops);
    free(p);
}

static void *copy_of(const void *data, size_t size) {
    void *copy = malloc(size);
    return memcpy(copy, data, size);
}

static int ref_compile(struct vx_state *state, const struct vx_oplist *net, enum vx_mode mode,
                       enum vx_precision precision, struct vx_program **ret, struct vx_err *err) {
    (void)precision;
    if (net->n_params != ((struct ref_state *)state)->n_params) {
        return vx_fail(err, VX_E_INVALID, NULL, "the op list has other parameters than the state");
    }
    struct ref_program *p = calloc(1, sizeof *p);
    p->base.state = state;
    p->mode = mode;
    p->net = *net;
    p->net.tensors = copy_of(net->tensors, (size_t)net->n_tensors * sizeof *net->tensors);
    p->net.params = copy_of(net->params, (size_t)net->n_params * sizeof *net->params);
    p->net.ops = copy_of(net->ops, (size_t)net->n_ops * sizeof *net->ops);
    p->tensors = calloc((size_t)net->n_tensors, sizeof *p->tensors);
    for (int i = 0; i < net->n_tensors; i++) {
        struct ref_tensor *t = &p->tensors[i];
        memcpy(t->shape, net->tensors[i].shape, sizeof t->shape);
        t->count = 1;
        for (int a = 0; a < 5; a++) {
            t->count *= (size_t)t->shape[a];
        }
        t->value = calloc(t->count, sizeof(double));
        t->grad = calloc(t->count, sizeof(double));
    }
    const struct ref_tensor *input = &p->tensors[net->input];
    p->labels = calloc(input->count / (size_t)input->shape[1], sizeof *p->labels);
    *ret = &p->base;
    return VX_OK;
}

static size_t ref_program_memory(struct vx_program *base) {
    struct ref_program *p = (struct ref_program *)base;
    size_t bytes = 0;
    for (int i = 0; i < p->net.n_tensors; i++) {
        bytes += 2 * p->tensors[i].count * sizeof(double);
    }
    return bytes;
}

static double *param(double **values, int id) {
    return id < 0 ? NULL : values[id];
}

static void forward(struct ref_program *p) {
    struct ref_state *state = (struct ref_state *)p->base.state;
    for (int i = 0; i < p->net.n_ops; i++) {
        const struct vx_op *op = &p->net.ops[i];
        struct ref_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
        const double *w = param(state->weight, op->weight), *b = param(state->weight, op->bias);
        switch (op->kind) {
        case VX_OP_CONV:
            ref_conv(op, in, w, b, out);
            break;
        case VX_OP_NORM_ACT:
            ref_norm_act(op, in, w, b, out);
            break;
        case VX_OP_CONV_TRANSPOSE:
            ref_conv_transpose(op, in, w, b, out);
            break;
        case VX_OP_CONCAT:
            ref_concat(in, &p->tensors[op->in[1]], out);
            break;
        }
    }
}

/* Gradients of parameters that are not trained go nowhere. */
static double *grad_of(const struct ref_program *p, int id) {
    const struct ref_state *state = (const struct ref_state *)p->base.state;
    return id < 0 || !p->net.params[id].trainable ? NULL : state->grad[id];
}

static void backward(struct ref_program *p) {
    struct ref_state *state = (struct ref_state *)p->base.state;
    for (int i = p->net.n_ops - 1; i >= 0; i--) {
        const struct vx_op *op = &p->net.ops[i];
        struct ref_tensor *in = &p->tensors[op->in[0]], *out = &p->tensors[op->out];
        const double *w = param(state->weight, op->weight), *b = param(state->weight, op->bias);
        double *gw = grad_of(p, op->weight), *gb = grad_of(p, op->bias);
        switch (op->kind) {
        case VX_OP_CONV:
            ref_conv_backward(op, in, w, out, gw, gb);
            break;
        case VX_OP_NORM_ACT:
            ref_norm_act_backward(op, in, w, b, out, gw, gb);
            break;
        case VX_OP_CONV_TRANSPOSE:
            ref_conv_transpose_backward(op, in, w, out, gw, gb);
            break;
        case VX_OP_CONCAT:
            ref_concat_backward(in, &p->tensors[op->in[1]], out);
            break;
        }
    }
}

static double gradient_norm(const struct ref_program *p) {
    const struct ref_state *state = (const struct ref_state *)p->base.state;
    double squares = 0;
    for (int i = 0; i < state->n_params; i++) {
        for (size_t k = 0; p->net.params[i].trainable && k < state->count[i]; k++) {
            squares += state->grad[i][k] * state->grad[i][k];
        }
    }
    return sqrt(squares);
}

static void update(struct ref_program *p, double norm, double rate) {
    struct ref_state *state = (struct ref_state *)p->base.state;
    const struct vx_optimizer *o = &p->net.optimizer;
    double scale = fmin(1, (double)o->clip_norm / (norm + 1e-6)), momentum = (double)o->momentum;
    for (int i = 0; i < state->n_params; i++) {
        for (size_t k = 0; p->net.params[i].trainable && k < state->count[i]; k++) {
            double *w = &state->weight[i][k], *v = &state->momentum[i][k];
            double g = scale * state->grad[i][k] + (double)o->weight_decay * *w;
            *v = momentum * *v + g;
            *w -= rate * (g + momentum * *v);
        }
    }
}

static int load_input(struct ref_program *p, const struct vx_run_input *in, struct vx_err *err) {
    struct ref_tensor *input = &p->tensors[p->net.input];
    size_t sample = input->count / (size_t)input->shape[0];
    size_t voxels = sample / (size_t)input->shape[1];
    for (size_t n = 0; n < (size_t)input->shape[0]; n++) {
        for (size_t i = 0; i < sample; i++) {
            input->value[n * sample + i] = (double)in->images[n][i];
        }
        for (size_t v = 0; p->mode != VX_MODE_INFER && v < voxels; v++) {
            p->labels[n * voxels + v] = in->labels[n][v];
            if (in->labels[n][v] >= p->net.classes) {
                return vx_fail(err, VX_E_INVALID, "label_out_of_range",
                               "label %d where the network has %d classes", in->labels[n][v],
                               p->net.classes);
            }
        }
    }
    return VX_OK;
}

static void learn(struct ref_program *p, const struct vx_run_input *in,
                  struct vx_run_result *result) {
    struct ref_state *state = (struct ref_state *)p->base.state;
    for (int i = 0; i < state->n_params; i++) {
        memset(state->grad[i], 0, state->count[i] * sizeof(double));
    }
    backward(p);
    result->grad_norm = gradient_norm(p);
    if (p->mode == VX_MODE_TRAIN) {
        update(p, result->grad_norm, (double)in->learning_rate);
    }
}

static int ref_run(struct vx_program *base, const struct vx_run_input *in, uint64_t *ret_ticket,
                   struct vx_err *err) {
    struct ref_program *p = (struct ref_program *)base;
    int rc = load_input(p, in, err);
    if (rc != VX_OK) {
        return rc;
    }
    bool learning = p->mode == VX_MODE_TRAIN || p->mode == VX_MODE_GRADIENT;
    struct vx_run_result *result = &p->results[++p->ticket % 2];
    memset(result, 0, sizeof *result);
    forward(p);
    for (int i = 0; i < p->net.n_tensors; i++) {
        memset(p->tensors[i].grad, 0, p->tensors[i].count * sizeof(double));
    }
    const int *s = p->tensors[p->net.input].shape;
    const int label_shape[4] = {s[0], s[2], s[3], s[4]};
    if (p->mode != VX_MODE_INFER) {
        ref_loss(&p->net.loss, p->net.classes, p->tensors, p->labels, label_shape, learning,
                 result);
    }
    if (learning) {
        learn(p, in, result);
    }
    if (p->mode == VX_MODE_VALIDATE) {
        ref_hard_statistics(&p->tensors[p->net.output], p->labels, label_shape, result);
    }
    *ret_ticket = p->ticket;
    return VX_OK;
}

static int ref_wait(struct vx_program *base, uint64_t ticket, struct vx_run_result *ret,
                    struct vx_err *err) {
    struct ref_program *p = (struct ref_program *)base;
    if (ticket == 0 || ticket > p->ticket || ticket + 1 < p->ticket) {
        return vx_fail(err, VX_E_INVALID, NULL, "run %llu is not one of the last two",
                       (unsigned long long)ticket);
    }
    if (ret) {
        *ret = p->results[ticket % 2];
    }
    return VX_OK;
}

static int ref_read_logits(struct vx_program *base, float *dst, struct vx_err *err) {
    struct ref_program *p = (struct ref_program *)base;
    const struct ref_tensor *t = &p->tensors[p->net.output];
    if (p->mode != VX_MODE_INFER || p->ticket == 0) {
        return vx_fail(err, VX_E_STATE, NULL, "logits can be read after an INFER run only");
    }
    for (size_t i = 0; i < t->count; i++) {
        dst[i] = (float)t->value[i];
    }
    return VX_OK;
}

const struct vx_device_api vx_ref_api = {
    .abi = VX_DEVICE_ABI,
    .name = "ref",
    .open = ref_open,
    .close = ref_close,
    .info = ref_info,
    .state_create = ref_state_create,
    .state_free = ref_state_free,
    .state_upload = ref_upload,
    .state_download = ref_download,
    .compile = ref_compile,
    .program_free = ref_program_free,
    .program_memory = ref_program_memory,
    .run = ref_run,
    .wait = ref_wait,
    .read_logits = ref_read_logits,
};

int vx_ref_register(struct vx_err *err) {
    int rc = vx_device_register(&vx_ref_api, err);
    return rc == VX_E_EXISTS ? VX_OK : rc;
}
