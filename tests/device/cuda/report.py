#!/usr/bin/env python3
"""What scripts/gpu-check measured, as one JSON document and one page of Markdown, and the targets held against it.

  report.py [--plans PATH] [--kernels kernels.txt] [--out DIR] [--quiet] RESULTS.jsonl...
--plans: the folder of the plans that were tried (core/device/cuda/dnn/store.c), or a document of this program. Of two results of the same thing the later counts, so
that a part can be run again. Prints a line for every target. Exit status: 0 all reached, 1 one missed or not measured.
"""
import argparse
import json
import os
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

BIG, SMALL = "six stages 128^3", "Dataset004 3d_fullres"
OPERATORS, NETWORKS = 7, 2  # cases of gpu_parity.c


def flops(question):
    """Of one run of a convolution, in 1e9."""
    n, c, k = question["channels"]
    out = [(i + 2 * p - kernel) // s + 1 for i, p, kernel, s in
           zip(question["in"], question["pad"], question["kernel"], question["stride"])]
    taps = question["kernel"][0] * question["kernel"][1] * question["kernel"][2]
    return 2e-9 * n * c * k * taps * out[0] * out[1] * out[2]


def read_plans(folder):
    rows = []
    if Path(folder).is_file():
        return json.loads(Path(folder).read_text())["plans"]
    for path in sorted(Path(folder).glob("*.json")):
        file = json.loads(path.read_text())
        row = {key: file[key] for key in ("engine", "rank", "workspace", "ms", "checked_with", "tensor_core")}
        row.update(file["for"], gflop=flops(file["for"]))
        row["tflops"] = row["gflop"] / row["ms"] if row["ms"] > 0 else None
        rows.append(row)
    return sorted(rows, key=lambda r: -r["ms"])


def read_kernels(path):
    """The speeds that gpu_kernels printed, its differences, and how it ended."""
    rows, differ = [], None
    for line in Path(path).read_text().splitlines() if Path(path).exists() else []:
        timed = re.match(r"(.+?) +([\d.]+) us +([\d.]+) GB/s +([\d.]+) % of a copy", line)
        copy = re.match(r"copy +([\d.]+) GB/s", line)
        end = re.match(r"(\d+) kernels differ", line)
        if timed:
            rows.append({"kernel": timed[1], "us": float(timed[2]), "gb_per_s": float(timed[3]),
                         "percent_of_copy": float(timed[4])})
        elif copy:
            rows.append({"kernel": "copy", "gb_per_s": float(copy[1])})
        elif end:
            differ = int(end[1])
    return rows, differ


# What two results must share to be the same thing measured again.
KEYS = ("check", "of", "network", "precision", "compile", "name", "batch")


def newest(lines):
    kept = {}
    for line in lines:
        key = tuple(str(line.get(k)) for k in KEYS) + ((line.get("at"), line.get("text")) if line["check"] == "failure" else ())
        kept.pop(key, None)
        kept[key] = line
    return list(kept.values())


def read_results(paths):
    lines = []
    for path in paths:
        for text in Path(path).read_text().splitlines():
            try:
                line = json.loads(text)
            except ValueError:  # cut off when the machine went
                continue
            if isinstance(line, dict) and "check" in line:
                lines.append(line)
    return newest(lines)


# --- targets ---

class Checks:
    def __init__(self, lines, kernels=(), differ=None):
        self.lines, self.kernels, self.differ = lines, list(kernels), differ

    def all(self, check, **of):
        return [c for c in self.lines if c["check"] == check and all(c.get(k) == v for k, v in of.items())]

    def value(self, check, key, **of):
        values = [c[key] for c in self.all(check, **of) if c.get(key) is not None]
        return values[-1] if values else None

    def why_not(self, check, *parts, also=(), **of):
        """Why there is no figure, as well as the results say."""
        for c in self.all(check, **of):
            for key in ("skipped", "failed", *also):
                if c.get(key):
                    return str(c[key])
        for c in self.all("part"):
            if c["name"] in parts and c["status"]:
                return f"the part \"{c['name']}\" ended with {c['status']}"
        return "it was not run"


