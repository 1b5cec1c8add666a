/* Writes a checkpoint as nnUNetTrainer.save_checkpoint does: nnU-Net's predictor, its --c and its
 * -pretrained_weights load it unchanged, torch.load also with weights_only=True. Thread: any; one
 * at a time per checkpoint. */
#ifndef VX_CHECKPOINT_PTH_WRITE_H
#define VX_CHECKPOINT_PTH_WRITE_H

#include "checkpoint/checkpoint.h"

struct vx_err;

struct vx_pth_words {
    const json_t *plans, *dataset_json; /* init_args', key order kept; borrowed */
    const char *configuration;
    const char *fold; /* "0" becomes a number, "all" stays text */
    int dims;         /* of the network, 2 or 3: for 2 kernels lose their axis of 1 */
};

/* network_weights with every alias (aliases share their storage), optimizer_state with one group of
 * SGD and those momentum buffers that are not zero throughout (SGD takes an absent one for zero),
 * logging from c->history (null as NaN), _best_ema, current_epoch, trainer_name "nnUNetTrainer";
 * inference_allowed_mirroring_axes from c->network's "mirror_axes", None where it is empty or
 * absent: the predictor then does not mirror. c's tensors hold values, in PyTorch's order. Atomic
 * and durable as vx_zip_commit. VX_E_INVALID where a 2d kernel is deeper than 1. */
int vx_pth_write(const char *path, const struct vx_ckpt *c, const struct vx_pth_words *words,
                 struct vx_err *err);

#endif
