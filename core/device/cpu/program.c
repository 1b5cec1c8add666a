/* A program: its lists while it is being built, compiling, freeing. */
#include "device/cpu/internal.h"

#include "base/err.h"
#include "device/cpu/backend.h"
#include "device/netlist.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct vx_err *err) {
    return vx_fail(err, VX_E_NOMEM, NULL, "no memory to plan a program");
}

void *cpu_allocate(struct cpu_program *p, size_t bytes, struct vx_err *err) {
    void **list = realloc(p->allocations, (size_t)(p->n_allocations + 1) * sizeof *list);
    if (!list) {
        no_memory(err);
        return NULL;
    }
    p->allocations = list;
    bytes = (bytes + 64) / 64 * 64;
    void *memory = aligned_alloc(64, bytes);
    if (!memory) {
        vx_fail(err, VX_E_NOMEM, NULL, "no memory for %zu bytes of a program", bytes);
        return NULL;
    }
    memset(memory, 0, bytes);
    list[p->n_allocations++] = memory;
    return memory;
}

int cpu_add_buffer(struct cpu_program *p, size_t bytes, int *ret, struct vx_err *err) {
    struct vx_span *list = realloc(p->buffers, (size_t)(p->n_buffers + 1) * sizeof *list);
    if (!list) {
        return no_memory(err);
    }
    p->buffers = list;
    list[p->n_buffers] = (struct vx_span){.bytes = bytes, .first = -1, .last = -1};
    *ret = p->n_buffers++;
    return VX_OK;
}

int cpu_new_bytes(struct cpu_program *p, size_t bytes, struct cpu_view *ret, struct vx_err *err) {
    *ret = (struct cpu_view){.buffer = -1, .stride = bytes};
    return cpu_add_buffer(p, bytes, &ret->buffer, err);
}

static int new_view(struct cpu_program *p, const struct cpu_tensor *t, size_t element,
                    struct cpu_view *ret, struct vx_err *err) {
    size_t sample = (size_t)t->channels * t->voxels * element;
    int rc = cpu_new_bytes(p, sample * (size_t)t->n, ret, err);
    ret->stride = sample;
    return rc;
}

int cpu_new_value(struct cpu_program *p, const struct cpu_tensor *t, struct cpu_view *ret,
                  struct vx_err *err) {
    return new_view(p, t, t->element, ret, err);
}

int cpu_new_grad(struct cpu_program *p, const struct cpu_tensor *t, struct cpu_view *ret,
                 struct vx_err *err) {
    return new_view(p, t, p->kernels->element, ret, err);
}

static void use(struct vx_span *buffer, int step) {
    if (buffer->first < 0) {
        buffer->first = step;
    }
    buffer->last = buffer->last > step ? buffer->last : step;
}

int cpu_add_step(struct cpu_program *p, const struct cpu_step *step,
                 const struct cpu_view *const *uses, struct vx_err *err) {
    struct cpu_step *list = realloc(p->steps, (size_t)(p->n_steps + 1) * sizeof *list);
    if (!list) {
        return no_memory(err);
    }
    p->steps = list;
    list[p->n_steps] = *step;
    for (; *uses; uses++) {
        if ((*uses)->buffer >= 0) {
            use(&p->buffers[(*uses)->buffer], p->n_steps);
        }
    }
    p->n_steps++;
    return VX_OK;
}

struct cpu_step cpu_step_named(const struct cpu_program *p, int op, const char *what) {
    struct cpu_step step = {.implementation = "own"};
    if (op < 0) {
        snprintf(step.name, sizeof step.name, "%s", what);
    } else {
        snprintf(step.name, sizeof step.name, "%s %d %s", vx_op_name(p->net.ops[op].kind), op,
                 what);
    }
    return step;
}

void cpu_keep(struct cpu_program *p, const struct cpu_view *view) {
    p->buffers[view->buffer].first = 0;
    p->buffers[view->buffer].last = CPU_ALWAYS;
}

int cpu_need_scratch(struct cpu_program *p, size_t bytes, struct vx_err *err) {
    (void)err;
    struct vx_span *scratch = &p->buffers[p->scratch];
    scratch->bytes = bytes > scratch->bytes ? bytes : scratch->bytes;
    return VX_OK;
}

void *cpu_at(const struct cpu_program *p, const struct cpu_view *view, int sample) {
    return p->arena + p->buffers[view->buffer].offset + view->offset +
           (size_t)sample * view->stride;
}

