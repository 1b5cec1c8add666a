"""Writes samples/torch.pth: a checkpoint as nnUNetTrainer.save_checkpoint (nnU-Net 2.8.1) lays it out, from
PyTorch and nnU-Net's own network class. Parameter i holds (1000 i + e) / 64 at element e, its momentum
-(1000 i + e) / 128, so that test_pth.c knows every value. Needs $VOXELD_VENV/bin/python.

usage: make_torch_sample.py FILE"""
import sys

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

net = PlainConvUNet(1, 2, [2, 3], torch.nn.Conv2d, [[3, 3], [3, 3]], [[1, 1], [2, 2]], [1, 1], 2, [1], True,
                    torch.nn.InstanceNorm2d, {"eps": 1e-5, "affine": True}, None, None, torch.nn.LeakyReLU,
                    {"inplace": True}, deep_supervision=True)
optimizer = torch.optim.SGD(net.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
for i, p in enumerate(net.parameters()):
    values = torch.arange(p.numel(), dtype=torch.float32).reshape(p.shape) + 1000 * i
    p.data.copy_(values / 64)
    if i != 3:  # one that SGD never touched
        optimizer.state[p]["momentum_buffer"] = -values / 128
scaler = {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 7}
torch.save({
    "network_weights": net.state_dict(),
    "optimizer_state": optimizer.state_dict(),
    "grad_scaler_state": scaler,
    "logging": {
        "mean_fg_dice": [np.float64(0.25), np.nanmean([0.5, np.nan])],
        "ema_fg_dice": [np.float64(0.25), np.float64(0.275)],
        "dice_per_class_or_region": [[np.float64(0.25)], [np.float32(0.5)]],
        "train_losses": [np.float32(0.5), np.float32(-0.25)],
        "val_losses": [np.float64(0.5), float("nan")],
        "lrs": [0.01, 0.0099], "epoch_start_timestamps": [1.5, 2.5], "epoch_end_timestamps": [2.5, 3.5]},
    "_best_ema": np.float64(0.275),
    "current_epoch": 2,
    "init_args": {"plans": {"dataset_name": "Dataset999_Sample", "b": [1, 2.0, None, True], "a": {}},
                  "configuration": "2d", "fold": 3, "dataset_json": {"labels": {"background": 0, "x": 1}},
                  "device": torch.device("cuda", 0)},
    "trainer_name": "nnUNetTrainer",
    "inference_allowed_mirroring_axes": (0, 1),
}, sys.argv[1])