def line(target, goal, figure, reached, why=""):
    state = "not measured" if figure is None else "reached" if reached else "missed"
    return {"target": target, "goal": goal, "figure": why if figure is None else figure, "state": state}


def at_most(target, goal, value, limit, text, why=""):
    return line(target, goal, None if value is None else text.format(value), value is not None and value <= limit, why)


def at_least(target, goal, value, limit, text, why=""):
    return line(target, goal, None if value is None else text.format(value), value is not None and value >= limit, why)


def parity_line(c):
    rows = c.all("parity")
    operators = [r for r in rows if not str(r["of"]).startswith("U-Net")]
    complete = len(operators) == OPERATORS and len(rows) == OPERATORS + NETWORKS
    errors = [r.get(k) for r in operators for k in ("logits_error", "gradient_error")]
    worst = None if not rows else max((e if e is not None else float("inf") for e in errors), default=float("inf"))
    good = complete and worst <= 1e-2 and all(r["passed"] for r in rows)
    figure = None if worst is None else f"{worst:.2g} at most, {sum(r['passed'] for r in rows)} of {OPERATORS + NETWORKS} cases"
    return line("operators and gradients against fp32", "1e-2", figure, good, c.why_not("parity", "parity"))


def follow_line(c):
    rows = c.all("follow", network=SMALL)
    value = rows[-1].get("mean_difference") if rows else None
    enough = bool(rows) and rows[-1]["steps"] >= 200
    figure = None if value is None else f"{100 * value:.2g} % over {rows[-1]['steps']} steps"
    return line("losses beside the CPU's in fp32", "2 %, 200 steps", figure, enough and value is not None and value <= 0.02,
                c.why_not("follow", "follow"))


def step_line(c):
    ms = c.value("speed", "train_ms", network=BIG, precision="bf16")
    conv = c.value("layers", "conv_ms", network=BIG)
    if ms is not None and ms > 25 and conv is not None and conv > 25:
        return line("training step, 128^3", "25 ms, or cuDNN's limit",
                    f"{ms:.1f} ms; the fastest plans of the convolutions alone take {conv:.1f} ms", True)
    text = "{:.1f} ms" + (f", {conv:.1f} ms of it convolutions" if conv is not None else "")
    return at_most("training step, 128^3", "25 ms, or cuDNN's limit", ms, 25, text, c.why_not("speed", "speed, 128^3", network=BIG))


def best_peer(c, network):
    times = [r["train_ms"] for r in c.all("peer", network=network) if r.get("train_ms")]
    return min(times) if times else None


def peer_line(c, network, name, goal):
    ms, theirs = c.value("speed", "train_ms", network=network, precision="bf16"), best_peer(c, network)
    ratio = theirs / ms if ms and theirs else None
    compiled = [r for r in c.all("peer", network=network) if r.get("compile")]
    which = "" if any(r.get("train_ms") for r in compiled) else " (torch.compile did not finish)"
    return at_least(f"step beside PyTorch's, {name}", f"{goal} times faster", ratio, goal, "{:.2f} times" + which,
                    c.why_not("peer", f"peer, {name}", network=network))


def share_line(c):
    share = c.value("layers", "other_share", network=BIG)
    return at_most("kernels that are no convolution, 128^3", "15 % of the step", share, 0.15,
                   "{:.1%}", c.why_not("layers", "layers, 128^3", network=BIG))


def bandwidth_line(c):
    mine, copy = (c.value("layers", k, network=BIG) for k in ("other_gb_per_s", "copy_gb_per_s"))
    figure = f"{mine:.0f} of {copy:.0f} GB/s, {mine / copy:.0%}" if mine and copy else None
    return line("their bandwidth beside a copy's", "stated", figure, True, c.why_not("layers", "layers, 128^3", network=BIG))


