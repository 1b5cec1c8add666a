"""The same short training in voxeld and in nnU-Net: weights, batches and their order alike, augmentation off.

usage: train.py VOXELD PROGRAMS [--golden FOLDER] [JOB...]

voxeld prepare makes the store; the build's oracle_train draws the batches from it, trains with core/train and
writes all of them down. nnU-Net's side is its nnUNetTrainer on the CPU with the network of its plans: train_step,
validation_step, and what it logs at the end of an epoch."""
import argparse
import copy
import json
import os
import subprocess
import tempfile
from pathlib import Path

import bookkeeping
import nnunet
from checks import Checks, relative
from prepare import build, subset

LIMIT = 1e-2
HERE = Path(__file__).resolve().parent
NAME = "Dataset004_Hippocampus"
CASES, VAL_CASES = 14, 4
EPOCHS, ITERATIONS, VAL_ITERATIONS = 5, 10, 2

# configuration: what a job changes of the plan, as in a spec's "plan"
JOBS = {"3d_fullres": {"batch_size": 2, "features_per_stage": [8, 16, 32]},
        "2d": {"batch_size": 12, "features_per_stage": [16, 32, 64]}}


def plans_of(golden, configuration):
    plans = copy.deepcopy(golden["plans"])
    wanted, c = JOBS[configuration], plans["configurations"][configuration]
    kwargs, n = c["architecture"]["arch_kwargs"], len(wanted["features_per_stage"])
    c["batch_size"] = wanted["batch_size"]
    kwargs.update(n_stages=n, features_per_stage=wanted["features_per_stage"],
                  kernel_sizes=kwargs["kernel_sizes"][:n], strides=kwargs["strides"][:n],
                  n_conv_per_stage=kwargs["n_conv_per_stage"][:n],
                  n_conv_per_stage_decoder=kwargs["n_conv_per_stage_decoder"][:n - 1])
    return plans


class Ours:
    """What oracle_train left in a folder."""

    def __init__(self, folder, plans, configuration):
        import numpy as np
        c = plans["configurations"][configuration]
        self.said = json.loads((folder / "result.json").read_text())
        self.places = json.loads((folder / "places.json").read_text())
        self.start, self.end = (np.fromfile(folder / f"{n}.bin", "<f4") for n in ("weights", "end"))
        batch, size = c["batch_size"], list(c["patch_size"])
        read = lambda name, kind: np.fromfile(folder / name, kind).reshape(-1, batch, 1, *size)
        self.images = [read(f"{s}.images", "<f4") for s in ("train", "val")]
        self.labels = [read(f"{s}.labels", "<i2") for s in ("train", "val")]


def load_weights(network, names, flat):
    import torch
    own, params = zip(*network.named_parameters())
    if list(own) != names:
        raise SystemExit(f"parameters differ in name or order: {set(own) ^ set(names)}")
    at = 0
    for p in params:
        p.data.copy_(torch.from_numpy(flat[at:at + p.numel()].copy()).reshape(p.shape))
        at += p.numel()
    assert at == flat.size, f"{flat.size} numbers for {at}"


def make_trainer(plans, configuration, dataset_json, preprocessed):
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    folder = preprocessed / NAME / plans["configurations"][configuration]["data_identifier"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "case.b2nd").touch()  # nnU-Net looks at the endings of its prepared files, no more here
    torch.manual_seed(3)  # the network's own weights are looked at
    with nnunet.quiet():
        trainer = nnUNetTrainer({**copy.deepcopy(plans), "continue_training": False}, configuration, 0, dataset_json,
                                torch.device("cpu"))
        trainer.num_epochs = EPOCHS
        trainer.initialize()
        trainer.set_deep_supervision_enabled(True)
    return trainer


