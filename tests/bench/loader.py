"""Augmented samples a second on one core, reading included: voxeld's worker and ring beside nnU-Net's own loader with
batchgeneratorsv2, pinned to one core and taking turns, from the same volumes.

usage: loader.py VOXELD BENCH_LOADER [--setting NAME ...] [--short] [--samples N] [--clock wall|cpu] [--keep FOLDER]

Each side gives the time of every sample and whether it was rotated or scaled. Those samples cost several times what
the others do and come with the known probability P_SPATIAL, so the mean is P_SPATIAL times the mean of the one kind
plus the rest times the mean of the other: the same figure as samples / wall over endless samples, with a smaller
error. Turns go on until both sides have enough samples and a standard error of at most 3 %. One line of JSON per
setting, then one with all ratios. --clock cpu takes processor time instead of wall time, for a machine with other
work on it; both are always in the lines. --samples: at least so many on either side; 1000 take half an hour in all
three settings. --short stops after few, whatever the error."""
import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
P_SPATIAL = 1 - 0.8 ** 2
TARGET, STANDARD_ERROR, RSS_MB = 10, 0.03, 150
CLOCKS = {"wall": 1, "cpu": 2}  # columns of a row

# patch, batch, samples of one turn and at least in all: voxeld, peer; phantom: arguments, or None for the real set
SETTINGS = {
    "hippocampus": {"patch": [40, 56, 40], "batch": 9, "turn": (1500, 180), "least": (3000, 1000), "phantom": None},
    "ct": {"patch": [128, 128, 128], "batch": 2, "turn": (160, 20), "least": (320, 120),
           "phantom": ["--shape", "300,400,400", "--cases", "3", "--vary", "5", "--labels", "2", "--ct"]},
    "four_channels": {"patch": [128, 128, 128], "batch": 2, "turn": (100, 12), "least": (200, 100),
                      "phantom": ["--shape", "208,240,240", "--cases", "3", "--vary", "5", "--labels", "3",
                                  "--channels", "4"]},
}


def skip(reason):
    print(json.dumps({"skipped": reason}))
    sys.exit(77)


def store_of(voxeld, name, setting, work):
    """The prepared store of a setting, made with nnU-Net's plans but this patch."""
    if setting["phantom"]:
        dataset = f"Dataset80{list(SETTINGS).index(name)}_Phantom"
        raw = work / "raw" / dataset
        if not raw.exists():
            subprocess.run([voxeld, "phantom", "--out", work / "raw", "--name", dataset, *setting["phantom"]],
                           check=True, stdout=subprocess.DEVNULL)
    else:
        raw = Path(os.environ["VOXELD_TEST_DATA"]).resolve() / "Dataset004_Hippocampus"
        if not raw.is_dir():
            skip(f"no {raw}: set VOXELD_TEST_DATA")
    plan = subprocess.run([voxeld, "plan", raw], check=True, capture_output=True, text=True)
    plans = json.loads(plan.stdout)
    plans["configurations"]["3d_fullres"]["patch_size"] = setting["patch"]
    (work / f"{name}.json").write_text(json.dumps(plans))
    made = subprocess.run([voxeld, "prepare", "--raw", raw, "--out", work / name, "--plans", work / f"{name}.json"],
                          check=True, capture_output=True, text=True)
    return Path(json.loads(made.stdout.splitlines()[-1])["store"])


class Side:
    """A process that makes as many samples as it is asked for."""

    def __init__(self, command):
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.rows, self.last = [], None

    def turn(self, n):
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        rows = []
        for line in self.process.stdout:
            if line.startswith("{"):
                self.last = json.loads(line)
                return rows
            rows.append(tuple(map(int, line.split())))
        raise SystemExit(f"{self.process.args[0]} ended")

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()

    def mean(self, column):
        """(ms per sample, its relative standard error), by the two kinds."""
        mean = variance = 0
        for spatial, share in ((1, P_SPATIAL), (0, 1 - P_SPATIAL)):
            x = [row[column] * 1e-6 for row in self.rows if row[0] == spatial]
            if len(x) < 2:
                return math.nan, math.inf
            m = sum(x) / len(x)
            mean += share * m
            variance += share ** 2 * sum((v - m) ** 2 for v in x) / (len(x) - 1) / len(x)
        return mean, math.sqrt(variance) / mean


