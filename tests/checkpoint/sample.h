/* The checkpoint that the sample files hold: values that follow from their position alone. */
#ifndef VX_TESTS_CHECKPOINT_SAMPLE_H
#define VX_TESTS_CHECKPOINT_SAMPLE_H

#include "base/own.h"
#include "checkpoint/checkpoint.h"

#include <string.h>

#define SAMPLE_DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static inline float sample_value(size_t tensor, size_t i, int momentum) {
    return (float)((double)(i * 37 % 101) / 3.0 - 11.0 * (double)tensor) *
           (momentum ? -0.125f : 1.0f);
}

static inline int sample_add(struct vx_ckpt *c, const char *name, int rank, const int64_t *shape) {
    struct vx_ckpt_tensor *t = vx_ckpt_add(c, name, rank, shape, true);
    for (size_t i = 0; t && i < t->n; i++) {
        t->param[i] = sample_value(c->n_tensors - 1, i, 0);
        t->momentum[i] = sample_value(c->n_tensors - 1, i, 1);
    }
    return t != NULL;
}

static inline int sample_fill(struct vx_ckpt *c) {
    vx_ckpt_init(c);
    c->k = 412;
    c->epoch = 8;
    c->iteration = 12;
    c->validation_k = 80;
    c->ema_dice = 0.1 + 0.2;
    c->best_ema_dice = 1.0 / 3.0;
    c->best_epoch = 7;
    c->schedule = (struct vx_ckpt_schedule){0.01, 1000, 250, 50, 0.9, 0.99, true, 3e-5, 12};
    strcpy(c->recipe_digest, SAMPLE_DIGEST);
    c->history = json_pack("{s:[f,f],s:[f,n]}", "train_loss", -0.25, 1e-300, "ema_dice", 0.5);
    c->quarantines = json_pack("[{s:s,s:i}]", "case", "hippocampus_001", "from_k", 17);
    c->environment = json_pack("{s:s,s:i,s:{s:s}}", "isa", "avx512_core", "threads", 2, "libraries",
                               "dnnl", "2.6.3");
    c->trainer = json_pack("{s:I}", "word", (json_int_t)INT64_MIN);
    c->network = json_pack("{s:[i,i,i]}", "features_per_stage", 8, 16, 32);
    return sample_add(c, "encoder.stages.0.0.convs.0.conv.weight", 5,
                      (const int64_t[]){8, 1, 3, 3, 3}) &&
           sample_add(c, "encoder.stages.0.0.convs.0.conv.bias", 1, (const int64_t[]){8}) &&
           sample_add(c, "decoder.seg_layers.0.weight", 5, (const int64_t[]){3, 8, 1, 1, 1});
}

#endif
