#include "infer/validate.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "cache/cache.h"
#include "infer/export.h"
#include "infer/stamp.h"
#include "infer/summary.h"
#include "volume/nifti.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MAX_LOGIT_BYTES (16ull << 30)

static char *prediction_path(const struct vx_validate_options *o, const char *name) {
    return vx_strf("%s/%s%s", o->out_dir, name, o->file_ending);
}

static char *final_path(const struct vx_validate_options *o, const char *name) {
    return vx_strf("%s/%s%s", o->final_dir ? o->final_dir : o->out_dir, name, o->file_ending);
}

/* Removes predictions of other weights, then writes the stamp of these. */
static int check_stamp(const struct vx_validate_options *o, struct vx_err *err) {
    int rc = vx_mkdirs(o->out_dir, 0777, err);
    if (rc != VX_OK || vx_stamp_is(o->out_dir, o->stamp)) {
        return rc;
    }
    for (size_t i = 0; rc == VX_OK && i < o->n_cases; i++) {
        vx_auto_free char *prediction = prediction_path(o, o->cases[i].name);
        rc = prediction ? vx_remove_tree(prediction, err)
                        : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    return rc == VX_OK ? vx_stamp_write(o->out_dir, o->stamp, err) : rc;
}

/* The whole image of an opened case; caller frees. */
static int read_image(struct vx_cache_case *c, float **ret, struct vx_err *err) {
    const struct vx_cache_info *info = vx_cache_case_info(c);
    static const int64_t origin[3];
    size_t n = (size_t)(info->n_channels * vx_shape_count(info->shape));
    vx_auto_free float *image = malloc(n * sizeof *image);
    if (!image) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the image of case %s", info->name);
    }
    int rc = vx_cache_read_box(c, VX_CACHE_IMAGE, origin, info->shape, image, NULL, err);
    if (rc == VX_OK) {
        *ret = vx_steal(image);
    }
    return rc;
}

static int check_case(const struct vx_validate_options *o, const struct vx_cache_info *info,
                      struct vx_err *err) {
    if (info->n_channels != vx_predictor_channels(o->predictor)) {
        return vx_fail(err, VX_E_INVALID, "channel_mismatch",
                       "case %s has %d channels, the network takes %d", info->name,
                       info->n_channels, vx_predictor_channels(o->predictor));
    }
    uint64_t limit = o->max_logit_bytes ? o->max_logit_bytes : DEFAULT_MAX_LOGIT_BYTES;
    uint64_t need = (uint64_t)vx_shape_count(info->shape) * sizeof(float) *
                    (uint64_t)vx_predictor_classes(o->predictor);
    if (need > limit) {
        return vx_fail(err, VX_E_LIMIT, "logits_too_large",
                       "case %s: logits of %d classes need %llu bytes, the limit is %llu",
                       info->name, vx_predictor_classes(o->predictor), (unsigned long long)need,
                       (unsigned long long)limit);
    }
    return VX_OK;
}

/* Predicts one case into a label map on its original grid. */
static int predict(const struct vx_validate_options *o, const char *name, struct vx_labelmap *ret,
                   struct vx_err *err) {
    vx_auto_cache_case struct vx_cache_case *c = NULL;
    int rc = vx_cache_case_open(o->cache, name, &c, err);
    const struct vx_cache_info *info = rc == VX_OK ? vx_cache_case_info(c) : NULL;
    rc = rc == VX_OK ? check_case(o, info, err) : rc;
    struct vx_geometry geo;
    rc = rc == VX_OK ? vx_geometry_from_json(info->geometry, &geo, err) : rc;
    vx_auto_free float *image = NULL;
    rc = rc == VX_OK ? read_image(c, &image, err) : rc;
    if (rc != VX_OK) {
        return rc;
    }
    int classes = vx_predictor_classes(o->predictor);
    vx_auto_free float *logits =
        malloc((size_t)(classes * vx_shape_count(info->shape)) * sizeof *logits);
    if (!logits) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the logits of case %s", name);
    }
    rc = vx_predictor_run(o->predictor, image, info->shape, logits, o->tick, o->context, err);
    if (rc != VX_OK) {
        return rc;
    }
    free(vx_steal(image));
    struct vx_export_grid grid;
    vx_export_grid_of_case(info, o->transpose_forward, &grid);
    return vx_export_labels(logits, classes, info->shape, &grid, &geo, ret, err);
}

