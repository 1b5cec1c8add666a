/* The "voxeld" text of a checkpoint: all fields but the tensors, to JSON and back; the table of
 * formats. Internal to core/checkpoint. Thread: any. */
#ifndef VX_CHECKPOINT_METADATA_H
#define VX_CHECKPOINT_METADATA_H

#include "checkpoint/checkpoint.h"

/* New reference; NULL when out of memory. crc32 (one per tensor of the file) may be NULL. */
json_t *vx_ckpt_metadata(const struct vx_ckpt *c, const uint32_t *crc32, size_t n_crc32);
/* VX_E_INVALID names the field that a reader would refuse: nothing is written that cannot be read
 * back. */
int vx_ckpt_check(const struct vx_ckpt *c, struct vx_err *err);
/* Any format up to VX_CKPT_FORMAT. Fills all fields of ret but the tensors, and the n_crc32
 * checksums. VX_E_CORRUPT names the field, VX_E_UNSUPPORTED a newer format. Release ret in either
 * case. */
int vx_ckpt_metadata_parse(const json_t *doc, struct vx_ckpt *ret, uint32_t *crc32, size_t n_crc32,
                           struct vx_err *err);

#endif
