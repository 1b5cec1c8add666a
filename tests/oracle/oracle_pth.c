/* .pth files for tests/oracle/pth.py: one read into raw arrays, or a network written and run.
 *
 * usage: oracle_pth read FILE FOLDER
 *        oracle_pth write BACKEND FOLDER
 * read leaves params.bin and momentum.bin (float32, parameters one after the other) and result.json
 * (names, shapes, words). write takes FOLDER/plans.json, dataset.json and job.json
 * {configuration, fold, classes, seed, mirror_axes, epoch} and leaves checkpoint.pth with random
 * parameters and momentum, those as params.bin and momentum.bin, images.bin of one patch and the
 * backend's logits.bin. */
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "base/rng.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/pth_read.h"
#include "checkpoint/pth_write.h"
#include "device/device.h"
#include "device/oplist.h"
#include "net/net.h"
#include "plan/plans.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static struct vx_err err;

static void must(int rc, const char *what) {
    if (rc != VX_OK) {
        fprintf(stderr, "oracle_pth: %s: %s %s\n", what, err.text, err.where);
        exit(1);
    }
}

static char *in(const char *folder, const char *name) {
    char *path = vx_strf("%s/%s", folder, name);
    must(path ? VX_OK : VX_E_NOMEM, name);
    return path;
}

static void write_array(const char *folder, const char *name, const void *data, size_t bytes) {
    vx_auto_free char *path = in(folder, name);
    must(vx_write_file_atomic(path, data, bytes, 0644, &err), path);
}

static void write_params(const char *folder, const char *name, const struct vx_ckpt *c,
                         bool momentum) {
    vx_auto_free char *path = in(folder, name);
    FILE *f = fopen(path, "wb");
    for (size_t i = 0; f && i < c->n_tensors; i++) {
        const struct vx_ckpt_tensor *t = &c->tensors[i];
        const float *x = momentum ? t->momentum : t->param;
        if (x) {
            fwrite(x, sizeof *x, t->n, f);
        }
    }
    must(f && fclose(f) == 0 ? VX_OK : VX_E_IO, path);
}

static json_t *load_json(const char *folder, const char *name) {
    vx_auto_free char *path = in(folder, name);
    json_t *out = NULL;
    must(vx_json_load_file(path, 64 << 20, &out, &err), path);
    return out;
}

static json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static void read_file(const char *file, const char *folder) {
    struct vx_pth p;
    must(vx_pth_read(file, true, &p, &err), file);
    write_params(folder, "params.bin", &p.ckpt, false);
    write_params(folder, "momentum.bin", &p.ckpt, true);
    json_t *names = json_array(), *shapes = json_array();
    for (size_t i = 0; i < p.ckpt.n_tensors; i++) {
        json_t *shape = json_array();
        for (int a = 0; a < p.ckpt.tensors[i].rank; a++) {
            json_array_append_new(shape, json_integer(p.ckpt.tensors[i].shape[a]));
        }
        json_array_append_new(names, json_string(p.ckpt.tensors[i].name));
        json_array_append_new(shapes, shape);
    }
    vx_auto_json json_t *result =
        json_pack("{s:o, s:o, s:O, s:O?, s:O?, s:O?, s:I, s:o, s:o}", "names", names, "shapes",
                  shapes, "network", p.ckpt.network, "logging", p.ckpt.history, "plans", p.plans,
                  "dataset_json", p.dataset_json, "current_epoch", (json_int_t)p.ckpt.epoch,
                  "best_ema", number(p.ckpt.best_ema_dice), "ema", number(p.ckpt.ema_dice));
    vx_auto_free char *path = in(folder, "result.json");
    must(result ? vx_json_write_file(path, result, &err) : VX_E_NOMEM, path);
    vx_pth_release(&p);
}

struct job {
    const char *folder;
    json_t *plans, *dataset, *words;
    const struct vx_plan_config *config;
    int classes;
    uint64_t seed;
    struct vx_oplist *net;
    struct vx_ckpt ckpt;
};

static json_int_t word(const struct job *j, const char *name) {
    return json_integer_value(json_object_get(j->words, name));
}

