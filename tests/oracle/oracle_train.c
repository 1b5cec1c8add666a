/* A short training by core/train on samples of core/loader, for tests/oracle/train.py to repeat
 * with nnU-Net's trainer.
 *
 * usage: oracle_train STORE FOLDER
 * STORE was made by voxeld prepare. FOLDER/plans.json holds the plans, FOLDER/config.json
 * {configuration, classes, seed, epochs, iterations, val_iterations, val_cases}: the last val_cases
 * cases validate, augmentation is off. Left in FOLDER: train.images, train.labels, val.images,
 * val.labels   all batches, [k][N][C][voxel] and [k][N][voxel] places.json            [[stream, k,
 * j, case, first voxel], ...] weights.bin, end.bin   parameters one after the other, before and
 * after; result.json names them result.json            the loss of every step, and the epochs'
 * history */
#include "augment/policy.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "cache/cache.h"
#include "device/device.h"
#include "device/oplist.h"
#include "loader/maker.h"
#include "loader/recipe.h"
#include "net/net.h"
#include "plan/plans.h"
#include "session/schedule.h"
#include "session/timeline.h"
#include "train/engine.h"
#include "train/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct job {
    struct vx_train_source source; /* first: the engine gets a pointer to it */
    const char *folder, *store;
    json_t *config; /* owned, like all below */
    struct vx_plan_config plan;
    struct vx_sample_schedule schedule;
    struct vx_cache *cache;
    struct vx_recipe *recipe;
    struct vx_oplist *net;
    struct vx_device *device;
    struct vx_timeline timeline;
    float *images[2]; /* of each stream, all batches */
    int16_t *labels[2];
    size_t image_size, label_size; /* of one sample, numbers */
    uint64_t next;                 /* q */
    struct vx_err err;
};

static void die(const struct job *j, const char *what) {
    fprintf(stderr, "oracle_train: %s: %s %s\n", what, j->err.text, j->err.where);
    exit(1);
}

static uint32_t setting(const struct job *j, const char *key) {
    return (uint32_t)json_integer_value(json_object_get(j->config, key));
}

static json_t *load(struct job *j, const char *name) {
    vx_auto_free char *path = vx_strf("%s/%s", j->folder, name);
    json_t *json;
    if (vx_json_load_file(path, 1 << 24, &json, &j->err) != VX_OK) {
        die(j, path);
    }
    return json;
}

static void save(struct job *j, const char *name, const void *data, size_t bytes) {
    vx_auto_free char *path = vx_strf("%s/%s", j->folder, name);
    if (vx_write_file_atomic(path, data, bytes, 0644, &j->err) != VX_OK) {
        die(j, path);
    }
}

static void save_json(struct job *j, const char *name, json_t *json) {
    vx_auto_free char *path = vx_strf("%s/%s", j->folder, name);
    if (vx_json_write_file(path, json, &j->err) != VX_OK) {
        die(j, path);
    }
    json_decref(json);
}

static void read_job(struct job *j) {
    j->config = load(j, "config.json");
    vx_auto_json json_t *plans = load(j, "plans.json");
    const char *name = json_string_value(json_object_get(j->config, "configuration"));
    if (vx_plans_read_config(plans, name, &j->plan, &j->err) != VX_OK) {
        die(j, "plans");
    }
    j->schedule = (struct vx_sample_schedule){.batch = (uint32_t)j->plan.batch_size,
                                              .train_iterations = setting(j, "iterations"),
                                              .val_iterations = setting(j, "val_iterations"),
                                              .epochs = setting(j, "epochs")};
    size_t voxels = 1;
    for (int a = 0; a < 3; a++) {
        voxels *= (size_t)j->plan.patch_size[a];
    }
    j->label_size = voxels;
    j->image_size = voxels * (size_t)j->plan.n_channels;
}

static void make_recipe(struct job *j) {
    size_t n = vx_cache_n_cases(j->cache), n_val = setting(j, "val_cases");
    vx_auto_free const char **names = calloc(n, sizeof *names);
    vx_auto_free uint32_t *indices = calloc(n, sizeof *indices);
    for (size_t i = 0; i < n; i++) {
        names[i] = vx_cache_case_name(j->cache, i);
        indices[i] = (uint32_t)i;
    }
    struct vx_recipe_params p = {.dataset = "oracle",
                                 .cache_key = vx_cache_key_hex(j->cache),
                                 .seed = setting(j, "seed"),
                                 .cases = names,
                                 .n_cases = n,
                                 .train = indices,
                                 .n_train = n - n_val,
                                 .val = indices + (n - n_val),
                                 .n_val = n_val,
                                 .dims = (uint32_t)j->plan.dims,
                                 .channels = (uint32_t)j->plan.n_channels,
                                 .batch = j->schedule.batch,
                                 .augment = VX_AUG_MODE_NONE};
    for (int a = 0; a < 3; a++) {
        p.patch[a] = j->plan.patch_size[a];
    }
    if (vx_recipe_create(&p, &j->recipe, &j->err) != VX_OK) {
        die(j, "recipe");
    }
}

