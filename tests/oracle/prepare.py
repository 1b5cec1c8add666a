"""Preparation against nnU-Net: images, segmentations and class locations of several cases per data set.

usage: prepare.py VOXELD [--golden FOLDER] [DATASET...]

Both work from the same plans: nnU-Net's, from golden/ (tests/oracle/run plan --golden makes them), with
the target spacing and transposition that a job of JOBS names. voxeld's cache is read through zarr-python.
--golden writes what nnU-Net made of the real volumes, for tests that run without it."""
import argparse
import copy
import hashlib
import inspect
import json
import os
import subprocess
import tempfile
from pathlib import Path

import nnunet
from checks import Checks, no_peer

HERE = Path(__file__).resolve().parent

# data set, configuration, cases, target spacing (z, y, x of the volume; None: planned), transposition
JOBS = [
    ("Dataset004_Hippocampus", "3d_fullres", ["hippocampus_001", "hippocampus_003", "hippocampus_017"],
     None, None),
    ("Dataset004_Hippocampus", "3d_fullres", ["hippocampus_003", "hippocampus_017", "hippocampus_026"],
     [1.3, 1.0, 0.9], [2, 0, 1]),
    ("Dataset004_Hippocampus", "2d", ["hippocampus_003"], [0.7, 0.9], None),
    ("Dataset101_SarcomaCT", "3d_fullres", ["STS_002", "STS_019"], None, None),
    ("Dataset101_SarcomaCT", "3d_fullres", ["STS_002", "STS_003", "STS_019"], [2.0, 1.5, 1.5], None),
    ("Dataset101_SarcomaCT", "3d_fullres", ["STS_003"], [1.5, 0.8, 1.1], [1, 2, 0]),
    ("Dataset102_SarcomaCTMR", "3d_fullres", ["STS_002", "STS_008"], [3.0, 0.9, 0.9], None),
    ("Dataset901_AnisotropicCT", "3d_fullres", ["ct_00", "ct_02", "ct_03"], None, None),
    ("Dataset901_AnisotropicCT", "3d_lowres", ["ct_01", "ct_03"], None, None),
    ("Dataset902_ThinStacks", "3d_fullres", ["stack_00", "stack_02", "stack_04"], None, None),
    ("Dataset902_ThinStacks", "2d", ["stack_01"], None, None),
    ("Dataset903_FourChannels", "3d_fullres", ["four_00", "four_01", "four_05"], None, None),
    ("Dataset903_FourChannels", "3d_fullres", ["four_00", "four_01"], [1.0, 1.3, 0.8], None),
    ("Dataset904_OneGiant", "3d_fullres", ["case_00", "case_01", "case_06"], None, None),
    ("Dataset904_OneGiant", "3d_fullres", ["case_01", "case_02"], [0.5, 1.7, 1.0], None),
]


def plans_of(golden, configuration, spacing, forward):
    plans = copy.deepcopy(golden["plans"])
    if spacing:
        plans["configurations"][configuration]["spacing"] = spacing
    if forward:
        plans["transpose_forward"] = forward
        plans["transpose_backward"] = [forward.index(a) for a in range(3)]
    return plans


def subset(folder, cases, to):
    """A raw data set of some cases of folder."""
    for part in ("imagesTr", "labelsTr"):
        (to / part).mkdir(parents=True)
        for path in sorted((folder / part).iterdir()):
            if any(path.name.startswith(case + end) for case in cases for end in ("_", ".")):
                (to / part / path.name).hardlink_to(path) if _one_device(path, to) else \
                    (to / part / path.name).write_bytes(path.read_bytes())
    description = json.loads((folder / "dataset.json").read_text())
    description["numTraining"] = len(cases)
    (to / "dataset.json").write_text(json.dumps(description))


def _one_device(a, b):
    return a.stat().st_dev == b.stat().st_dev and os.access(a, os.W_OK)


def build(program, raw, out, plans, configuration):
    out.mkdir()
    (out / "plans.json").write_text(json.dumps(plans))
    run = subprocess.run([program, "prepare", "--raw", raw, "--out", out, "--plans", out / "plans.json",
                          "--configuration", configuration, "--processes", "2"],
                         stdout=subprocess.PIPE, text=True, check=True)
    return Path(json.loads(run.stdout.splitlines()[-1])["store"])


def stored(store, case):
    """(image, seg, {label: locations [n][3]}, case.json)"""
    import zarr
    folder = next(p for p in (store / "cases").iterdir() if p.name.rsplit("~", 1)[0] == case)
    about = json.loads((folder / "case.json").read_text())
    read = lambda role: zarr.open_array(str(folder / role), mode="r")[...]
    locations = read("locations") if any(c["locations"] for c in about["classes"]) else []
    return (read("image"), read("seg"),
            {c["key"]: locations[c["first"]:c["first"] + c["locations"]] for c in about["classes"]},
            about)


def key_of(label):
    return "annotated" if isinstance(label, tuple) else str(label)


