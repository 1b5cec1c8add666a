/* Foreground locations of a prepared case, from which patches are centred (nnU-Net v2,
 * class_locations): per class at most max(min(10000, N), ceil(N / 100)) of its N voxels, the first
 * of a permutation by numpy's RandomState(1234), one state for all classes of a case. Labels in
 * ascending order; with an ignore label the last class is "annotated", all voxels but the ignored.
 * Thread: any; pure. */
#ifndef VX_PREPARE_LOCATIONS_H
#define VX_PREPARE_LOCATIONS_H

#include <stddef.h>
#include <stdint.h>

struct vx_cache_class;
struct vx_err;

struct vx_locations {
    size_t n_classes;
    struct vx_cache_class *classes; /* owned; key, n_voxels, first_index, n_locations are set */
    int32_t (*coords)[3];           /* owned; z, y, x of all classes, one after the other */
};

/* seg [shape]; ignore_label -1: none. At most 2^31 voxels. VX_E_NOMEM, VX_E_LIMIT. */
int vx_locations_make(const int16_t *seg, const int64_t shape[3], int n_labels, int ignore_label,
                      struct vx_locations *ret, struct vx_err *err);
void vx_locations_release(struct vx_locations *l);

#define vx_auto_locations __attribute__((cleanup(vx_locations_release)))

#endif
