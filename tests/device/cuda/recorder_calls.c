/* What each call reads and writes, told by its own arguments, and how it is carried out. */
#include "recorder_calls.h"

#include "base/err.h"
#include "naive_conv.h"

#include <stdlib.h>
#include <string.h>

void touch(struct touched *t, const void *at, size_t bytes, bool write) {
    if (at && bytes > 0) {
        t->list[t->n++] = (struct access){
            .at = at, .rows = 1, .row_bytes = bytes, .stride = bytes, .write = write};
    }
}

void touch_view(struct touched *t, struct vx_cuda_view view, int64_t voxels, int channels,
                bool write) {
    if (view.data) {
        t->list[t->n++] = (struct access){.at = view.data,
                                          .rows = (size_t)voxels,
                                          .row_bytes = 2 * (size_t)channels,
                                          .stride = 2 * (size_t)view.pitch,
                                          .write = write};
    }
}

struct copy_args {
    void *dst;
    const void *src;
    size_t bytes;
};

static int run_copy(const void *args) {
    const struct copy_args *a = args;
    memcpy(a->dst, a->src, a->bytes);
    return 0;
}

/* Device memory is what allocate() gave; shadow.c knows it. */
int record_copy(void *dst, const void *src, size_t bytes, struct CUstream_st *stream) {
    BEGIN(copy, struct copy_args, dst, src, bytes);
    if (shadow_is_device(src)) {
        touch(t, src, bytes, false);
    }
    if (shadow_is_device(dst)) {
        touch(t, dst, bytes, true);
    }
    if (t->n == 0) {
        problem("a copy from host to host");
    }
    return submit(&c, stream);
}

static int run_clear(const void *args) {
    const struct copy_args *a = args;
    memset(a->dst, 0, a->bytes);
    return 0;
}

int record_clear(void *dst, size_t bytes, struct CUstream_st *stream) {
    BEGIN(clear, struct copy_args, dst, NULL, bytes);
    touch(t, dst, bytes, true);
    return submit(&c, stream);
}

struct cuda_conv {
    struct dnn_conv shape;
    enum dnn_direction direction;
    size_t workspace;
};

int record_conv_plan(void *engine, const struct dnn_conv *shape, enum dnn_direction direction,
                     struct cuda_conv **ret, size_t *ret_workspace, struct vx_err *err) {
    (void)engine;
    if (call_fails("conv_plan")) {
        return vx_fail(err, VX_E_UNSUPPORTED, "no_plan", "no plan, says the test");
    }
    *ret = malloc(sizeof **ret);
    **ret = (struct cuda_conv){
        .shape = *shape, .direction = direction, .workspace = 1000 + (size_t)shape->in_channels};
    *ret_workspace = (*ret)->workspace;
    count_alive(1);
    return VX_OK;
}

void record_conv_free(struct cuda_conv *conv) {
    free(conv);
    count_alive(-1);
}

struct conv_args {
    struct cuda_conv conv;
    void *x, *w, *y;
};

static int run_conv_run(const void *args) {
    const struct conv_args *a = args;
    naive_conv(&a->conv.shape, a->conv.direction, a->x, a->w, a->y);
    return 0;
}

int record_conv_run(struct cuda_conv *conv, void *x, void *w, void *y, void *workspace,
                    struct CUstream_st *stream) {
    BEGIN(conv_run, struct conv_args, *conv, x, w, y);
    touch(t, x, 2 * (size_t)dnn_x_elements(&conv->shape), conv->direction == DNN_DATA);
    touch(t, w, 2 * (size_t)dnn_w_elements(&conv->shape), conv->direction == DNN_WEIGHTS);
    touch(t, y, 2 * (size_t)dnn_y_elements(&conv->shape), conv->direction == DNN_FORWARD);
    touch(t, workspace, conv->workspace, true);
    return submit(&c, stream);
}

struct norm_args {
    struct vx_cuda_norm norm;
    struct vx_cuda_view x, out, copy, grads[VX_CUDA_MAX_GRADS];
    int n_grads;
    float *dgamma, *dbeta;
};

