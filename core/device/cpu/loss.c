/* Dice + cross-entropy of every evaluated head, forward and gradient in one step per head.
 *
 * Softmax replaces the logits, and in fp32 the gradient replaces the softmax. Sums are taken in
 * double per chunk of voxels and added up in the order of chunks. Formulas: device/oplist.h. */
#include "device/cpu/internal.h"

#include "base/err.h"

#include <math.h>
#include <string.h>

enum { LOSS_CHUNK = 4096 };

static const struct cpu_tensor *logits_of(const struct cpu_program *p, const struct cpu_head *h) {
    return &p->tensors[h->tensor];
}

/* One chunk of one sample as the kernels take it. */
static struct vx_loss_run chunk_run(const struct cpu_program *p, const struct cpu_head *h, int n,
                                    size_t chunk) {
    const struct cpu_tensor *t = logits_of(p, h);
    size_t first = chunk * LOSS_CHUNK, left = t->voxels - first;
    float *sample = cpu_at(p, &t->value, n);
    return (struct vx_loss_run){.logits = sample + first * (size_t)p->kernels->block,
                                .block_stride = t->voxels * (size_t)p->kernels->block,
                                .targets = h->targets + (size_t)n * t->voxels + first,
                                .voxels = left < LOSS_CHUNK ? left : LOSS_CHUNK,
                                .classes = p->net.classes};
}

static void add_sums(struct vx_loss_sums *to, const struct vx_loss_sums *part, int classes) {
    to->ce += part->ce;
    for (int c = 0; c < classes; c++) {
        to->p[c] += part->p[c];
        to->intersection[c] += part->intersection[c];
        to->target[c] += part->target[c];
        to->tp[c] += part->tp[c];
        to->predicted[c] += part->predicted[c];
    }
}

/* Adds the Dice of one group to *dice and fills its slopes. entries: (group, class) pairs that the
 * mean is over. */
static void group_dice(const struct cpu_program *p, const struct vx_loss_sums *sums, double weight,
                       double entries, struct vx_loss_slopes *slopes, double *dice) {
    double smooth = (double)p->net.loss.smooth;
    for (int c = 1; c < p->net.classes; c++) {
        double raw = (double)sums->target[c] + sums->p[c] + smooth;
        double above = 2 * sums->intersection[c] + smooth, below = fmax(raw, 1e-8);
        *dice += above / below / entries;
        double out = raw > 1e-8 ? weight * above / (below * below) / entries : 0;
        slopes->out[c] = (float)out;
        slopes->in[c] = (float)(out - weight * 2 / below / entries);
    }
}

static void finish_sums(struct cpu_program *p, struct cpu_head *h) {
    const struct cpu_tensor *t = logits_of(p, h);
    double weight = (double)p->net.loss.weight[h->index];
    double voxels = (double)t->voxels * t->n, dice = 0;
    double entries = (double)h->groups * (p->net.classes - 1);
    struct vx_loss_sums all = {0};
    for (int g = 0; g < h->groups; g++) {
        struct vx_loss_sums group = {0};
        size_t chunks = h->chunks * (size_t)(t->n / h->groups);
        for (size_t k = 0; k < chunks; k++) {
            add_sums(&group, &h->sums[(size_t)g * chunks + k], p->net.classes);
        }
        group_dice(p, &group, weight, entries, &h->slopes[g], &dice);
        h->slopes[g].cross_entropy = (float)(weight / voxels);
        add_sums(&all, &group, p->net.classes);
    }
    struct vx_run_result *r = p->result;
    r->loss += weight * (all.ce / voxels - dice);
    if (h->index != 0) {
        return;
    }
    r->ce = all.ce / voxels;
    r->dice = dice;
    for (int c = 0; c < p->net.classes && p->mode == VX_MODE_VALIDATE; c++) {
        r->tp[c] = all.tp[c];
        r->fp[c] = all.predicted[c] - all.tp[c];
        r->fn[c] = all.target[c] - all.tp[c];
    }
}

static int run_loss(struct cpu_program *p, void *data, struct vx_err *err) {
    (void)err;
    struct cpu_head *h = data;
    const struct cpu_tensor *t = logits_of(p, h);
    size_t all = h->chunks * (size_t)t->n, per_group = (size_t)(t->n / h->groups);
#pragma omp parallel for schedule(static) num_threads(p->device->threads)
    for (size_t i = 0; i < all; i++) {
        struct vx_loss_run run = chunk_run(p, h, (int)(i / h->chunks), i % h->chunks);
        memset(&h->sums[i], 0, sizeof h->sums[i]);
        p->kernels->softmax(&run, &h->sums[i]);
    }
    finish_sums(p, h);
    if (!p->learning) {
        return VX_OK;
    }
#pragma omp parallel for schedule(static) num_threads(p->device->threads)
    for (size_t i = 0; i < all; i++) {
        size_t n = i / h->chunks, k = i % h->chunks;
        struct vx_loss_run run = chunk_run(p, h, (int)n, k);
        char *grad = cpu_at(p, &h->grad, (int)n);
        grad += k * LOSS_CHUNK * (size_t)p->kernels->block * p->kernels->element;
        p->kernels->loss_gradient(&run, &h->slopes[n / per_group], grad);
    }
    return VX_OK;
}

