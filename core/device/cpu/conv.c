/* One convolution in up to three directions, through oneDNN.
 *
 * Activations are described as what they are (blocked, or plain for the network's input), weights
 * as `any`, so that each direction names the layout it wants. oneDNN falls back silently to a
 * reference implementation that is a thousand times slower; direct.c takes its place, or the layer
 * is refused. 2d layers use
 * 4-dimensional descriptions of the same bytes. */
#include "device/cpu/internal.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

/* Descriptions of one layer, in oneDNN's terms. */
struct problem {
    int ndims;
    dnnl_memory_desc_t src, dst, grad_dst, weights, grad_weights, bias, grad_bias;
    dnnl_dims_t stride, pad;
    dnnl_prop_kind_t kind;
    bool with_bias;
};

static void dims_of(int ndims, int first, int second, const int size[3], dnnl_dims_t ret) {
    ret[0] = first;
    ret[1] = second;
    for (int a = 2; a < ndims; a++) {
        ret[a] = size[a + 1 - (ndims - 2)];
    }
}

static dnnl_format_tag_t activation_tag(const struct cpu_program *p, int ndims, bool plain) {
    if (plain) {
        return ndims == 5 ? dnnl_ncdhw : dnnl_nchw;
    }
    if (p->kernels->block == 16) {
        return ndims == 5 ? dnnl_nCdhw16c : dnnl_nChw16c;
    }
    return ndims == 5 ? dnnl_nCdhw8c : dnnl_nChw8c;
}

static bool describe(const struct cpu_program *p, const struct cpu_conv_shape *s,
                     struct problem *q) {
    dnnl_data_type_t type = p->precision == VX_BF16 ? dnnl_bf16 : dnnl_f32;
    dnnl_dims_t src, dst, weights, bias = {s->out_channels};
    memset(q, 0, sizeof *q);
    q->ndims = s->in[0] == 1 && s->kernel[0] == 1 && s->pad[0] == 0 ? 4 : 5;
    dims_of(q->ndims, s->n, s->in_channels, s->in, src);
    dims_of(q->ndims, s->n, s->out_channels, s->out, dst);
    dims_of(q->ndims, s->out_channels, s->in_channels, s->kernel, weights);
    for (int a = 0; a < q->ndims - 2; a++) {
        q->stride[a] = s->stride[a + 3 - (q->ndims - 2)];
        q->pad[a] = s->pad[a + 3 - (q->ndims - 2)];
    }
    dnnl_format_tag_t tag = activation_tag(p, q->ndims, false);
    dnnl_format_tag_t src_tag = activation_tag(p, q->ndims, s->plain);
    dnnl_data_type_t dst_type = s->float_out ? dnnl_f32 : type;
    q->kind = p->mode == VX_MODE_INFER ? dnnl_forward_inference : dnnl_forward_training;
    q->with_bias = s->bias;
    return dnnl_memory_desc_init_by_tag(&q->src, q->ndims, src, type, src_tag) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&q->dst, q->ndims, dst, dst_type, tag) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&q->grad_dst, q->ndims, dst, type, tag) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&q->weights, q->ndims, weights, type,
                                        dnnl_format_tag_any) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&q->grad_weights, q->ndims, weights, dnnl_f32,
                                        dnnl_format_tag_any) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&q->bias, 1, bias, dnnl_f32, dnnl_a) == dnnl_success;
}

/* hint: the forward direction's, for the other two. NULL where oneDNN has nothing. */
static dnnl_primitive_desc_t find(const struct cpu_program *p, const struct problem *q,
                                  enum cpu_direction direction, dnnl_primitive_desc_t hint) {
    dnnl_convolution_desc_t desc;
    const dnnl_memory_desc_t *bias = q->with_bias ? &q->bias : NULL;
    dnnl_status_t rc = dnnl_invalid_arguments;
    if (direction == CPU_FORWARD) {
        rc = dnnl_convolution_forward_desc_init(&desc, q->kind, dnnl_convolution_direct, &q->src,
                                                &q->weights, bias, &q->dst, q->stride, q->pad,
                                                q->pad);
    } else if (direction == CPU_BACKWARD_DATA) {
        rc = dnnl_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &q->src,
                                                      &q->weights, &q->grad_dst, q->stride, q->pad,
                                                      q->pad);
    } else {
        rc = dnnl_convolution_backward_weights_desc_init(&desc, dnnl_convolution_direct, &q->src,
                                                         &q->grad_weights, bias, &q->grad_dst,
                                                         q->stride, q->pad, q->pad);
    }
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t ret = NULL;
    if (rc == dnnl_success && dnnl_primitive_attr_create(&attr) == dnnl_success) {
        dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
        if (dnnl_primitive_desc_create(&ret, &desc, attr, p->device->engine, hint) !=
            dnnl_success) {
            ret = NULL;
        }
        dnnl_primitive_attr_destroy(attr);
    }
    return ret;
}