static void touch_norm(struct touched *t, const struct vx_cuda_norm *n, bool forward) {
    touch(t, n->gamma, (size_t)n->channels * sizeof(float), false);
    touch(t, n->beta, (size_t)n->channels * sizeof(float), false);
    touch(t, n->moments, (size_t)n->n * 2 * (size_t)n->padded * sizeof(float), forward);
    touch(t, n->workspace, vx_cuda_norm_workspace(n->n, n->padded, n->voxels), true);
}

static int run_norm_forward(const void *args) {
    const struct norm_args *a = args;
    return vx_cuda_norm_forward(&a->norm, a->x, a->out, a->copy, NULL);
}

int record_norm_forward(const struct vx_cuda_norm *norm, struct vx_cuda_view x,
                        struct vx_cuda_view out, struct vx_cuda_view copy,
                        struct CUstream_st *stream) {
    BEGIN(norm_forward, struct norm_args, *norm, x, out, copy);
    int64_t voxels = norm->n * norm->voxels;
    touch_norm(t, norm, true);
    touch_view(t, x, voxels, norm->padded, false);
    touch_view(t, out, voxels, norm->padded, true);
    touch_view(t, copy, voxels, norm->padded, true);
    return submit(&c, stream);
}

static int run_norm_backward(const void *args) {
    const struct norm_args *a = args;
    return vx_cuda_norm_backward(&a->norm, a->x, a->grads, a->n_grads, a->out, a->dgamma, a->dbeta,
                                 NULL);
}

int record_norm_backward(const struct vx_cuda_norm *norm, struct vx_cuda_view x,
                         const struct vx_cuda_view *grads, int n_grads, struct vx_cuda_view dx,
                         float *dgamma, float *dbeta, struct CUstream_st *stream) {
    BEGIN(norm_backward, struct norm_args, *norm, x, dx);
    struct norm_args *a = (void *)c.args;
    int64_t voxels = norm->n * norm->voxels;
    touch_norm(t, norm, false);
    touch_view(t, x, voxels, norm->padded, false);
    for (int i = 0; i < n_grads; i++) {
        a->grads[i] = grads[i];
        touch_view(t, grads[i], voxels, norm->padded, false);
    }
    a->n_grads = n_grads;
    a->dgamma = dgamma;
    a->dbeta = dbeta;
    touch_view(t, dx, voxels, norm->padded, true);
    touch(t, dgamma, (size_t)norm->channels * sizeof(float), true);
    touch(t, dbeta, (size_t)norm->channels * sizeof(float), true);
    return submit(&c, stream);
}

struct bias_args {
    struct vx_cuda_view in, out, grads[VX_CUDA_MAX_GRADS];
    const float *bias;
    int n_grads, channels, padded;
    int64_t voxels;
    float *dbias;
    void *workspace;
};

static int run_bias_forward(const void *args) {
    const struct bias_args *a = args;
    return vx_cuda_bias_forward(a->in, a->bias, a->channels, a->padded, a->voxels, a->out, NULL);
}

int record_bias_forward(struct vx_cuda_view in, const float *bias, int channels, int padded,
                        int64_t voxels, struct vx_cuda_view out, struct CUstream_st *stream) {
    BEGIN(bias_forward, struct bias_args, .in = in, .out = out, .bias = bias, .channels = channels,
          .padded = padded, .voxels = voxels);
    touch_view(t, in, voxels, padded, false);
    touch(t, bias, (size_t)channels * sizeof(float), false);
    touch_view(t, out, voxels, padded, true);
    return submit(&c, stream);
}

static int run_bias_backward(const void *args) {
    const struct bias_args *a = args;
    return vx_cuda_bias_backward(a->grads, a->n_grads, a->channels, a->padded, a->voxels, a->out,
                                 a->dbias, a->workspace, NULL);
}

