/* The tensors of an opened .pth. Private to this room: read.c has the file's words, this the
 * numbers. */
#ifndef VX_CHECKPOINT_PTH_TENSORS_H
#define VX_CHECKPOINT_PTH_TENSORS_H

#include "checkpoint/pickle_read.h"

#include <stddef.h>
#include <stdint.h>

struct vx_ckpt;
struct vx_err;
struct vx_zip;

struct vx_pth_source {
    const char *path;         /* borrowed */
    const struct vx_zip *zip; /* borrowed */
    const char *top;          /* folder of the archive's members; borrowed */
    uint64_t budget;          /* bytes that may still be read or made */
    char *key;                /* owned: the storage in data */
    unsigned char *data;      /* owned */
};

void vx_pth_source_release(struct vx_pth_source *s);
/* All parameters of network_weights, unique names in first-seen order, into c (empty). */
int vx_pth_load_params(struct vx_pth_source *s, const struct vx_py *weights, struct vx_ckpt *c,
                       struct vx_err *err);
/* The momentum buffers of optimizer_state (may be NULL: none then). */
int vx_pth_load_momentum(struct vx_pth_source *s, const struct vx_py *optimizer, struct vx_ckpt *c,
                         struct vx_err *err);

#endif
