#include "prepare/locations.h"

#include "base/err.h"
#include "base/own.h"
#include "cache/cache.h"
#include "plan/mt19937.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEED       1234
#define AT_LEAST   10000
#define ONE_IN     100
#define MAX_VOXELS INT32_MAX
#define MAX_VALUE  4096 /* of a label here; data sets have at most a few hundred */

/* What one class is made of: labels [lo, hi), and the outside (-1) before them where wanted. */
struct class_range {
    int lo, hi;
    bool outside;
};

static bool belongs(const struct class_range *r, int label) {
    return (label >= r->lo && label < r->hi) || (r->outside && label == -1);
}

/* Flat indices of a class' voxels, grouped by label ascending (-1 first), each group in C order. */
static void list_voxels(const int16_t *seg, size_t n, const struct class_range *r,
                        const int64_t *counts, uint32_t *ret) {
    size_t next[MAX_VALUE + 1]; /* where the next voxel of label - 1 goes */
    size_t sum = 0;
    for (int label = -1; label < r->hi; label++) {
        next[label + 1] = sum;
        sum += belongs(r, label) ? (size_t)counts[label + 1] : 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (belongs(r, seg[i])) {
            ret[next[seg[i] + 1]++] = (uint32_t)i;
        }
    }
}

/* numpy: RandomState.permutation(n), in 32 bits to spare memory. */
static void permutation(struct vx_mt19937 *mt, uint32_t *values, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        values[i] = i;
    }
    for (uint32_t i = n; i-- > 1;) {
        uint32_t j = (uint32_t)vx_mt_interval(mt, i);
        uint32_t saved = values[i];
        values[i] = values[j];
        values[j] = saved;
    }
}

static int64_t wanted(int64_t total) {
    int64_t some = total < AT_LEAST ? total : AT_LEAST, share = (total + ONE_IN - 1) / ONE_IN;
    return some > share ? some : share;
}

/* Appends the drawn voxels of one class to l. */
static int add_class(struct vx_locations *l, size_t at, const int16_t *seg, const int64_t shape[3],
                     const struct class_range *r, const int64_t *counts, struct vx_mt19937 *mt) {
    struct vx_cache_class *c = &l->classes[at];
    c->n_voxels = r->outside ? counts[0] : 0;
    for (int label = r->lo; label < r->hi; label++) {
        c->n_voxels += counts[label + 1];
    }
    if (at > 0) {
        c->first_index = l->classes[at - 1].first_index + l->classes[at - 1].n_locations;
    }
    c->n_locations = wanted(c->n_voxels);
    if (c->n_voxels == 0) {
        return VX_OK;
    }
    size_t total = (size_t)c->n_voxels, after = (size_t)(c->first_index + c->n_locations);
    vx_auto_free uint32_t *voxels = malloc(total * sizeof *voxels);
    vx_auto_free uint32_t *order = malloc(total * sizeof *order);
    int32_t(*coords)[3] = realloc(l->coords, after * sizeof *coords);
    if (coords) {
        l->coords = coords;
    }
    if (!voxels || !order || !coords) {
        return VX_E_NOMEM;
    }
    list_voxels(seg, (size_t)(shape[0] * shape[1] * shape[2]), r, counts, voxels);
    permutation(mt, order, (uint32_t)total);
    for (int64_t i = 0; i < c->n_locations; i++) {
        int64_t flat = voxels[order[i]];
        int32_t *zyx = l->coords[c->first_index + i];
        zyx[0] = (int32_t)(flat / (shape[1] * shape[2]));
        zyx[1] = (int32_t)(flat / shape[2] % shape[1]);
        zyx[2] = (int32_t)(flat % shape[2]);
    }
    return VX_OK;
}

static int add_all(struct vx_locations *l, const int16_t *seg, const int64_t shape[3], int n_labels,
                   int ignore_label, const int64_t *counts) {
    struct vx_mt19937 mt;
    vx_mt_seed(&mt, SEED);
    int rc = VX_OK;
    for (int label = 1; label < n_labels && rc == VX_OK; label++) {
        struct class_range r = {label, label + 1, false};
        snprintf(l->classes[label - 1].key, sizeof l->classes[0].key, "%d", label);
        rc = add_class(l, (size_t)label - 1, seg, shape, &r, counts, &mt);
    }
    if (ignore_label >= 0 && rc == VX_OK) {
        struct class_range r = {0, n_labels, true};
        snprintf(l->classes[l->n_classes - 1].key, sizeof l->classes[0].key, "annotated");
        rc = add_class(l, l->n_classes - 1, seg, shape, &r, counts, &mt);
    }
    return rc;
}

int vx_locations_make(const int16_t *seg, const int64_t shape[3], int n_labels, int ignore_label,
                      struct vx_locations *ret, struct vx_err *err) {
    int64_t n = shape[0] * shape[1] * shape[2];
    if (n > MAX_VOXELS || n_labels < 1 || n_labels > MAX_VALUE) {
        return vx_fail(err, VX_E_LIMIT, "volume_too_large",
                       "a prepared case of %lld voxels and %d labels is too large; at most %d "
                       "voxels and %d labels",
                       (long long)n, n_labels, MAX_VOXELS, MAX_VALUE);
    }
    size_t n_classes = (size_t)n_labels - 1 + (ignore_label >= 0 ? 1 : 0);
    vx_auto_free int64_t *counts = calloc(MAX_VALUE + 1, sizeof *counts);
    struct vx_locations l = {.n_classes = n_classes,
                             .classes = calloc(n_classes ? n_classes : 1, sizeof *l.classes)};
    int rc = counts && l.classes ? VX_OK : VX_E_NOMEM;
    for (int64_t i = 0; i < n && rc == VX_OK; i++) {
        if (seg[i] >= -1 && seg[i] < MAX_VALUE) {
            counts[seg[i] + 1]++;
        }
    }
    rc = rc == VX_OK ? add_all(&l, seg, shape, n_labels, ignore_label, counts) : rc;
    if (rc != VX_OK) {
        vx_locations_release(&l);
        return vx_fail(err, rc, NULL, "no memory for the foreground locations of %lld voxels",
                       (long long)n);
    }
    *ret = l;
    return VX_OK;
}

void vx_locations_release(struct vx_locations *l) {
    free(l->classes);
    free(l->coords);
    *l = (struct vx_locations){0};
}