def measure(sides, setting, args):
    column, ours = CLOCKS[args.clock], sides[0]
    for side, n in zip(sides, setting["turn"]):
        side.turn(n)  # opens every case, touches every buffer
    while True:
        for side, n in zip(sides, setting["turn"]):
            side.rows += side.turn(n)
        enough = all(len(s.rows) >= n and s.mean(column)[1] <= STANDARD_ERROR
                     for s, n in zip(sides, (max(n, args.samples) for n in setting["least"])))
        if enough or (args.short and all(s.mean(column)[1] < math.inf for s in sides)):
            return ours.last


def figures(name, setting, sides, worker, clock):
    ours, peer = sides
    out = {"name": "loader", "setting": name, "patch": "x".join(map(str, setting["patch"])),
           "unit": "samples/s on one core", "clock": clock}
    for label, column in CLOCKS.items():
        (a, a_error), (b, b_error) = ours.mean(column), peer.mean(column)
        out[label] = {"ms": round(a, 4), "peer_ms": round(b, 3), "ratio": round(b / a, 2),
                      "error_percent": round(100 * a_error, 2), "peer_error_percent": round(100 * b_error, 2)}
    out.update(value=round(1000 / out[clock]["ms"], 2), peer=round(1000 / out[clock]["peer_ms"], 3),
               ratio=out[clock]["ratio"], target=TARGET, samples=[len(s.rows) for s in sides],
               worker_ms=worker["ms"], rss_anon_mb=round(worker["rss_anon"] / 1e6, 1),
               faults_per_sample=round(worker["minor_faults_per_sample"], 2),
               mb_read_per_sample=round(worker["bytes_read_per_sample"] / 1e6, 3))
    return out


def versions():
    from importlib.metadata import version
    return {name: version(name) for name in ("nnunetv2", "batchgeneratorsv2", "blosc2", "torch")}


def run(name, args, work):
    setting = SETTINGS[name]
    store, patch = store_of(args.voxeld, name, setting, work), ",".join(map(str, setting["patch"]))
    sides = [Side([args.bench_loader, store, patch, setting["batch"]]),
             Side([sys.executable, HERE / "loader_peer.py", store, work / f"{name}.peer", patch, setting["batch"]])]
    try:
        line = figures(name, setting, sides, measure(sides, setting, args), args.clock)
    finally:
        for side in sides:
            side.close()
    line.update(versions=versions(), machine=os.environ.get("VXB_MACHINE", ""),
                commit=os.environ.get("VXB_COMMIT", ""))
    print(json.dumps(line), flush=True)
    return line


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("voxeld")
    parser.add_argument("bench_loader")
    parser.add_argument("--setting", action="append", choices=SETTINGS)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--keep", type=Path, help="data is made there once and left")
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as tmp:
        work = args.keep.resolve() if args.keep else Path(tmp)
        work.mkdir(parents=True, exist_ok=True)
        lines = [run(name, args, work) for name in args.setting or SETTINGS]
    reached = all(line["ratio"] >= TARGET for line in lines) and \
        all(line["rss_anon_mb"] <= RSS_MB for line in lines if line["setting"] == "hippocampus")
    worst = min(lines, key=lambda line: line["ratio"])
    print(json.dumps({"name": "loader", "unit": worst["unit"], "value": worst["value"], "peer": worst["peer"],
                      "ratio": worst["ratio"], "target": TARGET, "clock": args.clock,
                      "ratios": {line["setting"]: line["ratio"] for line in lines},
                      "short": args.short, "machine": worst["machine"], "commit": worst["commit"],
                      "reached": reached}))
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
