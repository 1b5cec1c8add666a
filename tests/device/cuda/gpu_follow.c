/* Losses of a training on the device beside those of the CPU in fp32: the same weights at the
 * start, the same samples, which can be learnt. The CPU's are a matter of minutes, so that they can
 * be recorded beforehand; a record says what it was made from. */
#include "gpu_check.h"
#include "gpu_host.h"

#include "base/err.h"
#include "base/json.h"
#include "base/own.h"
#include "base/rng.h"
#include "net/net.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double TOLERANCE = 0.02; /* of the loss, mean over the last quarter */
static const double LOSS_FLOOR = 0.1; /* a loss near zero is no measure */
static const float RATE = 0.01f;

enum { SETS = 4 };

struct lesson {
    struct maker m;
    struct vx_oplist *net;
    struct samples sets[SETS];
    double fingerprint[3]; /* of weights, images and labels */
};

/* --- samples with something to learn: an ellipsoid for each class, brighter than what is around
 * ---
 */

static bool inside(const struct vx_oplist *net, size_t v, const double center[3], double radius) {
    const int *shape = net->tensors[net->input].shape + 2;
    double at[3] = {(double)(v / ((size_t)shape[1] * (size_t)shape[2])),
                    (double)(v / (size_t)shape[2] % (size_t)shape[1]),
                    (double)(v % (size_t)shape[2])};
    double sum = 0;
    for (int a = 0; a < 3; a++) {
        double d = ((at[a] + 0.5) / shape[a] - center[a]) / radius;
        sum += d * d;
    }
    return sum < 1;
}

static void draw_bodies(struct samples *s, const struct vx_oplist *net, uint64_t seed) {
    const int *shape = net->tensors[net->input].shape;
    size_t voxels = (size_t)shape[2] * (size_t)shape[3] * (size_t)shape[4];
    for (int n = 0; n < s->n; n++) {
        memset(s->labels[n], 0, voxels * sizeof *s->labels[n]);
        for (int c = 1; c < net->classes; c++) {
            struct vx_rng rng = vx_rng_at(seed, 2, (uint32_t)c, (uint32_t)n, 2);
            double center[3], radius = 0.15 + 0.001 * vx_rng_below(&rng, 100);
            for (int a = 0; a < 3; a++) {
                center[a] = 0.25 + 0.001 * vx_rng_below(&rng, 500);
            }
            for (size_t v = 0; v < voxels; v++) {
                if (inside(net, v, center, radius)) {
                    s->labels[n][v] = (int16_t)c;
                }
            }
        }
        for (size_t i = 0; i < voxels * (size_t)shape[1]; i++) {
            s->images[n][i] += (float)s->labels[n][i % voxels];
        }
    }
}

static double sum_of_squares(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return sum;
}

static void take_fingerprint(struct lesson *l) {
    const int *shape = l->net->tensors[l->net->input].shape;
    size_t voxels = (size_t)shape[2] * (size_t)shape[3] * (size_t)shape[4];
    float **values = vx_net_values_create(l->net);
    vx_net_init(l->net, HOST_SEED, values);
    for (int i = 0; i < l->net->n_params; i++) {
        l->fingerprint[0] += sum_of_squares(values[i], (size_t)l->net->params[i].count);
    }
    vx_net_values_free(values);
    for (int k = 0; k < SETS; k++) {
        for (int n = 0; n < l->sets[k].n; n++) {
            l->fingerprint[1] += sum_of_squares(l->sets[k].images[n], voxels * (size_t)shape[1]);
            for (size_t v = 0; v < voxels; v++) {
                l->fingerprint[2] += l->sets[k].labels[n][v];
            }
        }
    }
}

static void lesson_init(struct lesson *l, const char *network, int batch) {
    *l = (struct lesson){0};
    l->net = named(network, &l->m);
    for (int i = 0; batch > 0 && i < l->net->n_tensors; i++) {
        l->net->tensors[i].shape[0] = batch;
    }
    l->net->batch = batch > 0 ? batch : l->net->batch;
    for (int i = 0; i < SETS; i++) {
        samples_init(&l->sets[i], l->net, 100 + (uint64_t)i);
        draw_bodies(&l->sets[i], l->net, 100 + (uint64_t)i);
    }
    take_fingerprint(l);
}

