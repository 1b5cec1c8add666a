/* A network whose logits are parameters, so that a backend gives the gradient of its loss by them.
 *
 * Sample n carries a one in channel n; a 1x1x1 convolution with a stride as long as the patch takes
 * it out, and each head is a transposed convolution of it, whose kernel is as large as the head,
 * followed by a 1x1x1 convolution that changes nothing. The heads, their weights and the loss are
 * those that core/net builds for {patch [3], strides, classes, batch, batch_dice}. Shared by
 * oracle_loss and the test of the golden figures. Functions return VX_OK or an error with its
 * reason in j->err. */
#ifndef VX_TESTS_ORACLE_LOSS_JOB_H
#define VX_TESTS_ORACLE_LOSS_JOB_H

#include "base/err.h"
#include "base/own.h"
#include "device/device.h"
#include "device/oplist.h"
#include "net/net.h"
#include "plan/plans.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct loss_job {
    struct vx_device *device; /* borrowed */
    struct vx_oplist *real;   /* what core/net builds */
    struct vx_oplist net;     /* made here; arrays owned */
    struct vx_state *state;
    size_t voxels; /* of the patch */
    size_t batch;
    float *images; /* owned, [N][N][voxel] */
    struct vx_err err;
};

static inline int loss_element(const json_t *list, size_t i) {
    return (int)json_integer_value(json_array_get(list, i));
}

static inline int loss_job_real(struct loss_job *j, const json_t *setting) {
    const json_t *strides = json_object_get(setting, "strides");
    const json_t *patch = json_object_get(setting, "patch");
    struct vx_plan_config plan = {.n_stages = (int)json_array_size(strides),
                                  .batch_dice =
                                      json_is_true(json_object_get(setting, "batch_dice"))};
    struct vx_net_options options;
    vx_net_options_default(&options);
    j->voxels = 1;
    for (size_t a = 0; a < 3; a++) {
        plan.patch_size[a] = loss_element(patch, a);
        j->voxels *= (size_t)plan.patch_size[a];
    }
    for (int s = 0; s < plan.n_stages; s++) {
        plan.features[s] = 4;
        plan.convs_encoder[s] = 1;
        if (s + 1 < plan.n_stages) {
            plan.convs_decoder[s] = 1;
        }
        for (size_t a = 0; a < 3; a++) {
            plan.strides[s][a] = loss_element(json_array_get(strides, (size_t)s), a);
            plan.kernels[s][a] = plan.patch_size[a] == 1 ? 1 : 3;
        }
    }
    j->batch = (size_t)json_integer_value(json_object_get(setting, "batch"));
    return vx_net_build(&plan, 1, (int)json_integer_value(json_object_get(setting, "classes")),
                        (int)j->batch, &options, &j->real, &j->err);
}

static inline int loss_add_param(struct vx_oplist *net, const int shape[5]) {
    struct vx_param *p = &net->params[net->n_params];
    *p = (struct vx_param){.ndim = 5, .trainable = true, .fan_in = 1, .count = 1};
    for (int i = 0; i < 5; i++) {
        p->shape[i] = shape[i];
        p->count *= (size_t)shape[i];
    }
    return net->n_params++;
}

static inline struct vx_op *loss_add_op(struct vx_oplist *net, enum vx_op_kind kind, int in,
                                        int channels, const int size[3]) {
    struct vx_op *op = &net->ops[net->n_ops++];
    *op = (struct vx_op){.kind = kind,
                         .in = {in, -1},
                         .out = net->n_tensors,
                         .bias = -1,
                         .kernel = {1, 1, 1},
                         .stride = {1, 1, 1}};
    net->tensors[net->n_tensors++] =
        (struct vx_tensor){VX_TENSOR_ACTIVATION, {net->batch, channels, size[0], size[1], size[2]}};
    return op;
}

/* The parameter that holds the logits of a head, [N][class][voxel]. */
static inline int loss_head_param(int head) {
    return 1 + 2 * head;
}

static inline void loss_job_build(struct loss_job *j) {
    const struct vx_oplist *real = j->real;
    const int *patch = real->tensors[real->input].shape + 2;
    int n = real->batch, classes = real->classes, heads = real->loss.n_heads;
    struct vx_oplist *net = &j->net;
    *net = (struct vx_oplist){.batch = n,
                              .classes = classes,
                              .tensors = calloc(2 * (size_t)heads + 2, sizeof *net->tensors),
                              .params = calloc(2 * (size_t)heads + 1, sizeof *net->params),
                              .ops = calloc(2 * (size_t)heads + 1, sizeof *net->ops),
                              .loss = real->loss,
                              .optimizer = real->optimizer};
    net->tensors[net->n_tensors++] =
        (struct vx_tensor){VX_TENSOR_INPUT, {n, n, patch[0], patch[1], patch[2]}};
    struct vx_op *pick = loss_add_op(net, VX_OP_CONV, 0, n, (int[3]){1, 1, 1});
    pick->weight = loss_add_param(net, (int[5]){n, n, 1, 1, 1});
    memcpy(pick->stride, patch, sizeof pick->stride);
    for (int h = 0; h < heads; h++) {
        const int *size = real->tensors[real->loss.logits[h]].shape + 2;
        struct vx_op *op = loss_add_op(net, VX_OP_CONV_TRANSPOSE, 1, classes, size);
        op->weight = loss_add_param(net, (int[5]){n, classes, size[0], size[1], size[2]});
        memcpy(op->kernel, size, sizeof op->kernel);
        memcpy(op->stride, size, sizeof op->stride);
        struct vx_op *same = loss_add_op(net, VX_OP_CONV, op->out, classes, size);
        same->weight = loss_add_param(net, (int[5]){classes, classes, 1, 1, 1});
        net->loss.logits[h] = same->out;
        net->params[op->weight].trainable = real->loss.weight[h] != 0;
        net->params[same->weight].trainable = real->loss.weight[h] != 0;
    }
    net->output = net->loss.logits[0];
}

