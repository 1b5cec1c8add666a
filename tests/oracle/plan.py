"""Planning against nnU-Net: fingerprint, plans.json for every configuration, splits_final.json.

usage: plan.py VOXELD PROGRAMS [--golden FOLDER] [--drawn N] [DATASET...]

PROGRAMS is the build's tests/oracle. DATASET: names of made_up.py, or of the real volumes
($VOXELD_TEST_DATA, default ../shared/data), which are skipped where they are absent; "drawn": N
fingerprints without volumes. --golden writes what nnU-Net said, for tests that run without it."""
import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import nnunet
import drawn
from checks import Checks, compare, relative

REAL = ["Dataset004_Hippocampus", "Dataset101_SarcomaCT", "Dataset102_SarcomaCTMR"]
# nnU-Net sums 10^8 draws in float32; voxeld in float64.
SUMS = ("/mean", "/std")


def voxeld_says(program, folder):
    run = subprocess.run([program, "verify", "--json", "--processes", "2", folder], check=True,
                         stdout=subprocess.PIPE, text=True)
    said = json.loads(run.stdout.splitlines()[-1])
    if not said["valid"]:
        raise SystemExit(f"voxeld verify {folder}: {said['message']}")
    return said["fingerprint"], said["plans"]


def check_part(checks, what, got, want):
    n, differences = compare(got, want, SUMS)
    checks.check(what, not differences, f"{n - len(differences)} of {n} fields equal")
    for line in differences[:12]:
        print(f"    {line}")


def check_fingerprint(checks, name, got, want):
    key = "foreground_intensity_properties_per_channel"
    check_part(checks, f"{name} fingerprint: spacings, shapes, relative size",
               {k: v for k, v in got.items() if k != key}, {k: v for k, v in want.items() if k != key})
    exact = [f"channel {c} {f}: {got[key][c][f]!r}, nnU-Net {want[key][c][f]!r}" for c in want[key]
             for f in ("median", "min", "max", "percentile_00_5", "percentile_99_5")
             if got[key][c][f] != want[key][c][f]]
    checks.check(f"{name} fingerprint: median, percentiles, extremes", not exact, "; ".join(exact))
    checks.at_most(f"{name} fingerprint: mean and standard deviation, relative",
                   max(relative(got[key][c][f], want[key][c][f]) for c in want[key]
                       for f in ("mean", "std")), 1e-6)


def check_plans(checks, name, got, want):
    configurations = want.pop("configurations"), got.pop("configurations")
    check_part(checks, f"{name} plans.json: top", got, want)
    theirs, ours = configurations
    for c in sorted({*theirs, *ours}):
        check_part(checks, f"{name} plans.json: {c}", ours.get(c, {}), theirs.get(c, {}))


def check_set(checks, args, folder, preprocessed):
    name = folder.name
    fingerprint, plans = nnunet.fingerprint_and_plans(name, preprocessed)
    cases = sorted(nnunet.cases_of(folder))
    splits = nnunet.splits(cases)
    if args.golden:
        golden = {"dataset": json.loads((folder / "dataset.json").read_text()), "cases": cases,
                  "fingerprint": fingerprint, "plans": plans, "splits": splits,
                  "versions": nnunet.versions()}
        (args.golden / f"{name}.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    ours = voxeld_says(args.voxeld, folder)
    check_fingerprint(checks, name, ours[0], fingerprint)
    check_plans(checks, name, ours[1], dict(plans))
    run = subprocess.run([args.programs / "oracle_splits"], input="\n".join(cases), stdout=subprocess.PIPE, text=True,
                         check=True)
    check_part(checks, f"{name} splits_final.json", json.loads(run.stdout), splits)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("voxeld")
    parser.add_argument("programs", type=Path)
    parser.add_argument("--golden", type=Path)
    parser.add_argument("--drawn", type=int, default=30)
    parser.add_argument("datasets", nargs="*")
    args = parser.parse_intermixed_args()
    data = Path(os.environ.get("VOXELD_TEST_DATA", "../shared/data"))
    checks = Checks()
    with tempfile.TemporaryDirectory() as tmp:
        raw, preprocessed = Path(tmp) / "raw", Path(tmp) / "preprocessed"
        raw.mkdir()
        preprocessed.mkdir()
        nnunet.use(raw, preprocessed)
        import made_up
        for name in args.datasets or ["drawn"] + REAL + made_up.NAMES:
            if name == "drawn":
                drawn.check(checks, args.programs / "oracle_plan", raw, preprocessed, args.drawn)
                continue
            if name in made_up.NAMES:
                folder = made_up.write(raw, name)
            elif (data / name / "dataset.json").exists():
                folder = raw / name
                folder.symlink_to((data / name).resolve())
            else:
                checks.skip(name, f"there is no {data / name}; set VOXELD_TEST_DATA")
                continue
            check_set(checks, args, folder, preprocessed)
    checks.end(stage="plan", versions=nnunet.versions())


if __name__ == "__main__":
    main()
