/* A tiny network on made-up volumes, trained with the reference backend: the loss falls, the
 * network learns, and a job resumed after every batch ends in the same bits. */
#include "base/err.h"
#include "base/io.h"
#include "base/rng.h"
#include "checkpoint/checkpoint.h"
#include "device/device.h"
#include "device/oplist.h"
#include "net/net.h"
#include "plan/plans.h"
#include "ref/ref.h"
#include "train/engine.h"
#include "train/source.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EDGE = 8, VOXELS = EDGE * EDGE * EDGE, BATCH = 2 };

/* A bright ball of radius 2 to 3 in noise; every sample is a function of its number. */
struct balls {
    struct vx_train_source base;
    uint64_t next;
    uint64_t stop_after; /* batches until stop is set */
    atomic_bool stop;
    float image[4][VOXELS];
    int16_t label[4][VOXELS];
};

static uint32_t balls_depth(struct vx_train_source *source) {
    (void)source;
    return 4;
}

static int balls_take(struct vx_train_source *source, uint64_t timeout_ns,
                      struct vx_train_sample *ret, struct vx_err *err) {
    (void)timeout_ns, (void)err;
    struct balls *s = (struct balls *)source;
    uint64_t q = s->next++, slot = q % 4;
    struct vx_rng rng = vx_rng_at(5, 0, (uint32_t)q, 0, 0);
    float centre[3], radius = vx_rng_uniform(&rng, 2, 3);
    for (int a = 0; a < 3; a++) {
        centre[a] = vx_rng_uniform(&rng, 2.5f, 4.5f);
    }
    for (int i = 0; i < VOXELS; i++) {
        float d[3] = {(float)(i / (EDGE * EDGE)), (float)(i / EDGE % EDGE), (float)(i % EDGE)};
        float r2 = 0;
        for (int a = 0; a < 3; a++) {
            r2 += (d[a] - centre[a]) * (d[a] - centre[a]);
        }
        s->label[slot][i] = r2 < radius * radius;
        s->image[slot][i] = (float)s->label[slot][i] + 0.5f * (float)vx_rng_normal(&rng);
    }
    ret->q = q;
    ret->image = s->image[slot];
    ret->label = s->label[slot];
    if (s->stop_after && s->next >= s->stop_after * BATCH) {
        atomic_store(&s->stop, true);
    }
    return VX_OK;
}

static void balls_release(struct vx_train_source *source, uint64_t q) {
    (void)source, (void)q;
}

static struct vx_oplist *tiny_net(void) {
    struct vx_plan_config p = {.n_stages = 2, .features = {4, 8}, .patch_size = {EDGE, EDGE, EDGE}};
    for (int s = 0; s < 2; s++) {
        for (int a = 0; a < 3; a++) {
            p.kernels[s][a] = 3;
            p.strides[s][a] = s + 1;
        }
        p.convs_encoder[s] = p.convs_decoder[s] = 1;
    }
    struct vx_net_options o;
    vx_net_options_default(&o);
    o.momentum = 0.9f;
    struct vx_oplist *net = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_net_build(&p, 1, 2, BATCH, &o, &net, &err), VX_OK, "%s", err.text);
    return net;
}

/* One life of the job: ends after stop_after batches (0: at the end). History is copied out. */
static struct vx_train_outcome live(const char *dir, struct vx_device *device,
                                    const struct vx_oplist *net, uint64_t stop_after,
                                    struct vx_history *ret_history) {
    struct balls *balls = calloc(1, sizeof(*balls));
    uint64_t batches = 0;
    struct vx_err err = {0};
    cr_assert_eq(vx_train_position(dir, BATCH, &balls->next, &batches, &err), VX_OK, "%s",
                 err.text);
    balls->base.depth = balls_depth;
    balls->base.take = balls_take;
    balls->base.release = balls_release;
    balls->stop_after = stop_after ? balls->next / BATCH + stop_after : 0;
    struct vx_train_config c = {.device = device,
                                .net = net,
                                .precision = VX_FP32,
                                .seed = 1,
                                .epochs = 4,
                                .iterations = 8,
                                .val_iterations = 2,
                                .learning_rate = 0.05,
                                .source = &balls->base,
                                .dir = dir,
                                .checkpoint_seconds = 3600,
                                .stop = &balls->stop};
    struct vx_train *train = NULL;
    cr_assert_eq(vx_train_open(&c, &train, &err), VX_OK, "%s", err.text);
    struct vx_train_outcome out = {0};
    cr_assert_eq(vx_train_run(train, &out, &err), VX_OK, "%s", err.text);
    if (ret_history) {
        const struct vx_history *h = vx_train_history(train);
        for (uint32_t i = 0; i < h->n; i++) {
            vx_history_add(ret_history, &h->epochs[i], NULL);
        }
    }
    vx_train_close(train);
    free(balls);
    return out;
}

