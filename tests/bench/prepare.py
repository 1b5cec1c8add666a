"""Seconds per prepared case, voxeld beside nnU-Net, both pinned to one core and taking turns.

usage: prepare.py VOXELD [ROUNDS]

voxeld's include starting its process and the syncs after which a cache counts as written; nnU-Net's do
not include Python's imports. Both write compressed files into one temporary folder."""
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ORACLE = Path(__file__).resolve().parents[1] / "oracle"
sys.path.insert(0, str(ORACLE))
import nnunet  # noqa: E402
from prepare import plans_of, subset  # noqa: E402

TARGET = 5
SETS = [("Dataset004_Hippocampus", 24, [0.8, 0.8, 0.8]), ("Dataset101_SarcomaCT", 6, [2.0, 0.8, 0.8])]


def clock():
    own, children = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return time.monotonic(), sum(u.ru_utime + u.ru_stime for u in (own, children))


class Subject:
    """One data set, prepared by either."""

    def __init__(self, voxeld, data, work, name, n_cases, spacing):
        golden = json.loads((ORACLE / "golden" / f"{name}.json").read_text())
        self.name, self.voxeld, self.work, self.spacing = name, voxeld, work / name, spacing
        self.cases = golden["cases"][:n_cases]
        plans = plans_of(golden, "3d_fullres", spacing, None)
        self.raw = self.work / name
        subset(data / name, self.cases, self.raw)
        self.plans = self.work / "plans.json"
        self.plans.write_text(json.dumps(plans))
        self.files = nnunet.cases_of(self.raw)
        self.peer = nnunet.Preprocessor(plans, "3d_fullres", golden["dataset"])
        self.seconds = {"voxeld": [], "nnunet": []}
        self.cpu = {"voxeld": [], "nnunet": []}

    def _voxeld(self, out):
        subprocess.run([self.voxeld, "prepare", "--raw", self.raw, "--out", out, "--plans", self.plans,
                        "--processes", "1"], check=True, stdout=subprocess.DEVNULL)

    def _nnunet(self, out):
        out.mkdir()
        with nnunet.quiet():
            for case in self.cases:
                self.peer.save(str(out / case), self.files[case]["images"], self.files[case]["label"])

    def turn(self, who):
        out = self.work / "out"
        wall, cpu = clock()
        (self._voxeld if who == "voxeld" else self._nnunet)(out)
        end = clock()
        shutil.rmtree(out)
        self.seconds[who].append((end[0] - wall) / len(self.cases))
        self.cpu[who].append((end[1] - cpu) / len(self.cases))

    def figures(self):
        wall = {who: statistics.median(v) for who, v in self.seconds.items()}
        cpu = {who: statistics.median(v) for who, v in self.cpu.items()}
        return {"set": self.name, "cases": len(self.cases), "spacing": self.spacing,
                "value": round(wall["voxeld"], 5), "peer": round(wall["nnunet"], 5),
                "ratio": round(wall["nnunet"] / wall["voxeld"], 2),
                "cpu_value": round(cpu["voxeld"], 5), "cpu_peer": round(cpu["nnunet"], 5),
                "cpu_ratio": round(cpu["nnunet"] / cpu["voxeld"], 2),
                "rounds": {who: [round(s, 5) for s in v] for who, v in self.seconds.items()}}


def main():
    voxeld = Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    data = Path(os.environ["VOXELD_TEST_DATA"]).resolve()
    if not (data / SETS[0][0]).is_dir():
        print(json.dumps({"skipped": f"no real volumes in {data}: set VOXELD_TEST_DATA"}))
        sys.exit(77)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as tmp:
        nnunet.use(tmp, tmp)
        subjects = [Subject(voxeld, data, Path(tmp), *s) for s in SETS]
        for _ in range(rounds):
            for subject in subjects:
                for who in ("voxeld", "nnunet"):
                    subject.turn(who)
    figures = [s.figures() for s in subjects]
    worst = min(figures, key=lambda f: f["ratio"])
    reached = worst["ratio"] >= TARGET
    print(json.dumps({"name": "prepare", "unit": "s per case on one core", "value": worst["value"],
                      "peer": worst["peer"], "ratio": worst["ratio"], "target": TARGET, "sets": figures,
                      "versions": nnunet.versions(), "machine": os.environ.get("VXB_MACHINE", ""),
                      "commit": os.environ.get("VXB_COMMIT", ""), "reached": reached}))
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
