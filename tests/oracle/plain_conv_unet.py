"""PlainConvUNet and its training loss in PyTorch, written from the architecture's description, to
compare the C network with. Module names and registration order are those of nnU-Net's checkpoints.
"""
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, cin, cout, kernel, stride, slope):
        super().__init__()
        pad = [(k - 1) // 2 for k in kernel]
        self.conv = nn.Conv3d(cin, cout, kernel, stride, pad, bias=True)
        self.norm = nn.InstanceNorm3d(cout, eps=1e-5, affine=True)
        self.nonlin = nn.LeakyReLU(slope)
        self.all_modules = nn.Sequential(self.conv, self.norm, self.nonlin)

    def forward(self, x):
        return self.all_modules(x)


class Blocks(nn.Module):
    def __init__(self, n, cin, cout, kernel, stride, slope):
        super().__init__()
        ones = [1, 1, 1]
        self.convs = nn.Sequential(*[
            Block(cin if i == 0 else cout, cout, kernel, stride if i == 0 else ones, slope)
            for i in range(n)
        ])

    def forward(self, x):
        return self.convs(x)


class Encoder(nn.Module):
    def __init__(self, cfg, channels):
        super().__init__()
        stages, cin = [], channels
        for f, k, s, n in zip(cfg["features"], cfg["kernels"], cfg["strides"], cfg["convs"]):
            stages.append(nn.Sequential(Blocks(n, cin, f, k, s, cfg["slope"])))
            cin = f
        self.stages = nn.Sequential(*stages)

    def forward(self, x):
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class Decoder(nn.Module):
    def __init__(self, encoder, cfg, classes):
        super().__init__()
        self.encoder = encoder
        f, n = cfg["features"], len(cfg["features"])
        stages, ups, heads = [], [], []
        for j in range(1, n):
            below, here = f[-j], f[-(j + 1)]
            stride = cfg["strides"][-j]
            ups.append(nn.ConvTranspose3d(below, here, stride, stride, bias=True))
            stages.append(Blocks(cfg["decoder_convs"][j - 1], 2 * here, here,
                                 cfg["kernels"][-(j + 1)], [1, 1, 1], cfg["slope"]))
            heads.append(nn.Conv3d(here, classes, 1, bias=True))
        self.stages = nn.ModuleList(stages)
        self.transpconvs = nn.ModuleList(ups)
        self.seg_layers = nn.ModuleList(heads)

    def forward(self, skips):
        x, out = skips[-1], []
        for j in range(len(self.stages)):
            x = torch.cat((self.transpconvs[j](x), skips[-(j + 2)]), 1)
            x = self.stages[j](x)
            out.append(self.seg_layers[j](x))
        return out[::-1]  # finest first


class PlainConvUNet(nn.Module):
    def __init__(self, cfg, channels, classes):
        super().__init__()
        self.encoder = Encoder(cfg, channels)
        self.decoder = Decoder(self.encoder, cfg, classes)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def head_weights(n):
    w = [2.0 ** -i for i in range(n)]
    if n > 1:
        w[-1] = 0.0
    return [v / sum(w) for v in w]


def pick(labels, size):
    """Nearest-exact sub-sampling of (N, D, H, W) labels: index floor((o + 0.5) * in / out)."""
    for axis, out in enumerate(size):
        n = labels.shape[axis + 1]
        index = ((torch.arange(out, dtype=torch.float64) + 0.5) * n / out).floor().long()
        labels = labels.index_select(axis + 1, index)
    return labels


def dice_ce(logits, labels, batch_dice, smooth=1e-5):
    """Returns (CE - mean Dice, CE, mean Dice), background left out of Dice."""
    ce = F.cross_entropy(logits, labels)
    p = torch.softmax(logits, 1)
    y = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(p.dtype)
    axes = (0, 2, 3, 4) if batch_dice else (2, 3, 4)
    inter, pred, truth = (p * y).sum(axes), p.sum(axes), y.sum(axes)
    d = (2 * inter + smooth) / (truth + pred + smooth).clip(1e-8)
    dice = (d[1:] if batch_dice else d[:, 1:]).mean()
    return ce - dice, ce, dice


def total_loss(heads, labels, batch_dice):
    """Weighted sum over heads; also the finest head's CE and Dice."""
    total, finest = 0.0, None
    for logits, w in zip(heads, head_weights(len(heads))):
        if w == 0.0:
            continue
        loss, ce, dice = dice_ce(logits, pick(labels, logits.shape[2:]), batch_dice)
        total = total + w * loss
        if finest is None:
            finest = (ce, dice)
    return total, finest[0], finest[1]