def bits_line(c, check, target, part):
    rows = c.all(check)
    figure = f"{sum(bool(r.get('equal_bits')) for r in rows)} of {len(rows)}" if rows else None
    return line(target, "equal bits", figure, all(r.get("equal_bits") for r in rows), c.why_not(check, part))


def sanitizer_line(c):
    parts = [r for r in c.all("part") if r["name"].startswith("sanitizer") and r["status"] != 77]
    skipped = c.all("sanitizer")
    if not parts and not skipped:
        return line("compute-sanitizer", "no findings, where it runs", None, False, "it was not run")
    if not parts:
        return line("compute-sanitizer", "no findings, where it runs", skipped[-1]["skipped"], True)
    cut = [r for r in parts if r["status"] in (124, 137)]
    ended = [r for r in parts if r not in cut]
    figure = f"{sum(r['status'] == 0 for r in ended)} of {len(parts)} without findings" + (", the rest ran out of time" if cut else "")
    return line("compute-sanitizer", "no findings, where it runs", figure if ended else None,
                all(r["status"] == 0 for r in ended), "it ran out of time")


def kernels_line(c):
    figure = None if c.differ is None else f"{c.differ} kernels differ"
    return line("own kernels against the CPU", "the same bits", figure, c.differ == 0, c.why_not("kernels", "kernels"))


def half_line(c):
    bf16, fp16, missing = (c.value("convolutions", key, network=BIG) for key in ("bf16_ms", "fp16_ms", "without_plan"))
    figure = bf16 and fp16 and f"{bf16:.1f} ms in bf16, {fp16:.1f} ms in fp16"
    return line("the convolutions of a step in bf16 beside fp16, 128^3", "stated, each with a plan", figure, missing == 0,
                c.why_not("convolutions", "fp16"))


def verdicts(c, plans):
    """Every target of the check, in the order of the page."""
    wait = c.value("end_to_end", "loader_wait_share")
    active = c.value("end_to_end", "sm_active")
    dice = [r["result"]["validation"]["mean_dice"] for r in c.all("dice") if r.get("result")]
    return [
        kernels_line(c), parity_line(c), follow_line(c),
        bits_line(c, "determinism", "the same steps twice", "determinism"),
        bits_line(c, "graph", "a graph against single steps", "graph, Hippocampus"),
        step_line(c), peer_line(c, BIG, "128^3", 1.3), peer_line(c, SMALL, "Hippocampus", 2),
        share_line(c), bandwidth_line(c),
        at_most("waiting for the loader, full augmentation by 6 processes", "1 %", wait, 0.01, "{:.2%}",
                c.why_not("end_to_end", "end to end")),
        at_least("multiprocessors active meanwhile", "90 %", active, 0.9, "{:.1%}",
                 c.why_not("end_to_end", "end to end", also=("sm_active_lacks",))),
        at_least("Hippocampus, fold 0, mean foreground Dice", "0.88", dice[-1] if dice else None, 0.88, "{:.4f}",
                 c.why_not("dice", "dice")),
        line("plans tried and timed", "stated", f"{len(plans)} convolutions" if plans else None, True, "no plan was kept"),
        half_line(c), sanitizer_line(c),
    ]


# --- the page ---

def cell(value):
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def table(rows, columns):
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(c)) for c in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


SECTIONS = (
    ("Parts", "part", ["name", "status", "seconds", "limit"]),
    ("Failures", "failure", ["at", "text"]),
    ("Against the reference in double precision", "parity",
     ["of", "logits_error", "gradient_error", "gradient_cosine", "loss", "loss_reference", "passed"]),
    ("Equal bits", "determinism", ["network", "steps", "equal_bits"]),
    ("One graph against step by step", "graph", ["network", "graph_ms", "eager_ms", "equal_bits"]),
    ("Speed, milliseconds a run (median)", "speed",
     ["network", "precision", "batch", "train_ms", "validate_ms", "infer_ms", "plan_seconds", "memory_bytes", "skipped"]),
    ("The same step in PyTorch", "peer", ["network", "torch", "compile", "train_ms", "failed", "skipped"]),
    ("Where a step's milliseconds go", "layers",
     ["network", "run_ms", "conv_ms", "other_ms", "other_share", "other_gb_per_s", "copy_gb_per_s"]),
    ("Losses beside the CPU's in fp32", "follow",
     ["network", "batch", "steps", "first_loss", "loss", "loss_cpu_fp32", "mean_difference", "cpu", "passed"]),
    ("Trainings, watched", "end_to_end",
     ["epochs", "epoch_seconds", "loader_wait_share", "sm_active", "tensor_active", "dram_active", "utilisation", "power_watts",
      "sm_clock_mhz", "looks", "sm_active_lacks", "seconds"]),
    ("Hippocampus", "dice", ["epochs", "epoch_seconds", "loader_wait_share", "sm_active", "seconds", "stopped", "too_slow"]),
)


