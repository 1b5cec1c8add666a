/* Starting from another network's weights. nnU-Net's rule
 * (nnunetv2/run/load_pretrained_weights.py): every parameter but those of segmentation heads
 * (".seg_layers." in the name) must be there with equal shape and is taken over; heads keep their
 * random start, and what else the file holds is ignored. Private to this room. Thread: the
 * engine's. */
#ifndef VX_TRAIN_PRETRAINED_H
#define VX_TRAIN_PRETRAINED_H

struct vx_err;
struct vx_oplist;

/* Overwrites values (as vx_net_init fills them) from the checkpoint at path, nnU-Net's .pth or
 * voxeld's own. VX_E_INVALID "weights_mismatch" names the first parameter that is missing or has
 * another shape, and both shapes; else the reader's errors. values are untouched then. */
int vx_train_load_pretrained(const struct vx_oplist *net, const char *path, float *const *values,
                             struct vx_err *err);

#endif
