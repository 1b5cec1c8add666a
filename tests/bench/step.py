"""Training steps of voxeld's CPU backend and of PyTorch, in turns, on the same network.

usage: step.py BENCH_STEP [--features 32,64,128] [--batch 2] [--threads 2] [--rounds 8] [--steps 2]

BENCH_STEP is the program of tests/bench/step.c. Each round takes a few steps of voxeld in fp32, PyTorch in
fp32, voxeld in bf16, PyTorch in bf16 (autocast); who waits, sleeps. The first round warms up and is dropped. A
step's time is the median over all steps; the ratio is the median over rounds of the ratio within a round, so that
other load on the machine, which comes and goes, hits both sides. Both best times are stated too. The last line is one
JSON object; exit status 0 where the ratio is at most 0.6, 1 where not, 77 where PyTorch is absent.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TARGET = 0.6
PATCH = (40, 56, 40)
CLASSES = 3

try:
    import torch
except ImportError as e:
    print(json.dumps({"skipped": f"PyTorch is not installed ({e})"}))
    sys.exit(77)
sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
from plain_conv_unet import PlainConvUNet, total_loss  # noqa: E402


class Voxeld:
    """The bench program as a child that takes steps when told to."""

    def __init__(self, program, args, precision):
        command = [program, args.features, str(args.batch), precision, str(args.threads)]
        env = dict(os.environ, OMP_WAIT_POLICY="passive")
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def steps(self, n):
        self.child.stdin.write(f"{n}\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())["seconds"]

    def finish(self):
        out, _ = self.child.communicate()
        return json.loads(out.splitlines()[-1])


class Torch:
    """The same step as nnU-Net's trainer takes it: forward, Dice + CE, backward, clipping, SGD."""

    def __init__(self, args, bf16):
        torch.manual_seed(0)
        features = [int(f) for f in args.features.split(",")]
        n = len(features)
        cfg = {"features": features, "kernels": [[3, 3, 3]] * n, "strides": [[1, 1, 1]] + [[2, 2, 2]] * (n - 1),
               "convs": [2] * n, "decoder_convs": [2] * (n - 1), "slope": 0.01}
        self.net = PlainConvUNet(cfg, 1, CLASSES)
        # As nnU-Net sets it; in place, which saves PyTorch memory traffic.
        for module in self.net.modules():
            if isinstance(module, torch.nn.LeakyReLU):
                module.inplace = True
        self.optimizer = torch.optim.SGD(self.net.parameters(), 0.01, momentum=0.99, nesterov=True, weight_decay=3e-5)
        self.x = torch.randn(args.batch, 1, *PATCH)
        self.y = torch.arange(self.x.numel()).mul(CLASSES).div(self.x.numel(), rounding_mode="floor")
        self.y = self.y.view(args.batch, *PATCH)
        self.bf16 = bf16

    def step(self):
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            heads = self.net(self.x)
        loss = total_loss([h.float() for h in heads], self.y, False)[0]
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in self.net.parameters() if p.grad is not None], 12)
        self.optimizer.step()
        loss.item()
        return time.perf_counter() - start

    def steps(self, n):
        return [self.step() for _ in range(n)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--features", default="32,64,128")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    voxeld = {p: Voxeld(args.program, args, p) for p in ("fp32", "bf16")}
    peer = {p: Torch(args, p == "bf16") for p in ("fp32", "bf16")}
    ours, theirs, ratios = ({"fp32": [], "bf16": []} for _ in range(3))
    for round_ in range(args.rounds + 1):
        for p in ("fp32", "bf16"):
            a, b = voxeld[p].steps(args.steps), peer[p].steps(args.steps)
            if round_ > 0:
                ours[p] += a
                theirs[p] += b
                ratios[p].append(statistics.median(a) / statistics.median(b))
        print(f"round {round_}: voxeld {min(a):.3f}, PyTorch {min(b):.3f} s/step (bf16)", file=sys.stderr)
    made = {p: v.finish() for p, v in voxeld.items()}
    median = statistics.median
    ratio = median(ratios["fp32"])
    print(json.dumps({
        "name": "step", "unit": "s/step", "value": round(median(ours["fp32"]), 4),
        "peer": round(median(theirs["fp32"]), 4), "ratio": round(ratio, 3), "target": TARGET,
        "best": round(min(ours["fp32"]), 4), "peer_best": round(min(theirs["fp32"]), 4),
        "primitives": round(made["fp32"]["primitives"], 4), "own_kernels": round(made["fp32"]["own"], 4),
        "memory_mib": made["fp32"]["memory_mib"],
        "bf16": {"value": round(median(ours["bf16"]), 4), "peer": round(median(theirs["bf16"]), 4),
                 "ratio": round(median(ratios["bf16"]), 3), "ratio_to_peer_fp32":
                 round(median(ours["bf16"]) / median(theirs["fp32"]), 3), "best": round(min(ours["bf16"]), 4),
                 "peer_best": round(min(theirs["bf16"]), 4), "memory_mib": made["bf16"]["memory_mib"]},
        "network": args.features, "patch": "x".join(map(str, PATCH)), "batch": args.batch, "threads": args.threads,
        "peer_version": f"PyTorch {torch.__version__}", "steps": len(ours["fp32"]),
        "machine": os.environ.get("VXB_MACHINE", ""), "commit": os.environ.get("VXB_COMMIT", ""),
        "reached": ratio <= TARGET}))
    return 0 if ratio <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
