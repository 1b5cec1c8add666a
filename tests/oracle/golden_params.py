"""Prints the unique parameters of a PyTorch PlainConvUNet, in the optimizer's order: name and shape
per line. The committed lists under tests/net/golden were made by this program.

usage: golden_params.py CONFIG   (CONFIG: a name from configs.py)"""
import sys

from configs import CONFIGS
from plain_conv_unet import PlainConvUNet

cfg = CONFIGS[sys.argv[1]]
net = PlainConvUNet(cfg, cfg["channels"], cfg["classes"])
for name, p in net.named_parameters():
    print(name, ",".join(str(n) for n in p.shape))
