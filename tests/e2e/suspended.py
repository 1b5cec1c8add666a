#!/usr/bin/env python3
"""A machine that slept, as a laptop does: daemon, trainer and workers stand still for longer than the deadline of a hang. The
trainer is not called hung for it, nothing is restarted, and the seconds that nobody lived through are not written down.

  suspended.py VOXELD
"""
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from voxeld import PHANTOM, Daemon, phantom, wait_for  # noqa: E402

SIZE = ("--cases", "6", "--shape", "20,20,20", "--labels", "2", "--seed", "3")
JOB = {"type": "train", "dataset": PHANTOM, "configuration": "3d_fullres", "fold": 0, "loader": {"workers": 1},
       "training": {"epochs": 100000, "iterations_per_epoch": 20, "val_iterations_per_epoch": 1},
       "plan": {"batch_size": 2, "patch_size": [16, 16, 16], "features_per_stage": [16, 32]}}
ASLEEP = 35  # seconds; half a minute without a step is a hang


def expect(condition, what):
    if not condition:
        raise SystemExit(f"suspended: {what}")


def children(pid):
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sorted(int(child) for task in tasks for child in (task / "children").read_text().split())


def send(number, pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def main():
    work = Path(tempfile.mkdtemp(prefix="voxeld-suspended-"))
    phantom(sys.argv[1], work / "data", PHANTOM, *SIZE)
    daemon, family = Daemon(sys.argv[1], work), []
    try:
        expect(daemon.register()["state"] == "ready", "registered")
        job = daemon.submit(JOB)
        deadline = lambda: (daemon.get(f"/v1/jobs/{job}/bottleneck").get("record") or {"step": {"deadline": 0}})["step"]["deadline"]
        expect(wait_for("the deadline to be learnt", deadline, 120) < ASLEEP, f"deadline {deadline()}")
        family = children(daemon.process.pid)
        expect(len(family) >= 2, f"trainer and worker, not {family}")
        send(signal.SIGSTOP, [daemon.process.pid, *family])
        time.sleep(ASLEEP)
        send(signal.SIGCONT, [daemon.process.pid])
        time.sleep(2)  # it looks before the trainer moves
        send(signal.SIGCONT, family)
        done = lambda: daemon.get(f"/v1/jobs/{job}")["progress"]["done"]
        before = done()
        wait_for("steps again", lambda: done() > before + 100, 120)
        events = daemon.get(f"/v1/jobs/{job}/events?follow=false")["events"]
        hangs = [e for e in events if e["type"] == "verdict" and e["data"]["code"] == "hang"]
        expect(not hangs, f"called a hang: {hangs}")
        expect(children(daemon.process.pid) == family, f"{family} became {children(daemon.process.pid)}")
        expect(deadline() < ASLEEP, f"the sleep was learnt as a silence: a hang takes {deadline()} s now")
        at = [s["ts_ms"] for s in daemon.get(f"/v1/jobs/{job}/telemetry?step=1")["samples"]]
        pairs = list(zip(at, at[1:]))
        expect(max(b - a for a, b in pairs) > 1000 * (ASLEEP - 2), "no gap in the samples")
        hurried = [(a, b) for a, b in pairs if b - a < 100]  # one or two where the machine is busy
        expect(len(hurried) < ASLEEP / 3, f"samples of the sleep were made up for: {hurried[:5]}")
    finally:
        daemon.stop()
        send(signal.SIGKILL, family)
    shutil.rmtree(work)
    print(f"suspended: {ASLEEP} s asleep, no hang, nothing restarted")


if __name__ == "__main__":
    main()
