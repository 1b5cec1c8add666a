#!/usr/bin/env python3
"""A job that slowly gets slower and fatter is told so, with the slopes; one beside it that does not is left in peace.

  drift.py VOXELD [--whole]

The step of a pretended device and the memory of a worker grow as they are told to. Growth is called drift after ten minutes
only: without --whole it is just seen to be there, and not called anything yet.
"""
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from voxeld import PHANTOM, Daemon, phantom, wait_for  # noqa: E402

SIZE = ("--cases", "6", "--shape", "20,20,20", "--labels", "2", "--seed", "3")
PLAN = {"batch_size": 2, "patch_size": [16, 16, 16], "features_per_stage": [16, 32]}
STEP_MS = 50


def expect(condition, what):
    if not condition:
        raise SystemExit(f"drift: {what}")


def submit(daemon, **wrong):
    job = daemon.submit({"type": "benchmark", "dataset": PHANTOM, "plan": PLAN, "loader": {"workers": 1, "tune": "advise"},
                         "benchmark": {"seconds": 3600, "step_ms": STEP_MS, "sample_ms": 2, "runs": ["as_is"], **wrong}})
    wait_for("steps", lambda: (daemon.get(f"/v1/jobs/{job}/bottleneck").get("window") or {}).get("steps", 0) > 40, 60)
    return job


def look(daemon, job):
    return daemon.get(f"/v1/jobs/{job}/bottleneck")


def drift(document):
    return next((v for v in document["verdicts"] if v["code"] == "drift"), None)


def check_that_it_grows(daemon):
    """Steps twice as long after a minute, and 16 MiB a second."""
    job = submit(daemon, step_growth=60, leak_kib=400)
    first = look(daemon, job)["record"]

    def grown():
        now = look(daemon, job)["record"]
        return now["step"]["p50"] > 1.2 * first["step"]["p50"] and now["host"]["worker_bytes"] > \
            first["host"]["worker_bytes"] + (64 << 20) and now
    now = wait_for("step and memory to grow", grown, 120)
    expect(now["event"]["step_slope"] == 0 and now["event"]["rss_slope"] == 0, f"a slope after a minute: {now['event']}")
    expect(not drift(look(daemon, job)), "drift within the first minutes")


def check_verdict(daemon):
    """A step twice as long after an hour, and 8 KiB a sample."""
    healthy, job = submit(daemon), submit(daemon, step_growth=1, leak_kib=8)
    began = time.monotonic()
    slopes = lambda: (drift(look(daemon, job)) or {"evidence": {"none": 0}})["evidence"].values()
    wait_for("the verdict, both slopes", lambda: all(slopes()), 900)
    took = time.monotonic() - began
    document = look(daemon, job)
    verdict, window = drift(document), document["window"]
    step, memory = (verdict["evidence"][k] for k in ("step_growth_per_hour", "rss_bytes_per_hour"))
    told = 8192 * window["samples_per_second"] * 3600
    middle = 1 + took / 2 / 3600  # relative to the mean step so far, which has grown already
    expect(abs(step * middle - 1) < 0.1, f"a step is said to grow by {step} an hour, not by {1 / middle}")
    expect(abs(memory / told - 1) < 0.15, f"memory is said to grow by {memory:.4g} bytes an hour, not by {told:.4g}")
    expect(f"{100 * step:.0f} %" in verdict["text"] and "iB" in verdict["text"], verdict["text"])
    events = lambda: daemon.get(f"/v1/jobs/{job}/events?follow=false")["events"]
    said = lambda: [e["data"] for e in events() if e["type"] == "verdict" and e["data"]["code"] == "drift"]
    wait_for("the event", said, 30)
    expect(said()[0]["state"] == "began" and said()[0]["evidence"]["step_growth_per_hour"] > 0, f"{said()[0]}")
    _, text = daemon.text("/metrics")
    for number, value in ((job, 1), (healthy, 0)):
        line = f'voxeld_verdict_active{{job="{number}",code="drift"}} {value}'
        expect(line in text.splitlines(), f"/metrics lacks: {line}")
    expect(not drift(look(daemon, healthy)), f"the healthy job: {look(daemon, healthy)['verdicts']}")
    return f"said after {took:.0f} s: {verdict['text']}"


def main():
    voxeld, whole = sys.argv[1], "--whole" in sys.argv[2:]
    work = Path(tempfile.mkdtemp(prefix="voxeld-drift-"))
    phantom(voxeld, work / "data", PHANTOM, *SIZE)
    daemon = Daemon(voxeld, work, "--cpu-jobs", "3")
    try:
        expect(daemon.register()["state"] == "ready", "registered")
        check_that_it_grows(daemon)
        print("drift: growth is there, and not called drift at once", flush=True)
        if whole:
            print(f"drift: {check_verdict(daemon)}")
    finally:
        daemon.stop()
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
