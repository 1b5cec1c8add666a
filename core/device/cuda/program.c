/* A program: its lists while it is being built, compiling, freeing. */
#include "device/cuda/internal.h"

#include "base/err.h"
#include "device/cuda/shape.h"
#include "device/netlist.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct vx_err *err) {
    return vx_fail(err, VX_E_NOMEM, NULL, "no memory to plan a program");
}

void *cuda_allocate(struct cuda_program *p, size_t bytes, struct vx_err *err) {
    void **list = realloc(p->allocations, (size_t)(p->n_allocations + 1) * sizeof *list);
    if (list) {
        p->allocations = list;
        list[p->n_allocations] = calloc(1, bytes ? bytes : 1);
    }
    if (!list || !list[p->n_allocations]) {
        no_memory(err);
        return NULL;
    }
    return list[p->n_allocations++];
}

int cuda_new_bytes(struct cuda_program *p, size_t bytes, struct cuda_view *ret,
                   struct vx_err *err) {
    struct vx_span *list = realloc(p->buffers, (size_t)(p->n_buffers + 1) * sizeof *list);
    if (!list) {
        return no_memory(err);
    }
    p->buffers = list;
    list[p->n_buffers] = (struct vx_span){.bytes = bytes, .first = -1, .last = -1};
    *ret = (struct cuda_view){.buffer = p->n_buffers++};
    return VX_OK;
}

int cuda_new_packed(struct cuda_program *p, const struct cuda_tensor *t, struct cuda_view *ret,
                    struct vx_err *err) {
    size_t bytes = (size_t)t->n * (size_t)t->voxels * (size_t)t->padded * sizeof(uint16_t);
    int rc = cuda_new_bytes(p, bytes, ret, err);
    ret->pitch = t->padded;
    return rc;
}

void cuda_keep(struct cuda_program *p, const struct cuda_view *view) {
    p->buffers[view->buffer].first = 0;
    p->buffers[view->buffer].last = CUDA_ALWAYS;
}

void cuda_need(struct cuda_program *p, const struct cuda_view *view, size_t bytes) {
    struct vx_span *b = &p->buffers[view->buffer];
    b->bytes = bytes > b->bytes ? bytes : b->bytes;
}

static void use(struct vx_span *buffer, int step) {
    buffer->first = buffer->first < 0 ? step : buffer->first;
    buffer->last = buffer->last > step ? buffer->last : step;
}

int cuda_add_step(struct cuda_program *p, const char *what, int op,
                  int (*run)(struct cuda_program *p, const void *data), void *data,
                  const struct cuda_view *uses, int n_uses, struct vx_err *err) {
    struct cuda_step *list = realloc(p->steps, (size_t)(p->n_steps + 1) * sizeof *list);
    if (!list) {
        return no_memory(err);
    }
    p->steps = list;
    list[p->n_steps] = (struct cuda_step){.run = run, .data = data};
    if (op < 0) {
        snprintf(list[p->n_steps].name, sizeof list->name, "%s", what);
    } else {
        snprintf(list[p->n_steps].name, sizeof list->name, "%s %d %s",
                 vx_op_name(p->net.ops[op].kind), op, what);
    }
    for (int i = 0; i < n_uses; i++) {
        if (uses[i].buffer >= 0) {
            use(&p->buffers[uses[i].buffer], p->n_steps);
        }
    }
    p->n_steps++;
    return VX_OK;
}

void *cuda_at(const struct cuda_program *p, const struct cuda_view *view) {
    return view->buffer < 0 ? NULL : p->arena + p->buffers[view->buffer].offset + view->offset;
}

struct vx_cuda_view cuda_tensor_at(const struct cuda_program *p, const struct cuda_view *view) {
    return (struct vx_cuda_view){.data = cuda_at(p, view), .pitch = view->pitch};
}

static void free_run(struct cuda_program *p) {
    const struct cuda_api *api = p->device->api;
    api->enter(p->device->index);
    /* Nothing of this program may be under way when its memory goes. */
    api->stream_sync(p->device->compute);
    api->stream_sync(p->device->transfer);
    if (p->graph) {
        api->graph_free(p->graph);
    }
    for (int i = 0; i < 2; i++) {
        api->event_free(p->slots[i].copied);
        api->event_free(p->slots[i].consumed);
        api->event_free(p->done[i]);
    }
    for (int i = 0; i < p->n_convs; i++) {
        api->conv_free(p->convs[i]);
    }
    if (p->mail) {
        api->release_host(p->mail);
    }
    if (p->arena) {
        api->release(p->arena);
    }
}

