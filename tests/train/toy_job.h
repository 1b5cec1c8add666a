/* A whole training on the toy device: a network of two parameters, samples made from their number.
 */
#ifndef VX_TESTS_TRAIN_TOY_JOB_H
#define VX_TESTS_TRAIN_TOY_JOB_H

#include "base/clock.h"
#include "base/io.h"
#include "toy_device.h"
#include "train/engine.h"
#include "train/source.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TOY_BATCH = 2, TOY_CLASSES = 3, TOY_EPOCHS = 3, TOY_TRAIN = 4, TOY_VAL = 2 };
enum { TOY_SAMPLES = TOY_EPOCHS * (TOY_TRAIN + TOY_VAL) * TOY_BATCH };

struct toy_source {
    struct vx_train_source base;
    uint64_t next;
    uint64_t stop_at;  /* sets stop when this sample is asked for; UINT64_MAX: never */
    uint64_t sleep_ns; /* before each sample, with depth 0 meanwhile */
    atomic_bool stop;
    int held, most_held;
    float image[TOY_SAMPLES];
    int16_t label[TOY_SAMPLES];
};

static uint32_t toy_depth(struct vx_train_source *source) {
    return ((struct toy_source *)source)->sleep_ns ? 0 : 100;
}

static int toy_take(struct vx_train_source *source, uint64_t timeout_ns,
                    struct vx_train_sample *ret, struct vx_err *err) {
    (void)timeout_ns;
    struct toy_source *s = (struct toy_source *)source;
    if (s->next == s->stop_at) {
        atomic_store(&s->stop, true);
        return vx_fail(err, VX_E_TIMEOUT, NULL, "nothing");
    }
    if (s->sleep_ns) {
        struct timespec t = {.tv_nsec = (long)s->sleep_ns};
        nanosleep(&t, NULL);
    }
    cr_assert_lt(s->next, TOY_SAMPLES, "a sample past the job's end was asked for");
    ret->q = s->next;
    ret->image = &s->image[s->next];
    ret->label = &s->label[s->next];
    s->next++;
    s->held++;
    s->most_held = s->held > s->most_held ? s->held : s->most_held;
    return VX_OK;
}

static void toy_release(struct vx_train_source *source, uint64_t q) {
    struct toy_source *s = (struct toy_source *)source;
    cr_assert_lt(q, s->next);
    s->held--;
}

static void toy_source_init(struct toy_source *s, uint64_t first_q) {
    memset(s, 0, sizeof(*s));
    s->base.depth = toy_depth;
    s->base.take = toy_take;
    s->base.release = toy_release;
    s->next = first_q;
    s->stop_at = UINT64_MAX;
    for (int q = 0; q < TOY_SAMPLES; q++) {
        s->image[q] = sinf((float)q * 1.7f);
        s->label[q] = (int16_t)(q * 7 % 5);
    }
}

/* One process' life of a job in dir: everything that ends with it is made anew. */
struct toy_job {
    struct vx_param params[2];
    struct vx_oplist net;
    struct toy_device device;
    struct toy_source source;
    struct vx_train_config config;
};

static void toy_job_init(struct toy_job *j, const char *dir) {
    memset(j, 0, sizeof(*j));
    struct vx_param weight = {.name = "w",
                              .ndim = 5,
                              .shape = {2, 1, 1, 1, 3},
                              .count = 6,
                              .init = VX_INIT_HE,
                              .fan_in = 3,
                              .trainable = true};
    struct vx_param bias = {
        .name = "b", .ndim = 1, .shape = {2}, .count = 2, .init = VX_INIT_ZERO, .trainable = true};
    j->params[0] = weight;
    j->params[1] = bias;
    j->net.batch = TOY_BATCH;
    j->net.classes = TOY_CLASSES;
    j->net.n_params = 2;
    j->net.params = j->params;
    j->net.optimizer =
        (struct vx_optimizer){.momentum = 0.9f, .weight_decay = 3e-5f, .clip_norm = 12};
    j->device.base.api = &TOY_API;
    uint64_t q = 0, batches = 0;
    struct vx_err err = {0};
    int rc = vx_train_position(dir, TOY_BATCH, &q, &batches, &err);
    cr_assert_eq(rc, VX_OK, "%s", err.text);
    toy_source_init(&j->source, q);
    j->config = (struct vx_train_config){.device = &j->device.base,
                                         .net = &j->net,
                                         .seed = 3,
                                         .epochs = TOY_EPOCHS,
                                         .iterations = TOY_TRAIN,
                                         .val_iterations = TOY_VAL,
                                         .learning_rate = 0.05,
                                         .source = &j->source.base,
                                         .dir = dir,
                                         .checkpoint_seconds = 3600,
                                         .stop = &j->source.stop};
}

/* Opens, runs and closes; returns what run (or open) returned. */
static int toy_job_live(struct toy_job *j, struct vx_train_outcome *ret, struct vx_err *err) {
    struct vx_train *train = NULL;
    int rc = vx_train_open(&j->config, &train, err);
    if (rc == VX_OK) {
        rc = vx_train_run(train, ret, err);
        vx_train_close(train);
    }
    cr_assert_eq(j->source.held, 0, "%d samples were not given back", j->source.held);
    return rc;
}

static char *toy_dir(void) {
    char *dir = vx_strf("/tmp/vx-train-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    return dir;
}

#endif
