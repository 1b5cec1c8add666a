/* The parameters of a trained network, from voxeld's own checkpoint (.safetensors) or nnU-Net's
 * (.pth); which of the two a file is, its contents say. Thread: any. */
#ifndef VX_CHECKPOINT_WEIGHTS_H
#define VX_CHECKPOINT_WEIGHTS_H

struct vx_ckpt;
struct vx_err;

/* Into ret as vx_ckpt_read does: parameters by unique name, and in ret->network "configuration" and
 * "mirror_axes". Of a .pth no more than pth_read.h says, and no momentum. Errors are those of
 * vx_ckpt_read and vx_pth_read. */
int vx_weights_read(const char *path, struct vx_ckpt *ret, struct vx_err *err);

#endif
