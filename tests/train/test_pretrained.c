/* Pretrained weights: nnU-Net's rule, at batch 0 only, and nothing written where they do not fit.
 */
#include "base/own.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/pth_write.h"
#include "net/net.h"
#include "toy_job.h"

#include <dirent.h>
#include <unistd.h>

/* The toy network with its bias named as a head's. */
static void toy_pretrained(struct toy_job *j, const char *dir, const char *path) {
    toy_job_init(j, dir);
    strcpy(j->params[1].name, "decoder.seg_layers.0.bias");
    j->config.pretrained = path;
}

/* A .pth of the toy network's parameter w, its values 1, 2, ..; more: a second tensor with a head's
 * name and another shape than the network's, as another number of classes gives. */
static void write_pth(const char *path, const char *name, const int64_t *shape, bool more) {
    struct vx_err err = {0};
    vx_auto_ckpt struct vx_ckpt c;
    vx_ckpt_init(&c);
    struct vx_ckpt_tensor *t = vx_ckpt_add(&c, name, 5, shape, false);
    for (size_t i = 0; i < t->n; i++) {
        t->param[i] = (float)(i + 1);
    }
    if (more) {
        cr_assert(vx_ckpt_add(&c, "decoder.seg_layers.0.bias", 1, (const int64_t[]){7}, false));
        cr_assert(vx_ckpt_add(&c, "decoder.other", 1, (const int64_t[]){7}, false));
    }
    struct vx_pth_words words = {.configuration = "3d_fullres", .fold = "0", .dims = 3};
    cr_assert_eq(vx_pth_write(path, &c, &words, &err), VX_OK, "%s", err.text);
}

static const int64_t right[] = {2, 1, 1, 1, 3}, wrong[] = {2, 1, 1, 3, 1};

static void expect_latest(const char *dir, const struct toy_job *j, bool pretrained) {
    struct vx_err err = {0};
    struct vx_ckpt c;
    vx_auto_free char *path = vx_strf("%s/%s", dir, VX_CHECKPOINT_LATEST);
    float **values = vx_net_values_create(&j->net);
    vx_net_init(&j->net, 3, values);
    cr_assert_eq(vx_ckpt_read(path, &c, &err), VX_OK, "%s", err.text);
    cr_assert_eq(c.k, 0);
    for (size_t i = 0; i < 6; i++) {
        cr_assert_eq(c.tensors[0].param[i], pretrained ? (float)(i + 1) : values[0][i]);
        cr_assert_eq(c.tensors[0].momentum[i], 0);
    }
    cr_assert_eq(memcmp(c.tensors[1].param, values[1], 2 * sizeof(float)), 0);
    vx_ckpt_release(&c);
    vx_net_values_free(values);
}

static int open_and_close(struct toy_job *j, struct vx_err *err) {
    struct vx_train *train = NULL;
    int rc = vx_train_open(&j->config, &train, err);
    vx_train_close(train);
    return rc;
}

Test(train_pretrained, all_but_the_heads_are_taken_at_batch_0) {
    vx_auto_free char *dir = toy_dir(), *path = vx_strf("%s.pth", dir);
    struct vx_err err = {0};
    struct toy_job j;
    write_pth(path, "w", right, true);
    toy_pretrained(&j, dir, path);
    cr_assert_eq(open_and_close(&j, &err), VX_OK, "%s", err.text);
    expect_latest(dir, &j, true);
    /* going on does not look at the file again, whether it changed or is gone */
    write_pth(path, "w", wrong, false);
    toy_pretrained(&j, dir, path);
    cr_assert_eq(open_and_close(&j, &err), VX_OK, "%s", err.text);
    expect_latest(dir, &j, true);
    unlink(path);
    toy_pretrained(&j, dir, path);
    struct vx_train_outcome out = {0};
    cr_assert_eq(toy_job_live(&j, &out, &err), VX_OK, "%s", err.text);
    cr_assert(out.finished);
    vx_remove_tree(dir, NULL);
}

Test(train_pretrained, from_voxelds_own_checkpoint) {
    vx_auto_free char *first = toy_dir(), *dir = toy_dir();
    vx_auto_free char *path = vx_strf("%s/%s", first, VX_CHECKPOINT_FINAL);
    struct vx_err err = {0};
    struct toy_job j;
    struct vx_train_outcome out = {0};
    toy_job_init(&j, first);
    cr_assert_eq(toy_job_live(&j, &out, &err), VX_OK, "%s", err.text);
    toy_job_init(&j, dir);
    j.config.pretrained = path;
    cr_assert_eq(open_and_close(&j, &err), VX_OK, "%s", err.text);
    struct vx_ckpt a, b;
    vx_auto_free char *latest = vx_strf("%s/%s", dir, VX_CHECKPOINT_LATEST);
    cr_assert_eq(vx_ckpt_read(path, &a, &err), VX_OK);
    cr_assert_eq(vx_ckpt_read(latest, &b, &err), VX_OK);
    cr_assert_eq(memcmp(a.tensors[0].param, b.tensors[0].param, 6 * sizeof(float)), 0);
    cr_assert_eq(memcmp(a.tensors[1].param, b.tensors[1].param, 2 * sizeof(float)), 0);
    cr_assert_eq(b.tensors[0].momentum[0], 0);
    vx_ckpt_release(&a);
    vx_ckpt_release(&b);
    vx_remove_tree(first, NULL);
    vx_remove_tree(dir, NULL);
}

static void expect_refused(const char *path, const char *reason, const char *text) {
    vx_auto_free char *dir = toy_dir();
    struct vx_err err = {0};
    struct toy_job j;
    toy_pretrained(&j, dir, path);
    cr_assert_neq(open_and_close(&j, &err), VX_OK);
    cr_assert_str_eq(err.reason, reason, "%s: %s", err.reason, err.text);
    cr_assert(strstr(err.text, text), "%s lacks %s", err.text, text);
    cr_assert_str_eq(err.where, path);
    cr_assert_eq(rmdir(dir), 0, "something was written");
}

Test(train_pretrained, what_does_not_fit_is_refused_by_name) {
    vx_auto_free char *dir = toy_dir(), *path = vx_strf("%s.pth", dir);
    struct vx_err err = {0};
    write_pth(path, "w", wrong, false);
    expect_refused(path, "weights_mismatch",
                   "w has shape 2 x 1 x 1 x 3 x 1 in the file, the "
                   "network's is 2 x 1 x 1 x 1 x 3");
    write_pth(path, "v", right, true);
    expect_refused(path, "weights_mismatch", "w (2 x 1 x 1 x 1 x 3) is missing");
    cr_assert_eq(vx_write_file_atomic(path, "PK\3\4", 4, 0644, &err), VX_OK);
    expect_refused(path, "truncated_zip", path);
    unlink(path);
    expect_refused(path, "not_found", path);
    vx_remove_tree(dir, NULL);
}
