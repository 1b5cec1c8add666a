"""The C network against PyTorch on the same weights and inputs: loss, gradients, three steps of SGD.

usage: net.py PROGRAM [BACKEND [CONFIG...]]

PROGRAM is the build's oracle_net; it writes what it computed into a folder, and this script repeats it
in PyTorch with double precision. Exit status 1 where a relative difference is over 1e-4, 77 where
PyTorch is missing. The last line is one JSON object."""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
    import torch
except ImportError as e:
    print(json.dumps({"skipped": f"PyTorch is not installed ({e})"}))
    sys.exit(77)

from configs import CONFIGS
from plain_conv_unet import PlainConvUNet, total_loss

LIMIT = 1e-4


def load(folder, name, dtype):
    return np.fromfile(folder / name, dtype=dtype)


def split(flat, params):
    out, at = [], 0
    for p in params:
        out.append(torch.from_numpy(flat[at:at + p.numel()].copy()).reshape(p.shape).double())
        at += p.numel()
    assert at == flat.size, f"{flat.size} numbers for {at}"
    return out


def worst(got, want, names):
    """Largest relative difference of a tensor. Gradients that are zero but for rounding (a bias in
    front of a norm) are measured against a thousandth of the largest tensor's norm."""
    floor = 1e-3 * max(float(w.norm()) for w in want)
    errors = [(float((g - w).norm()) / max(float(w.norm()), floor), n)
              for g, w, n in zip(got, want, names)]
    return max(errors)


def check(program, backend, name):
    cfg = CONFIGS[name]
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        (folder / "config.json").write_text(json.dumps(cfg))
        subprocess.run([program, backend, str(folder)], check=True)
        said = json.loads((folder / "result.json").read_text())
        torch.manual_seed(0)
        net = PlainConvUNet(cfg, cfg["channels"], cfg["classes"]).double()
        names, params = zip(*net.named_parameters())
        assert list(names) == said["names"], "parameter names or their order differ"
        for p, v in zip(params, split(load(folder, "weights.bin", "<f4"), params)):
            p.data.copy_(v)
        shape = [cfg["batch"], cfg["channels"], *cfg["patch"]]
        images = torch.from_numpy(load(folder, "images.bin", "<f4")).double().reshape(shape)
        labels = torch.from_numpy(load(folder, "labels.bin", "<i2")).long()
        labels = labels.reshape([cfg["batch"], *cfg["patch"]])

        heads = net(images)
        loss, ce, dice = total_loss(heads, labels, cfg["batch_dice"])
        loss.backward()
        untouched = [n for n, p in zip(names, params) if p.grad is None]
        want = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in params]
        got = split(load(folder, "gradients.bin", "<f4"), params)
        logits = torch.from_numpy(load(folder, "logits.bin", "<f4")).double()
        errors = {
            "loss": abs(said["loss"] - loss.item()) / abs(loss.item()),
            "ce": abs(said["ce"] - ce.item()) / abs(ce.item()),
            "dice": abs(said["dice"] - dice.item()) / abs(dice.item()),
            "logits": float((logits - heads[0].detach().flatten()).norm() / heads[0].detach().norm()),
            "gradients": worst(got, want, names)[0],
        }
        assert said["frozen"] == untouched, "not the same parameters without gradient"
        norm = torch.sqrt(sum((g ** 2).sum() for g in want)).item()
        errors["grad_norm"] = abs(said["grad_norm"] - norm) / norm

        opt = torch.optim.SGD(net.parameters(), lr=said["lr"], momentum=said["momentum"],
                              nesterov=True, weight_decay=said["weight_decay"])
        start = [p.detach().clone() for p in params]
        for _ in range(said["steps"]):
            opt.zero_grad()
            total_loss(net(images), labels, cfg["batch_dice"])[0].backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), said["clip_norm"])
            opt.step()
        end = split(load(folder, "end.bin", "<f4"), params)
        moved = [p.detach() - s for p, s in zip(params, start)]
        got = [e - s for e, s in zip(end, start)]
        errors["sgd"] = worst(got, moved, names)[0]
    return errors


def main():
    program = sys.argv[1]
    backend = sys.argv[2] if len(sys.argv) > 2 else "cpu"
    configs = sys.argv[3:] or ["tiny", "aniso", "demo"]
    torch.set_num_threads(2)
    figures = {}
    for name in configs:
        errors = check(program, backend, name)
        figures[name] = {k: float(f"{v:.3g}") for k, v in errors.items()}
        print(name, figures[name])
    value = max(max(f.values()) for f in figures.values())
    print(json.dumps({"name": "oracle_net", "unit": "largest relative difference", "value": value,
                      "limit": LIMIT, "backend": backend, "torch": torch.__version__,
                      "figures": figures}))
    sys.exit(0 if value <= LIMIT else 1)


main()
