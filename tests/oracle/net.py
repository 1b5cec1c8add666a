"""The C network against PyTorch on the same weights and inputs: loss, logits, gradients, steps of SGD.

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
MARGIN = 5e-6  # several times the rounding of a float32 forward pass


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


def kink_margin(net, images):
    """Smallest distance of an activation's input from 0. Where rounding puts it on the other side, a
    gradient changes by more than rounding, in any implementation: such inputs compare nothing."""
    least = []
    hooks = [m.register_forward_pre_hook(lambda _, x: least.append(float(x[0].detach().abs().min())))
             for m in net.modules() if isinstance(m, torch.nn.LeakyReLU)]
    with torch.no_grad():
        net(images)
    for h in hooks:
        h.remove()
    return min(least)


def run(program, backend, cfg, folder):
    """The C program's account of cfg, and PyTorch's network with the same weights and inputs."""
    (folder / "config.json").write_text(json.dumps(cfg))
    subprocess.run([program, backend, str(folder)], check=True)
    said = json.loads((folder / "result.json").read_text())
    net = PlainConvUNet(cfg, cfg["channels"], cfg["classes"]).double()
    names, params = zip(*net.named_parameters())
    assert list(names) == said["names"], "parameter names or their order differ"
    for p, v in zip(params, split(load(folder, "weights.bin", "<f4"), params)):
        p.data.copy_(v)
    shape = [cfg["batch"], cfg["channels"], *cfg["patch"]]
    images = torch.from_numpy(load(folder, "images.bin", "<f4")).double().reshape(shape)
    labels = torch.from_numpy(load(folder, "labels.bin", "<i2")).long()
    return said, net, images, labels.reshape([cfg["batch"], *cfg["patch"]])


def relative(got, want):
    return abs(got - want) / abs(want)


def check_gradients(cfg, folder, said, net, images, labels):
    names, params = zip(*net.named_parameters())
    heads = net(images)
    loss, ce, dice = total_loss(heads, labels, cfg["batch_dice"])
    loss.backward()
    assert said["frozen"] == [n for n, p in zip(names, params) if p.grad is None], \
        "not the same parameters without gradient"
    want = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in params]
    got = split(load(folder, "gradients.bin", "<f4"), params)
    logits = torch.from_numpy(load(folder, "logits.bin", "<f4")).double()
    finest = heads[0].detach().flatten()
    norm = torch.sqrt(sum((g ** 2).sum() for g in want)).item()
    return {
        "loss": relative(said["loss"], loss.item()), "ce": relative(said["ce"], ce.item()),
        "dice": relative(said["dice"], dice.item()),
        "logits": float((logits - finest).norm() / finest.norm()),
        "gradients": worst(got, want, names)[0],
        "grad_norm": relative(said["grad_norm"], norm),
    }


def check_steps(cfg, folder, said, net, images, labels):
    """How far each tensor moved in some steps of training. Every step rounds the weights to float32,
    which by itself may make a difference of 2^-24 of their size: it counts as one LIMIT at most."""
    names, params = zip(*net.named_parameters())
    opt = torch.optim.SGD(net.parameters(), lr=said["lr"], momentum=said["momentum"],
                          nesterov=True, weight_decay=said["weight_decay"])
    start = [p.detach().clone() for p in params]
    for _ in range(said["steps"]):
        opt.zero_grad()
        total_loss(net(images), labels, cfg["batch_dice"])[0].backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), said["clip_norm"])
        opt.step()
    moved = [p.detach() - s for p, s in zip(params, start)]
    got = [e - s for e, s in zip(split(load(folder, "end.bin", "<f4"), params), start)]
    floor = 1e-3 * max(float(m.norm()) for m in moved)
    rounding = said["steps"] * 2.0 ** -24 / LIMIT
    return max(float((g - m).norm()) / (max(float(m.norm()), floor) + rounding * float(s.norm()))
               for g, m, s in zip(got, moved, start))


def check(program, backend, name):
    cfg = CONFIGS[name]
    smooth = cfg["slope"] == 1.0
    with tempfile.TemporaryDirectory() as tmp:
        for seed in range(1, 50):
            job = run(program, backend, dict(cfg, seed=seed), Path(tmp))
            if smooth or kink_margin(job[1], job[2]) > MARGIN:
                break
        errors = check_gradients(cfg, Path(tmp), *job)
        if smooth:
            errors["sgd"] = check_steps(cfg, Path(tmp), *job)
    return errors


def main():
    program = sys.argv[1]
    backend = sys.argv[2] if len(sys.argv) > 2 else "cpu"
    configs = sys.argv[3:] or ["tiny", "tiny_smooth", "aniso_smooth", "demo_smooth"]
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
