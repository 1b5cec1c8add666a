/* nnU-Net's checkpoints: PyTorch's own file is read value for value, what is written is what is
 * read. */
#include "pth_maker.h"

#include "checkpoint/pth/names.h"
#include "checkpoint/pth_read.h"
#include "checkpoint/pth_write.h"
#include "checkpoint/weights.h"

#include <math.h>

static void expect_json(const json_t *got, const char *want) {
    vx_auto_json json_t *w = json_loads(want, JSON_DECODE_ANY, NULL);
    vx_auto_free char *text = json_dumps(got, JSON_COMPACT);
    cr_assert(json_equal(got, w), "%s", text);
}

/* make_torch_sample.py says what every value is. */
Test(checkpoint_pth, torchs_own_file_value_for_value) {
    static const char *const names[] = {"encoder.stages.0.0.convs.0.conv.weight",
                                        "encoder.stages.0.0.convs.0.conv.bias",
                                        "encoder.stages.0.0.convs.0.norm.weight",
                                        "encoder.stages.0.0.convs.0.norm.bias",
                                        "encoder.stages.1.0.convs.0.conv.weight",
                                        "encoder.stages.1.0.convs.0.conv.bias",
                                        "encoder.stages.1.0.convs.0.norm.weight",
                                        "encoder.stages.1.0.convs.0.norm.bias",
                                        "decoder.stages.0.convs.0.conv.weight",
                                        "decoder.stages.0.convs.0.conv.bias",
                                        "decoder.stages.0.convs.0.norm.weight",
                                        "decoder.stages.0.convs.0.norm.bias",
                                        "decoder.transpconvs.0.weight",
                                        "decoder.transpconvs.0.bias",
                                        "decoder.seg_layers.0.weight",
                                        "decoder.seg_layers.0.bias"};
    struct vx_err e = {0};
    vx_auto_pth struct vx_pth p = {0};
    expect_ok(vx_pth_read(TORCH_SAMPLE, true, &p, &e));
    cr_assert_eq(p.ckpt.n_tensors, VX_COUNTOF(names));
    for (size_t i = 0; i < p.ckpt.n_tensors; i++) {
        const struct vx_ckpt_tensor *t = &p.ckpt.tensors[i];
        cr_assert_str_eq(t->name, names[i]);
        cr_assert_eq(t->rank, strstr(t->name, "weight") && !strstr(t->name, "norm") ? 5 : 1);
        cr_assert(t->rank == 1 || t->shape[2] == 1);
        for (size_t k = 0; k < t->n; k++) {
            float x = (float)(1000 * i + k);
            cr_assert_eq(t->param[k], x / 64);
            cr_assert_eq(t->momentum[k], i == 3 ? 0 : -x / 128);
        }
    }
    cr_assert(p.ckpt.tensors[4].shape[0] == 3 && p.ckpt.tensors[4].shape[1] == 2);
    cr_assert(p.ckpt.epoch == 2 && p.ckpt.best_ema_dice == 0.275 && p.ckpt.ema_dice == 0.275);
    expect_json(p.ckpt.network, "{\"trainer_name\": \"nnUNetTrainer\", \"configuration\": \"2d\", "
                                "\"fold\": \"3\", \"mirror_axes\": [1, 2]}");
    expect_json(p.plans,
                "{\"dataset_name\":\"Dataset999_Sample\",\"b\":[1,2.0,null,true],\"a\":{}}");
    expect_json(p.dataset_json, "{\"labels\": {\"background\": 0, \"x\": 1}}");
    expect_json(p.ckpt.history,
                "{\"mean_fg_dice\": [0.25, 0.5], \"ema_fg_dice\": [0.25, 0.275], "
                "\"dice_per_class_or_region\": [[0.25], [0.5]], \"train_losses\": [0.5, -0.25], "
                "\"val_losses\": [0.5, null], \"lrs\": [0.01, 0.0099], "
                "\"epoch_start_timestamps\": [1.5, 2.5], \"epoch_end_timestamps\": [2.5, 3.5]}");
    cr_assert_str_eq(json_object_iter_key(json_object_iter(p.plans)), "dataset_name");
}

