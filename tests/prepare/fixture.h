/* Raw data sets in a folder of their own, for the tests of core/prepare. */
#ifndef VX_TESTS_PREPARE_FIXTURE_H
#define VX_TESTS_PREPARE_FIXTURE_H

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "plan/dataset.h"
#include "volume/nifti.h"
#include "volume/rawset.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define expect_ok(call)                                                                            \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        cr_assert_eq(rc_, VX_OK, "%s: %d %s (%s)", #call, rc_, e.text, e.where);                   \
    } while (0)

static inline char *fixture_dir(const char *name) {
    const char *tmp = getenv("TMPDIR");
    char *dir = vx_strf("%s/vx-prepare-%s-%d", tmp ? tmp : "/tmp", name, (int)getpid());
    vx_auto_free char *images = vx_strf("%s/imagesTr", dir), *labels = vx_strf("%s/labelsTr", dir);
    cr_assert_eq(vx_remove_tree(dir, NULL), VX_OK);
    cr_assert_eq(vx_mkdirs(images, 0755, NULL), VX_OK);
    cr_assert_eq(vx_mkdirs(labels, 0755, NULL), VX_OK);
    return dir;
}

static inline struct vx_dataset_desc fixture_dataset(int channels, int labels, int cases) {
    struct vx_dataset_desc d = {.name = "Dataset900_Made",
                                .n_channels = channels,
                                .n_labels = labels,
                                .ignore_label = -1,
                                .n_declared = labels,
                                .file_ending = ".nii.gz",
                                .num_training = cases};
    for (int i = 0; i < labels; i++) {
        d.labels[i].value = i;
    }
    return d;
}

/* A block of 1 + x + 10 y + 100 z (channel 0; others twice that) with zeros around it, two voxels
 * thick in x. Labels 1 and 2 inside. */
static inline void fixture_case(const int64_t shape[3], const double spacing[3], int channels,
                                struct vx_volume *image, struct vx_labelmap *label) {
    struct vx_geometry geo;
    vx_geometry_init(&geo, spacing);
    cr_assert_eq(vx_volume_init(image, channels, shape, &geo, NULL), VX_OK);
    cr_assert_eq(vx_labelmap_init(label, shape, &geo, NULL), VX_OK);
    int64_t n = vx_shape_count(shape);
    for (int64_t i = 0; i < n; i++) {
        int64_t z = i / shape[2] / shape[1], y = i / shape[2] % shape[1], x = i % shape[2];
        if (x < 2 || x >= shape[2] - 2) {
            continue;
        }
        for (int c = 0; c < channels; c++) {
            image->data[c * n + i] = (float)((1 + x + 10 * y + 100 * z) * (c + 1));
        }
        label->data[i] = (int16_t)(y > shape[1] / 2 ? 1 + (z > shape[0] / 2) : 0);
    }
}

static inline void fixture_write(const char *dir, const char *name, const struct vx_volume *image,
                                 const struct vx_labelmap *label) {
    struct vx_err e = {0};
    size_t n = (size_t)vx_shape_count(image->shape);
    for (int c = 0; c < image->channels; c++) {
        vx_auto_free char *path = vx_strf("%s/imagesTr/%s_%04d.nii.gz", dir, name, c);
        struct vx_volume one = *image;
        one.channels = 1;
        one.data = image->data + (size_t)c * n;
        expect_ok(vx_nifti_write_image(path, &one, &e));
    }
    if (label) {
        vx_auto_free char *path = vx_strf("%s/labelsTr/%s.nii.gz", dir, name);
        expect_ok(vx_nifti_write_labels(path, label, &e));
    }
}

static inline void fixture_list(const char *dir, int channels, struct vx_rawset *set) {
    struct vx_err e = {0};
    struct vx_rawset_options o = {.dir = dir, .file_ending = ".nii.gz", .n_channels = channels};
    expect_ok(vx_rawset_list(&o, set, &e));
}

static inline void fixture_remove(char *dir) {
    vx_remove_tree(dir, NULL);
    free(dir);
}

#endif
