/* cuDNN's plans from a device's profile, no GPU: what is found, kept, read back and refused. */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "device/cuda/dnn/dnn.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct dnn_rules RULES = {.workspace = (size_t)1 << 30};

static struct dnn_conv conv_of(int in, int out, int size, int kernel, int stride) {
    int pad = kernel % 2 ? (kernel - 1) / 2 : 0;
    return (struct dnn_conv){.n = 2,
                             .in_channels = in,
                             .out_channels = out,
                             .in = {size, size, size},
                             .kernel = {kernel, kernel, kernel},
                             .stride = {stride, stride, stride},
                             .pad = {pad, pad, pad}};
}

static struct dnn *open_h200(void) {
    vx_auto_free char *profile = NULL;
    struct vx_err err = {0};
    struct dnn *dnn = NULL;
    size_t len = 0;
    cr_assert_eq(vx_read_file("core/device/cuda/profiles/h200.json", 1 << 16, &profile, &len, &err),
                 VX_OK, "%s", err.text);
    cr_assert_eq(dnn_open_profile(profile, DNN_BF16, &dnn, &err), VX_OK, "%s", err.text);
    return dnn;
}

Test(cuda_dnn, a_profile_stands_in_for_the_device) {
    struct dnn *dnn = open_h200();
    vx_auto_free char *json = NULL;
    cr_assert_eq(dnn_profile(dnn, &json, NULL), VX_OK);
    cr_assert(strstr(json, "\"NVIDIA H200\""), "%s", json);
    cr_assert_geq(dnn_version(), 90000u);
    dnn_close(dnn);
    struct vx_err err = {0};
    cr_assert_neq(dnn_open_profile("{\"warpSize\": 32}", DNN_BF16, &dnn, &err), VX_OK);
    cr_assert(strstr(err.text, "cuDNN"), "%s", err.text);
}

Test(cuda_dnn, all_directions_and_strides_have_a_plan_on_tensor_cores) {
    struct dnn *dnn = open_h200();
    const struct dnn_conv convs[] = {conv_of(32, 32, 64, 3, 1), conv_of(32, 64, 64, 3, 2),
                                     conv_of(32, 64, 64, 2, 2), conv_of(32, 8, 64, 1, 1),
                                     conv_of(320, 320, 4, 3, 1)};
    for (size_t i = 0; i < VX_COUNTOF(convs); i++) {
        for (int d = 0; d < 3; d++) {
            struct dnn_plan *list = NULL;
            struct vx_err err = {0};
            int n = 0;
            cr_assert_eq(dnn_list(dnn, &convs[i], (enum dnn_direction)d, &list, &n, &err), VX_OK,
                         "%s", err.text);
            cr_assert_gt(n, 10);
            cr_assert_eq(
                dnn_choose(list, n, &convs[i], (enum dnn_direction)d, &RULES, NULL, 0, &err), VX_OK,
                "%s", err.text);
            cr_assert(list[0].tensor_core && !list[0].fallback && list[0].desc);
            cr_assert_lt(list[0].workspace, (size_t)16 << 20);
            dnn_list_free(list, n);
        }
    }
    dnn_close(dnn);
}

Test(cuda_dnn, channels_that_are_not_multiples_of_8_are_copied_in_secret) {
    struct dnn *dnn = open_h200();
    struct dnn_conv conv = conv_of(4, 32, 128, 3, 1);
    struct dnn_plan *list = NULL;
    int n = 0, copies = 0;
    cr_assert_eq(dnn_list(dnn, &conv, DNN_FORWARD, &list, &n, NULL), VX_OK);
    for (int i = 0; i < n; i++) {
        copies += dnn_fitness(&list[i], &conv, &RULES) == DNN_HIDDEN_COPY;
    }
    cr_assert_gt(copies, n / 2, "%d of %d", copies, n);
    dnn_list_free(list, n);
    dnn_close(dnn);
}