static const char *name_of(dnnl_primitive_desc_t desc) {
    const char *name = NULL;
    if (!desc || dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &name) != 0) {
        return "nothing";
    }
    return name;
}

static bool is_fast(dnnl_primitive_desc_t desc) {
    const char *name = name_of(desc);
    return strncmp(name, "jit", 3) == 0 || strncmp(name, "brg", 3) == 0;
}

static void find_all(const struct cpu_program *p, const struct cpu_conv_shape *s,
                     const struct problem *q, dnnl_primitive_desc_t ret[3]) {
    memset(ret, 0, 3 * sizeof *ret);
    for (int d = 0; d < 3; d++) {
        /* The forward direction is the hint for the others, wanted or not. */
        if (d == 0 || (s->directions[d] && ret[0])) {
            ret[d] = find(p, q, (enum cpu_direction)d, ret[0]);
        }
    }
}

static void destroy_all(dnnl_primitive_desc_t descs[3]) {
    for (int d = 0; d < 3; d++) {
        if (descs[d]) {
            dnnl_primitive_desc_destroy(descs[d]);
        }
    }
}

bool cpu_conv_supported(struct cpu_program *p, const struct cpu_conv_shape *shape) {
    struct problem q;
    dnnl_primitive_desc_t descs[3];
    if (!describe(p, shape, &q)) {
        return false;
    }
    find_all(p, shape, &q, descs);
    bool ok = true;
    for (int d = 0; d < 3; d++) {
        ok = ok && (!shape->directions[d] || is_fast(descs[d]));
    }
    destroy_all(descs);
    return ok;
}

static int refuse(int op, const struct cpu_conv_shape *s, const char *name, int direction,
                  struct vx_err *err) {
    static const char *const direction_names[] = {"forward", "backward data", "backward weights"};
    return vx_fail(err, VX_E_UNSUPPORTED, "slow_layer",
                   "operation %d of the network (%d to %d channels, kernel %dx%dx%d, stride "
                   "%dx%dx%d, input %dx%dx%d) has no fast implementation on this CPU: %s would "
                   "run as \"%s\"",
                   op, s->in_channels, s->out_channels, s->kernel[0], s->kernel[1], s->kernel[2],
                   s->stride[0], s->stride[1], s->stride[2], s->in[0], s->in[1], s->in[2],
                   direction_names[direction], name);
}

static const dnnl_memory_desc_t *query(dnnl_primitive_desc_t desc, dnnl_query_t what) {
    return dnnl_primitive_desc_query_md(desc, what, 0);
}

static int create_primitive(struct cpu_program *p, struct cpu_conv *conv, int direction,
                            dnnl_primitive_desc_t desc, struct vx_err *err) {
    dnnl_primitive_t *list =
        realloc(p->primitives, (size_t)(p->n_primitives + 1) * sizeof(dnnl_primitive_t));
    if (!list) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to plan a program");
    }
    p->primitives = list;
    dnnl_status_t rc = dnnl_primitive_create(&conv->primitive[direction], desc);
    if (rc != dnnl_success) {
        return vx_fail(err, VX_E_DEVICE, NULL, "oneDNN cannot make operation %d (status %d)",
                       conv->op, (int)rc);
    }
    list[p->n_primitives++] = conv->primitive[direction];
    conv->implementation[direction] = name_of(desc);
    conv->scratch[direction] = *query(desc, dnnl_query_scratchpad_md);
    conv->weights[direction] =
        *query(desc, direction == CPU_BACKWARD_WEIGHTS ? dnnl_query_diff_weights_md
                                                       : dnnl_query_weights_md);
    int made = cpu_need_scratch(p, dnnl_memory_desc_get_size(&conv->scratch[direction]), err);
    return made != VX_OK ? made
                         : cpu_new_bytes(p, dnnl_memory_desc_get_size(&conv->weights[direction]),
                                         &conv->packed[direction], err);
}

