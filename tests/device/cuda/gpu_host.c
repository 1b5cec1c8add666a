#include "gpu_host.h"

#include "base/err.h"
#include "net/net.h"
#include "networks.h"
#include "ref/ref.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

bool network_stand_in;

void must(int rc, const struct vx_err *err, const char *what) {
    if (rc != VX_OK) {
        print_line(json_pack("{s:s, s:s, s:s}", "check", "failure", "at", what, "text", err->text),
                   false);
        fprintf(stderr, "gpu_check: %s: %s\n", what, err->text);
        exit(1);
    }
}

struct host open_host(const char *device, const struct vx_oplist *net) {
    struct host h = {.net = net};
    struct vx_err err = {0};
    struct vx_device_options options = {.deterministic = true};
    must(vx_ref_register(&err), &err, "reference");
    must(vx_device_open(device, &options, &h.device, &err), &err, device);
    must(vx_state_create(h.device, net, &h.state, &err), &err, "state");
    float **values = vx_net_values_create(net);
    vx_net_init(net, HOST_SEED, values);
    for (int i = 0; i < net->n_params; i++) {
        must(vx_state_upload(h.state, i, VX_PART_WEIGHT, values[i], &err), &err, "upload");
    }
    vx_net_values_free(values);
    return h;
}

void close_host(struct host *h) {
    vx_state_free(h->state);
    vx_device_close(h->device);
}

struct vx_program *compile(struct host *h, enum vx_mode mode, enum vx_precision precision) {
    struct vx_program *p = NULL;
    struct vx_err err = {0};
    must(vx_program_compile(h->state, h->net, mode, precision, &p, &err), &err, "compile");
    return p;
}

struct vx_run_result run(struct vx_program *p, const struct vx_run_input *in) {
    struct vx_run_result result;
    struct vx_err err = {0};
    uint64_t ticket = 0;
    must(vx_program_run(p, in, &ticket, &err), &err, "run");
    must(vx_program_wait(p, ticket, &result, &err), &err, "wait");
    return result;
}

float *all_of(struct host *h, enum vx_state_part part, size_t *ret_n) {
    size_t n = 0;
    struct vx_err err = {0};
    float *all = malloc((size_t)vx_oplist_param_count(h->net) * sizeof *all);
    for (int i = 0; i < h->net->n_params; i++) {
        must(vx_state_download(h->state, i, part, all + n, &err), &err, "download");
        n += h->net->params[i].count;
    }
    *ret_n = n;
    return all;
}

double distance(const float *x, const float *y, size_t n, double *ret_cosine) {
    double xx = 0, yy = 0, xy = 0, dd = 0;
    for (size_t i = 0; i < n; i++) {
        double a = (double)x[i], b = (double)y[i];
        xx += a * a;
        yy += b * b;
        xy += a * b;
        dd += (a - b) * (a - b);
    }
    *ret_cosine = xy / sqrt(xx * yy);
    return sqrt(dd / yy);
}

void print_line(json_t *o, bool passed) {
    json_object_set_new(o, "passed", json_boolean(passed));
    char *text = json_dumps(o, JSON_REAL_PRECISION(6));
    printf("%s\n", text);
    fflush(stdout);
    free(text);
    json_decref(o);
}

json_t *real(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

/* --- samples --- */

static size_t up(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

struct vx_run_input lend(struct host *h, const struct samples *s, float rate, struct lent *ret) {
    const int *shape = h->net->tensors[h->net->input].shape;
    size_t voxels = (size_t)shape[2] * (size_t)shape[3] * (size_t)shape[4];
    size_t image = voxels * (size_t)shape[1] * sizeof(float), label = voxels * sizeof(int16_t);
    ret->bytes = (size_t)s->n * (up(image) + up(label));
    ret->memory =
        mmap(NULL, ret->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ret->images = calloc((size_t)s->n, sizeof *ret->images);
    ret->labels = calloc((size_t)s->n, sizeof *ret->labels);
    if (ret->memory == MAP_FAILED || !ret->images || !ret->labels) {
        fprintf(stderr, "gpu_check: no memory for samples\n");
        exit(1);
    }
    char *at = ret->memory;
    for (int i = 0; i < s->n; i++, at += up(image) + up(label)) {
        ret->images[i] = memcpy(at, s->images[i], image);
        ret->labels[i] = memcpy(at + up(image), s->labels[i], label);
    }
    struct vx_err err = {0};
    if (vx_device_use_memory(h->device, ret->memory, ret->bytes, &err) != VX_OK) {
        fprintf(stderr, "gpu_check: %s\n", err.text);
    }
    return (struct vx_run_input){
        .images = ret->images, .labels = ret->labels, .learning_rate = rate};
}

void lent_release(struct lent *l) {
    munmap(l->memory, l->bytes);
    free(l->images);
    free(l->labels);
}

/* --- networks --- */

static const struct unet_args small = {.batch = 2,
                                       .channels = 1,
                                       .size = {16, 16, 16},
                                       .classes = 3,
                                       .stages = 3,
                                       .features = {16, 32, 40}};

static const struct unet_args tiny = {
    .batch = 1, .channels = 1, .size = {8, 8, 8}, .classes = 3, .stages = 2, .features = {8, 16}};

/* -1: none of networks.c. */
static int index_of(const char *name) {
    for (int i = 0; i < network_count(); i++) {
        if (strcmp(network_name(i), name) == 0) {
            return i;
        }
    }
    return -1;
}

struct vx_oplist *named(const char *name, struct maker *m) {
    int index = index_of(name);
    if (strcmp(name, "small") == 0) {
        maker_unet(m, &small);
    } else if (strcmp(name, "tiny") == 0 || (index >= 0 && network_stand_in)) {
        maker_unet(m, &tiny);
    } else if (index >= 0) {
        struct vx_oplist *net = network_build(index);
        m->net = *net;
        free(net);
    } else {
        fprintf(stderr, "gpu_check: there is no network \"%s\"\n", name);
        exit(2);
    }
    return &m->net;
}
