/* Rotation, scaling and mirroring as one affine sampling of the final patch from the initial patch:
 * rows of voxels, a few planes and rows at a time so that their sources stay in the cache;
 * coordinates once, shared by all channels and the labels. Source arrays have a margin of one voxel
 * (box.h), so that a position outside the initial patch can be clamped to the margin instead of
 * being tested. */
#include "augment/transforms/labels.h"
#include "augment/transforms/parts.h"

#include <math.h>
#include <string.h>

/* Output voxels whose labels are looked up together; TILE planes and rows are sampled together. */
enum { TILE = 8, TILE_X = VX_LANES, TILES_MAX = 4096 / TILE_X };

/* Coordinates are computed in float per voxel: the source of a tile is this much wider. */
#define SLACK 2e-3

struct sampling {
    const struct vx_aug_kernels *kernels;
    const struct vx_aug_policy *policy;
    uint32_t mirror;
    double m[3][3], centre[3]; /* output coordinates from the patch's centre to source arrays */
    size_t voxels;             /* of a channel of the source */
    const float *src;
    float *out;
    struct vx_aug_row row;
    struct vx_aug_labels labels;
    /* of the tiles of a row: the only label of their source, or VX_LABEL_SEVERAL */
    int16_t only[TILES_MAX];
};

static size_t padded(int32_t n) {
    return ((size_t)n + VX_LANES - 1) / VX_LANES * VX_LANES;
}

size_t vx_aug_spatial_scratch(const struct vx_aug_policy *p) {
    /* index, three fractions and mixed voxels of a row, then the map of labels */
    return 5 * padded(p->patch[2]) + VX_LANES + vx_aug_labels_scratch(p) / 2 + 1;
}

/* Where output voxel (d, h, w) lies in the source arrays. */
static void source_of(const struct sampling *s, double d, double h, double w, double ret[3]) {
    const int32_t *n = s->policy->patch;
    const double g[3] = {d - (n[0] - 1) / 2.0, h - (n[1] - 1) / 2.0, w - (n[2] - 1) / 2.0};
    for (int i = 0; i < 3; i++) {
        ret[i] = s->m[i][0] * g[0] + s->m[i][1] * g[1] + s->m[i][2] * g[2] + s->centre[i];
    }
}

/* The source slice of output plane d where axis 0 is not interpolated. */
static int32_t slice_of(const struct sampling *s, int32_t d) {
    return s->mirror & 1u ? s->policy->patch[0] - 1 - d : d;
}

/* The source voxels, lo to hi included, that output voxels [from, to) look at. */
static void reach(const struct sampling *s, const int32_t from[3], const int32_t to[3],
                  int32_t lo[3], int32_t hi[3]) {
    double middle[3];
    source_of(s, (from[0] + to[0] - 1) / 2.0, (from[1] + to[1] - 1) / 2.0,
              (from[2] + to[2] - 1) / 2.0, middle);
    for (int i = 0; i < 3; i++) {
        double r = SLACK;
        for (int j = 0; j < 3; j++) {
            r += fabs(s->m[i][j]) * (to[j] - 1 - from[j]) / 2.0;
        }
        double last = s->row.dim[i] - 1;
        lo[i] = (int32_t)fmin(fmax(floor(middle[i] - r), 0), last);
        hi[i] = (int32_t)fmin(fmax(floor(middle[i] + r) + 1, 0), last);
    }
    if (s->row.axes == 2) {
        int32_t a = slice_of(s, from[0]), b = slice_of(s, to[0] - 1);
        lo[0] = a < b ? a : b;
        hi[0] = a < b ? b : a;
    }
}

/* Which tiles of the rows d0, h0 to d1, h1 see one label only. */
static void look_ahead(struct sampling *s, int32_t d0, int32_t d1, int32_t h0, int32_t h1) {
    int32_t lo[3], hi[3];
    for (int32_t w = 0, tile = 0; w < s->row.n; w += TILE_X, tile++) {
        const int32_t from[3] = {d0, h0, w};
        const int32_t to[3] = {d1, h1, w + TILE_X < s->row.n ? w + TILE_X : s->row.n};
        reach(s, from, to, lo, hi);
        if (!vx_aug_labels_one(&s->labels, lo, hi, &s->only[tile])) {
            s->only[tile] = VX_LABEL_SEVERAL;
        }
    }
}

