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
    int32_t *restrict at = r->at;
    float *restrict fz = r->f[0], *restrict fy = r->f[1], *restrict fx = r->f[2];
    for (int32_t w = 0; w < n; w++) {
        float z = z0 + dz * (float)w, y = y0 + dy * (float)w, x = x0 + dx * (float)w;
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
    int32_t *restrict at = r->at;
    float *restrict fy = r->f[1], *restrict fx = r->f[2];
    for (int32_t w = 0; w < n; w++) {
        float y = y0 + dy * (float)w, x = x0 + dx * (float)w;
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

/* Voxels between labels, gathered until there are enough to vote for all of them at once. */
enum { BALLOTS = 32 };

struct ballots {
    int32_t n;
    size_t place[BALLOTS];     /* in the output */
    int32_t label[8][BALLOTS]; /* corners z y x: 000, 001, 010, ... */
    float f[3][BALLOTS];       /* fractions; z is 0 where the row has two axes */
    float weight[8][BALLOTS];  /* filled by count_votes */
    int32_t best[BALLOTS];     /* the winner where there are two labels */
    int32_t several[BALLOTS];  /* more than two, or a tie */
};

VX_CLONES
static void count_votes(struct ballots *restrict b) {
    for (int l = 0; l < BALLOTS; l++) {
        float z1 = b->f[0][l], y1 = b->f[1][l], x1 = b->f[2][l];
        float z0 = 1.0f - z1, y0 = 1.0f - y1, x0 = 1.0f - x1;
        const float w[8] = {z0 * y0 * x0, z0 * y0 * x1, z0 * y1 * x0, z0 * y1 * x1,
                            z1 * y0 * x0, z1 * y0 * x1, z1 * y1 * x0, z1 * y1 * x1};
        int32_t lo = b->label[0][l], hi = lo, others = 0;
        for (int c = 1; c < 8; c++) {
            int32_t v = b->label[c][l];
            lo = v < lo ? v : lo;
            hi = v > hi ? v : hi;
        }
        float lo_sum = 0.0f, hi_sum = 0.0f;
        for (int c = 0; c < 8; c++) {
            int32_t v = b->label[c][l];
            others |= (v != lo) & (v != hi);
            lo_sum += v == lo ? w[c] : 0.0f;
            hi_sum += v == hi ? w[c] : 0.0f;
            b->weight[c][l] = w[c];
        }
        float lo_vote = vx_vote(lo_sum), hi_vote = vx_vote(hi_sum);
        b->best[l] = hi_vote > lo_vote ? hi : lo;
        b->several[l] = others | (hi_vote == lo_vote);
    }
}

static void decide(struct ballots *b, int16_t *out) {
    count_votes(b);
    for (int l = 0; l < b->n; l++) {
        int16_t winner = (int16_t)b->best[l];
        if (b->several[l]) {
            int16_t label[8];
            float weight[8];
            for (int c = 0; c < 8; c++) {
                label[c] = (int16_t)b->label[c][l];
                weight[c] = b->weight[c][l];
            }
            int nearest = (b->f[0][l] > 0.5f ? 4 : 0) + (b->f[1][l] > 0.5f ? 2 : 0) +
                          (b->f[2][l] > 0.5f ? 1 : 0);
            winner = vx_label_vote(label, weight, 8, nearest);
        }
        out[b->place[l]] = winner;
    }
    b->n = 0;
}

static void add_ballot(struct ballots *b, const struct row *r, const int16_t *src, int32_t w,
                       size_t sy, size_t sz, size_t place) {
    const int16_t *at = src + r->at[w];
    int l = b->n++;
    b->place[l] = place;
    for (size_t c = 0; c < 8; c++) {
        b->label[c][l] = at[(c >> 2) * sz + (c >> 1 & 1u) * sy + (c & 1u)];
    }
    b->f[0][l] = sz ? r->f[0][w] : 0.0f;
    b->f[1][l] = r->f[1][w];
    b->f[2][l] = r->f[2][w];
}

/* One row of labels at label[row ...]; voxels between labels are left to the ballots, those at the
 * border of the initial patch too: the margin's -1 votes like a label. */
static void label_row(const struct row *r, const int16_t *src, int16_t *label, size_t row,
                      struct ballots *b) {
    /* with two axes the upper corners are the lower ones again, with weight 0 */
    const size_t sy = (size_t)r->dim[2], sz = r->axes == 3 ? (size_t)r->dim[1] * sy : 0;
    const int32_t n = r->n;
    for (int32_t w = 0; w < n; w++) {
        const int16_t *at = src + r->at[w];
        uint32_t same = (uint16_t)*at * 0x10001u;
        /* nearly every voxel has the same label at all corners */
        uint32_t other = (label_pair(at) ^ same) | (label_pair(at + sy) ^ same) |
                         (label_pair(at + sz) ^ same) | (label_pair(at + sz + sy) ^ same);
        label[row + (size_t)w] = *at;
        if (other) {
            add_ballot(b, r, src, w, sy, sz, row + (size_t)w);
            if (b->n == BALLOTS) {
                decide(b, label);
            }
        }
    }
}

static struct row row_init(const struct vx_aug_policy *p, const struct vx_aug_box *box,
                           void *scratch) {
    struct row r = {.n = p->patch[2], .axes = box->margin[0] ? 3 : 2};
    size_t padded = ((size_t)r.n + 15) / 16 * 16;
    r.at = scratch;
    for (int i = 0; i < 3; i++) {
        r.f[i] = (float *)(r.at + padded) + (size_t)i * padded;
        r.size[i] = box->size[i];
        r.dim[i] = box->size[i] + 2 * box->margin[i];
    }
    return r;
}

void vx_aug_spatial(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                    const struct vx_aug_box *box, const float *src_image, const int16_t *src_label,
                    float *image, int16_t *label, void *scratch) {
    struct row r = row_init(p, box, scratch);
    struct ballots ballots = {0};
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
            label_row(&r, src_label, label, out, &ballots);
        }
    }
    decide(&ballots, label);
}