def check_case(checks, what, ours, theirs):
    import numpy as np
    image, seg, locations, about = ours
    data, labels, properties = theirs
    labels = labels[0]
    if not checks.check(f"{what} shape", list(image.shape) == list(data.shape) and
                        list(seg.shape) == list(labels.shape), f"{list(data.shape)}"):
        return None
    box = [list(map(int, b)) for b in properties["bbox_used_for_cropping"]]
    checks.check(f"{what} crop box", [list(b) for b in zip(about["crop_lo"], about["crop_hi"])] == box,
                 f"{box}")
    errors = [float(np.linalg.norm((a - b).astype(np.float64)) /
                    max(np.linalg.norm(b.astype(np.float64)), 1e-300)) for a, b in zip(image, data)]
    checks.at_most(f"{what} image, relative L2", max(errors), 1e-4)
    different = int(np.count_nonzero(seg != labels))
    checks.at_most(f"{what} labels that differ, share", different / labels.size, 1e-4,
                   f"{different} of {labels.size} voxels")
    theirs = {key_of(k): np.asarray(v)[:, 1:] if len(v) else np.zeros((0, 3), int)
              for k, v in properties["class_locations"].items()}
    counts = {k: (len(locations.get(k, ())), len(v)) for k, v in theirs.items()}
    equal = sum(len(v) for k, v in theirs.items() if np.array_equal(locations[k], v))
    total = sum(len(v) for v in theirs.values())
    checks.check(f"{what} class locations", set(theirs) == set(locations) and
                 (equal == total if different == 0 else all(a == b for a, b in counts.values())),
                 f"{equal} of {total} coordinates equal; counts {counts}")
    return {"shape": list(data.shape), "crop": box,
            "seg_sha256": hashlib.sha256(labels.astype("<i2").tobytes()).hexdigest(),
            "locations": {k: [len(v), hashlib.sha256(v.astype("<i4").tobytes()).hexdigest()]
                          for k, v in theirs.items()},
            "channels": [digest(c) for c in data]}


def digest(channel):
    """Mean, standard deviation and a few voxels, for the test that runs without nnU-Net."""
    import numpy as np
    flat = channel.ravel()
    at = [flat.size // 7, flat.size // 3, flat.size // 2, flat.size * 5 // 6]
    return {"mean": float(flat.mean(dtype=np.float64)), "std": float(flat.std(dtype=np.float64)),
            "sample": [float(flat[i]) for i in at]}


def check_job(checks, args, number, job, raw, work):
    name, configuration, cases, spacing, forward = job
    golden = json.loads((HERE / "golden" / f"{name}.json").read_text())
    plans = plans_of(golden, configuration, spacing, forward)
    few = work / f"{number}" / name
    subset(raw, cases, few)
    store = build(args.voxeld, few, work / f"{number}" / "out", plans, configuration)
    peer = nnunet.Preprocessor(plans, configuration, golden["dataset"])
    listed, figures = nnunet.cases_of(few), {}
    for case in cases:
        with nnunet.quiet():
            theirs = peer.run(listed[case]["images"], listed[case]["label"])
        what = f"{name} {configuration} {spacing or 'planned'} {case}:"
        figures[case] = check_case(checks, what, stored(store, case), theirs)
    return {"dataset": name, "configuration": configuration, "spacing": spacing,
            "transpose_forward": forward, "cases": figures}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("voxeld")
    parser.add_argument("--golden", type=Path)
    parser.add_argument("datasets", nargs="*")
    args = parser.parse_intermixed_args()
    data = Path(os.environ.get("VOXELD_TEST_DATA", "../shared/data"))
    checks, golden = Checks(), []
    with tempfile.TemporaryDirectory() as tmp:
        made, work = Path(tmp) / "made", Path(tmp) / "work"
        made.mkdir()
        nnunet.use(made, work)
        try:
            import zarr  # noqa: F401
        except ImportError as e:
            no_peer(f"zarr is not installed ({e})")
        from batchgenerators.augmentations.utils import resize_segmentation
        if "seg_tiebreak" not in inspect.signature(resize_segmentation).parameters:
            no_peer("batchgenerators resizes labels by its older rule; voxeld follows 0.25.5")
        import made_up
        for number, job in enumerate(JOBS):
            name = job[0]
            if args.datasets and name not in args.datasets:
                continue
            raw = made / name if name in made_up.NAMES else data / name
            if name in made_up.NAMES and not raw.exists():
                made_up.write(made, name)
            if not (raw / "dataset.json").exists():
                checks.skip(name, f"there is no {raw}; set VOXELD_TEST_DATA")
                continue
            figures = check_job(checks, args, number, job, raw, work)
            if name not in made_up.NAMES:
                golden.append(figures)
    if args.golden:
        (args.golden / "prepared.json").write_text(
            json.dumps({"versions": nnunet.versions(), "jobs": golden}, separators=(",", ":")) + "\n")
    checks.end(stage="prepare", versions=nnunet.versions())


if __name__ == "__main__":
    main()
