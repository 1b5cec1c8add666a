/* Parameters, momentum and gradients: fp32 masters in cuDNN's order, bfloat16 copies of the filters
 * that convolutions read, gradients as the kernels write them; PyTorch's order only on the way in
 * and out. What is trained comes first, so that the optimizer walks over one range. */
#include "device/cuda/internal.h"

#include "base/err.h"
#include "device/cuda/shape.h"

#include <stdlib.h>
#include <string.h>

/* Every parameter starts on 64 elements (kernels.h, vx_cuda_optimizer). */
static int64_t aligned(int64_t elements) {
    return (elements + 63) / 64 * 64;
}

static const struct vx_op *reader_of(const struct vx_oplist *net, int param) {
    for (int i = 0; i < net->n_ops; i++) {
        if (net->ops[i].weight == param) {
            return &net->ops[i];
        }
    }
    return NULL;
}

static struct vx_cuda_filter filter_of(const struct vx_oplist *net, int param) {
    const struct vx_param *p = &net->params[param];
    const struct vx_op *op = p->ndim == 5 ? reader_of(net, param) : NULL;
    struct vx_cuda_filter f = {0};
    if (op) {
        bool turned = op->kind == VX_OP_CONV_TRANSPOSE;
        f = (struct vx_cuda_filter){
            .k = p->shape[0],
            .c = p->shape[1],
            .taps = p->shape[2] * p->shape[3] * p->shape[4],
            .k_padded = cuda_padded_channels(net, turned ? op->in[0] : op->out),
            .c_padded = cuda_padded_channels(net, turned ? op->out : op->in[0])};
    }
    return f;
}

static int64_t elements_of(const struct vx_param *p, const struct cuda_place *place) {
    const struct vx_cuda_filter *f = &place->filter;
    return f->taps ? (int64_t)f->k_padded * f->c_padded * f->taps : (int64_t)p->count;
}

/* Trained filters, trained vectors, then the rest. */
static void place_params(struct cuda_state *s, const struct vx_oplist *net) {
    int64_t at = 0;
    for (int group = 0; group < 4; group++) {
        for (int i = 0; i < s->n_params; i++) {
            struct cuda_place *place = &s->places[i];
            bool filter = place->filter.taps > 0;
            if ((group & 1) != !filter || (group < 2) != place->trained) {
                continue;
            }
            int64_t n = aligned(elements_of(&net->params[i], place));
            place->at = at;
            place->grad_at = !place->trained ? -1 : filter ? at : at - s->n_filters;
            place->copy_at = filter ? s->n_copies : -1;
            s->n_copies += filter ? n : 0;
            s->n_filters += group == 0 ? n : 0;
            s->n_vectors += group == 1 ? n : 0;
            at += n;
        }
    }
    s->n_all = at;
}

static int take_memory(struct cuda_state *s, size_t largest, struct vx_err *err) {
    const struct cuda_api *api = s->device->api;
    size_t floats = (size_t)(2 * s->n_all + s->n_vectors) + largest;
    size_t halves = (size_t)(s->n_copies + s->n_filters);
    size_t bytes = floats * sizeof(float) + halves * sizeof(uint16_t) + 256;
    int code = api->allocate(&s->memory, bytes);
    if (code) {
        int rc = cuda_fail(s->device, code, err, "taking memory for the parameters");
        return rc == VX_E_NOMEM ? vx_fail(err, rc, "device_memory",
                                          "%s has no room for the %zu MiB of the parameters",
                                          s->device->info.name, bytes >> 20)
                                : rc;
    }
    s->weights = s->memory;
    s->momenta = s->weights + s->n_all;
    s->vector_grads = s->momenta + s->n_all;
    s->staging = s->vector_grads + s->n_vectors;
    s->copies = (uint16_t *)(s->staging + largest);
    s->filter_grads = s->copies + s->n_copies;
    code = api->clear(s->memory, bytes, s->device->compute);
    code = code ? code : api->stream_sync(s->device->compute);
    return code ? cuda_fail(s->device, code, err, "clearing the parameters") : VX_OK;
}

