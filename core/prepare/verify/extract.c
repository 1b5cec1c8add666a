#include "prepare/extract.h"

#include "base/err.h"
#include "base/own.h"
#include "plan/fingerprint.h"
#include "plan/mt19937.h"
#include "prepare/crop.h"
#include "volume/volume.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SEED        1234
#define TOTAL_DRAWS 100000000u

uint32_t vx_extract_draws_per_case(size_t n_cases) {
    uint32_t k = n_cases ? (uint32_t)(TOTAL_DRAWS / n_cases) : TOTAL_DRAWS;
    return k > 0 ? k : 1;
}

/* A float's bits such that unsigned order is numeric order. */
static uint32_t key_of(float x) {
    uint32_t bits;
    x += 0.0f; /* -0 is 0 */
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float value_of(uint32_t key) {
    uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Flat indices, in the whole volume, of foreground voxels inside the box. */
static int list_foreground(const struct vx_labelmap *m, const struct vx_crop_box *box,
                           int64_t **ret, size_t *ret_n) {
    size_t n = 0, cap = 0;
    int64_t *list = NULL;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1 && !(list = malloc((cap ? cap : 1) * sizeof *list))) {
            return VX_E_NOMEM;
        }
        for (int64_t z = box->lo[0]; z < box->hi[0]; z++) {
            for (int64_t y = box->lo[1]; y < box->hi[1]; y++) {
                int64_t row = (z * m->shape[1] + y) * m->shape[2];
                for (int64_t x = box->lo[2]; x < box->hi[2]; x++) {
                    if (m->data[row + x] <= 0) {
                        continue;
                    }
                    if (pass == 0) {
                        cap++;
                    } else {
                        list[n++] = row + x;
                    }
                }
            }
        }
    }
    *ret = list;
    *ret_n = n;
    return VX_OK;
}

static int by_key(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Pairs of key (high) and count (low), sorted, become distinct values with cumulative counts. */
static int collect(uint64_t *pairs, size_t n, struct vx_draws *ret) {
    qsort(pairs, n, sizeof *pairs, by_key);
    size_t distinct = 0;
    for (size_t i = 0; i < n; i++) {
        distinct += i == 0 || pairs[i] >> 32 != pairs[i - 1] >> 32;
    }
    struct vx_draws d = {.values = malloc(distinct * sizeof *d.values),
                         .cumulative = malloc(distinct * sizeof *d.cumulative)};
    if (!d.values || !d.cumulative) {
        free(d.values);
        free(d.cumulative);
        return VX_E_NOMEM;
    }
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || pairs[i] >> 32 != pairs[i - 1] >> 32) {
            d.values[d.n++] = value_of((uint32_t)(pairs[i] >> 32));
        }
        sum += (uint32_t)pairs[i];
        d.cumulative[d.n - 1] = sum;
    }
    *ret = d;
    return VX_OK;
}

static int draw_channel(struct vx_mt19937 *mt, const float *channel, const int64_t *foreground,
                        size_t n, uint32_t k, struct vx_draws *ret) {
    vx_auto_free uint32_t *counts = calloc(n, sizeof *counts);
    if (!counts) {
        return VX_E_NOMEM;
    }
    for (uint32_t i = 0; i < k; i++) {
        counts[vx_mt_below(mt, n)]++;
    }
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        used += counts[i] > 0;
    }
    vx_auto_free uint64_t *pairs = malloc(used * sizeof *pairs);
    if (!pairs) {
        return VX_E_NOMEM;
    }
    used = 0;
    for (size_t i = 0; i < n; i++) {
        if (counts[i] > 0) {
            pairs[used++] = (uint64_t)key_of(channel[foreground[i]]) << 32 | counts[i];
        }
    }
    return collect(pairs, used, ret);
}

static int draw_all(const struct vx_volume *image, const int64_t *foreground, size_t n, uint32_t k,
                    struct vx_case_print *p) {
    struct vx_mt19937 mt;
    vx_mt_seed(&mt, SEED);
    size_t voxels = (size_t)vx_shape_count(image->shape);
    int rc = VX_OK;
    for (int c = 0; c < image->channels && n > 0 && rc == VX_OK; c++) {
        rc = draw_channel(&mt, image->data + (size_t)c * voxels, foreground, n, k, &p->draws[c]);
    }
    return rc;
}

int vx_extract_case(const struct vx_volume *image, const struct vx_labelmap *labels, uint32_t k,
                    struct vx_case_print *ret, struct vx_err *err) {
    size_t voxels = (size_t)vx_shape_count(image->shape), n = 0;
    struct vx_case_print p = {.n_channels = image->channels};
    struct vx_crop_box box;
    vx_auto_free uint8_t *mask = malloc(voxels);
    vx_auto_free int64_t *foreground = NULL;
    p.draws = calloc((size_t)image->channels, sizeof *p.draws);
    int rc = mask && p.draws ? VX_OK : VX_E_NOMEM;
    if (rc == VX_OK) {
        rc = vx_crop_find(image->data, image->channels, image->shape, mask, &box, err);
    }
    if (rc == VX_OK) {
        memcpy(p.spacing, image->geo.spacing, sizeof p.spacing);
        memcpy(p.shape, image->shape, sizeof p.shape);
        vx_crop_box_shape(&box, p.shape_crop);
        p.relative_size = (double)vx_shape_count(p.shape_crop) / (double)voxels;
        rc = list_foreground(labels, &box, &foreground, &n);
    }
    p.n_foreground = (int64_t)n;
    rc = rc == VX_OK ? draw_all(image, foreground, n, k, &p) : rc;
    if (rc != VX_OK) {
        vx_case_print_release(&p);
        return vx_fail(err, rc, NULL, "no memory to look at a case of %zu voxels", voxels);
    }
    *ret = p;
    return VX_OK;
}