Test(checkpoint_pth, written_and_read_back) {
    struct vx_err e = {0};
    vx_auto_pth struct vx_pth p = {0}, back = {0};
    vx_auto_free char *path = pth_file("round");
    expect_ok(vx_pth_read(TORCH_SAMPLE, true, &p, &e));
    struct vx_pth_words words = {.plans = p.plans,
                                 .dataset_json = p.dataset_json,
                                 .configuration = "2d",
                                 .fold = "3",
                                 .dims = 2};
    expect_ok(vx_pth_write(path, &p.ckpt, &words, &e));
    expect_ok(vx_pth_read(path, true, &back, &e));
    cr_assert_eq(back.ckpt.n_tensors, p.ckpt.n_tensors);
    for (size_t i = 0; i < p.ckpt.n_tensors; i++) {
        const struct vx_ckpt_tensor *a = &p.ckpt.tensors[i], *b = &back.ckpt.tensors[i];
        cr_assert_str_eq(a->name, b->name);
        cr_assert(a->rank == b->rank && memcmp(a->shape, b->shape, sizeof a->shape) == 0);
        cr_assert_eq(memcmp(a->param, b->param, a->n * sizeof(float)), 0);
        cr_assert_eq(memcmp(a->momentum, b->momentum, a->n * sizeof(float)), 0);
    }
    cr_assert(json_equal(back.ckpt.network, p.ckpt.network));
    cr_assert(json_equal(back.ckpt.history, p.ckpt.history));
    cr_assert(json_equal(back.plans, p.plans) && json_equal(back.dataset_json, p.dataset_json));
    cr_assert(back.ckpt.epoch == 2 && back.ckpt.best_ema_dice == 0.275);
    vx_pth_release(&back);
    /* without momentum none is made; fold "all" stays text; no mirroring is None */
    json_object_set_new(p.ckpt.network, "mirror_axes", json_array());
    p.ckpt.best_ema_dice = NAN;
    words.fold = "all";
    expect_ok(vx_pth_write(path, &p.ckpt, &words, &e));
    expect_ok(vx_pth_read(path, false, &back, &e));
    cr_assert_null(back.ckpt.tensors[0].momentum);
    cr_assert(isnan(back.ckpt.best_ema_dice));
    expect_json(back.ckpt.network,
                "{\"trainer_name\": \"nnUNetTrainer\", \"configuration\": \"2d\","
                "\"fold\": \"all\", \"mirror_axes\": []}");
    p.ckpt.tensors[4].shape[2] = 3;
    cr_assert_eq(vx_pth_write(path, &p.ckpt, &words, &e), VX_E_INVALID);
    cr_assert(strstr(e.text, p.ckpt.tensors[4].name));
    unlink(path);
}

