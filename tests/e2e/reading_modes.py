#!/usr/bin/env python3
"""Every way of reading, turned while a training runs, and what makes it fail: the weights stay the same.

  reading_modes.py VOXELD
"""
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from voxeld import PHANTOM, Daemon, call, paused, phantom, wait_for  # noqa: E402

SIZE = ("--cases", "10", "--shape", "20,24,20", "--labels", "2", "--seed", "3")
MODES = ("open", "keep", "warm", "stage", "memory", "auto")
checks = 0


def expect(condition, what):
    global checks
    checks += 1
    if not condition:
        raise SystemExit(f"reading_modes: {what}")


def spec(name, iterations=12, **loader):
    return {"type": "train", "dataset": PHANTOM, "configuration": "3d_fullres", "fold": 0, "results": {"name": name},
            "training": {"epochs": 2, "iterations_per_epoch": iterations, "val_iterations_per_epoch": 1},
            "plan": {"batch_size": 2, "patch_size": [16, 16, 16], "features_per_stage": [8, 16]},
            "loader": {"tune": "off", **loader}, "inference": {"mirroring": False}}


class Run:
    def __init__(self, daemon, work):
        self.daemon, self.work = daemon, work

    def events(self, job, name="cache"):
        return [e["data"] for e in self.daemon.get(f"/v1/jobs/{job}/events?follow=false")["events"] if e["type"] == name]

    def chosen(self, job):
        """The choices of a job, in order."""
        return [e for e in self.events(job) if "asked" in e]

    def states(self, job, state):
        """What its keeper said it came to: of the copies near the workers."""
        return [e for e in self.events(job) if e.get("state") == state]

    @contextlib.contextmanager
    def long(self, name, **loader):
        """A job that does not end before its keeper has."""
        job = self.daemon.submit(spec(name, 100000, **loader))
        yield job
        self.daemon.post(f"/v1/jobs/{job}/cancel", {})
        self.daemon.finished(job, 60)

    def weights(self, name):
        [path] = (self.work / "state" / "results").rglob(f"{name}__*/fold_0/checkpoint_final.safetensors")
        data = path.read_bytes()
        return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little"):]).hexdigest()

    def train(self, name, **loader):
        job = self.daemon.submit(spec(name, **loader))
        document = self.daemon.finished(job, 180)
        expect(document["state"] == "succeeded", f"{name}: {document['state']} {document.get('reason')}")
        return job

    def turn(self, job, mode):
        status, reply = call("PATCH", f"{self.daemon.url}/v1/jobs/{job}/loader", {"cache": mode}, self.daemon.auth)
        expect(status in (200, 202), f"turning to {mode}: {status} {reply}")
        return reply

    def keeper(self):
        """The process that brings data nearer, of the only running job."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
                parent = int((path.parent / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if len(words) > 1 and words[1] == b"keeper" and parent == self.daemon.process.pid:
                return int(path.parent.name)
        return None


def check_automatic(run):
    run.train("whole")
    with run.long("held") as job:
        [done] = wait_for("all cases held", lambda: run.states(job, "done"), 60)
        [choice] = run.chosen(job)
        expect(choice["asked"] == "auto" and choice["mode"] == "memory", f"chosen: {choice}")
        expect("decoded" in choice["reason"] and choice["decoded_bytes"] > choice["store_bytes"] > 0, f"reason: {choice}")
        expect(done["done"] == done["total"] == 10, f"held: {done}")
        progress = lambda: run.daemon.get(f"/v1/jobs/{job}").get("progress") or {}
        wait_for("it in the job's document", lambda: (progress().get("cache") or {}).get("state") == "done", 30)


def check_each(run):
    for mode in MODES[:-1]:
        run.train(mode, cache=mode)
        expect(run.weights(mode) == run.weights("whole"), f"cache {mode} changed the weights")
    with run.long("staged", cache="stage") as job:
        wait_for("all cases staged", lambda: run.states(job, "done"), 60)
        [stage] = (run.work / "fast").glob("voxeld-stage/*/*")
        expect(len(list(stage.glob("cases/*~*"))) == 10, "not every case is staged")


def check_live(run):
    """Turned through all modes while it trains."""
    job = run.daemon.submit(spec("turned", 400))
    plain = lambda: run.daemon.get(f"/v1/jobs/{job}/loader")
    wait_for("the loader", lambda: plain().get("cache"), 60)
    for mode in MODES:
        wanted = (mode, "memory" if mode == "auto" else mode)
        reads = lambda: (lambda now: (now["cache"], now.get("cache_now")) == wanted)(plain())
        with paused(run.daemon):
            run.turn(job, mode)
            wait_for(f"reading by {mode}", reads, 30)
        time.sleep(0.1)  # some batches are read like that
    document = run.daemon.finished(job, 300)
    expect(document["state"] == "succeeded", f"turned: {document.get('reason')}")
    run.train("unturned", cache="open", iterations=400)
    expect(run.weights("turned") == run.weights("unturned"), "turning changed the weights")


def check_keeper(run):
    """What holds the data is killed: another comes, and is careful with memory."""
    with run.long("bereft") as job:
        wait_for("all cases held", lambda: run.states(job, "done"), 60)
        before = run.keeper()
        os.kill(before, signal.SIGKILL)
        wait_for("another keeper", lambda: run.keeper() not in (None, before), 60)
        choice = wait_for("its choice", lambda: [c for c in run.chosen(job) if "killed" in c["reason"]], 60)[-1]
        expect(choice["mode"] == "keep", f"after a kill: {choice}")


def check_full_stage(run, small):
    """A disk that fills while cases are copied: what is there is used, the rest read where it lies."""
    with run.long("filled", cache={"stage": str(small)}) as job:
        refused = lambda: [e for e in run.chosen(job) if e["mode"] != "stage"]
        wait_for("somebody to notice", lambda: run.states(job, "stopped") or refused(), 60)
    run.train("full", cache={"stage": str(small)})
    expect(run.weights("full") == run.weights("whole"), "a full disk changed the weights")


def check_refusals(run):
    status, reply = run.daemon.post("/v1/jobs", spec("x", cache={"stage": "fast"}))
    expect(status == 422 and reply["errors"][0]["pointer"] == "/loader/cache/stage", f"relative: {status} {reply}")
    for folder in ("/etc", str(run.work / "faster"), str(run.work)):
        status, reply = run.daemon.post("/v1/jobs", spec("x", cache={"stage": folder}))
        expect(status == 422 and reply["code"] == "stage_not_allowed", f"{folder}: {status} {reply}")
        expect(reply["errors"][0]["pointer"] == "/loader/cache/stage", f"{folder}: {reply}")
        expect(folder in reply["detail"] and str(run.work / "fast") in reply["detail"], f"{folder}: {reply}")
    inside = str(run.work / "fast")
    for folder, code in ((f"{inside}/../..", "stage_not_allowed"), (f"{inside}/nothing", "no_stage_folder")):
        job = run.daemon.submit(spec("x", cache={"stage": folder}))
        document = run.daemon.finished(job, 60)
        expect(document["state"] == "failed" and document["reason"]["code"] == code, f"{folder}: {document['reason']}")


def check_windows(run):
    """Sharded epochs: other batches than without, the same ones whatever the number of workers."""
    window = {"cases": 3, "epochs": 1}
    job = run.train("windows1", sharded_epochs=window, workers=1)
    expect(run.chosen(job)[0]["mode"] == "memory" and "windows" in run.chosen(job)[0]["reason"], f"{run.chosen(job)}")
    run.train("windows2", sharded_epochs=window, workers=2, cache="open")
    expect(run.weights("windows1") == run.weights("windows2"), "workers or reading changed the batches of a window")
    expect(run.weights("windows1") != run.weights("whole"), "a window changed nothing")


def check_resumed_windows(run):
    """The daemon is killed in the middle: the same windows come again, and the same weights."""
    window = {"cases": 3, "epochs": 1}
    job = run.daemon.submit(spec("killed", 150, sharded_epochs=window))
    wait_for("a batch of the second epoch",
             lambda: ((run.daemon.get(f"/v1/jobs/{job}").get("progress") or {}).get("done") or 0) > 160, 120)
    run.daemon.stop()
    run.daemon = Daemon(run.daemon.command[0], run.work, *run.daemon.command[8:])
    document = run.daemon.finished(job, 240)
    expect(document["state"] == "succeeded", f"killed: {document.get('reason')}")
    run.train("unkilled", iterations=150, sharded_epochs=window, workers=1)
    expect(run.weights("killed") == run.weights("unkilled"), "a resume changed the windows")


def mounted(folder):
    """A file system of 100 kB; where this may not be mounted, a folder as it is."""
    folder.mkdir()
    return subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", folder], capture_output=True).returncode == 0


def main():
    voxeld = Path(sys.argv[1]).resolve()
    work = Path(tempfile.mkdtemp(prefix="vx-reading-"))
    run, small = None, False
    try:
        phantom(voxeld, work / "data", PHANTOM, *SIZE)
        (work / "fast").mkdir()
        small = mounted(work / "fast" / "small")
        run = Run(Daemon(voxeld, work, "--stage", work / "fast"), work)
        expect(run.daemon.register()["state"] == "ready", "the phantom was refused")
        check_automatic(run)
        check_each(run)
        check_live(run)
        check_keeper(run)
        check_windows(run)
        check_resumed_windows(run)
        check_refusals(run)
        if small:
            check_full_stage(run, work / "fast" / "small")
        print(f"reading_modes: {checks} checks" + ("" if small else ", no small disk to fill"))
    finally:
        if run:
            run.daemon.stop()
        if small:
            subprocess.run(["umount", work / "fast" / "small"])
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
