"""Loss, deep-supervision targets, gradients and hard statistics against nnU-Net's own, in float32.

usage: loss.py PROGRAMS [--golden FOLDER] [BACKEND...]

PROGRAMS is the build's tests/oracle. nnU-Net's side is what nnUNetTrainer builds: DC_and_CE_loss with
MemoryEfficientSoftDiceLoss in a DeepSupervisionWrapper, targets by RemoveLabelTransform and
DownsampleSegForDSTransform, statistics by its validation_step."""
import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import nnunet
from checks import Checks, relative

LIMIT = 1e-5

TWOS = [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
PLANE = [[1, 1, 1]] + [[1, 2, 2]] * 3
ANISOTROPIC = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]]


def settings():
    """Every number of classes, batches of 1 and 3, both kinds of Dice, 3d, anisotropic and 2d."""
    kinds = [("3d", [16, 24, 16], TWOS), ("anisotropic", [6, 16, 24], ANISOTROPIC), ("2d", [1, 48, 40], PLANE),
             ("3d of six stages", [32, 32, 64], [[1, 1, 1]] + [[2, 2, 2]] * 5)]
    for kind, patch, strides in kinds:
        for classes in (2, 3, 4, 5):
            for batch in (1, 3):
                for batch_dice in (False, True):
                    if kind == "3d of six stages" and (classes, batch) != (3, 3):
                        continue
                    yield {"what": f"{kind}, {classes} classes, batch {batch}{', batch Dice' if batch_dice else ''}",
                           "patch": patch, "strides": strides, "classes": classes, "batch": batch,
                           "batch_dice": batch_dice, "scale": 1.5, "absent": []}
    base = {"patch": [16, 24, 16], "strides": TWOS, "classes": 4, "batch": 3, "scale": 1.5}
    for batch_dice in (False, True):
        more = {**base, "batch_dice": batch_dice}
        name = ", batch Dice" if batch_dice else ""
        yield {**more, "what": f"a class that is absent{name}", "absent": [2]}
        yield {**more, "what": f"nothing but background{name}", "absent": [1, 2, 3]}
        yield {**more, "what": f"sure logits{name}", "scale": 12.0, "absent": []}
        yield {**more, "what": f"logits that tie{name}", "scale": 1.5, "absent": [], "ties": True}
        yield {**more, "what": f"voxels outside the image{name}", "absent": [], "outside": True}


class Peer:
    """What a trainer of these strides uses, without a data set."""

    def __init__(self, s):
        import torch
        from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
        from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
        self.trainer, self.axes = nnUNetTrainer, [a for a in range(3) if s["patch"][a] > 1]
        labels = SimpleNamespace(has_regions=False, ignore_label=None, has_ignore_label=False)
        pools = [[step[a] for a in self.axes] for step in s["strides"]]
        self.me = SimpleNamespace(
            label_manager=labels, is_ddp=False, enable_deep_supervision=True, device=torch.device("cpu"),
            configuration_manager=SimpleNamespace(batch_dice=s["batch_dice"], pool_op_kernel_sizes=pools),
            _do_i_compile=lambda: False)
        self.me._get_deep_supervision_scales = lambda: nnUNetTrainer._get_deep_supervision_scales(self.me)
        self.scales = self.me._get_deep_supervision_scales()
        self.me.loss = nnUNetTrainer._build_loss(self.me)
        self.transforms = [RemoveLabelTansform(-1, 0), DownsampleSegForDSTransform(self.scales)]

    def targets(self, labels):
        """[N][...] with -1 outside to a list of [N][1][...]."""
        import torch
        samples = []
        for label in labels:
            data = {"segmentation": torch.from_numpy(label[None].copy())}
            for t in self.transforms:
                data = t(**data)
            samples.append(data["segmentation"])
        return [torch.stack(scale) for scale in zip(*samples)]

    def loss(self, logits, targets):
        return self.me.loss(logits, targets)

    def validate(self, logits, targets):
        """nnUNetTrainer.validation_step of a network that gives these logits."""
        import torch
        self.me.network = lambda _: [x.detach() for x in logits]
        batch = {"data": torch.zeros(1), "target": [t.clone() for t in targets]}
        with torch.no_grad():
            return self.trainer.validation_step(self.me, batch)


