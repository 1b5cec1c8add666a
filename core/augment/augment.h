/* Applies the drawn transforms to one sample, in nnU-Net v2's order.
 *
 * Arrays are dense: image [C][D][H][W] float32, label [D][H][W] int16 with -1 outside the case.
 * Results are a pure function of the inputs, bit for bit the same in every process of a machine and
 * from every instruction set (kernels.h): per-voxel code uses no libm and rounds where its formula
 * says, so only the last bit of a parameter (a sine, a blur weight) could depend on the CPU's libm.
 * No allocation, no I/O: scratch belongs to the caller. Thread: any, one scratch each. */
#ifndef VX_AUGMENT_AUGMENT_H
#define VX_AUGMENT_AUGMENT_H

#include "augment/box.h"

#include <stddef.h>
#include <stdint.h>

/* Bytes of scratch vx_aug_apply needs for this policy; 64-byte aligned memory is expected. */
size_t vx_aug_scratch_bytes(const struct vx_aug_policy *p);

/* src_image and src_label: the arrays of vx_aug_source_box, margins included. Writes image [C][F]
 * and label [F] (>= 0). Where the sample is not interpolated the source may be the output itself,
 * filled as vx_aug_source_layout says (the loader then reads straight into the slot); any other
 * source is not mirrored yet. ns (NULL allowed): nanoseconds per transform are added to
 * ns[0 .. VX_T_COUNT). */
void vx_aug_apply(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                  const struct vx_aug_box *box, const float *src_image, const int16_t *src_label,
                  float *image, int16_t *label, void *scratch, uint64_t *ns);

#endif