int record_bias_backward(const struct vx_cuda_view *grads, int n_grads, int channels, int padded,
                         int64_t voxels, struct vx_cuda_view out, float *dbias, void *workspace,
                         struct CUstream_st *stream) {
    BEGIN(bias_backward, struct bias_args, .out = out, .n_grads = n_grads, .channels = channels,
          .padded = padded, .voxels = voxels, .dbias = dbias, .workspace = workspace);
    struct bias_args *a = (void *)c.args;
    for (int i = 0; i < n_grads; i++) {
        a->grads[i] = grads[i];
        touch_view(t, grads[i], voxels, padded, false);
    }
    touch_view(t, out, voxels, padded, true);
    touch(t, dbias, (size_t)channels * sizeof(float), true);
    touch(t, workspace, vx_cuda_bias_workspace(padded, voxels), true);
    return submit(&c, stream);
}

struct images_args {
    const float *slots;
    int64_t stride, voxels;
    int n, channels, padded;
    struct vx_cuda_view out;
};

static int run_load_images(const void *args) {
    const struct images_args *a = args;
    return vx_cuda_load_images(a->slots, a->stride, a->n, a->channels, a->padded, a->voxels, a->out,
                               NULL);
}

int record_load_images(const float *slots, int64_t sample_stride, int n, int channels, int padded,
                       int64_t voxels, struct vx_cuda_view out, struct CUstream_st *stream) {
    BEGIN(load_images, struct images_args, slots, sample_stride, voxels, n, channels, padded, out);
    c.begins = out.data;
    size_t floats = (size_t)((n - 1) * sample_stride + channels * voxels);
    touch(t, slots, floats * sizeof(float), false);
    touch_view(t, out, n * voxels, padded, true);
    return submit(&c, stream);
}

static int64_t volume(const int shape[3]) {
    return (int64_t)shape[0] * shape[1] * shape[2];
}

static int run_load_targets(const void *args) {
    return vx_cuda_load_targets(args, NULL);
}

int record_load_targets(const struct vx_cuda_targets *targets, struct CUstream_st *stream) {
    BEGIN(load_targets, struct vx_cuda_targets, .n = 0);
    memcpy(c.args, targets, sizeof *targets);
    size_t labels = (size_t)((targets->n - 1) * targets->sample_stride + volume(targets->shape));
    touch(t, targets->labels, labels * sizeof(int16_t), false);
    for (int i = 0; i < targets->n_heads; i++) {
        touch(t, targets->targets[i], (size_t)(targets->n * volume(targets->head_shape[i])), true);
    }
    touch(t, targets->result, sizeof *targets->result, true);
    return submit(&c, stream);
}

static void touch_loss(struct touched *t, const struct vx_cuda_loss *l, bool backward) {
    for (int i = 0; i < l->n_heads; i++) {
        const struct vx_cuda_head *h = &l->heads[i];
        size_t voxels = (size_t)(l->n * h->voxels), bytes = voxels * (size_t)l->padded * 2;
        touch(t, h->logits, bytes, false);
        touch(t, h->bias, (size_t)l->classes * sizeof(float), false);
        touch(t, h->targets, voxels, false);
        if (backward) {
            touch(t, h->dlogits, bytes, true);
            touch(t, h->dbias, (size_t)l->classes * sizeof(float), true);
        }
    }
    touch(t, l->workspace, vx_cuda_loss_workspace(l), true);
}

static int run_loss_forward(const void *args) {
    return vx_cuda_loss_forward(args, NULL);
}

int record_loss_forward(const struct vx_cuda_loss *loss, struct CUstream_st *stream) {
    BEGIN(loss_forward, struct vx_cuda_loss, .n = 0);
    memcpy(c.args, loss, sizeof *loss);
    touch_loss(t, loss, false);
    touch(t, loss->result, sizeof *loss->result, true);
    return submit(&c, stream);
}

static int run_loss_backward(const void *args) {
    return vx_cuda_loss_backward(args, NULL);
}

int record_loss_backward(const struct vx_cuda_loss *loss, struct CUstream_st *stream) {
    BEGIN(loss_backward, struct vx_cuda_loss, .n = 0);
    memcpy(c.args, loss, sizeof *loss);
    touch_loss(t, loss, true);
    for (int i = 0; i < loss->n_heads; i++) {
        if (loss->padded > VX_CUDA_LANES && loss->heads[i].dlogits == loss->heads[i].logits) {
            problem("loss_backward overwrites logits of %d channels", loss->padded);
        }
    }
    return submit(&c, stream);
}