int cuda_state_create(struct vx_device *base, const struct vx_oplist *net, struct vx_state **ret,
                      struct vx_err *err) {
    int rc = cuda_enter((struct cuda_device *)base, err);
    rc = rc != VX_OK ? rc : cuda_check_net(net, err);
    if (rc != VX_OK) {
        return rc;
    }
    size_t n = (size_t)net->n_params, largest = 0;
    struct cuda_state *s = calloc(1, sizeof *s);
    if (s) {
        s->params = calloc(n + 1, sizeof *s->params);
        s->places = calloc(n + 1, sizeof *s->places);
    }
    if (!s || !s->params || !s->places) {
        cuda_state_free((struct vx_state *)s);
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a state");
    }
    s->base.device = base;
    s->device = (struct cuda_device *)base;
    s->n_params = net->n_params;
    memcpy(s->params, net->params, n * sizeof *s->params);
    for (size_t i = 0; i < n; i++) {
        s->places[i] = (struct cuda_place){.filter = filter_of(net, (int)i),
                                           .trained = net->params[i].trainable};
        largest = net->params[i].count > largest ? net->params[i].count : largest;
    }
    place_params(s, net);
    rc = take_memory(s, (size_t)aligned((int64_t)largest), err);
    if (rc != VX_OK) {
        cuda_state_free(&s->base);
        return rc;
    }
    *ret = &s->base;
    return VX_OK;
}

void cuda_state_free(struct vx_state *base) {
    struct cuda_state *s = (struct cuda_state *)base;
    if (s) {
        if (s->memory) {
            s->device->api->enter(s->device->index);
            s->device->api->release(s->memory);
        }
        free(s->params);
        free(s->places);
        free(s);
    }
}

static int check_param(const struct cuda_state *s, int param, struct vx_err *err) {
    return param >= 0 && param < s->n_params
               ? cuda_enter(s->device, err)
               : vx_fail(err, VX_E_INVALID, NULL, "there is no parameter %d: the network has %d",
                         param, s->n_params);
}

int cuda_state_upload(struct vx_state *base, int param, enum vx_state_part part, const float *src,
                      struct vx_err *err) {
    struct cuda_state *s = (struct cuda_state *)base;
    const struct cuda_api *api = s->device->api;
    struct CUstream_st *stream = s->device->compute;
    int rc = check_param(s, param, err);
    if (rc == VX_OK && part == VX_PART_GRADIENT) {
        rc = vx_fail(err, VX_E_INVALID, NULL, "gradients can be downloaded only");
    }
    if (rc != VX_OK) {
        return rc;
    }
    const struct cuda_place *place = &s->places[param];
    size_t bytes = s->params[param].count * sizeof *src;
    float *to = (part == VX_PART_WEIGHT ? s->weights : s->momenta) + place->at;
    bool filter = place->filter.taps > 0;
    int code = api->copy(filter ? s->staging : to, src, bytes, stream);
    if (!code && filter) {
        uint16_t *copy = part == VX_PART_WEIGHT ? s->copies + place->copy_at : NULL;
        code = api->filter_pack(&place->filter, s->staging, to, copy, stream);
    }
    code = code ? code : api->stream_sync(stream);
    return code ? cuda_fail(s->device, code, err, "uploading a parameter") : VX_OK;
}

/* The part of a filter in PyTorch's order into staging. */
static int unpack(struct cuda_state *s, const struct cuda_place *place, enum vx_state_part part) {
    const struct cuda_api *api = s->device->api;
    struct CUstream_st *stream = s->device->compute;
    if (part == VX_PART_GRADIENT) {
        return api->filter_unpack_bf16(&place->filter, s->filter_grads + place->grad_at, s->staging,
                                       stream);
    }
    const float *from = part == VX_PART_WEIGHT ? s->weights : s->momenta;
    return api->filter_unpack(&place->filter, from + place->at, s->staging, stream);
}

int cuda_state_download(struct vx_state *base, int param, enum vx_state_part part, float *dst,
                        struct vx_err *err) {
    struct cuda_state *s = (struct cuda_state *)base;
    const struct cuda_api *api = s->device->api;
    struct CUstream_st *stream = s->device->compute;
    int rc = check_param(s, param, err);
    if (rc != VX_OK) {
        return rc;
    }
    const struct cuda_place *place = &s->places[param];
    size_t bytes = s->params[param].count * sizeof *dst;
    if (part == VX_PART_GRADIENT && !place->trained) {
        memset(dst, 0, bytes);
        return VX_OK;
    }
    const float *from = place->filter.taps > 0     ? s->staging
                        : part == VX_PART_WEIGHT   ? s->weights + place->at
                        : part == VX_PART_MOMENTUM ? s->momenta + place->at
                                                   : s->vector_grads + place->grad_at;
    int code = place->filter.taps > 0 ? unpack(s, place, part) : 0;
    code = code ? code : api->copy(dst, from, bytes, stream);
    code = code ? code : api->stream_sync(stream);
    return code ? cuda_fail(s->device, code, err, "downloading a parameter") : VX_OK;
}
