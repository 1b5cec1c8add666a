#include "augment/box.h"

#include <math.h>
#include <string.h>

/* Coordinates are computed in float per voxel; the box is this much wider than the exact one. */
#define SLACK 2e-3

static bool planar(const struct vx_aug_policy *p) {
    return p->dims == 2 || p->dummy_2d;
}

void vx_aug_matrix(const struct vx_aug_policy *p, const struct vx_aug_params *a, double ret[3][3]) {
    double cx = cos(a->angle[0]), sx = sin(a->angle[0]);
    double cy = cos(a->angle[1]), sy = sin(a->angle[1]);
    double cz = cos(a->angle[2]), sz = sin(a->angle[2]);
    /* Rz * Ry * Rx written out; axis 0 is the first coordinate */
    const double m[3][3] = {
        {cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx},
        {sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx},
        {-sy, cy * sx, cy * cx},
    };
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) {
            double scale = planar(p) && j == 0 ? 1.0 : (double)a->scale;
            ret[i][j] = m[i][j] * (a->mirror >> j & 1u ? -scale : scale);
        }
    }
}

void vx_aug_source_box(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                       struct vx_aug_box *ret) {
    struct vx_aug_box b = {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}};
    double m[3][3];
    vx_aug_matrix(p, a, m);
    for (int i = 0; i < 3; i++) {
        if (!a->spatial || (planar(p) && i == 0)) {
            b.lo[i] = p->initial[i] / 2 - p->patch[i] / 2;
            b.size[i] = p->patch[i];
            continue;
        }
        double centre = (p->initial[i] - 1) / 2.0, reach = SLACK;
        for (int j = 0; j < 3; j++) {
            reach += fabs(m[i][j]) * (p->patch[j] - 1) / 2.0;
        }
        int32_t lo = (int32_t)floor(centre - reach), hi = (int32_t)floor(centre + reach) + 2;
        lo = lo < 0 ? 0 : lo;
        hi = hi > p->initial[i] ? p->initial[i] : hi;
        b.lo[i] = lo;
        b.size[i] = hi - lo;
        b.margin[i] = 1;
    }
    *ret = b;
}

void vx_aug_source_layout(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                          const struct vx_aug_box *b, struct vx_aug_layout *ret) {
    int64_t dim[3], at[3];
    for (int i = 0; i < 3; i++) {
        dim[i] = b->size[i] + 2 * b->margin[i];
        at[i] = b->margin[i];
    }
    struct vx_aug_layout l = {0, {dim[0] * dim[1] * dim[2], dim[1] * dim[2], dim[2]}};
    for (int i = 0; i < 2; i++) {
        if (!a->spatial && a->mirror >> i & 1u) {
            at[i] = p->patch[i] - 1;
            l.stride[i + 1] = -l.stride[i + 1];
        }
    }
    l.first = (at[0] * dim[1] + at[1]) * dim[2] + at[2];
    *ret = l;
}

void vx_aug_source_region(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                          struct vx_aug_region *ret) {
    double m[3][3];
    vx_aug_matrix(p, a, m);
    for (int i = 0; i < 3; i++) {
        /* the columns are at right angles, so the rows of the inverse are columns over squared
         * lengths */
        double square = m[0][i] * m[0][i] + m[1][i] * m[1][i] + m[2][i] * m[2][i];
        double beside = 0;
        for (int j = 0; j < 3; j++) {
            ret->row[i][j] = m[j][i] / square;
            beside += fabs(ret->row[i][j]) * (1 + SLACK);
        }
        ret->half[i] = (p->patch[i] - 1) / 2.0 + beside;
        ret->centre[i] = (p->initial[i] - 1) / 2.0;
    }
}

size_t vx_aug_box_voxels(const struct vx_aug_box *b) {
    size_t n = 1;
    for (int i = 0; i < 3; i++) {
        n *= (size_t)(b->size[i] + 2 * b->margin[i]);
    }
    return n;
}

size_t vx_aug_box_voxels_max(const struct vx_aug_policy *p) {
    size_t n = 1;
    for (int i = 0; i < 3; i++) {
        n *= (size_t)(p->initial[i] + 2);
    }
    return n;
}

static void clear_row(float *image, int16_t *label, size_t at, size_t n) {
    if (image) {
        memset(image + at, 0, n * sizeof *image);
    } else {
        memset(label + at, 0xff, n * sizeof *label); /* -1 */
    }
}

/* The margin of one dense volume: image where label is NULL, label where image is. */
static void clear_shell(const struct vx_aug_box *b, float *image, int16_t *label) {
    size_t dim[3];
    for (int i = 0; i < 3; i++) {
        dim[i] = (size_t)(b->size[i] + 2 * b->margin[i]);
    }
    for (size_t z = 0; z < dim[0]; z++) {
        bool edge_z = b->margin[0] && (z == 0 || z == dim[0] - 1);
        for (size_t y = 0; y < dim[1]; y++) {
            size_t row = (z * dim[1] + y) * dim[2];
            if (edge_z || (b->margin[1] && (y == 0 || y == dim[1] - 1))) {
                clear_row(image, label, row, dim[2]);
            } else if (b->margin[2]) {
                clear_row(image, label, row, 1);
                clear_row(image, label, row + dim[2] - 1, 1);
            }
        }
    }
}

void vx_aug_box_clear_margins(const struct vx_aug_box *b, uint32_t channels, float *image,
                              int16_t *label) {
    size_t voxels = vx_aug_box_voxels(b);
    for (uint32_t c = 0; c < channels; c++) {
        clear_shell(b, image + c * voxels, NULL);
    }
    clear_shell(b, NULL, label);
}