Test(cuda_dnn, what_no_engine_can_do_is_said) {
    struct dnn *dnn = open_h200();
    struct dnn_conv conv = conv_of(32, 32, 16, 3, 1);
    struct dnn_plan *list = NULL;
    struct vx_err err = {0};
    int n = 0;
    conv.in[1] = 0;
    cr_assert_neq(dnn_list(dnn, &conv, DNN_FORWARD, &list, &n, &err), VX_OK);
    cr_assert(strstr(err.text, "32 -> 32 channels, 16x0x16"), "%s", err.text);
    cr_assert_null(list);
    dnn_close(dnn);
}

static void only_file(const char *dir, char ret[600]) {
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (e->d_name[0] != '.') {
            snprintf(ret, 600, "%s/%s", dir, e->d_name);
            n++;
        }
    }
    closedir(d);
    cr_assert_eq(n, 1);
}

Test(cuda_dnn, plans_are_kept_and_found_again_for_the_same_question_only) {
    struct dnn *dnn = open_h200();
    struct dnn_conv conv = conv_of(64, 64, 32, 3, 1);
    struct dnn_plan *list = NULL, found = {0};
    struct vx_err err = {0};
    char dir[] = "/tmp/vx-plans-XXXXXX", path[600];
    int n = 0;
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(dnn_store_get(dnn, dir, &conv, DNN_WEIGHTS, &found, &err), VX_E_NOT_FOUND);
    cr_assert_eq(dnn_list(dnn, &conv, DNN_WEIGHTS, &list, &n, &err), VX_OK);
    cr_assert_eq(dnn_choose(list, n, &conv, DNN_WEIGHTS, &RULES, NULL, 0, &err), VX_OK);
    list[0].ms = 0.25;
    list[0].checked_with = 10;
    cr_assert_eq(dnn_store_put(dnn, dir, &conv, DNN_WEIGHTS, &list[0], &err), VX_OK, "%s",
                 err.text);
    cr_assert_eq(dnn_store_get(dnn, dir, &conv, DNN_WEIGHTS, &found, &err), VX_OK, "%s", err.text);
    cr_assert(found.desc && found.desc != list[0].desc);
    cr_assert_eq(found.engine, list[0].engine);
    cr_assert_eq(found.workspace, list[0].workspace);
    cr_assert_float_eq(found.ms, 0.25, 1e-12);
    cr_assert_eq(found.checked_with, 10);
    vx_auto_free char *before = NULL, *after = NULL;
    cr_assert_eq(dnn_plan_to_json(&list[0], &before, &err), VX_OK);
    cr_assert_eq(dnn_plan_to_json(&found, &after, &err), VX_OK);
    cr_assert_str_eq(strstr(before, "\"engine\""), strstr(after, "\"engine\""));
    dnn_plan_release(&found);

    cr_assert_eq(dnn_store_get(dnn, dir, &conv, DNN_DATA, &found, &err), VX_E_NOT_FOUND);
    struct dnn_conv other = conv;
    other.n = 3;
    cr_assert_eq(dnn_store_get(dnn, dir, &other, DNN_WEIGHTS, &found, &err), VX_E_NOT_FOUND);
    struct dnn *fp16 = NULL;
    vx_auto_free char *profile = NULL;
    cr_assert_eq(dnn_profile(dnn, &profile, NULL), VX_OK);
    cr_assert_eq(dnn_open_profile(profile, DNN_FP16, &fp16, &err), VX_OK, "%s", err.text);
    cr_assert_eq(dnn_store_get(fp16, dir, &conv, DNN_WEIGHTS, &found, &err), VX_E_NOT_FOUND);
    dnn_close(fp16);

    only_file(dir, path);
    cr_assert_eq(truncate(path, 100), 0);
    cr_assert_neq(dnn_store_get(dnn, dir, &conv, DNN_WEIGHTS, &found, &err), VX_OK);
    cr_assert_null(found.desc);
    cr_assert_eq(vx_remove_tree(dir, NULL), VX_OK);
    dnn_list_free(list, n);
    dnn_close(dnn);
}
