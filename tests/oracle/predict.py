"""Prediction against nnU-Net's own predictor, on models that voxeld has just trained for a minute.

usage: predict.py VOXELD [--keep FOLDER] [MODEL...]

Five cases that no model has seen, through nnUNetPredictor (CPU, on the .pth of the published folder) and through
voxeld predict: one fold, two folds averaged, axes swapped and resampled, 2d; with mirroring. nnU-Net weighs tiles and
adds them up in float16; its code run with float32 in those places is the closer peer, and both are compared. Then
nnU-Net's ensembling reads voxeld's probabilities."""
import argparse
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import nnunet
from checks import Checks, no_peer
from prepare import plans_of, subset

HERE = Path(__file__).resolve().parent
NAME = "Dataset004_Hippocampus"
CASES, NEW = 20, 5

# model: configuration, folds, changed plans (spacing, transposition) or None, the job's plan, batches
MODELS = {
    "planned": ("3d_fullres", [0, 1], None, {"batch_size": 2, "patch_size": [40, 40, 32], "features_per_stage": [8, 16, 32]}, 120),
    "odd": ("3d_fullres", [0], ([1.3, 1.0, 0.9], [2, 0, 1]),
            {"batch_size": 2, "patch_size": [40, 40, 32], "features_per_stage": [16, 32]}, 120),
    "flat": ("2d", [0], None, {"batch_size": 12, "features_per_stage": [16, 32, 64]}, 150),
}


