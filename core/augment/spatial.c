/* Rotation, scaling and mirroring as one affine sampling of the final patch from the initial patch,
 * a row at a time: coordinates once, shared by all channels and the labels. Source arrays have a
 * margin of one voxel (box.h), so that a position outside the initial patch can be clamped to the
 * margin instead of being tested. */
#include "augment/parts.h"
#include "augment/voxel.h"

#include <string.h>

static size_t padded(int32_t n) {
    return ((size_t)n + VX_LANES - 1) / VX_LANES * VX_LANES;
}

size_t vx_aug_spatial_scratch(const int32_t size[3]) {
    return 5 * padded(size[2]) + VX_LANES; /* index, three fractions, mixed voxels */
}

static void add_ballot(struct vx_aug_ballots *b, const struct vx_aug_row *r, const int16_t *src,
                       int32_t w, size_t place) {
    /* with two axes the upper corners are the lower ones again, with weight 0 */
    const size_t sy = (size_t)r->dim[2], sz = r->axes == 3 ? (size_t)r->dim[1] * sy : 0;
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

static void decide(const struct vx_aug_kernels *k, struct vx_aug_ballots *b, int16_t *out) {
    k->count(b);
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

/* Labels of the row that starts at `row`. Voxels between labels are left to the ballots, those at
 * the border of the initial patch too: the margin's -1 votes like a label. */
static void label_row(const struct vx_aug_kernels *k, const struct vx_aug_row *r,
                      const int16_t *src, int16_t *label, size_t row, int32_t *mixed,
                      struct vx_aug_ballots *b) {
    int32_t n = k->label(r, src, label + row, mixed);
    for (int32_t i = 0; i < n; i++) {
        add_ballot(b, r, src, mixed[i], row + (size_t)mixed[i]);
        if (b->n == VX_BALLOTS) {
            decide(k, b, label);
        }
    }
}

static struct vx_aug_row row_init(const struct vx_aug_policy *p, const struct vx_aug_box *box,
                                  void *scratch) {
    struct vx_aug_row r = {.at = scratch, .n = p->patch[2], .axes = box->margin[0] ? 3 : 2};
    for (int i = 0; i < 3; i++) {
        r.f[i] = (float *)scratch + (size_t)(i + 1) * padded(r.n);
        r.size[i] = box->size[i];
        r.dim[i] = box->size[i] + 2 * box->margin[i];
    }
    return r;
}

void vx_aug_spatial(const struct vx_aug_kernels *k, const struct vx_aug_policy *p,
                    const struct vx_aug_params *a, const struct vx_aug_box *box,
                    const float *src_image, const int16_t *src_label, float *image, int16_t *label,
                    void *scratch) {
    struct vx_aug_row r = row_init(p, box, scratch);
    int32_t *mixed = (int32_t *)scratch + 4 * padded(r.n);
    struct vx_aug_ballots ballots = {0};
    double m[3][3], centre[3];
    vx_aug_matrix(p, a, m);
    size_t voxels = vx_aug_box_voxels(box), out = 0;
    size_t out_voxels = (size_t)p->patch[0] * (size_t)p->patch[1] * (size_t)p->patch[2];
    const float step[3] = {(float)m[0][2], (float)m[1][2], (float)m[2][2]};
    for (int i = 0; i < 3; i++) {
        centre[i] = (p->initial[i] - 1) / 2.0 - box->lo[i] + box->margin[i];
    }
    for (int32_t d = 0; d < p->patch[0]; d++) {
        r.z = a->mirror & 1u ? p->patch[0] - 1 - d : d;
        for (int32_t h = 0; h < p->patch[1]; h++, out += (size_t)r.n) {
            const double g[3] = {d - (p->patch[0] - 1) / 2.0, h - (p->patch[1] - 1) / 2.0,
                                 -(p->patch[2] - 1) / 2.0};
            float start[3];
            for (int i = 0; i < 3; i++) {
                start[i] = (float)(m[i][0] * g[0] + m[i][1] * g[1] + m[i][2] * g[2] + centre[i]);
            }
            k->place(&r, start, step);
            for (uint32_t c = 0; c < p->channels; c++) {
                k->sample(&r, src_image + c * voxels, image + c * out_voxels + out);
            }
            label_row(k, &r, src_label, label, out, mixed, &ballots);
        }
    }
    decide(k, &ballots, label);
}