/* The case's prediction: the file of an earlier run where it is whole, else a new one. */
static int obtain(const struct vx_validate_options *o, const char *name, const char *path,
                  struct vx_labelmap *ret, bool *ret_kept, struct vx_err *err) {
    *ret_kept = vx_path_exists(path) && vx_nifti_read_labels(path, NULL, ret, NULL) == VX_OK;
    if (*ret_kept) {
        return VX_OK;
    }
    int rc = predict(o, name, ret, err);
    return rc == VX_OK ? vx_nifti_write_labels(path, ret, err) : rc;
}

static int validate_case(const struct vx_validate_options *o, size_t i, struct vx_summary *summary,
                         struct vx_validate_result *result, struct vx_err *err) {
    const struct vx_validate_case *c = &o->cases[i];
    vx_auto_free char *path = prediction_path(o, c->name), *named = final_path(o, c->name);
    if (!path || !named) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    vx_auto_labelmap struct vx_labelmap prediction = {0}, reference = {0};
    struct vx_confusion counts[VX_METRIC_MAX_CLASSES];
    double dice[VX_METRIC_MAX_CLASSES];
    bool kept;
    int rc = obtain(o, c->name, path, &prediction, &kept, err);
    rc = rc == VX_OK ? vx_nifti_read_labels(c->reference, NULL, &reference, err) : rc;
    rc = rc == VX_OK ? vx_metrics_count(&prediction, &reference, o->classes, o->n_classes,
                                        o->ignore, counts, err)
                     : rc;
    rc = rc == VX_OK ? vx_summary_add(summary, named, c->reference, counts, err) : rc;
    if (rc != VX_OK) {
        vx_err_prefix(err, "validation of case %s", c->name);
        return rc;
    }
    result->n_kept += kept;
    for (size_t k = 0; k < o->n_classes; k++) {
        dice[k] = vx_metrics_dice(&counts[k]);
    }
    if (o->progress &&
        o->progress(o->context, i + 1, o->n_cases, c->name, dice, o->n_classes) != 0) {
        return vx_fail(err, VX_E_CANCELLED, NULL, "the validation was cancelled after %zu of %zu",
                       i + 1, o->n_cases);
    }
    return VX_OK;
}

int vx_validate(const struct vx_validate_options *o, struct vx_validate_result *ret,
                struct vx_err *err) {
    if (o->n_classes < 1 || o->n_classes > VX_METRIC_MAX_CLASSES || o->n_cases < 1) {
        return vx_fail(err, VX_E_INVALID, NULL, "%zu cases and %zu classes to validate", o->n_cases,
                       o->n_classes);
    }
    struct vx_validate_result result = {.n_cases = o->n_cases, .n_classes = o->n_classes};
    vx_auto_summary struct vx_summary *summary = vx_summary_create(o->classes, o->n_classes);
    vx_auto_free char *path = vx_strf("%s/summary.json", o->out_dir);
    if (!summary || !path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the summary");
    }
    int rc = check_stamp(o, err);
    for (size_t i = 0; rc == VX_OK && i < o->n_cases; i++) {
        rc = validate_case(o, i, summary, &result, err);
    }
    rc = rc == VX_OK ? vx_summary_write(summary, path, err) : rc;
    if (rc != VX_OK) {
        return rc;
    }
    for (size_t k = 0; k < o->n_classes; k++) {
        result.dice[k] = vx_summary_dice(summary, k);
    }
    result.foreground_mean = vx_summary_foreground_dice(summary);
    *ret = result;
    return VX_OK;
}
