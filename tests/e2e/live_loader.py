#!/usr/bin/env python3
"""The loader's knobs turn while a training runs: within two seconds, within the budget, and without another batch.

  live_loader.py VOXELD
"""
import contextlib
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from voxeld import PHANTOM, Daemon, children, paused, phantom, wait_for  # noqa: E402

SOON = 30  # seconds after which something is not going to happen any more, whatever the machine is busy with
SIZE = ("--cases", "8", "--shape", "20,24,20", "--labels", "2", "--seed", "3")
OPTIONS = ("--cpu-threads", "1")
TRAIN = {
    "type": "train", "dataset": PHANTOM, "configuration": "3d_fullres", "fold": 0,
    "training": {"epochs": 3, "iterations_per_epoch": 80, "val_iterations_per_epoch": 3, "checkpoint_seconds": 0.25},
    "plan": {"batch_size": 2, "patch_size": [16, 16, 16], "features_per_stage": [16, 32]},
    "inference": {"mirroring": False}, "loader": {"workers": 3, "tune": "off"},
}


def expect(condition, what):
    if not condition:
        raise SystemExit(f"live_loader: {what}")


def workers_of(daemon):
    return children(daemon.process.pid, "augment")


def alive(pid):
    """Neither gone nor waiting to be reaped by whoever inherits orphans here."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def turn(daemon, job, wish, status):
    got, reply = daemon.patch(f"/v1/jobs/{job}/loader", wish)
    expect(got == status, f"{wish}: {got} {reply}, wanted {status}")
    return reply


def resize(daemon, job, n):
    start = time.monotonic()
    reply = turn(daemon, job, {"workers": n}, 202)
    expect(reply["workers"] == n, reply)
    while len(workers_of(daemon)) != n:
        expect(time.monotonic() - start < SOON, f"{len(workers_of(daemon))} workers {SOON} s after {n} were asked for")
        time.sleep(0.02)
    return time.monotonic() - start


def go_on(daemon):
    """Some batches are made as it is now."""
    for sign in (signal.SIGCONT, signal.SIGSTOP):
        for pid in children(daemon.process.pid, "step"):
            os.kill(pid, sign)
        time.sleep(0.05 if sign == signal.SIGCONT else 0)


def weights(work, results):
    [path] = (work / "state" / "results").rglob(f"{results}__*/fold_0/checkpoint_final.safetensors")
    data = path.read_bytes()
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little"):]).hexdigest()


@contextlib.contextmanager
def standing(daemon, job, workers):
    """The job has just begun to train with so many workers, and does not get on meanwhile."""
    end = time.monotonic() + 60
    while not (len(workers_of(daemon)) == workers and (daemon.get(f"/v1/jobs/{job}")["progress"] or {}).get("workers")):
        expect(time.monotonic() < end, f"{len(workers_of(daemon))} workers, not {workers}")
        time.sleep(0.01)
    with paused(daemon):
        yield


def submit(daemon, name):
    return daemon.submit({**TRAIN, "results": {"name": name}})


def finish(daemon, job):
    document = daemon.finished(job, 180)
    expect(document["state"] == "succeeded", f"{document['state']}: {document.get('reason')}")


def changes(daemon, job):
    events = daemon.get(f"/v1/jobs/{job}/events?follow=false")["events"]
    return [(e["data"]["knob"], e["data"]["from"], e["data"]["to"]) for e in events if e["type"] == "loader_changed"]


def knobs(daemon, job):
    loader = daemon.get(f"/v1/jobs/{job}/loader")
    most = loader["limits"]
    expect(loader["workers"] == 3 and most["workers"] >= 3 and most["prefetch"] >= 8, loader)
    times = []
    for n in (1, 3, 2):
        times.append(resize(daemon, job, n))
        go_on(daemon)
    expect(min(times) < 2, f"not one of three changes within two seconds: {times}")
    for wish, pointer in (({"workers": most["workers"] + 1}, "/workers"), ({"prefetch": most["prefetch"] + 1}, "/prefetch")):
        reply = turn(daemon, job, wish, 422)
        limit = str(most[pointer[1:]])
        expect(reply["code"] == "beyond_budget" and limit in reply["detail"], reply)
        expect(reply["errors"][0]["pointer"] == pointer, reply)
    turn(daemon, job, {"prefetch": 4, "keep_files_open": not loader["keep_files_open"]}, 202)
    now = lambda: daemon.get(f"/v1/jobs/{job}/loader")
    wait_for("the knobs", lambda: (now()["prefetch"], now()["keep_files_open"]) == (4, not loader["keep_files_open"]), SOON)
    go_on(daemon)
    turn(daemon, job, {"workers": 2, "prefetch": 4}, 200)
    wait_for("two workers in the progress", lambda: daemon.get(f"/v1/jobs/{job}")["progress"]["workers"] == 2, SOON)
    wait_for("five events", lambda: len(changes(daemon, job)) == 5, SOON)
    seen = changes(daemon, job)
    turned = [c for c in daemon.get(f"/v1/jobs/{job}/tuning")["changes"] if c["who"] == "tuner" and c["knob"] == "cache"]
    expect(not turned, f"nobody waits for the disk, and yet {turned}")
    expect(seen[:3] == [("workers", 3, 1), ("workers", 1, 3), ("workers", 3, 2)], seen)
    files_and_cache(daemon, job, now()["keep_files_open"])
    return min(times)


def files_and_cache(daemon, job, kept):
    """cache open and keep overrule keep_files_open, so turning that moves them along: what is shown is what is done."""
    now = lambda: daemon.get(f"/v1/jobs/{job}/loader")
    shows = lambda cache, keep: lambda: (now()["cache"], now()["keep_files_open"]) == (cache, keep)
    for wish, cache, keep in (({"cache": "open"}, "open", False), ({"keep_files_open": True}, "keep", True),
                              ({"keep_files_open": False}, "open", False), ({"cache": "auto"}, "auto", False)):
        turn(daemon, job, wish, 202)
        wait_for(f"{wish}, not {now()}", shows(cache, keep), SOON)
        go_on(daemon)
    if kept:
        turn(daemon, job, {"keep_files_open": True}, 202)
        wait_for("files kept open", shows("auto", True), SOON)


def resumed(voxeld, daemon, work, job):
    """What was turned is kept for a resume."""
    wait_for("a checkpoint", lambda: daemon.get(f"/v1/jobs/{job}")["checkpoint_step"], 30)
    orphans = workers_of(daemon)
    daemon.stop(signal.SIGKILL)
    wait_for("workers to die with their daemon", lambda: not any(alive(p) for p in orphans), SOON)
    daemon = Daemon(voxeld, work, *OPTIONS)
    with standing(daemon, job, 2):
        loader = daemon.get(f"/v1/jobs/{job}/loader")
        expect((loader["workers"], loader["prefetch"], loader["planned"]["workers"]) == (2, 4, 3), loader)
        turn(daemon, job, {"workers": "auto"}, 202)
        wait_for("as planned", lambda: len(workers_of(daemon)) == 3, SOON)
    return daemon


def bound(daemon):
    """With one thread for the trainer on two or more cores, one worker keeps off the trainer's."""
    cores = sorted(os.sched_getaffinity(0))
    [pid] = workers_of(daemon)
    want = set(cores[1:]) if len(cores) > 1 else set(cores)
    expect(os.sched_getaffinity(pid) == want, f"worker on {os.sched_getaffinity(pid)}, wanted {want}")


