/* Labels of the spatial transform; see labels.c. Private to this room. Thread: any, one at a time.
 */
#ifndef VX_AUGMENT_TRANSFORMS_LABELS_H
#define VX_AUGMENT_TRANSFORMS_LABELS_H

#include "augment/box.h"
#include "augment/kernels.h"

/* Instead of a label: there are several. */
enum { VX_LABEL_SEVERAL = INT16_MIN };

struct vx_aug_labels {
    const struct vx_aug_kernels *kernels;
    const int16_t *src; /* [dim], margins included */
    int16_t *out;       /* [D][H][W] */
    int16_t *map; /* [blocks]: the only label of each block of the source, or VX_LABEL_SEVERAL */
    int32_t dim[3], blocks[3];
    int32_t *mixed; /* of a row */
    struct vx_aug_ballots ballots;
};

/* Makes the map. mixed holds a row's width, rounded up, + VX_LANES values, scratch
 * vx_aug_labels_scratch until the end. */
void vx_aug_labels_begin(struct vx_aug_labels *l, const struct vx_aug_kernels *k,
                         const struct vx_aug_box *box, const int16_t *src, int16_t *out,
                         int32_t *mixed, int16_t *scratch);
size_t vx_aug_labels_scratch(const struct vx_aug_policy *p);
/* Whether the source holds nothing but one label from lo to hi, both included; false also where the
 * map is too coarse to tell. */
bool vx_aug_labels_one(const struct vx_aug_labels *l, const int32_t lo[3], const int32_t hi[3],
                       int16_t *ret);
/* The labels of r's voxels, from out[at] on; those between labels come later. */
void vx_aug_labels_row(struct vx_aug_labels *l, const struct vx_aug_row *r, size_t at);
void vx_aug_labels_end(struct vx_aug_labels *l);

#endif