void vx_case_print_release(struct vx_case_print *p) {
    for (int c = 0; p->draws && c < p->n_channels; c++) {
        free(p->draws[c].values);
        free(p->draws[c].cumulative);
    }
    free(p->draws);
    *p = (struct vx_case_print){0};
}

/* Draws of all cases in channel c that are at most key. */
static uint64_t draws_up_to(const struct vx_case_print *const *prints, size_t n, int c,
                            uint32_t key) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        const struct vx_draws *d = &prints[i]->draws[c];
        size_t lo = 0, hi = d->n; /* first value above key */
        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;
            if (key_of(d->values[mid]) <= key) {
                lo = mid + 1;
            } else {
                hi = mid;
            }
        }
        sum += lo ? d->cumulative[lo - 1] : 0;
    }
    return sum;
}

/* The draw of that rank (from 0) in ascending order, by bisection over all floats. */
static double order_statistic(const struct vx_case_print *const *prints, size_t n, int c,
                              uint64_t rank) {
    uint32_t lo = 0, hi = UINT32_MAX;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (draws_up_to(prints, n, c, mid) > rank) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return value_of(lo);
}

/* numpy.percentile with linear interpolation, to the last bit: from whichever end is nearer, the
 * difference in the draws' own precision. That is float32, and float64 where a case without
 * foreground contributes an empty list. */
static double percentile(const struct vx_case_print *const *prints, size_t n, int c, uint64_t total,
                         double percent) {
    double at = percent / 100 * (double)(total - 1), low = floor(at), t = at - low;
    double a = order_statistic(prints, n, c, (uint64_t)low);
    if (t == 0) {
        return a;
    }
    double b = order_statistic(prints, n, c, (uint64_t)low + 1), diff = b - a;
    bool all_draw = true;
    for (size_t i = 0; i < n; i++) {
        all_draw = all_draw && prints[i]->draws[c].n > 0;
    }
    if (all_draw) {
        diff = (float)b - (float)a;
    }
    return t >= 0.5 ? b - diff * (1 - t) : a + diff * t;
}

/* Sum over all draws of (value - shift)^power, power 1 or 2. */
static double moment(const struct vx_case_print *const *prints, size_t n, int c, double shift,
                     int power) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const struct vx_draws *d = &prints[i]->draws[c];
        for (size_t v = 0; v < d->n; v++) {
            double x = d->values[v] - shift;
            uint32_t count = d->cumulative[v] - (v ? d->cumulative[v - 1] : 0);
            sum += (power == 2 ? x * x : x) * count;
        }
    }
    return sum;
}

static int merge_channel(const struct vx_case_print *const *prints, size_t n, int c,
                         struct vx_intensity *ret) {
    uint64_t total = draws_up_to(prints, n, c, UINT32_MAX);
    if (total == 0) {
        return VX_E_INVALID;
    }
    ret->mean = moment(prints, n, c, 0, 1) / (double)total;
    ret->std = sqrt(moment(prints, n, c, ret->mean, 2) / (double)total);
    ret->min = order_statistic(prints, n, c, 0);
    ret->max = order_statistic(prints, n, c, total - 1);
    ret->median = percentile(prints, n, c, total, 50);
    ret->percentile_00_5 = percentile(prints, n, c, total, 0.5);
    ret->percentile_99_5 = percentile(prints, n, c, total, 99.5);
    return VX_OK;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int median_relative_size(const struct vx_case_print *const *prints, size_t n, double *ret) {
    vx_auto_free double *sizes = malloc(n * sizeof *sizes);
    if (!sizes) {
        return VX_E_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        sizes[i] = prints[i]->relative_size;
    }
    qsort(sizes, n, sizeof *sizes, by_value);
    *ret = n % 2 ? sizes[n / 2] : (sizes[n / 2 - 1] + sizes[n / 2]) / 2;
    return VX_OK;
}

int vx_extract_merge(const struct vx_case_print *const *prints, size_t n,
                     struct vx_fingerprint *ret, struct vx_err *err) {
    if (n == 0) {
        return vx_fail(err, VX_E_INVALID, "no_cases", "there is no case to plan from");
    }
    struct vx_fingerprint f;
    int channels = prints[0]->n_channels;
    int rc = vx_fingerprint_init(&f, (int)n, channels, err);
    if (rc != VX_OK) {
        return rc;
    }
    for (size_t i = 0; i < n && rc == VX_OK; i++) {
        if (prints[i]->n_channels != channels) {
            rc = vx_fail(err, VX_E_INVALID, "channel_mismatch",
                         "case %zu of the fingerprint has %d channels, the first has %d", i,
                         prints[i]->n_channels, channels);
        }
        for (int a = 0; a < 3; a++) {
            f.spacings[i][a] = prints[i]->spacing[a];
            f.shapes[i][a] = (int)prints[i]->shape_crop[a];
        }
    }
    if (rc == VX_OK && median_relative_size(prints, n, &f.median_relative_size_after_cropping)) {
        rc = vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (int c = 0; c < channels && rc == VX_OK; c++) {
        if (merge_channel(prints, n, c, &f.intensity[c]) != VX_OK) {
            rc = vx_fail(err, VX_E_INVALID, "no_foreground",
                         "no case has a voxel with a label above 0; check the labels' values");
        }
    }
    if (rc != VX_OK) {
        vx_fingerprint_release(&f);
        return rc;
    }
    *ret = f;
    return VX_OK;
}