void cuda_program_free(struct vx_program *base) {
    struct cuda_program *p = (struct cuda_program *)base;
    if (!p) {
        return;
    }
    free_run(p);
    for (int i = 0; i < p->n_allocations; i++) {
        free(p->allocations[i]);
    }
    free(p->net.tensors);
    free(p->allocations);
    free(p->convs);
    free(p->steps);
    free(p->buffers);
    free(p);
}

size_t cuda_program_memory(struct vx_program *base) {
    return ((struct cuda_program *)base)->arena_bytes;
}

static int check(const struct cuda_state *s, const struct vx_oplist *net,
                 enum vx_precision precision, struct vx_err *err) {
    int rc = vx_netlist_check_params(net, s->params, s->n_params, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (precision != VX_BF16) {
        return vx_fail(
            err, VX_E_UNSUPPORTED, "precision_unsupported",
            "device cuda computes in bf16 only: use \"precision\": \"bf16\" or \"auto\"");
    }
    return cuda_check_net(net, err);
}

/* Buffers that all steps share or that live outside of them. */
static int make_fixed(struct cuda_program *p, struct vx_err *err) {
    const struct cuda_tensor *in = &p->tensors[p->net.input];
    size_t voxels = (size_t)in->n * (size_t)in->voxels;
    struct {
        struct cuda_view *view;
        size_t bytes;
    } fixed[] = {{&p->workspace, VX_CUDA_WORKSPACE_HEAD},
                 {&p->conv_workspace, 256},
                 {&p->result, sizeof(struct vx_cuda_result)},
                 {&p->rate, sizeof(float)},
                 {&p->slots[0].images, voxels * (size_t)in->c * sizeof(float)},
                 {&p->slots[1].images, voxels * (size_t)in->c * sizeof(float)},
                 {&p->slots[0].labels, voxels * sizeof(int16_t)},
                 {&p->slots[1].labels, voxels * sizeof(int16_t)}};
    int n = (int)(sizeof fixed / sizeof *fixed) - (p->mode == VX_MODE_INFER ? 2 : 0), rc = VX_OK;
    for (int i = 0; rc == VX_OK && i < n; i++) {
        rc = cuda_new_bytes(p, fixed[i].bytes, fixed[i].view, err);
        if (rc == VX_OK) {
            cuda_keep(p, fixed[i].view);
        }
    }
    return rc;
}

static int make_events(struct cuda_program *p, struct vx_err *err) {
    const struct cuda_api *api = p->device->api;
    void *mail = NULL;
    int code = api->allocate_host(&mail, 2 * sizeof *p->mail);
    p->mail = mail;
    for (int i = 0; i < 2 && !code; i++) {
        memset(&p->mail[i], 0, sizeof p->mail[i]);
        code = api->event_create(&p->slots[i].copied);
        code = code ? code : api->event_create(&p->slots[i].consumed);
        code = code ? code : api->event_create(&p->done[i]);
    }
    return code ? cuda_fail(p->device, code, err, "preparing a program") : VX_OK;
}

static int build(struct cuda_program *p, const struct vx_oplist *net, struct vx_err *err) {
    int rc = vx_netlist_copy(net, &p->net, err);
    if (rc != VX_OK) {
        return rc;
    }
    p->tensors = cuda_allocate(p, (size_t)net->n_tensors * sizeof *p->tensors, err);
    rc = p->tensors ? VX_OK : VX_E_NOMEM;
    rc = rc != VX_OK ? rc : cuda_plan_tensors(p, err);
    rc = rc != VX_OK ? rc : make_fixed(p, err);
    rc = rc != VX_OK ? rc : cuda_build(p, err);
    rc = rc != VX_OK ? rc : cuda_make_arena(p, err);
    return rc != VX_OK ? rc : make_events(p, err);
}

int cuda_compile(struct vx_state *base, const struct vx_oplist *net, enum vx_mode mode,
                 enum vx_precision precision, struct vx_program **ret, struct vx_err *err) {
    struct cuda_state *state = (struct cuda_state *)base;
    int rc = cuda_enter(state->device, err);
    rc = rc != VX_OK ? rc : check(state, net, precision, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct cuda_program *p = calloc(1, sizeof *p);
    if (!p) {
        return no_memory(err);
    }
    p->base.state = base;
    p->device = state->device;
    p->state = state;
    p->mode = mode;
    p->learning = mode == VX_MODE_TRAIN || mode == VX_MODE_GRADIENT;
    rc = build(p, net, err);
    if (rc != VX_OK) {
        cuda_program_free(&p->base);
        return rc;
    }
    *ret = &p->base;
    return VX_OK;
}