static int use_direct(struct cpu_program *p, struct cpu_conv *conv, int direction,
                      struct vx_err *err) {
    const struct cpu_conv_shape *s = &conv->shape;
    size_t count = (size_t)s->in_channels * (size_t)s->out_channels *
                   (size_t)(s->kernel[0] * s->kernel[1] * s->kernel[2]);
    conv->direct[direction] = true;
    return cpu_new_bytes(p, count * sizeof(float), &conv->packed[direction], err);
}

int cpu_conv_create(struct cpu_program *p, int op, const struct cpu_conv_shape *shape,
                    struct cpu_conv **ret, struct vx_err *err) {
    struct problem q;
    struct cpu_conv *conv = cpu_allocate(p, sizeof *conv, err);
    if (!conv) {
        return VX_E_NOMEM;
    }
    if (!describe(p, shape, &q)) {
        return vx_fail(err, VX_E_INVALID, "bad_network", "operation %d has an impossible shape",
                       op);
    }
    *conv = (struct cpu_conv){.shape = *shape,
                              .op = op,
                              .src = q.src,
                              .dst = q.dst,
                              .grad_dst = q.grad_dst,
                              .bias = q.bias};
    dnnl_primitive_desc_t descs[3];
    find_all(p, shape, &q, descs);
    int rc = VX_OK;
    for (int d = 0; d < 3 && rc == VX_OK; d++) {
        if (!shape->directions[d]) {
            continue;
        }
        if (is_fast(descs[d])) {
            rc = create_primitive(p, conv, d, descs[d], err);
        } else if (cpu_direct_supported(p, shape)) {
            rc = use_direct(p, conv, d, err);
        } else {
            rc = refuse(op, shape, name_of(descs[d]), d, err);
        }
    }
    destroy_all(descs);
    size_t bias_bytes = (size_t)shape->out_channels * sizeof(float);
    conv->packed_bias = conv->grad_bias = CPU_NO_VIEW;
    if (rc == VX_OK && shape->bias) {
        rc = cpu_new_bytes(p, bias_bytes, &conv->packed_bias, err);
        rc = rc != VX_OK ? rc : cpu_new_bytes(p, bias_bytes, &conv->grad_bias, err);
    }
    if (rc == VX_OK) {
        for (int d = CPU_FORWARD; d <= CPU_BACKWARD_DATA; d++) {
            if (shape->directions[d]) {
                cpu_keep(p, &conv->packed[d]);
            }
        }
        if (shape->bias) {
            cpu_keep(p, &conv->packed_bias);
        }
        *ret = conv;
    }
    return rc;
}

int32_t cpu_conv_weight_at(const struct cpu_program *p, const struct cpu_conv *conv,
                           enum cpu_direction direction, int o, int i, int tap) {
    if (conv->direct[direction]) {
        return (int32_t)cpu_direct_weight_at(p, &conv->shape, direction, o, i, tap);
    }
    const dnnl_memory_desc_t *md = &conv->weights[direction];
    const dnnl_blocking_desc_t *b = &md->format_desc.blocking;
    dnnl_dims_t at = {o, i};
    for (int a = md->ndims - 1; a >= 2; a--) {
        at[a] = tap % md->dims[a];
        tap /= (int)md->dims[a];
    }
    dnnl_dim_t offset = md->offset0, stride = 1;
    for (int k = b->inner_nblks - 1; k >= 0; k--) {
        dnnl_dim_t axis = b->inner_idxs[k], size = b->inner_blks[k];
        offset += at[axis] % size * stride;
        at[axis] /= size;
        stride *= size;
    }
    for (int a = 0; a < md->ndims; a++) {
        offset += at[a] * b->strides[a];
    }
    return (int32_t)offset;
}

struct call {
    dnnl_primitive_t primitive;
    int op, n_args;
    dnnl_exec_arg_t args[6];
};

static int run_call(struct cpu_program *p, void *data, struct vx_err *err) {
    const struct call *call = data;
    dnnl_status_t rc =
        dnnl_primitive_execute(call->primitive, p->device->stream, call->n_args, call->args);
    return rc == dnnl_success
               ? VX_OK
               : vx_fail(err, VX_E_DEVICE, NULL, "oneDNN failed in operation %d (status %d)",
                         call->op, (int)rc);
}