/* All samples of the job, kept and written. */
static void make_samples(struct job *j) {
    struct vx_maker *maker;
    if (vx_maker_create(j->recipe, j->cache, &maker, &j->err) != VX_OK) {
        die(j, "maker");
    }
    json_t *places = json_array();
    const struct vx_recipe_view *r = vx_recipe_view(j->recipe);
    for (uint32_t stream = 0; stream < 2; stream++) {
        uint32_t per_epoch = stream ? j->schedule.val_iterations : j->schedule.train_iterations;
        size_t count = (size_t)per_epoch * j->schedule.epochs * j->schedule.batch;
        j->images[stream] = malloc(count * j->image_size * sizeof(float) + 1);
        j->labels[stream] = malloc(count * j->label_size * sizeof(int16_t) + 1);
        for (size_t i = 0; i < count; i++) {
            uint64_t k = i / j->schedule.batch;
            uint32_t sample = (uint32_t)(i % j->schedule.batch), case_index;
            struct vx_made made;
            if (vx_maker_make(maker, stream, k, sample, j->images[stream] + i * j->image_size,
                              j->labels[stream] + i * j->label_size, &case_index, &made, NULL, NULL,
                              &j->err) != VX_OK) {
                die(j, "sample");
            }
            json_array_append_new(places, json_pack("[i,i,i,s,i,i,i]", stream, (int)k, sample,
                                                    r->cases[case_index], made.place.lo[0],
                                                    made.place.lo[1], made.place.lo[2]));
        }
        save(j, stream ? "val.images" : "train.images", j->images[stream],
             count * j->image_size * sizeof(float));
        save(j, stream ? "val.labels" : "train.labels", j->labels[stream],
             count * j->label_size * sizeof(int16_t));
    }
    save_json(j, "places.json", places);
    vx_maker_free(maker);
}

static uint32_t depth(struct vx_train_source *source) {
    struct job *j = (struct job *)source;
    return (uint32_t)(vx_sample_end(&j->schedule) - j->next);
}

static int take(struct vx_train_source *source, uint64_t timeout_ns, struct vx_train_sample *ret,
                struct vx_err *err) {
    struct job *j = (struct job *)source;
    (void)timeout_ns;
    (void)err;
    struct vx_sample_ref at = vx_sample_at(&j->schedule, j->next);
    size_t i = at.k * j->schedule.batch + at.j;
    *ret = (struct vx_train_sample){.q = j->next++,
                                    .image = j->images[at.stream] + i * j->image_size,
                                    .label = j->labels[at.stream] + i * j->label_size};
    return VX_OK;
}

static void release(struct vx_train_source *source, uint64_t q) {
    (void)source;
    (void)q;
}

/* Weights as the engine starts with them, from the same seed. */
static void save_start(struct job *j) {
    float **values = vx_net_values_create(j->net);
    vx_net_init(j->net, setting(j, "seed"), values);
    save(j, "weights.bin", values[0], (size_t)vx_oplist_param_count(j->net) * sizeof(float));
    vx_net_values_free(values);
}

static void save_end(struct job *j, struct vx_state *state) {
    float **values = vx_net_values_create(j->net);
    for (int i = 0; i < j->net->n_params; i++) {
        if (vx_state_download(state, i, VX_PART_WEIGHT, values[i], &j->err) != VX_OK) {
            die(j, "download");
        }
    }
    save(j, "end.bin", values[0], (size_t)vx_oplist_param_count(j->net) * sizeof(float));
    vx_net_values_free(values);
}

static json_t *step_losses(const struct job *j) {
    static struct vx_step_record records[VX_STEP_RECORDS];
    size_t n = vx_timeline_steps(&j->timeline, 0, records, VX_STEP_RECORDS);
    json_t *list[2] = {json_array(), json_array()};
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list[records[i].stream], json_real(records[i].loss));
    }
    return json_pack("{s:o, s:o}", "train", list[0], "val", list[1]);
}

static void train(struct job *j) {
    struct vx_train *engine;
    struct vx_train_outcome outcome;
    struct vx_train_config c = {.device = j->device,
                                .net = j->net,
                                .precision = VX_FP32,
                                .seed = setting(j, "seed"),
                                .epochs = j->schedule.epochs,
                                .iterations = j->schedule.train_iterations,
                                .val_iterations = j->schedule.val_iterations,
                                .learning_rate = 0.01,
                                .source = &j->source,
                                .timeline = &j->timeline,
                                .dir = j->folder,
                                .checkpoint_seconds = 3600};
    if (vx_train_open(&c, &engine, &j->err) != VX_OK ||
        vx_train_run(engine, &outcome, &j->err) != VX_OK) {
        die(j, "training");
    }
    save_end(j, vx_train_state(engine));
    json_t *names = json_array();
    for (int i = 0; i < j->net->n_params; i++) {
        json_array_append_new(names, json_string(j->net->params[i].name));
    }
    save_json(j, "result.json",
              json_pack("{s:o, s:o, s:o}", "losses", step_losses(j), "history",
                        vx_history_to_json(vx_train_history(engine)), "names", names));
    vx_train_close(engine);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: oracle_train STORE FOLDER\n");
        return 2;
    }
    struct job j = {.source = {.depth = depth, .take = take, .release = release},
                    .store = argv[1],
                    .folder = argv[2]};
    struct vx_net_options options;
    struct vx_device_options device_options = {.threads = 2};
    vx_net_options_default(&options);
    read_job(&j);
    if (vx_cache_open(j.store, &j.cache, &j.err) != VX_OK ||
        vx_net_build(&j.plan, j.plan.n_channels, (int)setting(&j, "classes"), j.plan.batch_size,
                     &options, &j.net, &j.err) != VX_OK ||
        vx_device_open("cpu", &device_options, &j.device, &j.err) != VX_OK ||
        vx_timeline_create(&j.timeline, &j.err) != VX_OK) {
        die(&j, "open");
    }
    make_recipe(&j);
    make_samples(&j);
    save_start(&j);
    train(&j);
    vx_timeline_close(&j.timeline);
    vx_device_close(j.device);
    vx_oplist_free(j.net);
    vx_recipe_free(j.recipe);
    vx_cache_free(j.cache);
    for (int s = 0; s < 2; s++) {
        free(j.images[s]);
        free(j.labels[s]);
    }
    json_decref(j.config);
    return 0;
}