def batches(trainer, ours, stream):
    """Ours, as nnU-Net's loaders give them: labels through its validation transforms."""
    import torch
    transforms = trainer.get_validation_transforms(trainer._get_deep_supervision_scales())
    for images, labels in zip(ours.images[stream], ours.labels[stream]):
        targets = [transforms(segmentation=torch.from_numpy(label.copy()))["segmentation"] for label in labels]
        yield {"data": torch.from_numpy(images.copy()), "target": [torch.stack(t) for t in zip(*targets)]}


def train(trainer, ours):
    """Losses of every step and the logger's lists."""
    losses, feeds = ([], []), [batches(trainer, ours, s) for s in (0, 1)]
    import torch
    with nnunet.quiet():
        for _ in range(EPOCHS):
            trainer.on_train_epoch_start()
            outputs = [trainer.train_step(next(feeds[0])) for _ in range(ITERATIONS)]
            trainer.on_train_epoch_end(outputs)
            losses[0].extend(float(o["loss"]) for o in outputs)
            with torch.no_grad():
                trainer.on_validation_epoch_start()
                outputs = [trainer.validation_step(next(feeds[1])) for _ in range(VAL_ITERATIONS)]
                trainer.on_validation_epoch_end(outputs)
            losses[1].extend(float(o["loss"]) for o in outputs)
            trainer.current_epoch += 1
    return losses, trainer.logger.local_logger.my_fantastic_logging


def check_samples(checks, what, ours, raw, plans, configuration, dataset_json):
    """The batches are what nnU-Net's loader would crop at these places out of cases that it prepared."""
    import numpy as np
    from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
    peer, listed = nnunet.Preprocessor(plans, configuration, dataset_json), nnunet.cases_of(raw)
    cases, worst, labels = {}, 0, 0
    for stream, k, j, case, *low in ours.places:
        if case not in cases:
            with nnunet.quiet():
                cases[case] = peer.run(listed[case]["images"], listed[case]["label"])[:2]
        got, seg = ours.images[stream][k, j], ours.labels[stream][k, j]
        size = ([1] if configuration == "2d" else []) + list(got.shape[1:])
        box = [[l, l + s] for l, s in zip(low, size)]
        want = crop_and_pad_nd(cases[case][0], box, 0).reshape(got.shape)
        mask = crop_and_pad_nd(cases[case][1], box, -1).reshape(got.shape)
        worst = max(worst, float(np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30)))
        labels += int(np.count_nonzero(seg != np.maximum(mask, 0)))
    checks.at_most(f"{what}: images of {len(ours.places)} samples from {len(cases)} cases, relative L2", worst, 1e-5)
    checks.check(f"{what}: their labels", labels == 0, f"{labels} voxels differ")


def check_curve(checks, what, ours, theirs):
    errors = [relative(a, b) for a, b in zip(ours, theirs)]
    at = max(range(len(errors)), key=errors.__getitem__)
    checks.check(f"{what}: as many losses", len(ours) == len(theirs), f"{len(ours)}, nnU-Net {len(theirs)}")
    checks.at_most(f"{what}: loss of every step, relative", errors[at], LIMIT,
                   f"at step {at}: {ours[at]:.6f}, nnU-Net {theirs[at]:.6f}; first {ours[0]:.4f}, last {ours[-1]:.4f}")


def check_epochs(checks, what, ours, theirs):
    """voxeld's history against nnU-Net's logger, which counts voxels in float32."""
    checks.at_most(f"{what}: learning rates of the epochs, relative",
                   max(relative(a, b) for a, b in zip(ours["lrs"], theirs["lrs"])), 1e-12)
    for key in ("train_losses", "val_losses"):
        checks.at_most(f"{what}: {key} of the epochs, relative",
                       max(relative(a, float(b)) for a, b in zip(ours[key], theirs[key])), LIMIT)
    dice = [abs(a - float(b)) for x, y in zip(ours["dice_per_class_or_region"], theirs["dice_per_class_or_region"])
            for a, b in zip(x, y)]
    checks.at_most(f"{what}: pseudo-Dice of {len(dice)} epochs and classes", max(dice), 5e-3,
                   f"last {ours['dice_per_class_or_region'][-1]}")
    for key in ("mean_fg_dice", "ema_fg_dice"):
        checks.at_most(f"{what}: {key}", max(abs(a - float(b)) for a, b in zip(ours[key], theirs[key])), 5e-3)