static inline void loss_job_release(struct loss_job *j) {
    vx_state_free(j->state);
    vx_oplist_free(j->real);
    free(j->net.tensors);
    free(j->net.params);
    free(j->net.ops);
    free(j->images);
}

static inline int loss_upload_identity(struct loss_job *j, int param, size_t n) {
    vx_auto_free float *one = calloc(n * n, sizeof *one);
    for (size_t i = 0; i < n; i++) {
        one[i * n + i] = 1;
    }
    return vx_state_upload(j->state, param, VX_PART_WEIGHT, one, &j->err);
}

/* On success the caller releases j. */
static inline int loss_job_open(struct loss_job *j, struct vx_device *device,
                                const json_t *setting) {
    memset(j, 0, sizeof *j);
    j->device = device;
    int rc = loss_job_real(j, setting);
    if (rc != VX_OK) {
        return rc;
    }
    loss_job_build(j);
    size_t n = j->batch;
    j->images = calloc(n * n * j->voxels, sizeof(float));
    for (size_t i = 0; i < n; i++) {
        j->images[(i * n + i) * j->voxels] = 1;
    }
    rc = vx_state_create(device, &j->net, &j->state, &j->err);
    rc = rc != VX_OK ? rc : loss_upload_identity(j, 0, n);
    for (int h = 0; h < j->net.loss.n_heads && rc == VX_OK; h++) {
        rc = loss_upload_identity(j, loss_head_param(h) + 1, (size_t)j->net.classes);
    }
    if (rc != VX_OK) {
        loss_job_release(j);
    }
    return rc;
}

/* Numbers in the logits of the heads that are evaluated: all but the coarsest. */
static inline size_t loss_job_count(const struct loss_job *j) {
    size_t total = 0;
    for (int h = 0; h < j->net.loss.n_heads; h++) {
        total += j->net.loss.weight[h] != 0 ? j->net.params[loss_head_param(h)].count : 0;
    }
    return total;
}

/* logits: [head][N][class][voxel] of the evaluated heads. */
static inline int loss_job_upload(struct loss_job *j, const float *logits) {
    int rc = VX_OK;
    for (int h = 0; h < j->net.loss.n_heads && rc == VX_OK; h++) {
        if (j->net.loss.weight[h] != 0) {
            rc = vx_state_upload(j->state, loss_head_param(h), VX_PART_WEIGHT, logits, &j->err);
            logits += j->net.params[loss_head_param(h)].count;
        }
    }
    return rc;
}

/* labels: [N][voxel]. */
static inline int loss_job_run(struct loss_job *j, enum vx_mode mode, const int16_t *labels,
                               struct vx_run_result *ret) {
    struct vx_program *p = NULL;
    vx_auto_free const float **images = calloc(j->batch, sizeof *images);
    vx_auto_free const int16_t **list = calloc(j->batch, sizeof *list);
    for (size_t i = 0; i < j->batch; i++) {
        images[i] = j->images + i * j->batch * j->voxels;
        list[i] = labels + i * j->voxels;
    }
    struct vx_run_input in = {.images = images, .labels = list};
    uint64_t ticket;
    int rc = vx_program_compile(j->state, &j->net, mode, VX_FP32, &p, &j->err);
    rc = rc != VX_OK ? rc : vx_program_run(p, &in, &ticket, &j->err);
    rc = rc != VX_OK ? rc : vx_program_wait(p, ticket, ret, &j->err);
    vx_program_free(p);
    return rc;
}

/* After a run of VX_MODE_GRADIENT; in the order of loss_job_upload. */
static inline int loss_job_gradient(struct loss_job *j, float *to) {
    int rc = VX_OK;
    for (int h = 0; h < j->net.loss.n_heads && rc == VX_OK; h++) {
        if (j->net.loss.weight[h] != 0) {
            rc = vx_state_download(j->state, loss_head_param(h), VX_PART_GRADIENT, to, &j->err);
            to += j->net.params[loss_head_param(h)].count;
        }
    }
    return rc;
}

#endif