/* Voxels w to end of the row that was placed last. */
static struct vx_aug_row part_of(const struct vx_aug_row *row, int32_t w, int32_t end) {
    struct vx_aug_row part = *row;
    part.at += w;
    for (int i = 0; i < 3; i++) {
        part.f[i] += w;
    }
    part.n = end - w;
    return part;
}

/* Labels of the row that was placed last, which starts at index `at` of the output: runs of tiles
 * with the same answer. */
static void label_row(struct sampling *s, size_t at) {
    const int32_t n = s->row.n;
    for (int32_t w = 0, end; w < n; w = end) {
        int16_t only = s->only[w / TILE_X];
        for (end = w + TILE_X; end < n && s->only[end / TILE_X] == only; end += TILE_X) {
        }
        end = end < n ? end : n;
        if (only == VX_LABEL_SEVERAL) {
            struct vx_aug_row part = part_of(&s->row, w, end);
            vx_aug_labels_row(&s->labels, &part, at + (size_t)w);
        }
        for (int32_t i = w; only != VX_LABEL_SEVERAL && i < end; i++) {
            s->labels.out[at + (size_t)i] = only;
        }
    }
}

static void sample_row(struct sampling *s, int32_t d, int32_t h) {
    const int32_t *patch = s->policy->patch;
    const float step[3] = {(float)s->m[0][2], (float)s->m[1][2], (float)s->m[2][2]};
    size_t at = ((size_t)d * (size_t)patch[1] + (size_t)h) * (size_t)patch[2];
    size_t out_voxels = (size_t)patch[0] * (size_t)patch[1] * (size_t)patch[2];
    double first[3];
    source_of(s, d, h, 0, first);
    s->row.z = slice_of(s, d);
    s->kernels->place(&s->row, (float[3]){(float)first[0], (float)first[1], (float)first[2]}, step);
    for (uint32_t c = 0; c < s->policy->channels; c++) {
        s->kernels->sample(&s->row, s->src + c * s->voxels, s->out + c * out_voxels + at);
    }
    label_row(s, at);
}

static void begin(struct sampling *s, const struct vx_aug_params *a, const struct vx_aug_box *box,
                  void *scratch) {
    const struct vx_aug_policy *p = s->policy;
    s->mirror = a->mirror;
    s->voxels = vx_aug_box_voxels(box);
    s->row = (struct vx_aug_row){.at = scratch, .n = p->patch[2], .axes = box->margin[0] ? 3 : 2};
    vx_aug_matrix(p, a, s->m);
    for (int i = 0; i < 3; i++) {
        s->row.f[i] = (float *)scratch + (size_t)(i + 1) * padded(s->row.n);
        s->row.size[i] = box->size[i];
        s->row.dim[i] = box->size[i] + 2 * box->margin[i];
        s->centre[i] = (p->initial[i] - 1) / 2.0 - box->lo[i] + box->margin[i];
    }
}

void vx_aug_spatial(const struct vx_aug_kernels *k, const struct vx_aug_policy *p,
                    const struct vx_aug_params *a, const struct vx_aug_box *box,
                    const float *src_image, const int16_t *src_label, float *image, int16_t *label,
                    void *scratch) {
    struct sampling s = {.kernels = k, .policy = p, .src = src_image, .out = image};
    begin(&s, a, box, scratch);
    int32_t *mixed = (int32_t *)scratch + 4 * padded(s.row.n);
    vx_aug_labels_begin(&s.labels, k, box, src_label, label, mixed,
                        (int16_t *)(mixed + padded(s.row.n) + VX_LANES));
    for (int32_t d0 = 0; d0 < p->patch[0]; d0 += TILE) {
        int32_t d1 = d0 + TILE < p->patch[0] ? d0 + TILE : p->patch[0];
        for (int32_t h0 = 0; h0 < p->patch[1]; h0 += TILE) {
            int32_t h1 = h0 + TILE < p->patch[1] ? h0 + TILE : p->patch[1];
            look_ahead(&s, d0, d1, h0, h1);
            for (int32_t d = d0; d < d1; d++) {
                for (int32_t h = h0; h < h1; h++) {
                    sample_row(&s, d, h);
                }
            }
        }
    }
    vx_aug_labels_end(&s.labels);
}
