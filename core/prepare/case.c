#include "prepare/case.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/own.h"
#include "cache/build.h"
#include "cache/cache.h"
#include "plan/dataset.h"
#include "plan/plans.h"
#include "prepare/check.h"
#include "prepare/crop.h"
#include "prepare/locations.h"
#include "prepare/normalise.h"
#include "volume/nifti.h"
#include "volume/resample.h"
#include "volume/volume.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A case on its way; shape is that of image and seg as they are now. */
struct work {
    const struct vx_case_recipe *recipe;
    const int *forward; /* transpose_forward */
    int channels;
    bool has_label;
    int64_t shape[3];
    double spacing[3];
    float *image; /* owned */
    int16_t *seg; /* owned */
};

static size_t count(const int64_t shape[3]) {
    return (size_t)(shape[0] * shape[1] * shape[2]);
}

static int no_memory(const struct work *w, const char *what, struct vx_err *err) {
    return vx_fail(err, VX_E_NOMEM, NULL, "no memory to %s a case of %lld x %lld x %lld voxels",
                   what, (long long)w->shape[0], (long long)w->shape[1], (long long)w->shape[2]);
}

static int check_name(const char *name, struct vx_err *err) {
    return strlen(name) <= VX_CACHE_MAX_NAME
               ? VX_OK
               : vx_fail(err, VX_E_INVALID, "bad_name",
                         "the case name %.40s... is longer than %d bytes", name, VX_CACHE_MAX_NAME);
}

/* The check that both the network's input and the labels rest on. */
static int check_case(const struct vx_volume *image, const struct vx_labelmap *label,
                      const struct vx_case_recipe *r, struct vx_err *err) {
    char text[400];
    const char *code;
    if (image->channels != r->config->n_channels) {
        return vx_fail(err, VX_E_INVALID, "channel_mismatch",
                       "the case has %d channels, the plan %d", image->channels,
                       r->config->n_channels);
    }
    if (!check_finite(image, text, sizeof text)) {
        return vx_fail(err, VX_E_INVALID, "not_finite", "%s", text);
    }
    if (label && !check_same_grid(image->shape, &image->geo, label->shape, &label->geo, "label",
                                  &code, text, sizeof text)) {
        return vx_fail(err, VX_E_INVALID, code, "%s", text);
    }
    if (label && !check_labels(label, r->dataset, text, sizeof text)) {
        return vx_fail(err, VX_E_INVALID, "unexpected_label", "%s", text);
    }
    return VX_OK;
}