def reverted(daemon, job):
    """What people turn is in the tuning log, and a change of it can be taken back."""
    log = lambda: daemon.get(f"/v1/jobs/{job}/tuning")["changes"]
    wait_for("the change in the tuning log", log, SOON)
    [row] = log()
    got = {k: row[k] for k in ("who", "knob", "from", "to", "why", "outcome")}
    expect(got == {"who": "user", "knob": "workers", "from": "3", "to": "1", "why": "request", "outcome": "applied"}, row)
    status, reply = daemon.post(f"/v1/jobs/{job}/tuning/{row['n']}/revert", {})
    expect(status == 202 and reply["workers"] == 3, f"{status} {reply}")
    wait_for("three workers again", lambda: len(workers_of(daemon)) == 3, SOON)
    wait_for("the revert in the log", lambda: len(log()) == 2, SOON)
    status, reply = daemon.post(f"/v1/jobs/{job}/tuning/9/revert", {})
    expect(status == 404 and reply["code"] == "tuning_not_found", f"{status} {reply}")


def run(voxeld, work):
    phantom(voxeld, work / "data", PHANTOM, *SIZE)
    daemon = Daemon(voxeld, work, *OPTIONS)
    try:
        expect(daemon.register()["state"] == "ready", "the phantom was refused")
        finish(daemon, submit(daemon, "alone"))
        job = submit(daemon, "turned")
        with standing(daemon, job, 3):
            quickest = knobs(daemon, job)
        daemon = resumed(voxeld, daemon, work, job)
        finish(daemon, job)
        reply = turn(daemon, job, {"workers": 1}, 409)
        expect(reply["code"] == "job_ended" and str(job) in reply["detail"], reply)
        expect(weights(work, "alone") == weights(work, "turned"), "the knobs changed the training")
        job = submit(daemon, "one")
        with standing(daemon, job, 3):
            resize(daemon, job, 1)
            bound(daemon)
            reverted(daemon, job)
        return quickest
    finally:
        daemon.stop()


def main():
    work = Path(tempfile.mkdtemp(prefix="vx-loader-"))
    try:
        quickest = run(Path(sys.argv[1]).resolve(), work)
        print(f"live_loader: the quickest resize took {quickest:.2f} s, the weights stayed the same")
    except BaseException:
        print((work / "voxeld.log").read_text()[-3000:], file=sys.stderr)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
