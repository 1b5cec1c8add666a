/* A small model folder on the disk: two stages, patch 8 x 8 x 8, three classes, one channel. */
#ifndef VX_TESTS_INFER_MADE_MODEL_H
#define VX_TESTS_INFER_MADE_MODEL_H

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "checkpoint/checkpoint.h"
#include "device/oplist.h"
#include "net/net.h"
#include "plan/plans.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define made_ok(call)                                                                              \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        cr_assert_eq(rc_, VX_OK, "%s: %d %s (%s)", #call, rc_, err.text, err.where);               \
    } while (0)

static inline struct vx_plans *made_plans(void) {
    struct vx_plans *p = calloc(1, sizeof *p);
    *p = (struct vx_plans){.dataset_name = "Dataset900_Made",
                           .plans_name = "nnUNetPlans",
                           .image_reader_writer = "SimpleITKIO",
                           .transpose_forward = {0, 1, 2},
                           .transpose_backward = {0, 1, 2},
                           .original_median_spacing = {1, 1, 1},
                           .original_median_shape = {12, 12, 12},
                           .n_channels = 1,
                           .intensity = {{1, 1, 1, 0, 2, 0, 2}},
                           .n_configs = 1};
    p->configs[0] = (struct vx_plan_config){.name = "3d_fullres",
                                            .data_identifier = "made",
                                            .dims = 3,
                                            .batch_size = 2,
                                            .patch_size = {8, 8, 8},
                                            .median_shape = {12, 12, 12},
                                            .spacing = {1, 1, 1},
                                            .n_channels = 1,
                                            .norm = {VX_NORM_ZSCORE},
                                            .n_stages = 2,
                                            .features = {4, 8},
                                            .kernels = {{3, 3, 3}, {3, 3, 3}},
                                            .strides = {{1, 1, 1}, {2, 2, 2}},
                                            .convs_encoder = {2, 2},
                                            .convs_decoder = {2},
                                            .order_data = 3,
                                            .order_seg = 1,
                                            .order_prob = 1};
    return p;
}

static inline void made_write_json(json_t *value, const char *path) {
    struct vx_err err = {0};
    made_ok(vx_json_write_file(path, value, &err));
    json_decref(value);
}

static inline void made_write_plans(const char *dir, const struct vx_plans *plans) {
    vx_auto_free char *path = vx_strf("%s/plans.json", dir);
    made_write_json(vx_plans_to_json(plans), path);
}

static inline json_t *made_words(void) {
    return json_pack("{s:s, s:[i,i,i]}", "configuration", "3d_fullres", "mirror_axes", 0, 1, 2);
}

/* Weights drawn from seed into dir/fold_NAME/checkpoint_final.safetensors; words is taken over. */
static inline void made_write_fold(const char *dir, const char *name,
                                   const struct vx_plan_config *config, uint64_t seed,
                                   json_t *words) {
    struct vx_err err = {0};
    struct vx_net_options options;
    struct vx_oplist *net = NULL;
    vx_net_options_default(&options);
    made_ok(vx_net_build(config, 1, 3, 1, &options, &net, &err));
    float **values = vx_net_values_create(net);
    vx_net_init(net, seed, values);
    vx_auto_ckpt struct vx_ckpt c;
    vx_ckpt_init(&c);
    c.network = words;
    memset(c.recipe_digest, '0', 64);
    c.schedule = (struct vx_ckpt_schedule){.lr0 = 0.01,
                                           .epochs = 1,
                                           .iterations_per_epoch = 1,
                                           .poly_power = 0.9,
                                           .momentum = 0.99,
                                           .nesterov = true,
                                           .clip_norm = 12};
    for (int i = 0; i < net->n_params; i++) {
        int64_t shape[5];
        for (int a = 0; a < net->params[i].ndim; a++) {
            shape[a] = net->params[i].shape[a];
        }
        struct vx_ckpt_tensor *t =
            vx_ckpt_add(&c, net->params[i].name, net->params[i].ndim, shape, false);
        cr_assert_not_null(t);
        memcpy(t->param, values[i], net->params[i].count * sizeof(float));
    }
    vx_auto_free char *fold = vx_strf("%s/fold_%s", dir, name);
    vx_auto_free char *path = vx_strf("%s/checkpoint_final.safetensors", fold);
    made_ok(vx_mkdirs(fold, 0755, &err));
    made_ok(vx_ckpt_write(path, &c, &err));
    vx_net_values_free(values);
    vx_oplist_free(net);
}

/* ROOT/NAME__nnUNetPlans__3d_fullres with folds 0 and 1; caller frees. */
static inline char *made_model(const char *root) {
    struct vx_err err = {0};
    struct vx_plans *plans = made_plans();
    char *dir = vx_strf("%s/mine__nnUNetPlans__3d_fullres", root);
    vx_auto_free char *dataset = vx_strf("%s/dataset.json", dir);
    made_ok(vx_mkdirs(dir, 0755, &err));
    made_write_plans(dir, plans);
    made_write_json(json_pack("{s:{s:s}, s:{s:i, s:i, s:i}, s:i, s:s}", "channel_names", "0", "MR",
                              "labels", "background", 0, "a", 1, "b", 2, "numTraining", 5,
                              "file_ending", ".nii.gz"),
                    dataset);
    made_write_fold(dir, "0", &plans->configs[0], 1, made_words());
    made_write_fold(dir, "1", &plans->configs[0], 2, made_words());
    free(plans);
    return dir;
}

static inline char *made_root(const char *name) {
    const char *tmp = getenv("TMPDIR");
    char *dir = vx_strf("%s/vx-%s-%d", tmp ? tmp : "/tmp", name, (int)getpid());
    cr_assert_eq(vx_remove_tree(dir, NULL), VX_OK);
    cr_assert_eq(vx_mkdirs(dir, 0755, NULL), VX_OK);
    return dir;
}

#endif
