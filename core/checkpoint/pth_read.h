/* Reads an nnU-Net checkpoint (.pth): a zip archive of torch.save with one pickle and one member
 * per storage, what nnUNetTrainer.save_checkpoint writes. Only the zip container of PyTorch 1.6 and
 * later; its predecessors are refused by name. Thread: any. */
#ifndef VX_CHECKPOINT_PTH_READ_H
#define VX_CHECKPOINT_PTH_READ_H

#include "checkpoint/checkpoint.h"

struct vx_err;

struct vx_pth {
    /* tensors: float32 by unique name, in the file's order (from float32, float64, float16 and
     * bfloat16); shapes as everywhere in voxeld, 2d kernels with an axis of 1 in front: [O][I][1]
     * [ky][kx]. momentum: where asked for and the optimizer's state has it; buffers that SGD never
     * made are zero. epoch: finished ones. ema_dice, best_ema_dice: NaN where unknown. history: the
     * logger's lists. network: {"trainer_name", "configuration", "fold"} where known, and
     * "mirror_axes", array axes [D][H][W] that training mirrored. */
    struct vx_ckpt ckpt;
    json_t *plans, *dataset_json; /* of init_args; owned; NULL where the file has none */
};

/* VX_E_UNSUPPORTED: foreign_opcode, foreign_class, legacy_pth, torchscript, compressed_member, a
 * dtype or rank that no parameter has; VX_E_CORRUPT: truncated_zip, member_outside, bad_pickle,
 * storage_too_short, aliases_differ (keys of one parameter with different values),
 * momentum_mismatch, bad_pth and more; VX_E_LIMIT. All name the file, and the tensor or member. On
 * failure ret is untouched. */
int vx_pth_read(const char *path, bool momentum, struct vx_pth *ret, struct vx_err *err);
void vx_pth_release(struct vx_pth *p);

static inline void vx_own_pth(struct vx_pth *p) {
    vx_pth_release(p);
}
#define vx_auto_pth __attribute__((cleanup(vx_own_pth)))

#endif