static int add_arg(struct cpu_program *p, struct call *call, int arg, const dnnl_memory_desc_t *md,
                   const struct cpu_view *view, struct vx_err *err) {
    if (view->buffer < 0) {
        return VX_OK;
    }
    struct cpu_binding *list = realloc(p->bindings, (size_t)(p->n_bindings + 1) * sizeof *list);
    if (!list) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to plan a program");
    }
    p->bindings = list;
    dnnl_memory_t memory;
    if (dnnl_memory_create(&memory, md, p->device->engine, DNNL_MEMORY_NONE) != dnnl_success) {
        return vx_fail(err, VX_E_NOMEM, NULL, "oneDNN cannot describe operation %d", call->op);
    }
    list[p->n_bindings++] = (struct cpu_binding){.memory = memory, .view = *view};
    call->args[call->n_args++] = (dnnl_exec_arg_t){.arg = arg, .memory = memory};
    return VX_OK;
}

struct argument {
    int arg;
    const dnnl_memory_desc_t *md;
    const struct cpu_view *view;
};

/* Appends the step that executes one direction. */
static int add_call(struct cpu_program *p, struct cpu_conv *conv, enum cpu_direction direction,
                    const struct argument args[4], const char *name, struct vx_err *err) {
    struct call *call = cpu_allocate(p, sizeof *call, err);
    if (!call) {
        return VX_E_NOMEM;
    }
    *call = (struct call){.primitive = conv->primitive[direction], .op = conv->op};
    struct cpu_view scratch = {.buffer = p->scratch};
    const struct cpu_view *uses[6] = {&scratch};
    int rc = add_arg(p, call, DNNL_ARG_SCRATCHPAD, &conv->scratch[direction], &scratch, err);
    for (int i = 0; i < 4 && rc == VX_OK; i++) {
        rc = add_arg(p, call, args[i].arg, args[i].md, args[i].view, err);
        uses[i + 1] = args[i].view;
    }
    struct cpu_step step = cpu_step_named(p, conv->op, name);
    step.implementation = conv->implementation[direction];
    step.run = run_call;
    step.data = call;
    return rc != VX_OK ? rc : cpu_add_step(p, &step, uses, err);
}

int cpu_conv_forward(struct cpu_program *p, struct cpu_conv *conv, const struct cpu_view *src,
                     const struct cpu_view *dst, struct vx_err *err) {
    if (conv->direct[CPU_FORWARD]) {
        return cpu_direct_add(p, conv, CPU_FORWARD, src, dst, err);
    }
    const struct argument args[4] = {
        {DNNL_ARG_SRC, &conv->src, src},
        {DNNL_ARG_WEIGHTS, &conv->weights[CPU_FORWARD], &conv->packed[CPU_FORWARD]},
        {DNNL_ARG_BIAS, &conv->bias, &conv->packed_bias},
        {DNNL_ARG_DST, &conv->dst, dst}};
    return add_call(p, conv, CPU_FORWARD, args, "forward", err);
}

int cpu_conv_backward_data(struct cpu_program *p, struct cpu_conv *conv,
                           const struct cpu_view *grad_dst, const struct cpu_view *grad_src,
                           struct vx_err *err) {
    if (conv->direct[CPU_BACKWARD_DATA]) {
        return cpu_direct_add(p, conv, CPU_BACKWARD_DATA, grad_src, grad_dst, err);
    }
    const struct cpu_view none = CPU_NO_VIEW;
    const struct argument args[4] = {
        {DNNL_ARG_DIFF_DST, &conv->grad_dst, grad_dst},
        {DNNL_ARG_WEIGHTS, &conv->weights[CPU_BACKWARD_DATA], &conv->packed[CPU_BACKWARD_DATA]},
        {DNNL_ARG_DIFF_SRC, &conv->src, grad_src},
        {0, NULL, &none}};
    return add_call(p, conv, CPU_BACKWARD_DATA, args, "backward data", err);
}

int cpu_conv_backward_weights(struct cpu_program *p, struct cpu_conv *conv,
                              const struct cpu_view *src, const struct cpu_view *grad_dst,
                              struct vx_err *err) {
    if (conv->direct[CPU_BACKWARD_WEIGHTS]) {
        return cpu_direct_add(p, conv, CPU_BACKWARD_WEIGHTS, src, grad_dst, err);
    }
    const struct argument args[4] = {{DNNL_ARG_SRC, &conv->src, src},
                                     {DNNL_ARG_DIFF_DST, &conv->grad_dst, grad_dst},
                                     {DNNL_ARG_DIFF_WEIGHTS, &conv->weights[CPU_BACKWARD_WEIGHTS],
                                      &conv->packed[CPU_BACKWARD_WEIGHTS]},
                                     {DNNL_ARG_DIFF_BIAS, &conv->bias, &conv->grad_bias}};
    return add_call(p, conv, CPU_BACKWARD_WEIGHTS, args, "backward weights", err);
}
