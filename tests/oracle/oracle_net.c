/* One network on one backend, for tests/oracle/net.py to repeat in PyTorch.
 *
 * usage: oracle_net BACKEND FOLDER
 * FOLDER/config.json says what to build (tests/oracle/configs.py). Weights, inputs, logits,
 * gradients and the weights after some steps are left there as raw little-endian arrays, parameters
 * one after the other in their order; result.json holds the numbers and names. */
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/rng.h"
#include "device/device.h"
#include "device/oplist.h"
#include "net/net.h"
#include "plan/plans.h"
#include "ref/ref.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 3 };
static const float LEARNING_RATE = 0.1f;

struct job {
    const char *folder;
    struct vx_plan_config plan;
    int channels, classes, batch;
    uint64_t seed;
    float slope;
    struct vx_oplist *net;
    struct vx_device *device;
    struct vx_state *state;
    float **values;
    size_t voxels; /* of one patch */
    float *images;
    int16_t *labels;
    const float **image; /* per sample */
    const int16_t **label;
    struct vx_err err;
};

static void die(const struct job *j, const char *what) {
    fprintf(stderr, "oracle_net: %s: %s %s\n", what, j->err.text, j->err.where);
    exit(1);
}

static int element(const json_t *list, size_t i) {
    return (int)json_integer_value(json_array_get(list, i));
}

static void read_config(struct job *j) {
    char path[1024];
    snprintf(path, sizeof(path), "%s/config.json", j->folder);
    json_t *c;
    if (vx_json_load_file(path, 1 << 20, &c, &j->err) != VX_OK) {
        die(j, "config");
    }
    struct vx_plan_config *p = &j->plan;
    p->n_stages = (int)json_array_size(json_object_get(c, "features"));
    p->batch_dice = json_is_true(json_object_get(c, "batch_dice"));
    for (int s = 0; s < p->n_stages; s++) {
        size_t i = (size_t)s;
        p->features[s] = element(json_object_get(c, "features"), i);
        p->convs_encoder[s] = element(json_object_get(c, "convs"), i);
        if (s + 1 < p->n_stages) {
            p->convs_decoder[s] = element(json_object_get(c, "decoder_convs"), i);
        }
        for (size_t a = 0; a < 3; a++) {
            p->kernels[s][a] = element(json_array_get(json_object_get(c, "kernels"), i), a);
            p->strides[s][a] = element(json_array_get(json_object_get(c, "strides"), i), a);
        }
    }
    j->voxels = 1;
    for (size_t a = 0; a < 3; a++) {
        p->patch_size[a] = element(json_object_get(c, "patch"), a);
        j->voxels *= (size_t)p->patch_size[a];
    }
    j->channels = (int)json_integer_value(json_object_get(c, "channels"));
    j->classes = (int)json_integer_value(json_object_get(c, "classes"));
    j->batch = (int)json_integer_value(json_object_get(c, "batch"));
    j->seed = (uint64_t)json_integer_value(json_object_get(c, "seed"));
    j->slope = (float)json_number_value(json_object_get(c, "slope"));
    json_decref(c);
}

static void write_floats(struct job *j, const char *name, float *const *values) {
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s", j->folder, name);
    FILE *f = fopen(path, "wb");
    for (int i = 0; f && i < j->net->n_params; i++) {
        fwrite(values[i], sizeof(float), j->net->params[i].count, f);
    }
    if (!f || fclose(f) != 0) {
        die(j, path);
    }
}

static void write_array(struct job *j, const char *name, const void *data, size_t bytes) {
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s", j->folder, name);
    if (vx_write_file_atomic(path, data, bytes, 0644, &j->err) != VX_OK) {
        die(j, path);
    }
}

/* Initial weights, with biases and norm parameters moved off their 0 and 1: otherwise their part in
 * the computation would not show. */
static void make_values(struct job *j) {
    j->values = vx_net_values_create(j->net);
    vx_net_init(j->net, j->seed, j->values);
    struct vx_rng rng = vx_rng_at(j->seed, 9, 0, 0, 0);
    for (int i = 0; i < j->net->n_params; i++) {
        for (size_t n = 0; j->net->params[i].ndim == 1 && n < j->net->params[i].count; n++) {
            j->values[i][n] += vx_rng_uniform(&rng, -0.2f, 0.2f);
        }
        if (vx_state_upload(j->state, i, VX_PART_WEIGHT, j->values[i], &j->err) != VX_OK) {
            die(j, "upload");
        }
    }
    write_floats(j, "weights.bin", j->values);
}

