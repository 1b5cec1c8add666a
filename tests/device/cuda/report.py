#!/usr/bin/env python3
"""What scripts/gpu-check measured, as one JSON document and one page of Markdown.

  report.py RESULTS.jsonl PLANS OUT     PLANS: folder of the plans that were tried (core/device/cuda/dnn/store.c)
"""
import json
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path


def flops(question):
    """Of one run of a convolution, in 1e9."""
    n, c, k = question["channels"]
    out = [(i + 2 * p - kernel) // s + 1 for i, p, kernel, s in
           zip(question["in"], question["pad"], question["kernel"], question["stride"])]
    taps = question["kernel"][0] * question["kernel"][1] * question["kernel"][2]
    return 2e-9 * n * c * k * taps * out[0] * out[1] * out[2]


def read_plans(folder):
    rows = []
    for path in sorted(Path(folder).glob("*.json")):
        file = json.loads(path.read_text())
        row = {key: file[key] for key in ("engine", "rank", "workspace", "ms", "checked_with", "tensor_core")}
        row.update(file["for"], gflop=flops(file["for"]))
        row["tflops"] = row["gflop"] / row["ms"] if row["ms"] > 0 else None
        rows.append(row)
    return sorted(rows, key=lambda r: -r["ms"])


def cell(value):
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def table(rows, columns):
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(c)) for c in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def commit():
    run = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    return run.stdout.strip() or "unknown"


def page(document):
    of = lambda name: [r for r in document["checks"] if r["check"] == name]
    d = document["device"]
    parts = [f"# {d['model']}, {d['library']}, {document['date']}, commit {document['commit']}\n",
             "Written by `scripts/gpu-check` on the device itself.\n",
             "## Parts\n", table(of("part"), ["name", "status", "seconds"])]
    for title, name, columns in (
            ("Against the reference in double precision", "parity",
             ["of", "logits_error", "gradient_error", "gradient_cosine", "loss", "loss_reference", "passed"]),
            ("Equal bits", "determinism", ["network", "steps", "equal_bits"]),
            ("One graph against step by step", "graph", ["network", "graph_ms", "eager_ms", "equal_bits"]),
            ("Speed, milliseconds a run (median)", "speed",
             ["network", "batch", "train_ms", "validate_ms", "infer_ms", "plan_seconds", "memory_bytes", "times_faster_than_torch"]),
            ("The same step in PyTorch", "peer", ["network", "torch", "compile", "train_ms", "failed", "skipped"]),
            ("Losses beside the CPU's in fp32", "follow",
             ["network", "batch", "steps", "first_loss", "loss", "loss_cpu_fp32", "mean_difference", "passed"])):
        if of(name):
            parts += [f"## {title}\n", table(of(name), columns)]
    for name in ("epoch", "training"):
        for row in of(name):
            parts.append(f"## {name}\n\n```json\n{json.dumps(row)}\n```\n")
    if document["plans"]:
        parts += ["## Plans taken, by time\n",
                  table(document["plans"], ["direction", "channels", "in", "kernel", "stride", "ms", "tflops", "engine", "rank",
                                            "checked_with", "workspace"])]
    return "\n".join(parts)


def main():
    results, plans, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    checks = [json.loads(line) for line in results.read_text().splitlines() if line.startswith("{")]
    device = next(c for c in checks if c["check"] == "device")
    for mine in [c for c in checks if c["check"] == "speed"]:
        theirs = [c["train_ms"] for c in checks if c["check"] == "peer" and c.get("network") == mine["network"] and "train_ms" in c]
        if theirs:
            mine["times_faster_than_torch"] = min(theirs) / mine["train_ms"]
    document = {"device": device, "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"), "commit": commit(),
                "checks": [c for c in checks if c is not device], "plans": read_plans(plans)}
    name = re.sub(r"[^a-z0-9]+", "-", f"{document['date']}-{device['model']}".lower()).strip("-")
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    (out / f"{name}.md").write_text(page(document))
    print(f"gpu-check: {out / name}.md")


if __name__ == "__main__":
    main()