static void touch_gradients(struct touched *t, const struct vx_cuda_optimizer *o) {
    touch(t, o->filter_grads, (size_t)o->n_filters * 2, false);
    touch(t, o->vector_grads, (size_t)o->n_vectors * sizeof(float), false);
    touch(t, o->workspace, vx_cuda_optimizer_workspace(), true);
}

static int run_gradient_norm(const void *args) {
    return vx_cuda_gradient_norm(args, NULL);
}

int record_gradient_norm(const struct vx_cuda_optimizer *o, struct CUstream_st *stream) {
    BEGIN(gradient_norm, struct vx_cuda_optimizer, .n_filters = 0);
    memcpy(c.args, o, sizeof *o);
    touch_gradients(t, o);
    touch(t, o->result, sizeof *o->result, true);
    return submit(&c, stream);
}

static int run_update(const void *args) {
    return vx_cuda_update(args, NULL);
}

int record_update(const struct vx_cuda_optimizer *o, struct CUstream_st *stream) {
    BEGIN(update, struct vx_cuda_optimizer, .n_filters = 0);
    memcpy(c.args, o, sizeof *o);
    size_t all = (size_t)(o->n_filters + o->n_vectors) * sizeof(float);
    touch_gradients(t, o);
    touch(t, o->result, sizeof *o->result, false);
    touch(t, o->learning_rate, sizeof(float), false);
    for (int write = 0; write < 2; write++) {
        touch(t, o->weights, all, write == 1);
        touch(t, o->momenta, all, write == 1);
    }
    touch(t, o->copies, (size_t)o->n_filters * 2, true);
    return submit(&c, stream);
}

struct filter_args {
    struct vx_cuda_filter f;
    const void *src;
    float *dst;
    void *copy;
};

static size_t padded_elements(const struct vx_cuda_filter *f) {
    return (size_t)f->k_padded * (size_t)f->c_padded * (size_t)f->taps;
}

static size_t torch_bytes(const struct vx_cuda_filter *f) {
    return (size_t)f->k * (size_t)f->c * (size_t)f->taps * sizeof(float);
}

static int run_filter_pack(const void *args) {
    const struct filter_args *a = args;
    return vx_cuda_filter_pack(&a->f, a->src, a->dst, a->copy, NULL);
}

int record_filter_pack(const struct vx_cuda_filter *f, const float *torch, float *dst, void *copy,
                       struct CUstream_st *stream) {
    BEGIN(filter_pack, struct filter_args, *f, torch, dst, copy);
    touch(t, torch, torch_bytes(f), false);
    touch(t, dst, padded_elements(f) * sizeof(float), true);
    touch(t, copy, padded_elements(f) * 2, true);
    return submit(&c, stream);
}

static int run_filter_unpack(const void *args) {
    const struct filter_args *a = args;
    return vx_cuda_filter_unpack(&a->f, a->src, a->dst, NULL);
}

int record_filter_unpack(const struct vx_cuda_filter *f, const float *src, float *torch,
                         struct CUstream_st *stream) {
    BEGIN(filter_unpack, struct filter_args, *f, src, torch, NULL);
    touch(t, src, padded_elements(f) * sizeof(float), false);
    touch(t, torch, torch_bytes(f), true);
    return submit(&c, stream);
}

static int run_filter_unpack_bf16(const void *args) {
    const struct filter_args *a = args;
    return vx_cuda_filter_unpack_bf16(&a->f, a->src, a->dst, NULL);
}

int record_filter_unpack_bf16(const struct vx_cuda_filter *f, const void *src, float *torch,
                              struct CUstream_st *stream) {
    BEGIN(filter_unpack_bf16, struct filter_args, *f, src, torch, NULL);
    touch(t, src, padded_elements(f) * 2, false);
    touch(t, torch, torch_bytes(f), true);
    return submit(&c, stream);
}