def layers_of(c, network):
    rows = c.all("layers", network=network)
    return [r for r in rows[-1].get("layers", []) if r] if rows else []


def page(document, c):
    d = document["device"]
    parts = [f"# {d['model']}, {d['library']}, {document['date']}, commit {document['commit']}\n",
             "Written by `scripts/gpu-check` on the device itself.\n",
             "## Targets\n", table(document["verdicts"], ["target", "goal", "figure", "state"])]
    for title, name, columns in SECTIONS:
        if c.all(name):
            parts += [f"## {title}\n", table(c.all(name), columns)]
    for row in c.all("dice") + c.all("end_to_end"):
        for key in ("result", "last_epoch", "error"):
            if row.get(key):
                parts.append(f"{row['check']}, {key}:\n\n```json\n{json.dumps(row[key])}\n```\n")
    if c.kernels:
        parts += ["## Own kernels, finest level of the 128^3 plan\n",
                  table(c.kernels, ["kernel", "us", "gb_per_s", "percent_of_copy"])]
    for network in (BIG, SMALL):
        if layers_of(c, network):
            parts += [f"## Every launch step, {network}\n", table(layers_of(c, network), ["step", "ms", "tflops", "gb_per_s"])]
    if document["plans"]:
        parts += ["## Plans taken, by time\n",
                  table(document["plans"], ["direction", "channels", "in", "kernel", "stride", "type", "ms", "tflops", "engine",
                                            "rank", "checked_with", "workspace"])]
    return "\n".join(parts)


def commit():
    if os.environ.get("GPU_CHECK_COMMIT"):
        return os.environ["GPU_CHECK_COMMIT"]
    try:
        run = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        return run.stdout.strip() or "unknown"
    except OSError:
        return "unknown"


def write(document, c, out):
    name = re.sub(r"[^a-z0-9]+", "-", f"{document['date']}-{document['device']['model']}".lower()).strip("-")
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    (out / f"{name}.md").write_text(page(document, c))
    return out / f"{name}.md"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--plans", default="")
    arguments.add_argument("--kernels", default="")
    arguments.add_argument("--out", type=Path, default=Path("."))
    arguments.add_argument("--quiet", action="store_true")
    arguments.add_argument("results", nargs="+")
    a = arguments.parse_args()
    lines = read_results(a.results)
    devices = [c for c in lines if c["check"] == "device"]
    if not devices:
        sys.exit("report: the results name no device")
    kernels, differ = read_kernels(a.kernels) if a.kernels else ([], None)
    plans = read_plans(a.plans) if a.plans else []
    c = Checks([x for x in lines if x["check"] != "device"], kernels, differ)
    document = {"device": devices[-1], "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"), "commit": commit(),
                "verdicts": verdicts(c, plans), "checks": c.lines, "kernels": kernels, "plans": plans}
    path = write(document, c, a.out)
    if not a.quiet:
        for v in document["verdicts"]:
            print(f"gpu-check: {v['state']:>12}: {v['target']}: {v['figure']} (goal: {v['goal']})")
        print(f"gpu-check: {path}")
    return 0 if all(v["state"] == "reached" for v in document["verdicts"]) else 1


if __name__ == "__main__":
    sys.exit(main())
