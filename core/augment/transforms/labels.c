/* Labels of the spatial transform: nearly every voxel lies among eight corners of one label, so
 * most are settled tile by tile (a map of the source in coarse blocks says where nothing but one
 * label is), the others by looking at their corners, and only those between labels by a vote. */
#include "augment/transforms/labels.h"
#include "augment/voxel.h"

#include <string.h>

enum { BLOCK = 8 };

static int32_t blocks_of(int32_t n) {
    return (n + BLOCK - 1) / BLOCK;
}

size_t vx_aug_labels_scratch(const struct vx_aug_policy *p) {
    size_t n = 1;
    for (int i = 0; i < 3; i++) {
        n *= (size_t)blocks_of(p->initial[i] + 2);
    }
    return n + 2 * (size_t)(p->initial[2] + 2);
}

/* --- one label in a whole block --- */

/* The range of the labels of each column of one row of blocks, then of each block. */
static void map_row(const struct vx_aug_labels *l, int32_t bz, int32_t by, int16_t *out,
                    int16_t *lo, int16_t *hi) {
    size_t width = (size_t)l->dim[2];
    int32_t z1 = (bz + 1) * BLOCK < l->dim[0] ? (bz + 1) * BLOCK : l->dim[0];
    int32_t y1 = (by + 1) * BLOCK < l->dim[1] ? (by + 1) * BLOCK : l->dim[1];
    const int16_t *first =
        l->src + ((size_t)bz * BLOCK * (size_t)l->dim[1] + (size_t)by * BLOCK) * width;
    memcpy(lo, first, width * sizeof *lo);
    memcpy(hi, first, width * sizeof *hi);
    for (int32_t z = bz * BLOCK; z < z1; z++) {
        for (int32_t y = by * BLOCK; y < y1; y++) {
            l->kernels->range(lo, hi, l->src + ((size_t)z * (size_t)l->dim[1] + (size_t)y) * width,
                              width);
        }
    }
    for (size_t x = 0; x < width; x += BLOCK) {
        bool one = true;
        for (size_t i = x; i < x + BLOCK && i < width; i++) {
            one = one && lo[i] == lo[x] && hi[i] == lo[x];
        }
        *out++ = one ? lo[x] : VX_LABEL_SEVERAL;
    }
}

void vx_aug_labels_begin(struct vx_aug_labels *l, const struct vx_aug_kernels *k,
                         const struct vx_aug_box *box, const int16_t *src, int16_t *out,
                         int32_t *mixed, int16_t *scratch) {
    *l = (struct vx_aug_labels){
        .kernels = k, .src = src, .out = out, .map = scratch, .mixed = mixed};
    for (int i = 0; i < 3; i++) {
        l->dim[i] = box->size[i] + 2 * box->margin[i];
        l->blocks[i] = blocks_of(l->dim[i]);
    }
    int16_t *row = scratch,
            *columns = scratch + (size_t)l->blocks[0] * (size_t)l->blocks[1] * (size_t)l->blocks[2];
    for (int32_t z = 0; z < l->blocks[0]; z++) {
        for (int32_t y = 0; y < l->blocks[1]; y++, row += l->blocks[2]) {
            map_row(l, z, y, row, columns, columns + l->dim[2]);
        }
    }
}

bool vx_aug_labels_one(const struct vx_aug_labels *l, const int32_t lo[3], const int32_t hi[3],
                       int16_t *ret) {
    const int32_t *n = l->blocks;
    int16_t label = l->map[(lo[0] / BLOCK * n[1] + lo[1] / BLOCK) * n[2] + lo[2] / BLOCK];
    bool one = label != VX_LABEL_SEVERAL;
    for (int32_t z = lo[0] / BLOCK; one && z <= hi[0] / BLOCK; z++) {
        for (int32_t y = lo[1] / BLOCK; one && y <= hi[1] / BLOCK; y++) {
            for (int32_t x = lo[2] / BLOCK; one && x <= hi[2] / BLOCK; x++) {
                one = l->map[(z * n[1] + y) * n[2] + x] == label;
            }
        }
    }
    *ret = label;
    return one;
}

/* --- voxel by voxel --- */

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

static void decide(struct vx_aug_labels *labels) {
    struct vx_aug_ballots *b = &labels->ballots;
    labels->kernels->count(b);
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
        labels->out[b->place[l]] = winner;
    }
    b->n = 0;
}

void vx_aug_labels_row(struct vx_aug_labels *l, const struct vx_aug_row *r, size_t at) {
    int32_t *mixed = l->mixed, n = l->kernels->label(r, l->src, l->out + at, mixed);
    for (int32_t i = 0; i < n; i++) {
        add_ballot(&l->ballots, r, l->src, mixed[i], at + (size_t)mixed[i]);
        if (l->ballots.n == VX_BALLOTS) {
            decide(l);
        }
    }
}

void vx_aug_labels_end(struct vx_aug_labels *l) {
    decide(l);
}