/* Facts: 52 n - 20 keys for n stages of two convolutions. */
Test(checkpoint_pth, a_state_dict_has_every_alias) {
    struct vx_err e = {0};
    vx_auto_ckpt struct vx_ckpt c;
    vx_auto_free struct vx_pth_key *keys = NULL;
    size_t n = 0;
    vx_ckpt_init(&c);
    for (int s = 0; s < 7; s++) { /* 4 encoder stages, 3 decoder stages */
        for (int k = 0; k < 8; k++) {
            char name[96];
            snprintf(name, sizeof name, "%s.stages.%d.%sconvs.%d.%s.%s",
                     s < 4 ? "encoder" : "decoder", s % 4, s < 4 ? "0." : "", k / 4,
                     k % 4 < 2 ? "conv" : "norm", k % 2 ? "bias" : "weight");
            cr_assert(vx_ckpt_add(&c, name, 1, (const int64_t[]){1}, false));
        }
    }
    for (int s = 0; s < 12; s++) {
        char name[96];
        snprintf(name, sizeof name, "decoder.%s.%d.%s", s < 6 ? "transpconvs" : "seg_layers",
                 s / 2 % 3, s % 2 ? "bias" : "weight");
        cr_assert(vx_ckpt_add(&c, name, 1, (const int64_t[]){1}, false));
    }
    expect_ok(vx_pth_keys(&c, &keys, &n, &e));
    cr_assert_eq(n, 52 * 4 - 20);
    static const struct {
        size_t at;
        const char *name;
        size_t tensor;
    } want[] = {{0, "encoder.stages.0.0.convs.0.conv.weight", 0},
                {4, "encoder.stages.0.0.convs.0.all_modules.0.weight", 0},
                {7, "encoder.stages.0.0.convs.0.all_modules.1.bias", 3},
                {8, "encoder.stages.0.0.convs.1.conv.weight", 4},
                {64, "decoder.encoder.stages.0.0.convs.0.conv.weight", 0},
                {127, "decoder.encoder.stages.3.0.convs.1.all_modules.1.bias", 31},
                {128, "decoder.stages.0.convs.0.conv.weight", 32},
                {176, "decoder.transpconvs.0.weight", 56},
                {187, "decoder.seg_layers.2.bias", 67}};
    for (size_t i = 0; i < VX_COUNTOF(want); i++) {
        cr_assert_str_eq(keys[want[i].at].name, want[i].name);
        cr_assert_eq(keys[want[i].at].tensor, want[i].tensor);
    }
    for (size_t i = 0; i < n; i++) {
        char unique[VX_PTH_MAX_NAME + 1];
        cr_assert(vx_pth_unique_name(keys[i].name, strlen(keys[i].name), unique));
        cr_assert_str_eq(unique, c.tensors[keys[i].tensor].name);
    }
}

Test(checkpoint_pth, unique_names) {
    static const char *const cases[][2] = {
        {"module._orig_mod.encoder.stem.convs.0.all_modules.0.weight",
         "encoder.stem.convs.0.conv.weight"},
        {"_orig_mod.module.decoder.encoder.stages.0.blocks.1.skip.1.all_modules.1.bias",
         "encoder.stages.0.blocks.1.skip.1.norm.bias"},
        {"decoder.stages.0.convs.0.all_modules.2.weight", "decoder.stages.0.convs.0.norm.weight"},
        {"decoder.seg_layers.0.bias", "decoder.seg_layers.0.bias"},
        {"decoder.encoders.0.bias", "decoder.encoders.0.bias"}};
    char unique[VX_PTH_MAX_NAME + 1], longest[300];
    for (size_t i = 0; i < VX_COUNTOF(cases); i++) {
        cr_assert(vx_pth_unique_name(cases[i][0], strlen(cases[i][0]), unique));
        cr_assert_str_eq(unique, cases[i][1]);
    }
    memset(longest, 'a', sizeof longest);
    cr_assert(vx_pth_unique_name(longest, VX_PTH_MAX_NAME, unique));
    cr_assert_not(vx_pth_unique_name(longest, VX_PTH_MAX_NAME + 1, unique));
    cr_assert_not(vx_pth_unique_name("", 0, unique));
    cr_assert_not(vx_pth_unique_name("module.", 7, unique));
    cr_assert_not(vx_pth_unique_name("a\0b", 3, unique));
}