static struct vx_ckpt final_of(const char *dir) {
    char *path = vx_strf("%s/%s", dir, VX_CHECKPOINT_FINAL);
    struct vx_ckpt c;
    struct vx_err err = {0};
    cr_assert_eq(vx_ckpt_read(path, &c, &err), VX_OK, "%s", err.text);
    free(path);
    return c;
}

static struct vx_device *open_device(const char *name) {
    struct vx_err err = {0};
    struct vx_device_options options = {.threads = 2};
    struct vx_device *device = NULL;
    cr_assert_eq(vx_ref_register(&err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_device_open(name, &options, &device, &err), VX_OK, "%s", err.text);
    return device;
}

/* Loss and pseudo-Dice of a whole run. */
static void expect_learning(const struct vx_history *h) {
    cr_assert(eq(u32, h->n, 4));
    cr_assert(lt(dbl, h->epochs[3].train_loss, h->epochs[0].train_loss - 0.3));
    cr_assert(lt(dbl, h->epochs[3].val_loss, h->epochs[0].val_loss));
    cr_assert(gt(dbl, h->epochs[3].mean_fg_dice, 0.7));
}

static void expect_same(const char *dir_a, const struct vx_history *a, const char *dir_b,
                        const struct vx_history *b) {
    cr_assert(eq(u32, b->n, a->n));
    for (uint32_t e = 0; e < a->n; e++) {
        cr_assert(eq(dbl, b->epochs[e].train_loss, a->epochs[e].train_loss));
        cr_assert(eq(dbl, b->epochs[e].val_loss, a->epochs[e].val_loss));
        cr_assert(eq(dbl, b->epochs[e].ema_fg_dice, a->epochs[e].ema_fg_dice));
    }
    struct vx_ckpt x = final_of(dir_a), y = final_of(dir_b);
    for (size_t i = 0; i < x.n_tensors; i++) {
        size_t bytes = x.tensors[i].n * sizeof(float);
        cr_assert_eq(memcmp(x.tensors[i].param, y.tensors[i].param, bytes), 0, "%s",
                     x.tensors[i].name);
        cr_assert_eq(memcmp(x.tensors[i].momentum, y.tensors[i].momentum, bytes), 0, "%s",
                     x.tensors[i].name);
    }
    vx_ckpt_release(&x);
    vx_ckpt_release(&y);
}

Test(train_learns, reference_backend) {
    struct vx_device *device = open_device("ref");
    struct vx_oplist *net = tiny_net();
    char dir[] = "/tmp/vx-learns-XXXXXX";
    cr_assert_not_null(mkdtemp(dir));
    struct vx_history h = {0};
    cr_assert(live(dir, device, net, 0, &h).finished);
    expect_learning(&h);
    vx_history_release(&h);
    vx_oplist_free(net);
    vx_device_close(device);
    vx_remove_tree(dir, NULL);
}

Test(train_learns, resumed_after_every_batch) {
    struct vx_device *device = open_device("cpu");
    struct vx_oplist *net = tiny_net();
    char straight[] = "/tmp/vx-learns-XXXXXX", broken[] = "/tmp/vx-learns-XXXXXX";
    cr_assert_not_null(mkdtemp(straight));
    cr_assert_not_null(mkdtemp(broken));
    struct vx_history a = {0}, b = {0};
    cr_assert(live(straight, device, net, 0, &a).finished);
    expect_learning(&a);
    int lives = 1;
    while (!live(broken, device, net, 1, NULL).finished) {
        cr_assert(lt(int, ++lives, 100));
    }
    cr_assert(ge(int, lives, 4 * 10 - 1), "it was to be stopped after every batch");
    live(broken, device, net, 0, &b);
    expect_same(straight, &a, broken, &b);
    vx_history_release(&a);
    vx_history_release(&b);
    vx_oplist_free(net);
    vx_device_close(device);
    vx_remove_tree(straight, NULL);
    vx_remove_tree(broken, NULL);
}
