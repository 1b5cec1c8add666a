/* nnU-Net's augmentation without nnU-Net: figures that its own transforms gave for small made-up
 * samples (tests/oracle/golden/augment.json, written by tests/oracle/run augment --golden). */
#include "augment/voxel.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/own.h"
#include "oracle/augment_task.h"
#include "oracle/hashed.h"

#include <criterion/criterion.h>
#include <math.h>

static json_t *golden(void) {
    json_t *json = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_json_load_file("tests/oracle/golden/augment.json", 1 << 20, &json, &err), VX_OK,
                 "%s", err.text);
    return json;
}

static void make_input(const struct vx_aug_policy *p, float *image, int16_t *label) {
    size_t n = augment_volume(p->initial);
    for (uint32_t c = 0; c < p->channels; c++) {
        for (size_t i = 0; i < n; i++) {
            image[c * n + i] = hashed((uint32_t)i, c);
        }
    }
    for (size_t i = 0; i < n; i++) {
        int x = (int)(i % (size_t)p->initial[2]);
        int y = (int)(i / (size_t)p->initial[2] % (size_t)p->initial[1]);
        int z = (int)(i / (size_t)p->initial[2] / (size_t)p->initial[1]);
        label[i] = (int16_t)(x < 3 ? -1 : (z / 3 + y / 4 + x / 3) % 4);
    }
}

static void check_channel(const float *x, size_t n, const json_t *want, size_t sample, uint32_t c) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    double mean = sum / (double)n, std = sqrt(squares / (double)n - mean * mean);
    double want_mean = json_number_value(json_object_get(want, "mean"));
    double want_std = json_number_value(json_object_get(want, "std"));
    cr_assert_float_eq(mean, want_mean, 1e-5, "sample %zu channel %u", sample, c);
    cr_assert_float_eq(std, want_std, 1e-5, "sample %zu channel %u", sample, c);
    const json_t *at = json_object_get(want, "at");
    size_t picked = json_array_size(at);
    cr_assert_geq(picked, 11);
    for (size_t i = 0; i < picked; i++) {
        /* numpy.linspace(0, n - 1, picked) cut off */
        size_t v = (size_t)((double)i * ((double)(n - 1) / (double)(picked - 1)));
        double wanted = json_number_value(json_array_get(at, i));
        cr_assert_float_eq((double)x[v], wanted, 2e-5, "sample %zu channel %u voxel %zu: %.7g %.7g",
                           sample, c, v, (double)x[v], wanted);
    }
}

Test(augment_oracle, samples_are_batchgeneratorsv2s) {
    vx_auto_json json_t *figures = golden();
    size_t i;
    json_t *task;
    json_array_foreach(json_object_get(figures, "samples"), i, task) {
        struct vx_aug_policy p;
        struct vx_aug_params a;
        cr_assert(augment_task_read(task, &p, &a));
        size_t n = augment_volume(p.patch), whole = augment_volume(p.initial);
        vx_auto_free float *initial = malloc(p.channels * whole * sizeof(float));
        vx_auto_free int16_t *labels = malloc(whole * sizeof(int16_t));
        vx_auto_free float *image = malloc(p.channels * n * sizeof(float));
        vx_auto_free int16_t *label = malloc(n * sizeof(int16_t));
        make_input(&p, initial, labels);
        cr_assert(augment_task_apply(&p, &a, initial, labels, image, label));
        for (uint32_t c = 0; c < p.channels; c++) {
            check_channel(image + c * n, n, json_array_get(json_object_get(task, "image"), c), i,
                          c);
        }
        const char *want = json_string_value(json_object_get(task, "label"));
        cr_assert_eq(strlen(want), n);
        for (size_t v = 0; v < n; v++) {
            cr_assert_eq(label[v], want[v] - '0', "sample %zu label %zu", i, v);
        }
    }
    cr_assert_geq(i, 19);
}

Test(augment_oracle, policies_are_the_trainers) {
    vx_auto_json json_t *figures = golden();
    size_t i;
    json_t *want;
    json_array_foreach(json_object_get(figures, "policies"), i, want) {
        const json_t *patch = json_object_get(want, "patch"),
                     *initial = json_object_get(want, "initial"),
                     *axes = json_object_get(want, "mirror_axes");
        size_t dims = json_array_size(patch), skip = 3 - dims;
        int32_t size[3] = {1, 1, 1};
        struct vx_aug_policy p;
        uint32_t mirror = 0;
        for (size_t a = 0; a < dims; a++) {
            size[a + skip] = (int32_t)json_integer_value(json_array_get(patch, a));
        }
        for (size_t a = 0; a < json_array_size(axes); a++) {
            mirror |= 1u << (skip + (size_t)json_integer_value(json_array_get(axes, a)));
        }
        cr_assert_eq(vx_aug_policy_default((uint32_t)dims, 1, size, &p), VX_OK);
        for (size_t a = 0; a < dims; a++) {
            cr_assert_eq(p.initial[a + skip], json_integer_value(json_array_get(initial, a)),
                         "patch %zu axis %zu", i, a);
        }
        const json_t *limits = json_object_get(want, "rotation");
        cr_assert_float_eq((double)p.rotation_limit, json_number_value(json_array_get(limits, 1)),
                           1e-6);
        cr_assert_eq(p.dummy_2d != 0, json_is_true(json_object_get(want, "dummy_2d")));
        cr_assert_eq(p.mirror_axes, mirror);
    }
    cr_assert_geq(i, 20);
}

/* torch picks by float arithmetic: here and there another voxel than exact fractions say. */
Test(augment_oracle, shrinking_picks_torchs_voxels) {
    enum { MOST = 256 };
    vx_auto_json json_t *figures = golden();
    size_t count = 0, at = 0;
    for (int32_t in = 1; in <= MOST; in++) {
        for (int32_t out = (in + 1) / 2; out <= in; out++) {
            count += (size_t)out;
        }
    }
    vx_auto_free int32_t *picked = malloc(count * sizeof *picked);
    for (int32_t in = 1; in <= MOST; in++) {
        for (int32_t out = (in + 1) / 2; out <= in; out++) {
            for (int32_t o = 0; o < out; o++) {
                picked[at++] = vx_nearest_exact(o, in, out);
            }
        }
    }
    char hex[VX_SHA256_HEX];
    vx_sha256_hex(picked, count * sizeof *picked, hex);
    cr_assert_str_eq(hex, json_string_value(json_object_get(figures, "nearest_exact")));
    /* (11 + 0.5) * 56 / 46 is 14 exactly, and 13.999999 in floats */
    cr_assert_eq(vx_nearest_exact(11, 56, 46), 13);
}