static void make_inputs(struct job *j) {
    size_t batch = (size_t)j->batch, per_image = (size_t)j->channels * j->voxels;
    j->images = calloc(batch * per_image, sizeof(float));
    j->labels = calloc(batch * j->voxels, sizeof(int16_t));
    j->image = calloc(batch, sizeof(*j->image));
    j->label = calloc(batch, sizeof(*j->label));
    struct vx_rng rng = vx_rng_at(j->seed, 9, 1, 0, 0);
    for (size_t n = 0; n < batch * per_image; n++) {
        j->images[n] = (float)vx_rng_normal(&rng);
    }
    for (size_t n = 0; n < batch * j->voxels; n++) {
        j->labels[n] = (int16_t)vx_rng_below(&rng, (uint32_t)j->classes);
    }
    for (size_t b = 0; b < batch; b++) {
        j->image[b] = j->images + b * per_image;
        j->label[b] = j->labels + b * j->voxels;
    }
    write_array(j, "images.bin", j->images, batch * per_image * sizeof(float));
    write_array(j, "labels.bin", j->labels, batch * j->voxels * sizeof(int16_t));
}

static void run(struct job *j, enum vx_mode mode, int times, struct vx_run_result *ret) {
    struct vx_program *p;
    if (vx_program_compile(j->state, j->net, mode, VX_FP32, &p, &j->err) != VX_OK) {
        die(j, "compile");
    }
    struct vx_run_input in = {.images = j->image,
                              .labels = mode == VX_MODE_INFER ? NULL : j->label,
                              .learning_rate = LEARNING_RATE};
    for (int i = 0; i < times; i++) {
        uint64_t ticket;
        if (vx_program_run(p, &in, &ticket, &j->err) != VX_OK ||
            vx_program_wait(p, ticket, ret, &j->err) != VX_OK) {
            die(j, "run");
        }
    }
    if (mode == VX_MODE_INFER) {
        size_t n = (size_t)j->batch * (size_t)j->classes * j->voxels;
        float *logits = malloc(n * sizeof(float));
        if (vx_program_read_logits(p, logits, &j->err) != VX_OK) {
            die(j, "logits");
        }
        write_array(j, "logits.bin", logits, n * sizeof(float));
        free(logits);
    }
    vx_program_free(p);
}

static void download(struct job *j, enum vx_state_part part, const char *name) {
    for (int i = 0; i < j->net->n_params; i++) {
        memset(j->values[i], 0, j->net->params[i].count * sizeof(float));
        if ((part != VX_PART_GRADIENT || j->net->params[i].trainable) &&
            vx_state_download(j->state, i, part, j->values[i], &j->err) != VX_OK) {
            die(j, "download");
        }
    }
    write_floats(j, name, j->values);
}

static void write_result(struct job *j, const struct vx_run_result *r) {
    json_t *names = json_array(), *frozen = json_array();
    for (int i = 0; i < j->net->n_params; i++) {
        json_array_append_new(names, json_string(j->net->params[i].name));
        if (!j->net->params[i].trainable) {
            json_array_append_new(frozen, json_string(j->net->params[i].name));
        }
    }
    const struct vx_optimizer *o = &j->net->optimizer;
    json_t *out = json_pack("{s:f, s:f, s:f, s:f, s:o, s:o, s:i, s:f, s:f, s:f, s:f}", "loss",
                            r->loss, "ce", r->ce, "dice", r->dice, "grad_norm", r->grad_norm,
                            "names", names, "frozen", frozen, "steps", STEPS, "lr",
                            (double)LEARNING_RATE, "momentum", (double)o->momentum, "weight_decay",
                            (double)o->weight_decay, "clip_norm", (double)o->clip_norm);
    char path[1024];
    snprintf(path, sizeof(path), "%s/result.json", j->folder);
    if (vx_json_write_file(path, out, &j->err) != VX_OK) {
        die(j, path);
    }
    json_decref(out);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: oracle_net BACKEND FOLDER\n");
        return 2;
    }
    struct job j = {.folder = argv[2]};
    read_config(&j);
    struct vx_net_options options;
    vx_net_options_default(&options);
    struct vx_device_options device_options = {0};
    if (vx_net_build(&j.plan, j.channels, j.classes, j.batch, &options, &j.net, &j.err) != VX_OK) {
        die(&j, "net");
    }
    for (int i = 0; i < j.net->n_ops; i++) {
        j.net->ops[i].slope = j.net->ops[i].kind == VX_OP_NORM_ACT ? j.slope : 0;
    }
    if (vx_ref_register(&j.err) != VX_OK ||
        vx_device_open(argv[1], &device_options, &j.device, &j.err) != VX_OK ||
        vx_state_create(j.device, j.net, &j.state, &j.err) != VX_OK) {
        die(&j, "open");
    }
    make_values(&j);
    make_inputs(&j);
    struct vx_run_result result = {0}, ignored;
    run(&j, VX_MODE_INFER, 1, &ignored);
    run(&j, VX_MODE_GRADIENT, 1, &result);
    download(&j, VX_PART_GRADIENT, "gradients.bin");
    run(&j, VX_MODE_TRAIN, STEPS, &ignored);
    download(&j, VX_PART_WEIGHT, "end.bin");
    write_result(&j, &result);
    free(j.images);
    free(j.labels);
    free(j.image);
    free(j.label);
    vx_net_values_free(j.values);
    vx_state_free(j.state);
    vx_device_close(j.device);
    vx_oplist_free(j.net);
    return 0;
}
