/* Rotation and scaling as one affine sampling of the final patch from the initial patch, a row at a
 * time: coordinates once, shared by all channels and the labels. Source arrays have a margin of one
 * voxel (box.h), so that a position outside the initial patch can be clamped to the margin instead
 * of being tested. */
#include "augment/clones.h"
#include "augment/parts.h"
#include "augment/voxel.h"

#include <string.h>

/* One output row of W voxels: where each lies in the source arrays. */
struct row {
    int32_t *at;             /* index of the lower corner */
    float *f[3];             /* fractions along z, y, x */
    int32_t *inside;         /* within the hull of the voxel centres */
    int32_t n;               /* W */
    int32_t dim[3], size[3]; /* of the source arrays with and without margins */
    int32_t axes;            /* 3, or 2: z is not interpolated */
    int32_t z;               /* source slice where axes = 2 */
};

static inline float clampf(float x, float lo, float hi) {
    x = x < lo ? lo : x;
    return x > hi ? hi : x;
}

/* position = start + step * w in source array coordinates, per axis. */
VX_CLONES
static void place_row3(struct row *r, const float start[3], const float step[3]) {
    const float z0 = start[0], y0 = start[1], x0 = start[2];
    const float dz = step[0], dy = step[1], dx = step[2];
    const int32_t n = r->n, nz = r->size[0], ny = r->size[1], nx = r->size[2];
    const int32_t sy = r->dim[2], sz = r->dim[1] * r->dim[2];
    int32_t *restrict at = r->at, *restrict inside = r->inside;
    float *restrict fz = r->f[0], *restrict fy = r->f[1], *restrict fx = r->f[2];
    for (int32_t w = 0; w < n; w++) {
        float z = z0 + dz * (float)w, y = y0 + dy * (float)w, x = x0 + dx * (float)w;
        inside[w] = (z >= 1.0f) & (z <= (float)nz) & (y >= 1.0f) & (y <= (float)ny) & (x >= 1.0f) &
                    (x <= (float)nx);
        z = clampf(z, 0.0f, (float)(nz + 1));
        y = clampf(y, 0.0f, (float)(ny + 1));
        x = clampf(x, 0.0f, (float)(nx + 1));
        int32_t iz = (int32_t)z, iy = (int32_t)y, ix = (int32_t)x;
        iz = iz > nz ? nz : iz;
        iy = iy > ny ? ny : iy;
        ix = ix > nx ? nx : ix;
        fz[w] = z - (float)iz;
        fy[w] = y - (float)iy;
        fx[w] = x - (float)ix;
        at[w] = iz * sz + iy * sy + ix;
    }
}

VX_CLONES
static void place_row2(struct row *r, const float start[3], const float step[3]) {
    const float y0 = start[1], x0 = start[2], dy = step[1], dx = step[2];
    const int32_t n = r->n, ny = r->size[1], nx = r->size[2], sy = r->dim[2];
    const int32_t base = r->z * r->dim[1] * r->dim[2];
    int32_t *restrict at = r->at, *restrict inside = r->inside;
    float *restrict fy = r->f[1], *restrict fx = r->f[2];
    for (int32_t w = 0; w < n; w++) {
        float y = y0 + dy * (float)w, x = x0 + dx * (float)w;
        inside[w] = (y >= 1.0f) & (y <= (float)ny) & (x >= 1.0f) & (x <= (float)nx);
        y = clampf(y, 0.0f, (float)(ny + 1));
        x = clampf(x, 0.0f, (float)(nx + 1));
        int32_t iy = (int32_t)y, ix = (int32_t)x;
        iy = iy > ny ? ny : iy;
        ix = ix > nx ? nx : ix;
        fy[w] = y - (float)iy;
        fx[w] = x - (float)ix;
        at[w] = base + iy * sy + ix;
    }
}

VX_CLONES
static void sample_row3(const struct row *r, const float *restrict src, float *restrict out) {
    const size_t sy = (size_t)r->dim[2], sz = (size_t)r->dim[1] * sy;
    const float *restrict p00 = src, *restrict p01 = src + sy;
    const float *restrict p10 = src + sz, *restrict p11 = src + sz + sy;
    const int32_t *restrict at = r->at, n = r->n;
    const float *restrict fz = r->f[0], *restrict fy = r->f[1], *restrict fx = r->f[2];
    for (int32_t w = 0; w < n; w++) {
        int32_t i = at[w];
        float a = vx_lerp(p00[i], p00[i + 1], fx[w]), b = vx_lerp(p01[i], p01[i + 1], fx[w]);
        float c = vx_lerp(p10[i], p10[i + 1], fx[w]), d = vx_lerp(p11[i], p11[i + 1], fx[w]);
        out[w] = vx_lerp(vx_lerp(a, b, fy[w]), vx_lerp(c, d, fy[w]), fz[w]);
    }
}