/* Crops image and label (both consumed) into w; the box in the volume's axes. */
static int crop(struct work *w, struct vx_volume *image, struct vx_labelmap *label,
                struct vx_crop_box *ret_box, struct vx_err *err) {
    size_t n = count(image->shape);
    vx_auto_free uint8_t *mask = malloc(n);
    memcpy(w->shape, image->shape, sizeof w->shape);
    if (!mask) {
        return no_memory(w, "crop", err);
    }
    int rc = vx_crop_find(image->data, image->channels, image->shape, mask, ret_box, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_crop_box_shape(ret_box, w->shape);
    size_t kept = count(w->shape);
    w->seg = malloc(kept * sizeof *w->seg);
    if (!w->seg) {
        return no_memory(w, "crop", err);
    }
    vx_crop_labels(label ? label->data : NULL, mask, image->shape, ret_box, w->seg);
    if (label) {
        vx_labelmap_release(label);
    }
    if (kept == n) {
        w->image = vx_steal(image->data);
    } else {
        w->image = malloc(kept * (size_t)w->channels * sizeof *w->image);
        if (!w->image) {
            return no_memory(w, "crop", err);
        }
        vx_crop_image(image->data, w->channels, image->shape, ret_box, w->image);
    }
    vx_volume_release(image);
    return VX_OK;
}

/* dst = src with axis a of dst being axis forward[a] of src; elements of size bytes. */
static void transpose(const void *src, const int64_t shape[3], const int forward[3], size_t size,
                      void *dst) {
    const int64_t stride[3] = {shape[1] * shape[2], shape[2], 1};
    const int64_t *n = shape;
    char *out = dst;
    for (int64_t a = 0; a < n[forward[0]]; a++) {
        for (int64_t b = 0; b < n[forward[1]]; b++) {
            const char *row = (const char *)src +
                              (size_t)(a * stride[forward[0]] + b * stride[forward[1]]) * size;
            size_t step = (size_t)stride[forward[2]] * size;
            for (int64_t c = 0; c < n[forward[2]]; c++) {
                memcpy(out, row, size);
                row += step;
                out += size;
            }
        }
    }
}

static void permute(const int64_t in[3], const int forward[3], int64_t out[3]) {
    for (int a = 0; a < 3; a++) {
        out[a] = in[forward[a]];
    }
}

/* To the plan's axes; nothing is moved where they are the file's. */
static int to_plan_axes(struct work *w, struct vx_err *err) {
    const int *f = w->forward;
    if (f[0] == 0 && f[1] == 1) {
        return VX_OK;
    }
    size_t n = count(w->shape);
    float *image = malloc(n * (size_t)w->channels * sizeof *image);
    int16_t *seg = malloc(n * sizeof *seg);
    if (!image || !seg) {
        free(image);
        free(seg);
        return no_memory(w, "transpose", err);
    }
    for (int c = 0; c < w->channels; c++) {
        transpose(w->image + (size_t)c * n, w->shape, f, sizeof *image, image + (size_t)c * n);
    }
    transpose(w->seg, w->shape, f, sizeof *seg, seg);
    free(w->image);
    free(w->seg);
    w->image = image;
    w->seg = seg;
    int64_t shape[3];
    permute(w->shape, f, shape);
    memcpy(w->shape, shape, sizeof shape);
    return VX_OK;
}

static int normalise(struct work *w, struct vx_err *err) {
    const struct vx_plan_config *c = w->recipe->config;
    size_t n = count(w->shape);
    int rc = VX_OK;
    for (int i = 0; i < w->channels && rc == VX_OK; i++) {
        rc = vx_normalise((int)c->norm[i], c->use_mask_for_norm[i], &w->recipe->plans->intensity[i],
                          w->seg, w->image + (size_t)i * n, n, err);
    }
    return rc;
}

/* The configuration's spacing; in 2d slices stay as they are along axis 0. */
static void target_spacing(const struct vx_plan_config *c, const double spacing[3], double ret[3]) {
    for (int a = 0; a < 3; a++) {
        ret[a] = c->dims == 2 && a == 0 ? spacing[0] : c->spacing[a];
    }
}

static int resample(struct work *w, struct vx_err *err) {
    double target[3];
    int64_t shape[3];
    target_spacing(w->recipe->config, w->spacing, target);
    vx_resample_shape(w->shape, w->spacing, target, shape);
    int axis = vx_resample_axis(w->spacing, target);
    memcpy(w->spacing, target, sizeof target);
    if (memcmp(shape, w->shape, sizeof shape) == 0) {
        return VX_OK;
    }
    size_t n = count(shape);
    float *image = malloc(n * (size_t)w->channels * sizeof *image);
    int16_t *seg = w->has_label ? malloc(n * sizeof *seg) : NULL;
    int rc = image && (seg || !w->has_label) ? VX_OK : no_memory(w, "resample", err);
    if (rc == VX_OK) {
        rc = vx_resample_image(w->image, w->channels, w->shape, axis, shape, image, err);
    }
    free(vx_steal(w->image));
    if (rc == VX_OK && w->has_label) {
        rc = vx_resample_labels(w->seg, w->shape, axis, shape, seg, err);
    }
    free(w->seg);
    w->image = image;
    w->seg = seg;
    memcpy(w->shape, shape, sizeof shape);
    return rc;
}

static int add_locations(const struct work *w, struct vx_prepared *p, struct vx_err *err) {
    vx_auto_locations struct vx_locations l = {0};
    const struct vx_dataset_desc *d = w->recipe->dataset;
    int rc = vx_locations_make(w->seg, w->shape, d->n_labels, d->ignore_label, &l, err);
    if (rc == VX_OK) {
        p->info->n_classes = l.n_classes;
        p->info->classes = vx_steal(l.classes);
        p->locations = vx_steal(l.coords);
    }
    return rc;
}

static void fill_info(const char *name, const struct work *w, const struct vx_crop_box *box,
                      const int64_t shape_raw[3], const double spacing_raw[3],
                      struct vx_cache_info *info) {
    const int *f = w->forward;
    snprintf(info->name, sizeof info->name, "%s", name);
    info->n_channels = w->channels;
    info->has_seg = w->has_label;
    for (int a = 0; a < 3; a++) {
        info->shape[a] = w->shape[a];
        info->spacing[a] = w->spacing[a];
        info->shape_raw[a] = shape_raw[f[a]];
        info->spacing_raw[a] = spacing_raw[f[a]];
        info->crop_lo[a] = box->lo[f[a]];
        info->crop_hi[a] = box->hi[f[a]];
        info->shape_cropped[a] = info->crop_hi[a] - info->crop_lo[a];
    }
}

/* Everything from the volumes in memory to arrays ready to be stored; w owns what is unfinished. */
static int process(const char *name, struct vx_volume *image, struct vx_labelmap *label,
                   struct work *w, struct vx_prepared *p, struct vx_err *err) {
    int64_t shape_raw[3];
    double spacing_raw[3];
    struct vx_crop_box box;
    memcpy(shape_raw, image->shape, sizeof shape_raw);
    memcpy(spacing_raw, image->geo.spacing, sizeof spacing_raw);
    int rc = check_case(image, label, w->recipe, err);
    p->info->geometry = rc == VX_OK ? vx_geometry_to_json(&image->geo) : NULL;
    rc = rc == VX_OK ? crop(w, image, label, &box, err) : rc;
    rc = rc == VX_OK ? to_plan_axes(w, err) : rc;
    for (int a = 0; a < 3; a++) {
        w->spacing[a] = spacing_raw[w->forward[a]];
    }
    rc = rc == VX_OK ? normalise(w, err) : rc;
    uint64_t before = vx_now_ns();
    rc = rc == VX_OK ? resample(w, err) : rc;
    p->seconds_resample = (double)(vx_now_ns() - before) * 1e-9;
    if (rc == VX_OK && w->has_label) {
        rc = add_locations(w, p, err);
    }
    if (rc == VX_OK) {
        fill_info(name, w, &box, shape_raw, spacing_raw, p->info);
        p->image = vx_steal(w->image);
        p->seg = w->has_label ? vx_steal(w->seg) : NULL;
    }
    return rc;
}

int vx_case_make_from(const char *name, struct vx_volume *image, struct vx_labelmap *label,
                      const struct vx_case_recipe *recipe, struct vx_prepared *ret,
                      struct vx_err *err) {
    uint64_t start = vx_now_ns();
    struct vx_prepared p = {.info = calloc(1, sizeof *p.info)};
    struct work w = {.recipe = recipe,
                     .forward = recipe->plans->transpose_forward,
                     .channels = image->channels,
                     .has_label = label != NULL};
    int rc = p.info ? check_name(name, err) : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    rc = rc == VX_OK ? process(name, image, label, &w, &p, err) : rc;
    free(w.image);
    free(w.seg);
    vx_volume_release(image);
    if (label) {
        vx_labelmap_release(label);
    }
    if (rc != VX_OK) {
        vx_prepared_release(&p);
        return rc;
    }
    p.seconds_other = (double)(vx_now_ns() - start) * 1e-9 - p.seconds_resample;
    *ret = p;
    return VX_OK;
}

static int read_volumes(const struct vx_case_input *in, struct vx_volume *image,
                        struct vx_labelmap *label, struct vx_err *err) {
    int rc = vx_nifti_read_channels(in->images, in->n_images, NULL, image, NULL, err);
    return rc == VX_OK && in->label ? vx_nifti_read_labels(in->label, NULL, label, err) : rc;
}

/* Which file a check's error is about. */
static void name_file(const struct vx_case_input *in, struct vx_err *err) {
    if (err && !err->where[0]) {
        bool of_label = in->label && strcmp(err->reason, "not_finite") != 0 &&
                        strcmp(err->reason, "channel_mismatch") != 0;
        vx_err_at(err, "%s", of_label ? in->label : in->images[0]);
    }
}

int vx_case_check(const struct vx_case_input *in, const struct vx_case_recipe *recipe,
                  struct vx_err *err) {
    vx_auto_volume struct vx_volume image = {0};
    vx_auto_labelmap struct vx_labelmap label = {0};
    int rc = check_name(in->name, err);
    rc = rc == VX_OK ? read_volumes(in, &image, &label, err) : rc;
    if (rc == VX_OK) {
        rc = check_case(&image, in->label ? &label : NULL, recipe, err);
        if (rc != VX_OK) {
            name_file(in, err);
        }
    }
    return rc;
}

int vx_case_make(const struct vx_case_input *in, const struct vx_case_recipe *recipe,
                 struct vx_prepared *ret, struct vx_err *err) {
    uint64_t start = vx_now_ns();
    vx_auto_volume struct vx_volume image = {0};
    vx_auto_labelmap struct vx_labelmap label = {0};
    struct vx_cache_source *sources = NULL;
    size_t n_sources = 0;
    /* Sizes and times before the content: a file that changes meanwhile is then seen as changed. */
    int rc = vx_case_sources(in, &sources, &n_sources, err);
    rc = rc == VX_OK ? read_volumes(in, &image, &label, err) : rc;
    double seconds = (double)(vx_now_ns() - start) * 1e-9;
    if (rc == VX_OK) {
        rc = vx_case_make_from(in->name, &image, in->label ? &label : NULL, recipe, ret, err);
        if (rc != VX_OK) {
            name_file(in, err);
        }
    }
    if (rc != VX_OK) {
        free(sources);
        return rc;
    }
    ret->info->sources = sources;
    ret->info->n_sources = n_sources;
    ret->seconds_read = seconds;
    return VX_OK;
}

void vx_prepared_release(struct vx_prepared *p) {
    if (p->info) {
        json_decref(p->info->geometry);
        free(p->info->classes);
        free(p->info->sources);
    }
    free(p->info);
    free(p->image);
    free(p->seg);
    free(p->locations);
    *p = (struct vx_prepared){0};
}

int vx_case_store(const char *store_dir, const struct vx_prepared *p,
                  const struct vx_plan_config *config, uint64_t *ret_bytes, struct vx_err *err) {
    struct vx_cache_case_data data = {.info = *p->info,
                                      .image = p->image,
                                      .seg = p->seg,
                                      .locations = (const int32_t(*)[3])p->locations};
    for (int a = 0; a < 3; a++) {
        data.patch[a] = config->patch_size[a];
    }
    return vx_cache_write_case(store_dir, &data, ret_bytes, err);
}