bool cpu_same_view(const struct cpu_view *a, const struct cpu_view *b) {
    return a->buffer == b->buffer && a->offset == b->offset;
}

void cpu_program_free(struct vx_program *base) {
    struct cpu_program *p = (struct cpu_program *)base;
    if (!p) {
        return;
    }
    for (int i = 0; i < p->n_bindings; i++) {
        dnnl_memory_destroy(p->bindings[i].memory);
    }
    for (int i = 0; i < p->n_primitives; i++) {
        dnnl_primitive_destroy(p->primitives[i]);
    }
    for (int i = 0; i < p->n_allocations; i++) {
        free(p->allocations[i]);
    }
    cpu_free_arena(p);
    free(p->net.tensors);
    free(p->allocations);
    free(p->bindings);
    free(p->primitives);
    free(p->packs);
    free(p->steps);
    free(p->buffers);
    free(p);
}

/* Gives the primitives' memories their addresses. */
static int bind(struct cpu_program *p, struct vx_err *err) {
    for (int i = 0; i < p->n_bindings; i++) {
        struct cpu_binding *b = &p->bindings[i];
        if (dnnl_memory_set_data_handle(b->memory, cpu_at(p, &b->view, 0)) != dnnl_success) {
            return vx_fail(err, VX_E_DEVICE, NULL, "oneDNN refuses a buffer");
        }
    }
    return VX_OK;
}

static int build(struct cpu_program *p, const struct vx_oplist *net, struct vx_err *err) {
    int rc = vx_netlist_copy(net, &p->net, err);
    if (rc != VX_OK) {
        return rc;
    }
    p->tensors = cpu_allocate(p, (size_t)net->n_tensors * sizeof *p->tensors, err);
    rc = p->tensors ? VX_OK : VX_E_NOMEM;
    rc = rc != VX_OK ? rc : cpu_add_buffer(p, 64, &p->scratch, err);
    if (rc == VX_OK) {
        cpu_keep(p, &(struct cpu_view){.buffer = p->scratch});
        rc = cpu_plan_tensors(p, err);
    }
    rc = rc != VX_OK ? rc : cpu_build(p, err);
    rc = rc != VX_OK ? rc : cpu_make_arena(p, err);
    return rc != VX_OK ? rc : bind(p, err);
}

int cpu_compile(struct vx_state *base, const struct vx_oplist *net, enum vx_mode mode,
                enum vx_precision precision, struct vx_program **ret, struct vx_err *err) {
    struct cpu_state *state = (struct cpu_state *)base;
    struct cpu_device *device = (struct cpu_device *)base->device;
    int rc = vx_netlist_check_params(net, state->params, state->n_params, err);
    rc = rc != VX_OK ? rc : vx_netlist_check(net, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (precision == VX_BF16 && !device->bf16) {
        return vx_fail(err, VX_E_UNSUPPORTED, "no_bf16",
                       "this processor has no bfloat16 instructions: use precision fp32");
    }
    struct cpu_program *p = calloc(1, sizeof *p);
    if (!p) {
        return no_memory(err);
    }
    p->base.state = base;
    p->device = device;
    p->state = state;
    p->mode = mode;
    p->precision = precision;
    p->learning = mode == VX_MODE_TRAIN || mode == VX_MODE_GRADIENT;
    p->kernels = precision == VX_BF16 ? &vx_cpu_kernels_avx512_bf16
                 : device->avx512     ? &vx_cpu_kernels_avx512
                                      : &vx_cpu_kernels_avx2;
    /* oneDNN plans for the number of threads that OpenMP would use now. */
    int threads = omp_get_max_threads();
    omp_set_num_threads(device->threads);
    rc = build(p, net, err);
    omp_set_num_threads(threads);
    if (rc != VX_OK) {
        cpu_program_free(&p->base);
        return rc;
    }
    *ret = &p->base;
    return VX_OK;
}

size_t cpu_program_memory(struct vx_program *base) {
    return ((struct cpu_program *)base)->arena_bytes;
}

bool vx_cpu_program_step(const struct vx_program *base, int index, struct vx_cpu_step_info *ret) {
    const struct cpu_program *p = (const struct cpu_program *)base;
    if (index < 0 || index >= p->n_steps) {
        return false;
    }
    const struct cpu_step *step = &p->steps[index];
    *ret = (struct vx_cpu_step_info){
        .implementation = step->implementation, .ns = step->ns, .runs = step->runs};
    snprintf(ret->name, sizeof ret->name, "%s", step->name);
    return true;
}