VX_CLONES
static void sample_row2(const struct row *r, const float *restrict src, float *restrict out) {
    const float *restrict p0 = src, *restrict p1 = src + r->dim[2];
    const int32_t *restrict at = r->at, n = r->n;
    const float *restrict fy = r->f[1], *restrict fx = r->f[2];
    for (int32_t w = 0; w < n; w++) {
        int32_t i = at[w];
        out[w] = vx_lerp(vx_lerp(p0[i], p0[i + 1], fx[w]), vx_lerp(p1[i], p1[i + 1], fx[w]), fy[w]);
    }
}

/* Two neighbouring labels along x as one word. */
static inline uint32_t label_pair(const int16_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The vote of the corners around source position i, fractions f; z unused where the row has two
 * axes. */
static int16_t vote(const struct row *r, const int16_t *src, int32_t i, const float f[3]) {
    const size_t sy = (size_t)r->dim[2], sz = (size_t)r->dim[1] * sy;
    int16_t label[8];
    float weight[8];
    int n = 0;
    for (int z = 0; z < (r->axes == 3 ? 2 : 1); z++) {
        float wz = r->axes == 3 ? (z ? f[0] : 1.0f - f[0]) : 1.0f;
        for (int y = 0; y < 2; y++) {
            float wy = wz * (y ? f[1] : 1.0f - f[1]);
            for (int x = 0; x < 2; x++) {
                label[n] = src[(size_t)i + (size_t)z * sz + (size_t)y * sy + (size_t)x];
                weight[n++] = wy * (x ? f[2] : 1.0f - f[2]);
            }
        }
    }
    return vx_label_vote(label, weight, n);
}

static void label_row(const struct row *r, const int16_t *src, int16_t *out) {
    const size_t sy = (size_t)r->dim[2], sz = r->axes == 3 ? (size_t)r->dim[1] * sy : 0;
    const int32_t n = r->n;
    for (int32_t w = 0; w < n; w++) {
        if (!r->inside[w]) {
            out[w] = -1;
            continue;
        }
        int32_t i = r->at[w];
        uint32_t same = (uint16_t)src[i] * 0x10001u;
        /* nearly every voxel has the same label at all corners */
        uint32_t other = (label_pair(src + i) ^ same) | (label_pair(src + i + sy) ^ same) |
                         (label_pair(src + i + sz) ^ same) | (label_pair(src + i + sz + sy) ^ same);
        if (other == 0) {
            out[w] = src[i];
        } else {
            const float f[3] = {r->axes == 3 ? r->f[0][w] : 0.0f, r->f[1][w], r->f[2][w]};
            out[w] = vote(r, src, i, f);
        }
    }
}

static struct row row_init(const struct vx_aug_policy *p, const struct vx_aug_box *box,
                           void *scratch) {
    struct row r = {.n = p->patch[2], .axes = box->margin[0] ? 3 : 2};
    size_t padded = ((size_t)r.n + 15) / 16 * 16;
    r.at = scratch;
    r.inside = r.at + padded;
    for (int i = 0; i < 3; i++) {
        r.f[i] = (float *)(r.inside + padded) + (size_t)i * padded;
        r.size[i] = box->size[i];
        r.dim[i] = box->size[i] + 2 * box->margin[i];
    }
    return r;
}

void vx_aug_spatial(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                    const struct vx_aug_box *box, const float *src_image, const int16_t *src_label,
                    float *image, int16_t *label, void *scratch) {
    struct row r = row_init(p, box, scratch);
    double m[3][3];
    vx_aug_matrix(p, a, m);
    size_t voxels = vx_aug_box_voxels(box);
    size_t out_voxels = (size_t)p->patch[0] * (size_t)p->patch[1] * (size_t)p->patch[2];
    const float step[3] = {(float)m[0][2], (float)m[1][2], (float)m[2][2]};
    for (int32_t d = 0; d < p->patch[0]; d++) {
        for (int32_t h = 0; h < p->patch[1]; h++) {
            const double g[3] = {d - (p->patch[0] - 1) / 2.0, h - (p->patch[1] - 1) / 2.0,
                                 -(p->patch[2] - 1) / 2.0};
            float start[3];
            for (int i = 0; i < 3; i++) {
                double centre = (p->initial[i] - 1) / 2.0 - box->lo[i] + box->margin[i];
                start[i] = (float)(m[i][0] * g[0] + m[i][1] * g[1] + m[i][2] * g[2] + centre);
            }
            r.z = d;
            if (r.axes == 3) {
                place_row3(&r, start, step);
            } else {
                place_row2(&r, start, step);
            }
            size_t out = ((size_t)d * (size_t)p->patch[1] + (size_t)h) * (size_t)r.n;
            for (uint32_t c = 0; c < p->channels; c++) {
                const float *src = src_image + c * voxels;
                float *dst = image + c * out_voxels + out;
                if (r.axes == 3) {
                    sample_row3(&r, src, dst);
                } else {
                    sample_row2(&r, src, dst);
                }
            }
            label_row(&r, src_label, label + out);
        }
    }
}