def head_sizes(s):
    """Shapes of all heads, of the axes that are there."""
    import numpy as np
    axes = [a for a in range(3) if s["patch"][a] > 1]
    sizes, size = [], np.array(s["patch"])
    for step in s["strides"][:-1]:
        size = size // step
        sizes.append([int(size[a]) for a in axes])
    return sizes


def inputs(s, seed):
    """Logits per evaluated head [N][classes][...] and labels [N][...], both of the axes that are there."""
    import numpy as np
    rs, sizes = np.random.RandomState(seed), head_sizes(s)
    logits = [(rs.standard_normal([s["batch"], s["classes"], *n]) * s["scale"]).astype(np.float32) for n in sizes[:-1]]
    if s.get("ties"):
        logits = [np.round(x) for x in logits]
    allowed = [c for c in range(s["classes"]) if c not in s["absent"]]
    blocks = rs.randint(0, len(allowed), [s["batch"], *[n // 2 for n in sizes[0]]])
    for axis in range(1, blocks.ndim):
        blocks = blocks.repeat(2, axis)
    labels = np.where(rs.rand(*blocks.shape) < 0.3, rs.randint(0, len(allowed), blocks.shape), blocks)
    labels = np.array(allowed)[labels].astype(np.int16)
    if s.get("outside"):
        labels[..., :7] = -1
    return logits, labels


def their_account(s, logits, labels):
    import numpy as np
    import torch
    peer = Peer(s)
    heads = [torch.from_numpy(x.copy()).requires_grad_() for x in logits]
    targets = peer.targets(labels)
    assert len(targets) == len(heads) + 1, "one head more than is evaluated"
    unused = torch.full((s["batch"], s["classes"], *targets[-1].shape[2:]), float("nan"))
    loss = peer.loss([*heads, unused], targets)
    loss.backward()
    finest = peer.me.loss.loss
    hard = peer.validate([*heads, unused], targets)
    return {"loss": float(loss.detach()), "ce": float(finest.ce(heads[0], targets[0][:, 0]).detach()),
            "dice": -float(finest.dc(heads[0], targets[0]).detach()), "validated": float(hard["loss"]),
            "counts": np.stack([hard["tp_hard"], hard["fp_hard"], hard["fn_hard"]], 1).astype(int).tolist(),
            "weights": [float(w) for w in peer.me.loss.weight_factors],
            "gradients": [x.grad.numpy() for x in heads]}


def check_setting(checks, backend, s, folder, ours, theirs):
    import numpy as np
    what = f"{backend} {s['what']}"
    apart = np.abs(np.subtract(ours["weights"], theirs["weights"])).max()
    checks.at_most(f"{what}: weights of the heads", float(apart), 1e-7)
    figures = {k: relative(ours[k], theirs[k]) for k in ("loss", "ce", "validated")}
    figures["dice"] = abs(ours["dice"] - theirs["dice"])  # may be 0
    worst = max(figures, key=figures.get)
    checks.at_most(f"{what}: loss, cross-entropy, Dice, relative", figures[worst], LIMIT,
                   f"{worst} {ours[worst]:.7g}, nnU-Net {theirs[worst]:.7g}")
    flat, errors = np.fromfile(folder / f"{s['name']}.gradient", "<f4").astype(np.float64), []
    for want in theirs["gradients"]:
        got, flat = flat[:want.size], flat[want.size:]
        errors.append(np.linalg.norm(got - want.ravel()) / np.linalg.norm(want))
    checks.at_most(f"{what}: gradients of {len(errors)} heads, relative L2", max(errors), LIMIT)
    checks.check(f"{what}: tp, fp, fn of foreground", ours["counts"][1:] == theirs["counts"],
                 f"{ours['counts'][1:]}, nnU-Net {theirs['counts']}" if ours["counts"][1:] != theirs["counts"] else "")


def write_golden(path):
    """Figures for tests/net/test_oracle.c, which makes the same inputs and runs without nnU-Net."""
    import hashed
    import numpy as np
    figures = []
    for i, (patch, strides) in enumerate([([8, 8, 16], TWOS), ([4, 8, 16], ANISOTROPIC), ([1, 16, 24], PLANE)]):
        for classes, batch, batch_dice in ((2 + i, 1, False), (4, 2, False), (3, 2, True)):
            s = {"patch": patch, "strides": strides, "classes": classes, "batch": batch, "batch_dice": batch_dice}
            logits, sizes = [], head_sizes(s)
            for h, size in enumerate(sizes[:-1]):
                shape = [batch, classes, *size]
                logits.append(hashed.numbers(int(np.prod(shape)), h).reshape(shape))
            n = int(np.prod([batch, *sizes[0]]))
            labels = ((hashed.words(n, 9) >> np.uint32(8)) % np.uint32(classes + 1)).astype(np.int16) - 1
            theirs = their_account(s, logits, labels.reshape([batch, *sizes[0]]))
            picked = [np.linspace(0, g.size - 1, 7).astype(int) for g in theirs["gradients"]]
            theirs["gradients"] = [
                {"norm": float(np.linalg.norm(g.astype(np.float64))),
                 "at": [float(f"{v:.8g}") for v in g.ravel()[p]]} for g, p in zip(theirs["gradients"], picked)]
            figures.append({**s, **theirs})
    path.write_text(json.dumps({"versions": nnunet.versions(), "figures": figures}, separators=(",", ":")) + "\n")


def check_indices(checks):
    """Which voxel a target is picked from, for all sizes that plans have: oplist.h's rule in integers."""
    import numpy as np
    import torch
    from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
    different, count = [], 0
    for pools in range(1, 8):
        scales = [[float(s)] for s in (1 / np.cumprod([1] + [2] * pools))]
        for edge in range(2 ** pools, 1025, 2 ** pools):
            line = torch.arange(edge, dtype=torch.int32)[None, :, None, None]
            wide = [[s[0], 1.0, 1.0] for s in scales]
            for target in DownsampleSegForDSTransform(wide)(segmentation=line)["segmentation"]:
                n, o = target.shape[1], np.arange(target.shape[1])
                count += 1
                if not np.array_equal(target.flatten().numpy(), (2 * o + 1) * edge // (2 * n)):
                    different.append(f"{edge} to {n}")
    checks.check("indices of deep-supervision targets", not different, f"{count} sizes {different[:5] or ''}")


def check_backend(checks, programs, backend, chosen):
    with tempfile.TemporaryDirectory() as tmp:
        folder, accounts = Path(tmp), []
        for s in chosen:
            logits, labels = inputs(s, s["seed"])
            with open(folder / f"{s['name']}.logits", "wb") as f:
                f.writelines(x.astype("<f4").tobytes() for x in logits)
            labels.astype("<i2").tofile(folder / f"{s['name']}.labels")
            accounts.append(their_account(s, logits, labels))
        (folder / "settings.json").write_text(json.dumps(chosen))
        subprocess.run([programs / "oracle_loss", backend, folder], check=True)
        for s, ours, theirs in zip(chosen, json.loads((folder / "results.json").read_text()), accounts):
            check_setting(checks, backend, s, folder, ours, theirs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=Path)
    parser.add_argument("--golden", type=Path)
    parser.add_argument("backends", nargs="*")
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as tmp:
        nnunet.use(tmp, tmp)
        import torch
        torch.set_num_threads(2)
        checks = Checks()
        if args.golden:
            write_golden(args.golden / "loss.json")
        every = [{**s, "name": f"setting{i}", "seed": i} for i, s in enumerate(settings())]
        check_indices(checks)
        for backend in args.backends or ["cpu", "ref"]:
            check_backend(checks, args.programs, backend, every)
    checks.end(stage="loss", versions=nnunet.versions())


if __name__ == "__main__":
    main()
