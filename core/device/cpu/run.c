/* Executing a program: input in, every step in order, results. A run has finished when cpu_run
 * returns. */
#include "device/cpu/internal.h"

#include "base/clock.h"
#include "base/err.h"

#include <omp.h>
#include <string.h>

/* One sample's images into the input tensor. */
static void load_sample(struct cpu_program *p, const struct vx_run_input *in, int n) {
    const struct cpu_tensor *t = &p->tensors[p->net.input];
    int block = p->kernels->block;
    char *sample = cpu_at(p, &t->value, n);
    const float *images = in->images[n];
    if (t->plain) {
        p->kernels->input_plain(images, sample, (size_t)t->c * t->voxels);
        return;
    }
    for (int b = 0; b < t->channels / block; b++) {
        int left = t->c - b * block;
        p->kernels->input_block(images + (size_t)b * (size_t)block * t->voxels, t->voxels,
                                left < block ? left : block, sample + cpu_block_offset(p, t, b),
                                t->voxels);
    }
}

static int run_steps(struct cpu_program *p, struct vx_err *err) {
    uint64_t before = vx_now_ns();
    for (int i = 0; i < p->n_steps; i++) {
        struct cpu_step *step = &p->steps[i];
        int rc = step->run(p, step->data, err);
        if (rc != VX_OK) {
            return rc;
        }
        uint64_t now = vx_now_ns();
        step->ns += now - before;
        step->runs++;
        before = now;
    }
    return VX_OK;
}

static int run(struct cpu_program *p, const struct vx_run_input *in, struct vx_err *err) {
    int n = p->tensors[p->net.input].n;
    if (p->mode != VX_MODE_INFER) {
        int rc = cpu_load_targets(p, in, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    cpu_repack(p);
#pragma omp parallel for schedule(static) num_threads(p->device->threads)
    for (int i = 0; i < n; i++) {
        load_sample(p, in, i);
    }
    return run_steps(p, err);
}

int cpu_run(struct vx_program *base, const struct vx_run_input *in, uint64_t *ret_ticket,
            struct vx_err *err) {
    struct cpu_program *p = (struct cpu_program *)base;
    if (p->mode != VX_MODE_INFER && !in->labels) {
        return vx_fail(err, VX_E_INVALID, NULL, "this program needs labels");
    }
    p->result = &p->results[(p->ticket + 1) % 2];
    p->input = in;
    memset(p->result, 0, sizeof *p->result);
    int threads = omp_get_max_threads();
    omp_set_num_threads(p->device->threads);
    int rc = run(p, in, err);
    omp_set_num_threads(threads);
    p->input = NULL;
    if (rc != VX_OK) {
        return rc;
    }
    *ret_ticket = ++p->ticket;
    return VX_OK;
}

int cpu_wait(struct vx_program *base, uint64_t ticket, struct vx_run_result *ret,
             struct vx_err *err) {
    const struct cpu_program *p = (const struct cpu_program *)base;
    if (ticket == 0 || ticket > p->ticket || ticket + 1 < p->ticket) {
        return vx_fail(err, VX_E_INVALID, NULL, "run %llu is not one of the last two",
                       (unsigned long long)ticket);
    }
    if (ret) {
        *ret = p->results[ticket % 2];
    }
    return VX_OK;
}

int cpu_read_logits(struct vx_program *base, float *dst, struct vx_err *err) {
    const struct cpu_program *p = (const struct cpu_program *)base;
    const struct cpu_tensor *t = &p->tensors[p->net.output];
    if (p->mode != VX_MODE_INFER || p->ticket == 0) {
        return vx_fail(err, VX_E_STATE, NULL, "logits can be read after an INFER run only");
    }
    size_t block = (size_t)p->kernels->block, planes = (size_t)t->n * (size_t)t->c;
#pragma omp parallel for schedule(static) num_threads(p->device->threads)
    for (size_t i = 0; i < planes; i++) {
        size_t c = i % (size_t)t->c;
        const float *from = cpu_at(p, &t->value, (int)(i / (size_t)t->c));
        from += c / block * t->voxels * block + c % block;
        for (size_t v = 0; v < t->voxels; v++) {
            dst[i * t->voxels + v] = from[v * block];
        }
    }
    return VX_OK;
}