def run(program, *arguments):
    """JSON lines of voxeld"""
    done = subprocess.run([program, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0:
        raise SystemExit(f"voxeld {arguments[0]} ended with status {done.returncode}: {lines[-1:]}")
    return lines


def train(program, work, name):
    """The model's folder, published by voxeld train."""
    configuration, folds, changed, plan, iterations = MODELS[name]
    plans_name = "nnUNetPlans"
    if changed:
        plans_name = "oddPlans"
        golden = json.loads((HERE / "golden" / f"{NAME}.json").read_text())
        plans = plans_of(golden, configuration, *changed)
        plans["plans_name"] = plans_name
        folder = work / "state/preprocessed" / NAME
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{plans_name}.json").write_text(json.dumps(plans))
    for fold in folds:
        job = work / f"{name}_{fold}.json"
        job.write_text(json.dumps({
            "type": "train", "dataset": NAME, "configuration": configuration, "plans": plans_name, "fold": fold, "plan": plan,
            "results": {"name": name}, "training": {"epochs": 1, "iterations_per_epoch": iterations, "val_iterations_per_epoch": 1,
                                                    "initial_lr": 0.1, "momentum": 0.9, "seed": 1 + fold}}))
        # nnU-Net's own folders are in the environment, where voxeld would find them
        lines = run(program, "train", job, "--state", work / "state", "--data", work / "data", "--results", work / "state/results",
                    "--preprocessed", work / "state/preprocessed")
        dice = lines[-1]["validation"]["mean_dice"]
        print(f"        {name} fold {fold}: {iterations} batches, Dice {dice:.3f} over its held-out cases", flush=True)
    return work / "state/results" / NAME / f"{name}__{plans_name}__{configuration}"


@contextlib.contextmanager
def in_float32():
    """The predictor asks for torch.half where it sums logits up, and for its map of importance in float16: there the corners
    of a tile, of weights below 6e-8, become equal."""
    import functools
    import torch
    from nnunetv2.inference import predict_from_raw_data as predictor
    half, torch.half = torch.half, torch.float32
    gaussian = predictor.compute_gaussian
    predictor.compute_gaussian = functools.partial(gaussian, dtype=torch.float32)
    predictor.compute_gaussian.cache_clear = gaussian.cache_clear
    try:
        yield
    finally:
        torch.half, predictor.compute_gaussian = half, gaussian


def theirs(model, folds, source, out):
    """nnU-Net's predictions with probabilities."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    out.mkdir(parents=True)
    with nnunet.quiet():
        predictor = nnUNetPredictor(use_mirroring=True, device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(model), tuple(folds), "checkpoint_final.pth")
        assert predictor.allowed_mirroring_axes, "the .pth names no mirror axes"
        predictor.predict_from_files_sequential(str(source), str(out), save_probabilities=True)


def ours(program, model, folds, source, out):
    run(program, "predict", "--input", source, "--output", out, "--model", model, "--folds", ",".join(map(str, folds)),
        "--save-probabilities")


def labels_of(path):
    import SimpleITK
    image = SimpleITK.ReadImage(str(path))
    return SimpleITK.GetArrayFromImage(image), (image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def probabilities_of(folder, case):
    import numpy as np
    return np.load(folder / f"{case}.npz")["probabilities"]


def cases_in(folder):
    return sorted(p.name.removesuffix(".nii.gz") for p in folder.glob("*.nii.gz"))


def same_geometry(a, b):
    import numpy as np
    return all(np.allclose(p, q, atol=1e-5) for p, q in zip(a, b))


def check_labels(checks, what, a, b):
    """a and b: folders with the same cases."""
    same = total = foreground = 0
    grids = cases_in(a) == cases_in(b) and len(cases_in(a)) == NEW
    for case in cases_in(b):
        x, x_geometry = labels_of(a / f"{case}.nii.gz")
        y, y_geometry = labels_of(b / f"{case}.nii.gz")
        grids = grids and x.shape == y.shape and same_geometry(x_geometry, y_geometry)
        same, total = same + int((x == y).sum()), total + y.size
        foreground += int((y > 0).sum())
    checks.check(f"{what}: cases and grids", grids, f"{NEW} cases")
    checks.check(f"{what}: voxels that agree, share", same >= 0.999 * total and foreground > 0.01 * total,
                 f"{same / total:.6f} (at least 0.999; {total - same} of {total} differ, {foreground} are foreground)")


def check_probabilities(checks, what, a, b, limit):
    """limit: of the largest difference; None: only of the mean."""
    import numpy as np
    largest, mean, n, arrays = 0.0, 0.0, 0, True
    for case in cases_in(b):
        x, y = probabilities_of(a, case), probabilities_of(b, case)
        arrays = arrays and x.shape == y.shape and x.dtype == y.dtype == np.float32
        d = np.abs(x - y)
        largest, mean, n = max(largest, float(d.max())), mean + float(d.sum(dtype=np.float64)), n + d.size
    checks.check(f"{what}: probabilities, shape and type", arrays)
    if limit:
        checks.at_most(f"{what}: probabilities, largest difference", largest, limit)
    checks.at_most(f"{what}: probabilities, mean difference", mean / n, 1e-3, f"largest {largest:.3g}")


def check_properties(checks, what, a, b):
    """What nnU-Net pickles beside the probabilities: the part that its ensembling reads and we write."""
    import pickle
    import numpy as np
    equal = 0
    for case in cases_in(b):
        x, y = (pickle.loads((folder / f"{case}.pkl").read_bytes()) for folder in (a, b))
        fields = [(x["sitk_stuff"][k], y["sitk_stuff"][k]) for k in ("spacing", "origin", "direction")]
        fields += [(x[k], y[k]) for k in ("spacing", "shape_before_cropping", "bbox_used_for_cropping",
                                          "shape_after_cropping_and_before_resampling")]
        equal += all(np.allclose(p, q, atol=1e-6) for p, q in fields)
    checks.check(f"{what} properties", equal == NEW, f"{equal} of {NEW} cases equal")


def check_model(checks, args, work, name, source):
    model, folds = train(args.voxeld, work, name), MODELS[name][1]
    for some in ([folds[:1]] + [folds] if len(folds) > 1 else [folds]):
        what = f"{name}, {len(some)} fold{'s' * (len(some) > 1)}:"
        here = work / f"{name}_{len(some)}"
        ours(args.voxeld, model, some, source, here / "ours")
        theirs(model, some, source, here / "theirs")
        check_labels(checks, f"{what} nnU-Net", here / "ours", here / "theirs")
        check_probabilities(checks, f"{what} nnU-Net", here / "ours", here / "theirs", None)
        check_properties(checks, what, here / "ours", here / "theirs")
        with in_float32():
            theirs(model, some, source, here / "float32")
        check_labels(checks, f"{what} nnU-Net in float32", here / "ours", here / "float32")
        check_probabilities(checks, f"{what} nnU-Net in float32", here / "ours", here / "float32", 1e-3)
    check_pth(checks, args, work, name, model, source)
    return model


def check_pth(checks, args, work, name, model, source):
    """The .pth alone gives what our own checkpoint gives, byte for byte."""
    other = work / "pth" / model.name
    shutil.copytree(model, other, ignore=shutil.ignore_patterns("*.safetensors", "validation"))
    folds = MODELS[name][1]
    ours(args.voxeld, other, folds, source, work / f"{name}_pth")
    same = [(work / f"{name}_pth" / f"{case}.nii.gz").read_bytes() ==
            (work / f"{name}_{len(folds)}" / "ours" / f"{case}.nii.gz").read_bytes() for case in cases_in(work / f"{name}_pth")]
    checks.check(f"{name}: from the .pth alone", all(same) and len(same) == NEW, f"{sum(same)} of {len(same)} files equal")


def check_ensemble(checks, args, work, model, source):
    """nnUNetv2_ensemble over voxeld's folders, one fold each, and over one of voxeld's and one of its own."""
    import numpy as np
    from nnunetv2.ensembling.ensemble import ensemble_folders
    first, second = work / "ensemble/0", work / "ensemble/1"
    for fold, folder in enumerate((first, second)):
        ours(args.voxeld, model, [fold], source, folder)
    for what, folders in [("voxeld's", [first, second]), ("voxeld's and nnU-Net's", [second, work / "planned_1" / "theirs"])]:
        out = work / "ensemble" / what.replace(" ", "_").replace("'", "")
        with nnunet.quiet():
            ensemble_folders([str(f) for f in folders], str(out), save_merged_probabilities=True, num_processes=1)
        differ, grids = 0, True
        for case in cases_in(first):
            mean = (probabilities_of(folders[0], case) + probabilities_of(folders[1], case)) / 2
            labels, geometry = labels_of(out / f"{case}.nii.gz")
            differ += int((labels != mean.argmax(0)).sum()) + int(not np.allclose(mean, probabilities_of(out, case), atol=1e-6))
            _, want = labels_of(first / f"{case}.nii.gz")
            grids = grids and same_geometry(geometry, want)
        checks.check(f"ensemble of {what}: cases and grids", grids and len(cases_in(out)) == NEW)
        checks.check(f"ensemble of {what}: voxels", differ == 0, f"{differ} differ from the mean of the probabilities")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("voxeld")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("models", nargs="*")
    args = parser.parse_intermixed_args()
    data = Path(os.environ.get("VOXELD_TEST_DATA", "../shared/data")) / NAME
    checks = Checks()
    with tempfile.TemporaryDirectory() as tmp:
        work = args.keep or Path(tmp)
        nnunet.use(work / "data", work / "nnunet")
        if not (data / "dataset.json").exists():
            no_peer(f"there is no {data}; set VOXELD_TEST_DATA")
        images = sorted(p.name.removesuffix("_0000.nii.gz") for p in (data / "imagesTr").glob("*_0000.nii.gz"))
        subset(data, images[:CASES], work / "data" / NAME)
        source = work / "new"
        source.mkdir()
        for case in images[CASES:CASES + NEW]:
            shutil.copy(data / "imagesTr" / f"{case}_0000.nii.gz", source)
        for name in MODELS:
            if not args.models or name in args.models:
                model = check_model(checks, args, work, name, source)
                if name == "planned":
                    check_ensemble(checks, args, work, model, source)
    checks.end(stage="predict", versions=nnunet.versions())


if __name__ == "__main__":
    main()