static void lesson_release(struct lesson *l) {
    for (int i = 0; i < SETS; i++) {
        samples_release(&l->sets[i]);
    }
    maker_release(&l->m);
}

/* Owned by the caller. */
static double *losses_of(struct lesson *l, const char *device, enum vx_precision precision,
                         int steps) {
    double *losses = calloc((size_t)steps, sizeof *losses);
    struct host h = open_host(device, l->net);
    struct vx_program *p = compile(&h, VX_MODE_TRAIN, precision);
    for (int i = 0; i < steps; i++) {
        struct vx_run_input in = samples_input(&l->sets[i % SETS], RATE);
        losses[i] = run(p, &in).loss;
    }
    vx_program_free(p);
    close_host(&h);
    return losses;
}

/* --- records --- */

bool record_follow(const char *network, int batch, int steps, const char *path) {
    struct lesson l;
    struct vx_err err = {0};
    lesson_init(&l, network, batch);
    vx_auto_free double *losses = losses_of(&l, "cpu", VX_FP32, steps);
    vx_auto_json json_t *list = json_array();
    for (int i = 0; i < steps; i++) {
        json_array_append_new(list, real(losses[i]));
    }
    vx_auto_json json_t *o = json_pack("{s:s, s:i, s:[f,f,f], s:O}", "network", network, "batch",
                                       l.net->batch, "fingerprint", l.fingerprint[0],
                                       l.fingerprint[1], l.fingerprint[2], "losses", list);
    must(vx_json_write_file(path, o, &err), &err, "record");
    lesson_release(&l);
    return true;
}

static bool close_to(double a, double b) {
    return fabs(a - b) <= 1e-6 * fabs(b);
}

/* The losses of a record, where it is one of this lesson; owned by the caller. */
static double *read_record(const struct lesson *l, const char *path, int steps) {
    vx_auto_json json_t *o = NULL;
    struct vx_err err = {0};
    must(vx_json_load_file(path, 1 << 20, &o, &err), &err, "record");
    const json_t *print = json_object_get(o, "fingerprint"), *list = json_object_get(o, "losses");
    bool same = json_integer_value(json_object_get(o, "batch")) == l->net->batch &&
                json_array_size(list) >= (size_t)steps;
    for (size_t i = 0; i < 3; i++) {
        same &= close_to(json_number_value(json_array_get(print, i)), l->fingerprint[i]);
    }
    if (!same) {
        vx_fail(&err, VX_E_INVALID, NULL,
                "%s is a record of other weights, samples or fewer steps; make it again: gpu_check "
                "record NETWORK STEPS BATCH FILE",
                path);
        must(VX_E_INVALID, &err, "record");
    }
    double *losses = calloc((size_t)steps, sizeof *losses);
    for (int i = 0; i < steps; i++) {
        losses[i] = json_number_value(json_array_get(list, (size_t)i));
    }
    return losses;
}

/* --- the check --- */

static double mean(const double *x, int first, int n) {
    double sum = 0;
    for (int i = first; i < n; i++) {
        sum += x[i] / (n - first);
    }
    return sum;
}

bool check_follow(const char *device, const char *network, int batch, int steps,
                  const char *record) {
    struct lesson l;
    lesson_init(&l, network, batch);
    vx_auto_free double *theirs =
        record ? read_record(&l, record, steps) : losses_of(&l, "cpu", VX_FP32, steps);
    vx_auto_free double *ours = losses_of(&l, device, VX_BF16, steps);
    double apart = 0;
    int quarter = steps - (steps + 3) / 4;
    for (int i = quarter; i < steps; i++) {
        apart += fabs(ours[i] - theirs[i]) / fmax(fabs(theirs[i]), LOSS_FLOOR) / (steps - quarter);
    }
    bool passed = apart <= TOLERANCE;
    print_line(json_pack("{s:s, s:s, s:i, s:i, s:o, s:o, s:o, s:o, s:s}", "check", "follow",
                         "network", network, "batch", l.net->batch, "steps", steps, "first_loss",
                         real(theirs[0]), "loss", real(mean(ours, quarter, steps)), "loss_cpu_fp32",
                         real(mean(theirs, quarter, steps)), "mean_difference", real(apart), "cpu",
                         record ? "recorded" : "here"),
               passed);
    lesson_release(&l);
    return passed;
}
