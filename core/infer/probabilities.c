#include "infer/probabilities.h"
#include "base/err.h"
#include "base/own.h"
#include "infer/export_internal.h"
#include "volume/resample.h"
#include "volume/volume.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Arrays of the crop box are [Z][Y][X]. */
struct softmax {
    const struct vx_export_grid *grid;
    float *top;      /* largest logit so far */
    float *sum;      /* of exp(logit - top) so far */
    float *best;     /* largest probability so far */
    int16_t *label;  /* its class */
    float *row;      /* one slice of the class being made */
    float *volume;   /* the class being made, on the file's grid */
    int64_t plane;   /* voxels of a slice */
    int16_t current; /* class being made */
};

static void softmax_release(struct softmax *s) {
    free(s->top);
    free(s->sum);
    free(s->best);
    free(s->label);
    free(s->row);
    free(s->volume);
}

static bool softmax_init(struct softmax *s, const int64_t cropped[3], const int64_t file[3]) {
    size_t n = (size_t)vx_shape_count(cropped);
    s->plane = cropped[1] * cropped[2];
    s->top = malloc(n * sizeof *s->top);
    s->sum = malloc(n * sizeof *s->sum);
    s->best = calloc(n, sizeof *s->best);
    s->label = calloc(n, sizeof *s->label);
    s->row = malloc((size_t)s->plane * sizeof *s->row);
    s->volume = malloc((size_t)vx_shape_count(file) * sizeof *s->volume);
    return s->top && s->sum && s->best && s->label && s->row && s->volume;
}

/* First pass: the sum is kept relative to the largest logit seen, so that nothing overflows. */
static int add_slice(void *context, int64_t z, const float *slice) {
    struct softmax *s = context;
    float *top = s->top + z * s->plane, *sum = s->sum + z * s->plane;
    for (int64_t i = 0; i < s->plane; i++) {
        float d = slice[i] - top[i];
        float e = expf(-fabsf(d));
        sum[i] = d > 0 ? sum[i] * e + 1 : sum[i] + e;
        top[i] = d > 0 ? slice[i] : top[i];
    }
    return VX_OK;
}

static int first_slice(void *context, int64_t z, const float *slice) {
    struct softmax *s = context;
    memcpy(s->top + z * s->plane, slice, (size_t)s->plane * sizeof *slice);
    for (int64_t i = 0; i < s->plane; i++) {
        s->sum[z * s->plane + i] = 1;
    }
    return VX_OK;
}

/* Second pass. */
static int make_slice(void *context, int64_t z, const float *slice) {
    struct softmax *s = context;
    for (int64_t i = 0, at = z * s->plane; i < s->plane; i++, at++) {
        float p = expf(slice[i] - s->top[at]) / s->sum[at];
        bool larger = p > s->best[at];
        s->row[i] = p;
        s->best[at] = larger ? p : s->best[at];
        s->label[at] = larger ? s->current : s->label[at];
    }
    export_paste_slice(s->grid, z, s->row, sizeof *s->row, s->volume);
    return VX_OK;
}

/* What one export works on. */
struct work {
    const float *logits;
    int classes;
    const int64_t *shape;
    const struct vx_export_grid *grid;
    int64_t cropped[3], file[3];
    int axis; /* treated separately */
    struct softmax s;
};

static int each_slice(struct work *w, int cls, vx_resample_slice_fn fn, struct vx_err *err) {
    return vx_resample_linear_slices(w->logits + cls * vx_shape_count(w->shape), w->shape, w->axis,
                                     w->cropped, fn, &w->s, err);
}

/* Class after class. */
static int hand_out(struct work *w, vx_probability_fn fn, void *context, struct vx_err *err) {
    size_t n = (size_t)vx_shape_count(w->file);
    int rc = VX_OK;
    for (int c = 0; rc == VX_OK && c < w->classes; c++) {
        for (size_t i = 0; c < 2 && i < n; i++) { /* later classes have the same zeros outside */
            w->s.volume[i] = c == 0 ? 1 : 0;
        }
        w->s.current = (int16_t)c;
        rc = each_slice(w, c, make_slice, err);
        rc = rc == VX_OK ? fn(context, c, w->s.volume, n, err) : rc;
    }
    return rc;
}

static int export_all(struct work *w, const struct vx_geometry *geo, vx_probability_fn fn,
                      void *context, struct vx_labelmap *ret, struct vx_err *err) {
    if (!softmax_init(&w->s, w->cropped, w->file)) {
        return vx_fail(err, VX_E_NOMEM, NULL,
                       "no memory for the probabilities of %lld x %lld x %lld voxels (14 bytes for "
                       "each of %lld inside the crop box, 6 for each in all)",
                       (long long)w->file[0], (long long)w->file[1], (long long)w->file[2],
                       (long long)vx_shape_count(w->cropped));
    }
    int rc = VX_OK;
    for (int c = 0; rc == VX_OK && c < w->classes; c++) {
        rc = each_slice(w, c, c == 0 ? first_slice : add_slice, err);
    }
    rc = rc == VX_OK ? hand_out(w, fn, context, err) : rc;
    rc = rc == VX_OK ? vx_labelmap_init(ret, w->file, geo, err) : rc;
    if (rc == VX_OK) {
        export_paste_labels(w->grid, w->s.label, ret->data);
    }
    return rc;
}

int vx_export_probabilities(const float *logits, int classes, const int64_t shape[3],
                            const struct vx_export_grid *grid, const struct vx_geometry *geo,
                            vx_probability_fn fn, void *context, struct vx_labelmap *ret,
                            struct vx_err *err) {
    int rc = export_check(grid, classes, shape, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct work w = {.logits = logits,
                     .classes = classes,
                     .shape = shape,
                     .grid = grid,
                     .axis = vx_resample_axis(grid->spacing, grid->spacing_raw),
                     .s.grid = grid};
    export_shapes(grid, w.cropped, w.file);
    rc = export_all(&w, geo, fn, context, ret, err);
    softmax_release(&w.s);
    return rc;
}