/* Parameters of initial size, the one-dimensional ones moved off 0 and 1, and any momentum. */
static void make_checkpoint(struct job *j) {
    vx_ckpt_init(&j->ckpt);
    float **values = vx_net_values_create(j->net);
    must(values ? VX_OK : VX_E_NOMEM, "values");
    vx_net_init(j->net, j->seed, values);
    struct vx_rng rng = vx_rng_at(j->seed, 9, 0, 0, 0);
    for (int i = 0; i < j->net->n_params; i++) {
        const struct vx_param *p = &j->net->params[i];
        int64_t shape[5] = {0};
        for (int a = 0; a < p->ndim; a++) {
            shape[a] = p->shape[a];
        }
        struct vx_ckpt_tensor *t = vx_ckpt_add(&j->ckpt, p->name, p->ndim, shape, true);
        must(t ? VX_OK : VX_E_NOMEM, "checkpoint");
        for (size_t n = 0; n < t->n; n++) {
            float off = p->ndim == 1 ? vx_rng_uniform(&rng, -0.2f, 0.2f) : 0;
            t->param[n] = values[i][n] + off;
            t->momentum[n] = p->trainable ? (float)vx_rng_normal(&rng) : 0;
        }
    }
    vx_net_values_free(values);
    j->ckpt.epoch = word(j, "epoch");
    j->ckpt.best_ema_dice = 0.75;
    j->ckpt.schedule = (struct vx_ckpt_schedule){.lr0 = 0.01,
                                                 .epochs = 1000,
                                                 .poly_power = 0.9,
                                                 .momentum = 0.99,
                                                 .nesterov = true,
                                                 .weight_decay = 3e-5};
    j->ckpt.network = json_pack("{s:O}", "mirror_axes", json_object_get(j->words, "mirror_axes"));
    j->ckpt.history = json_pack("{s:[f, n], s:[[f], [n]]}", "mean_fg_dice", 0.75,
                                "dice_per_class_or_region", 0.75);
}

static void write_checkpoint(struct job *j) {
    vx_auto_free char *path = in(j->folder, "checkpoint.pth");
    struct vx_pth_words words = {
        .plans = j->plans,
        .dataset_json = j->dataset,
        .configuration = j->config->name,
        .fold = json_string_value(json_object_get(j->words, "fold")),
        .dims = j->config->dims,
    };
    must(vx_pth_write(path, &j->ckpt, &words, &err), path);
    write_params(j->folder, "params.bin", &j->ckpt, false);
    write_params(j->folder, "momentum.bin", &j->ckpt, true);
}

static void run(struct job *j, const char *backend) {
    struct vx_device_options options = {0};
    struct vx_device *device;
    struct vx_state *state;
    struct vx_program *program;
    must(vx_device_open(backend, &options, &device, &err), backend);
    must(vx_state_create(device, j->net, &state, &err), "state");
    for (int i = 0; i < j->net->n_params; i++) {
        must(vx_state_upload(state, i, VX_PART_WEIGHT, j->ckpt.tensors[i].param, &err), "upload");
    }
    must(vx_program_compile(state, j->net, VX_MODE_INFER, VX_FP32, &program, &err), "compile");
    const int *patch = j->config->patch_size;
    size_t voxels = (size_t)patch[0] * (size_t)patch[1] * (size_t)patch[2];
    size_t n = voxels * (size_t)j->config->n_channels, out = voxels * (size_t)j->classes;
    vx_auto_free float *image = calloc(n, sizeof *image), *logits = calloc(out, sizeof *logits);
    struct vx_rng rng = vx_rng_at(j->seed, 9, 1, 0, 0);
    for (size_t i = 0; i < n; i++) {
        image[i] = (float)vx_rng_normal(&rng);
    }
    const float *images[] = {image};
    struct vx_run_input input = {.images = images};
    struct vx_run_result result;
    uint64_t ticket;
    must(vx_program_run(program, &input, &ticket, &err), "run");
    must(vx_program_wait(program, ticket, &result, &err), "wait");
    must(vx_program_read_logits(program, logits, &err), "logits");
    write_array(j->folder, "images.bin", image, n * sizeof *image);
    write_array(j->folder, "logits.bin", logits, out * sizeof *logits);
    vx_program_free(program);
    vx_state_free(state);
    vx_device_close(device);
}

static void write_file(const char *backend, const char *folder) {
    struct job j = {.folder = folder};
    vx_auto_free struct vx_plans *plans = calloc(1, sizeof *plans);
    struct vx_net_options options;
    vx_net_options_default(&options);
    j.plans = load_json(folder, "plans.json");
    j.dataset = load_json(folder, "dataset.json");
    j.words = load_json(folder, "job.json");
    j.classes = (int)word(&j, "classes");
    j.seed = (uint64_t)word(&j, "seed");
    must(plans ? vx_plans_from_json(j.plans, plans, &err) : VX_E_NOMEM, "plans.json");
    j.config = vx_plans_config(plans, json_string_value(json_object_get(j.words, "configuration")));
    must(j.config ? VX_OK : VX_E_NOT_FOUND, "configuration");
    must(vx_net_build(j.config, j.config->n_channels, j.classes, 1, &options, &j.net, &err), "net");
    make_checkpoint(&j);
    write_checkpoint(&j);
    run(&j, backend);
    vx_ckpt_release(&j.ckpt);
    vx_oplist_free(j.net);
    json_decref(j.plans);
    json_decref(j.dataset);
    json_decref(j.words);
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "read") == 0) {
        read_file(argv[2], argv[3]);
    } else if (argc == 4 && strcmp(argv[1], "write") == 0) {
        write_file(argv[2], argv[3]);
    } else {
        fprintf(stderr, "usage: oracle_pth read FILE FOLDER | write BACKEND FOLDER\n");
        return 2;
    }
    return 0;
}