/* Values that every format holds exactly, and the edges of the narrow ones. */
Test(checkpoint_pth, every_float_format) {
    struct vx_err e = {0};
    struct vx_buf b = VX_BUF_INIT;
    vx_auto_pth struct vx_pth p = {0};
    vx_auto_free char *path = pth_file("formats");
    static const uint16_t half[] = {0x0000, 0x8000, 0x3c00, 0xc100, 0x7bff, 0x0001,
                                    0x83ff, 0x0400, 0x7c00, 0xfc00, 0x7e01, 0x3555};
    static const float half_is[] = {0,        -0.0f,         1,        -2.5f,    65504.0f,
                                    0x1p-24f, -0x1.ff8p-15f, 0x1p-14f, INFINITY, -INFINITY,
                                    NAN,      0x1.554p-2f};
    static const uint16_t bf16[] = {0x3f80, 0xc020, 0x7f80, 0x0001};
    static const float bf16_is[] = {1, -2.5f, INFINITY, 0x1p-133f};
    static const double wide[] = {1, -2.5, 1e300, 0.1};
    pth_open(&b);
    pk_str(&b, "h");
    pk_tensor(&b, "Half", "h", 12, 1, (const int[]){12});
    pk_str(&b, "b");
    pk_tensor(&b, "BFloat16", "b", 4, 1, (const int[]){4});
    pk_str(&b, "d");
    pk_tensor(&b, "Double", "d", 4, 2, (const int[]){2, 2});
    pth_close(&b);
    const struct pth_storage s[] = {{"h", half, 24}, {"b", bf16, 8}, {"d", wide, 32}};
    pth_make(path, b.data, b.len, s, 3);
    expect_ok(vx_pth_read(path, true, &p, &e));
    for (size_t i = 0; i < 12; i++) {
        float x = p.ckpt.tensors[0].param[i];
        cr_assert(isnan(half_is[i]) ? isnan(x) : memcmp(&x, &half_is[i], sizeof x) == 0, "%zu", i);
    }
    cr_assert_eq(memcmp(p.ckpt.tensors[1].param, bf16_is, sizeof bf16_is), 0);
    cr_assert(p.ckpt.tensors[2].param[1] == -2.5f && p.ckpt.tensors[2].param[3] == 0.1f);
    cr_assert(isinf(p.ckpt.tensors[2].param[2]) && p.ckpt.tensors[2].rank == 2);
    cr_assert_null(p.ckpt.tensors[0].momentum);
    expect_json(p.ckpt.network, "{\"mirror_axes\": []}");
    vx_buf_release(&b);
    unlink(path);
}

/* Transposed, a view with an offset, and a key with a prefix. */
Test(checkpoint_pth, views_and_prefixes) {
    struct vx_err e = {0};
    struct vx_buf b = VX_BUF_INIT;
    vx_auto_pth struct vx_pth p = {0};
    vx_auto_free char *path = pth_file("views");
    static const float data[] = {0, 1, 2, 3, 4, 5, 6, 7};
    static const float want[] = {1, 3, 5, 2, 4, 6};
    pth_open(&b);
    pk_str(&b, "module.w");
    vx_buf_puts(&b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pk_str(&b, "storage");
    vx_buf_puts(&b, "ctorch\nFloatStorage\n");
    pk_str(&b, "0");
    pk_str(&b, "cpu");
    vx_buf_add(&b, "K\x08tQK\x01K\x02K\x03\x86K\x01K\x02\x86\x89NtR", 20);
    pth_close(&b);
    pth_make(path, b.data, b.len, &(struct pth_storage){"0", data, sizeof data}, 1);
    expect_ok(vx_pth_read(path, false, &p, &e));
    cr_assert_str_eq(p.ckpt.tensors[0].name, "w");
    cr_assert_eq(memcmp(p.ckpt.tensors[0].param, want, sizeof want), 0);
    vx_buf_release(&b);
    unlink(path);
}

Test(checkpoint_pth, one_reader_for_both_kinds) {
    struct vx_err e = {0};
    struct vx_ckpt c;
    expect_ok(vx_weights_read(TORCH_SAMPLE, &c, &e));
    cr_assert_eq(c.n_tensors, 16);
    cr_assert_eq(c.tensors[1].param[1], 1001.0f / 64);
    cr_assert_null(c.tensors[1].momentum);
    vx_ckpt_release(&c);
    expect_ok(vx_weights_read("tests/checkpoint/samples/format-1.safetensors", &c, &e));
    cr_assert_eq(c.n_tensors, 3);
    vx_ckpt_release(&c);
    cr_assert_eq(vx_weights_read("tests/checkpoint/test_pth.c", &c, &e), VX_E_CORRUPT);
    cr_assert_eq(vx_weights_read("tests/checkpoint/absent", &c, &e), VX_E_NOT_FOUND);
}
