#!/usr/bin/env python3
"""The same training step in PyTorch, for scripts/gpu-check: PlainConvUNet of a network of networks.c, Dice + cross-entropy
over all heads, clipping, SGD with Nesterov momentum; bf16 autocast, channels_last_3d, cudnn.benchmark, with torch.compile
where it works. One JSON object a line.

  peer.py NETWORK [STEPS] [--eager | --compiled] [--cpu]     77 where there is no PyTorch or no GPU
Both variants without an option. --cpu: a tiny network in the place of the one named, without a GPU.
"""
import json
import statistics
import sys
import time

try:
    import torch
    from torch import nn
except ImportError:
    print('{"check": "peer", "skipped": "no PyTorch"}')
    sys.exit(77)

# batch, channels, classes, patch, features, strides of the stages behind the first
NETWORKS = {
    "six stages 128^3": (2, 1, 4, (128, 128, 128), (32, 64, 128, 256, 320, 320), [(2, 2, 2)] * 5),
    "Dataset004 3d_fullres": (9, 1, 3, (40, 56, 40), (32, 64, 128, 256), [(2, 2, 2)] * 3),
    "tiny": (1, 1, 3, (8, 8, 8), (8, 16), [(2, 2, 2)]),
}


def block(channels, features, stride):
    return nn.Sequential(nn.Conv3d(channels, features, 3, stride, 1), nn.InstanceNorm3d(features, 1e-5, affine=True),
                         nn.LeakyReLU(0.01, inplace=True))


class UNet(nn.Module):
    def __init__(self, channels, classes, features, strides):
        super().__init__()
        self.encoder, self.up, self.decoder, self.heads = (nn.ModuleList() for _ in range(4))
        for f, stride in zip(features, [(1, 1, 1), *strides]):
            self.encoder.append(nn.Sequential(block(channels, f, stride), block(f, f, 1)))
            channels = f
        for f, stride in zip(features[-2::-1], strides[::-1]):
            self.up.append(nn.ConvTranspose3d(channels, f, stride, stride))
            self.decoder.append(nn.Sequential(block(2 * f, f, 1), block(f, f, 1)))
            self.heads.append(nn.Conv3d(f, classes, 1))
            channels = f

    def forward(self, x):
        skips, out = [], []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        for up, stage, head, skip in zip(self.up, self.decoder, self.heads, skips[-2::-1]):
            x = stage(torch.cat((up(x), skip), 1))
            out.append(head(x))
        return out[::-1]  # finest first


def loss_of(logits, targets, weights):
    total = 0.0
    for x, y, weight in zip(logits, targets, weights):
        if weight == 0:
            continue
        p = torch.softmax(x.float(), 1)
        hot = torch.zeros_like(p).scatter_(1, y[:, None], 1.0)
        inter, prediction, truth = ((p * hot).sum((2, 3, 4)), p.sum((2, 3, 4)), hot.sum((2, 3, 4)))
        dice = (2 * inter + 1e-5) / (prediction + truth + 1e-5).clamp_min(1e-8)
        total = total + weight * (nn.functional.cross_entropy(x.float(), y) - dice[:, 1:].mean())
    return total


def measure(network, steps, device, compiled):
    batch, channels, classes, patch, features, strides = NETWORKS[network if device == "cuda" else "tiny"]
    torch.manual_seed(1)
    model = UNet(channels, classes, features, strides).to(device, memory_format=torch.channels_last_3d)
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.99, weight_decay=3e-5, nesterov=True)
    image = torch.randn(batch, channels, *patch, device=device).to(memory_format=torch.channels_last_3d)
    sizes = [tuple(p // 2**i for p in patch) for i in range(len(strides))]
    targets = [torch.randint(0, classes, (batch, *size), device=device) for size in sizes]
    weights = [0.5**i if i == 0 or i + 1 < len(sizes) else 0.0 for i in range(len(sizes))]
    weights = [w / sum(weights) for w in weights]
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16):
            logits = run(image)
        loss = loss_of(logits, targets, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 12)
        optimizer.step()
        return loss

    for _ in range(5):
        step()
    times = []
    for _ in range(steps):
        wait()
        start = time.perf_counter()
        loss = step()
        wait()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), float(loss.detach())


def main():
    arguments = [a for a in sys.argv[1:] if not a.startswith("--")]
    network, steps = arguments[0], int(arguments[1]) if len(arguments) > 1 else 20
    device = "cpu" if "--cpu" in sys.argv else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        print('{"check": "peer", "skipped": "PyTorch sees no GPU"}')
        return 77
    torch.backends.cudnn.benchmark = True
    variants = [c for c in (False, True) if ("--eager", "--compiled")[not c] not in sys.argv]
    for compiled in variants:
        result = {"check": "peer", "network": network, "torch": torch.__version__, "compile": compiled}
        try:
            result["train_ms"], result["loss"] = measure(network, steps, device, compiled)
        except Exception as error:  # a variant that does not work here is a result, too
            result["failed"] = str(error).splitlines()[0][:200]
        print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