/* Nearest-exact: floor((o + 0.5) * in / out), in integers. */
static int *sources_along(struct cpu_program *p, int out, int in, struct vx_err *err) {
    int *source = cpu_allocate(p, (size_t)out * sizeof *source, err);
    for (int o = 0; source && o < out; o++) {
        source[o] = (int)((2 * (int64_t)o + 1) * in / (2 * (int64_t)out));
    }
    return source;
}

static int build_head(struct cpu_program *p, struct cpu_head *h, struct vx_err *err) {
    struct cpu_tensor *t = &p->tensors[h->tensor];
    const struct cpu_tensor *input = &p->tensors[p->net.input];
    h->groups = p->net.loss.batch_dice ? 1 : t->n;
    h->chunks = (t->voxels + LOSS_CHUNK - 1) / LOSS_CHUNK;
    h->targets = cpu_allocate(p, (size_t)t->n * t->voxels * sizeof *h->targets, err);
    h->sums = cpu_allocate(p, (size_t)t->n * h->chunks * sizeof *h->sums, err);
    h->slopes = cpu_allocate(p, (size_t)h->groups * sizeof *h->slopes, err);
    bool ok = h->targets && h->sums && h->slopes;
    for (int a = 0; a < 3 && ok; a++) {
        h->source[a] = sources_along(p, t->size[a], input->size[a], err);
        ok = h->source[a];
    }
    if (!ok) {
        return VX_E_NOMEM;
    }
    h->grad = t->value;
    if (p->learning && t->element != p->kernels->element) {
        int rc = cpu_new_grad(p, t, &h->grad, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    struct cpu_step step = cpu_step_named(p, -1, h->index == 0 ? "finest loss" : "loss");
    step.run = run_loss;
    step.data = h;
    int rc = cpu_add_step(p, &step, (const struct cpu_view *[]){&t->value, &h->grad, NULL}, err);
    return rc != VX_OK ? rc : cpu_add_grad(p, t, &h->grad, err);
}

int cpu_build_loss(struct cpu_program *p, struct vx_err *err) {
    const struct vx_loss *loss = &p->net.loss;
    int rc = VX_OK;
    for (int i = 0; i < loss->n_heads && rc == VX_OK; i++) {
        const struct cpu_tensor *t = &p->tensors[loss->logits[i]];
        if (loss->weight[i] == 0) {
            continue;
        }
        if (t->c != p->net.classes || t->value.buffer < 0) {
            return vx_fail(err, VX_E_INVALID, "bad_network",
                           "head %d has %d channels where there are %d classes", i, t->c,
                           p->net.classes);
        }
        struct cpu_head *h = &p->heads[p->n_heads++];
        *h = (struct cpu_head){.tensor = loss->logits[i], .index = i};
        rc = build_head(p, h, err);
    }
    return rc;
}

/* Targets of one plane (n, z) of a head; returns the largest label. */
static int load_plane(const struct cpu_program *p, const struct cpu_head *h, const int16_t *labels,
                      int n, int z) {
    const struct cpu_tensor *t = logits_of(p, h);
    const int *in = p->tensors[p->net.input].size;
    size_t plane = (size_t)t->size[1] * t->size[2];
    int16_t *to = h->targets + (size_t)n * t->voxels + (size_t)z * plane, top = 0;
    for (int y = 0; y < t->size[1]; y++) {
        const int16_t *row =
            labels + ((size_t)h->source[0][z] * in[1] + h->source[1][y]) * (size_t)in[2];
        for (int x = 0; x < t->size[2]; x++) {
            int16_t label = row[h->source[2][x]];
            label = label < 0 ? 0 : label;
            top = label > top ? label : top;
            *to++ = label;
        }
    }
    return top;
}

int cpu_load_targets(struct cpu_program *p, const struct vx_run_input *in, struct vx_err *err) {
    int top = 0;
    for (int i = 0; i < p->n_heads; i++) {
        const struct cpu_head *h = &p->heads[i];
        const struct cpu_tensor *t = logits_of(p, h);
        int planes = t->n * t->size[0];
#pragma omp parallel for schedule(static) num_threads(p->device->threads) reduction(max : top)
        for (int k = 0; k < planes; k++) {
            int n = k / t->size[0];
            int here = load_plane(p, h, in->labels[n], n, k % t->size[0]);
            top = here > top ? here : top;
        }
    }
    if (top >= p->net.classes) {
        return vx_fail(err, VX_E_INVALID, "label_out_of_range",
                       "a label is %d where the network has %d classes", top, p->net.classes);
    }
    return VX_OK;
}