def check_weights(checks, what, ours, trainer):
    """How far apart the end is, in parts of the way from the start."""
    import numpy as np
    end = np.concatenate([p.detach().numpy().ravel() for p in trainer.network.parameters()])
    moved = np.linalg.norm(end - ours.start)
    checks.at_most(f"{what}: distance of the last weights by the way they went",
                   float(np.linalg.norm(end - ours.end) / moved), 0.05, f"way {moved:.3g}")


def check_job(checks, args, configuration, golden, raw, work):
    plans = plans_of(golden, configuration)
    few, folder = work / configuration / NAME, work / configuration / "job"
    listed = sorted(nnunet.cases_of(raw))[:CASES]
    subset(raw, listed, few)
    store = build(args.voxeld, few, work / configuration / "out", golden["plans"], configuration)
    folder.mkdir()
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "config.json").write_text(json.dumps({
        "configuration": configuration, "classes": len(golden["dataset"]["labels"]), "seed": 5, "epochs": EPOCHS,
        "iterations": ITERATIONS, "val_iterations": VAL_ITERATIONS, "val_cases": VAL_CASES}))
    subprocess.run([args.programs / "oracle_train", store, folder], check=True)
    ours = Ours(folder, plans, configuration)
    trainer = make_trainer(plans, configuration, golden["dataset"], work / "preprocessed")
    bookkeeping.check_start(checks, configuration, trainer.network, ours.said["names"], ours.start)
    load_weights(trainer.network, ours.said["names"], ours.start)
    losses, logged = train(trainer, ours)
    check_samples(checks, configuration, ours, few, golden["plans"], configuration, golden["dataset"])
    check_curve(checks, f"{configuration} training", ours.said["losses"]["train"], losses[0])
    # nothing has been learnt yet: the network and the loss alone
    checks.at_most(f"{configuration} training: loss of the first step, relative",
                   relative(ours.said["losses"]["train"][0], losses[0][0]), 1e-5)
    check_curve(checks, f"{configuration} validation", ours.said["losses"]["val"], losses[1])
    check_epochs(checks, configuration, ours.said["history"], logged)
    check_weights(checks, configuration, ours, trainer)
    return trainer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("voxeld")
    parser.add_argument("programs", type=Path)
    parser.add_argument("--golden", type=Path)
    parser.add_argument("jobs", nargs="*")
    args = parser.parse_intermixed_args()
    data = Path(os.environ.get("VOXELD_TEST_DATA", "../shared/data")) / NAME
    golden = json.loads((HERE / "golden" / f"{NAME}.json").read_text())
    checks = Checks()
    with tempfile.TemporaryDirectory() as tmp:
        work = Path(tmp)
        (work / "preprocessed").mkdir()
        nnunet.use(work, work / "preprocessed")
        import torch
        torch.set_num_threads(2)
        bookkeeping.check_folds(checks, args.programs / "oracle_splits")
        trainer = None
        for configuration in args.jobs or JOBS:
            if not (data / "dataset.json").exists():
                checks.skip(configuration, f"there is no {data}; set VOXELD_TEST_DATA")
                continue
            trainer = check_job(checks, args, configuration, golden, data, work)
        if trainer:
            figures = bookkeeping.check_dice(checks, trainer, args.programs / "oracle_dice")
            if args.golden:
                text = json.dumps({"versions": nnunet.versions(), "epochs": figures}, separators=(",", ":"))
                (args.golden / "train.json").write_text(text + "\n")
    checks.end(stage="train", versions=nnunet.versions())


if __name__ == "__main__":
    main()
