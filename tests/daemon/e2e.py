#!/usr/bin/env python3
"""The daemon from the outside: from a request to a published result, and what it says where things are wrong.
Needs $VX_BUILD_DIR and Python's standard library. Each check prints a line; the first failure ends the run."""
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("VX_BUILD_DIR", ROOT / "build" / "dev")) / "daemon" / "voxeld"
SET = "Dataset999_Phantom"
ENDED = ("succeeded", "failed", "cancelled")
PLAN = {"batch_size": 2, "patch_size": [16, 24, 16], "features_per_stage": [16, 32]}


def spec(name, epochs=2, iterations=15, **more):
    return dict({"type": "train", "dataset": SET, "results": {"name": name}, "plan": PLAN,
                 "training": {"epochs": epochs, "iterations_per_epoch": iterations, "val_iterations_per_epoch": 2,
                              "initial_lr": 0.05, "momentum": 0.9, "checkpoint_seconds": 2}}, **more)


class Daemon:
    def __init__(self, work):
        self.work, self.process = work, None
        self.log = open(work / "voxeld.log", "ab")

    def arguments(self):
        return [BINARY, "serve", "--state", self.work / "state", "--data", self.work / "data", "--listen", "127.0.0.1:0",
                "--unix", self.work / "socket"]

    def start(self):
        self.process = subprocess.Popen(self.arguments(), stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("voxeld ready http://127.0.0.1:") and "/?token=" in line, line
        self.url = line.split()[2].split("/?")[0]
        self.token = (self.work / "state" / "token").read_text().strip()
        assert line.rstrip().endswith(self.token)

    def ask(self, path, body=None, method=None):
        """(status, JSON or text)"""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method,
                                         headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                status, text = reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, json.loads(text) if text[:1] in "{[" else text

    def submit(self, body):
        status, reply = self.ask("/v1/jobs", body)
        assert status == 201, (status, reply)
        return reply["id"]

    def job(self, number):
        return self.ask(f"/v1/jobs/{number}")[1]

    def wait(self, number, states=ENDED, limit=120):
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            job = self.job(number)
            if job["state"] in states:
                return job
            time.sleep(0.05)
        raise AssertionError(f"job {number} stays {job['state']} {job['phase']}")

    def register(self, name, expect="ready"):
        status, reply = self.ask("/v1/datasets", {"name": name})
        assert status == 202, (status, reply)
        while True:
            reply = self.ask(f"/v1/datasets/{name}")[1]
            if reply["state"] != "registering":
                assert reply["state"] == expect, reply
                return reply
            time.sleep(0.05)


def children(pid, verb):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                ppid = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if ppid == pid and len(argv) > 1 and argv[1] == verb.encode():
                found.append(int(entry.name))
    return found


def phantom(work, name=SET, cases=10):
    subprocess.run([BINARY, "phantom", "--out", work / "data", "--name", name, "--cases", str(cases), "--shape", "20,28,20",
                    "--labels", "2", "--seed", "1"], check=True, stdout=subprocess.DEVNULL)


# --- checks; each takes the running daemon ---

def to_a_result(d):
    assert oct((d.work / "state" / "token").stat().st_mode & 0o777) == "0o600"
    assert d.register(SET)["report"]["ok"] is True
    number = d.submit(spec("first"))
    job = d.wait(number)
    assert job["state"] == "succeeded", job
    result = job["result"]
    assert result["validation"]["cases"] == 2 and set(result["validation"]["dice_per_class"]) == {"1", "2"}
    assert 0 < result["validation"]["mean_dice"] <= 1
    fold = Path(result["results_path"])
    assert fold == d.work / "state/results" / SET / "first__nnUNetPlans__3d_fullres" / "fold_0"
    names = {p.name for p in fold.iterdir()}
    assert {"plans.json", "dataset.json", "checkpoint_best.safetensors", "checkpoint_final.safetensors", "progress.png",
            "checkpoint_best.pth", "checkpoint_final.pth", "validation"} <= names, names
    with zipfile.ZipFile(fold / "checkpoint_final.pth") as z:  # nnU-Net's own reader: tests/oracle/run pth
        assert z.testzip() is None and b"decoder.encoder.stages.0.0.convs.0.conv.weight" in z.read("archive/data.pkl")
    summary = json.loads((fold / "validation/summary.json").read_text())
    assert abs(summary["foreground_mean"]["Dice"] - result["validation"]["mean_dice"]) < 1e-12
    assert all(Path(c["prediction_file"]).parent == fold / "validation" for c in summary["metric_per_case"]), summary
    assert (fold.parent / "plans.json").exists()
    epochs = d.ask(f"/v1/jobs/{number}/epochs")[1]["epochs"]
    assert [e["epoch"] for e in epochs] == [0, 1] and all(e["train_loss"] is not None for e in epochs)
    text = d.ask(f"/v1/jobs/{number}/log")[1]
    assert "Epoch 1" in text and "Pseudo dice [" in text and "Mean Validation Dice" in text
    events = [e["type"] for e in d.ask(f"/v1/jobs/{number}/events?follow=false")[1]["events"]]
    assert "epoch" in events and "state" in events
    metrics = d.ask("/metrics")[1]
    assert "voxeld_step_seconds_count 30\n" in metrics and 'voxeld_step_phase_seconds_total{phase="compute"}' in metrics


def refusals(d):
    status, reply = d.ask("/v1/jobs", spec("first"))
    assert (status, reply["code"]) == (409, "result_exists"), reply
    assert "fold_0" in reply["detail"], reply
    status, reply = d.ask("/v1/jobs", spec("x", dataset="Dataset998_Nothing"))
    assert (status, reply["code"]) == (422, "unknown_dataset"), reply
    status, reply = d.ask("/v1/jobs", spec("x", resources={"device": "cuda:0"}))
    assert status == 422 and reply["code"] in ("unknown_device", "invalid_spec"), reply
    status, reply = d.ask("/v1/jobs", b"{")
    assert status == 400, reply
    second = subprocess.run(d.arguments(), capture_output=True, text=True, timeout=30)
    assert second.returncode == 1 and str(d.process.pid) in second.stderr, second


def impossible_plan(d):
    for plan, word in (({"patch_size": [16, 24, 17], "features_per_stage": [16, 32]}, "patch"),
                       ({"features_per_stage": [16] * 8}, "stages")):
        job = d.wait(d.submit(spec("impossible", plan=plan)))
        assert job["state"] == "failed" and word in job["reason"]["message"], job


def replaced_result(d):
    job = d.wait(d.submit(spec("first", epochs=1, iterations=3, results={"name": "first", "replace": True})))
    assert job["state"] == "succeeded", job
    fold = Path(job["result"]["results_path"])
    assert (fold.parent / "fold_0.1" / "validation/summary.json").exists(), list(fold.parent.iterdir())


def prepared_once_for_many(d):
    shutil.rmtree(d.work / "state/preprocessed" / SET)
    jobs = [d.submit({"type": "prepare", "dataset": SET}) for _ in range(3)]
    for number in jobs:
        job = d.wait(number)
        assert job["state"] == "succeeded" and Path(job["result"]["store"], "manifest.json").exists(), job
    text = (d.work / "voxeld.log").read_text()
    builds = text.count("build_started")
    again = d.wait(d.submit({"type": "prepare", "dataset": SET}))
    assert again["state"] == "succeeded" and (d.work / "voxeld.log").read_text().count("build_started") == builds


def cancelled(d):
    number = d.submit(spec("cancelled", epochs=500))
    d.wait(number, ("running",))
    while not children(d.process.pid, "step"):
        time.sleep(0.02)
    assert d.ask(f"/v1/jobs/{number}/cancel", b"")[0] == 202
    assert d.wait(number)["state"] == "cancelled"
    assert not children(d.process.pid, "step") and not children(d.process.pid, "augment")
    waiting = [d.submit(spec(f"line{i}", epochs=500)) for i in range(2)]
    d.wait(waiting[0], ("running",))
    d.ask(f"/v1/jobs/{waiting[1]}/cancel", b"")
    assert d.wait(waiting[1])["state"] == "cancelled"
    d.ask(f"/v1/jobs/{waiting[0]}/cancel", b"")
    assert d.wait(waiting[0])["state"] == "cancelled"


def crashed_repeatedly(d):
    number = d.submit(spec("crashing", epochs=500, training={"epochs": 500, "checkpoint_seconds": 60}))
    for _ in range(3):
        while True:
            steps = children(d.process.pid, "step")
            job = d.job(number)  # a step done: the first checkpoint is written, and a crash after it leads nowhere new
            if steps and job["phase"] == "training" and (job["progress"] or {}).get("done", 0) > 0:
                break
            assert d.job(number)["state"] not in ENDED
            time.sleep(0.05)
        os.kill(steps[0], signal.SIGKILL)
        while steps[0] in children(d.process.pid, "step"):
            time.sleep(0.02)
        time.sleep(0.5)
    job = d.wait(number)
    assert job["state"] == "failed" and job["reason"]["code"] == "crashed_repeatedly", job
    assert job["crashes"] == 3 and "signal" in json.dumps(job["result"]), job


def drained_and_resumed(d):
    number = d.submit(spec("resumed", epochs=4, iterations=60))
    d.wait(number, ("running",))
    while (d.job(number)["progress"] or {}).get("done", 0) < 20:
        time.sleep(0.05)
    d.process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    d.process.send_signal(signal.SIGTERM)
    assert d.process.wait(timeout=60) == 0
    d.start()
    job = d.wait(number)
    assert job["state"] == "succeeded" and job["crashes"] == 0, job
    text = d.ask(f"/v1/jobs/{number}/log")[1]
    assert "Resuming at epoch" in text and text.count("Starting at epoch") == 1, text


def cases_of(d, name):
    return sorted((d.work / "data" / name / "imagesTr").iterdir())


def broken_data(d):
    name = "Dataset998_Broken"
    phantom(d.work, name)
    image, label = cases_of(d, name)[0], sorted((d.work / "data" / name / "labelsTr").iterdir())[1]
    image.write_bytes(image.read_bytes()[:1000])
    raw = bytearray(gzip.decompress(label.read_bytes()))
    raw[352 + 4000:352 + 4010] = b"\x09" * 10
    label.write_bytes(gzip.compress(bytes(raw)))
    reply = d.register(name, "invalid")
    findings = reply["report"]["findings"]
    text = json.dumps(findings)
    assert image.name in text and label.name in text and "unexpected_label" in text, findings
    assert reply["reason"]["code"], reply
    status, refusal = d.ask("/v1/jobs", spec("x", dataset=name))
    assert status == 422 and refusal["code"] == "dataset_invalid", refusal
    shutil.rmtree(d.work / "data" / name)
    phantom(d.work, name)
    d.register(name)  # repaired and registered again
    assert d.ask("/v1/datasets", {"name": name, "path": "../../etc"})[0] in (403, 422)


def changed_source(d):
    """A raw file that was replaced makes its case anew."""
    assert d.wait(d.submit({"type": "prepare", "dataset": SET}))["state"] == "succeeded"
    builds = (d.work / "voxeld.log").read_text().count("build_started")
    os.utime(cases_of(d, SET)[0])
    job = d.wait(d.submit({"type": "prepare", "dataset": SET}))
    assert job["state"] == "succeeded", job
    assert (d.work / "voxeld.log").read_text().count("build_started") == builds + 1


def killed_preparation(d):
    """The job goes back to the queue by itself and takes up what was prepared."""
    name = "Dataset997_Larger"
    phantom(d.work, name, cases=80)
    number = d.submit({"type": "prepare", "dataset": name}) if d.register(name) else None
    while not (pids := children(d.process.pid, "prepare")):
        assert d.job(number)["state"] not in ENDED
    os.kill(pids[0], signal.SIGKILL)
    job = d.wait(number)
    assert job["state"] == "succeeded" and job["crashes"] == 1, job


def job_waits_for_its_data_set(d):
    name = "Dataset996_Young"
    phantom(d.work, name)
    assert d.ask("/v1/datasets", {"name": name})[0] == 202
    number = d.submit(spec("young", epochs=1, iterations=3, dataset=name))
    assert d.wait(number)["state"] == "succeeded"


def told_to_systemd(d):
    """READY, STATUS, WATCHDOG and STOPPING arrive at the notification socket."""
    path = d.work / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as box:
        box.bind(str(path))
        box.settimeout(20)
        process = subprocess.Popen(
            [BINARY, "serve", "--state", d.work / "other", "--data", d.work / "data", "--listen", "127.0.0.1:0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=dict(os.environ, NOTIFY_SOCKET=str(path), WATCHDOG_USEC="400000"))
        assert "READY=1" in box.recv(4096).decode()
        while "WATCHDOG=1" not in box.recv(4096).decode():
            pass
        process.terminate()
        while "STOPPING=1" not in box.recv(4096).decode():
            pass
        assert process.wait(timeout=20) == 0


def damaged_store(d):
    """Chunks that went bad in every case: each is made again, the job goes on."""
    shards = sorted((d.work / "state/preprocessed" / SET / "voxeld").glob("*/cases/*/image/c/**/*"))
    shards = [s for s in shards if s.is_file()]
    assert shards
    saved = {s: s.read_bytes() for s in shards}
    for shard, data in saved.items():
        shard.write_bytes(data[:200] + bytes(b ^ 0xFF for b in data[200:260]) + data[260:])
    job = d.wait(d.submit(spec("damaged")))
    assert job["state"] == "succeeded", job
    mended = [s for s, data in saved.items() if s.read_bytes() == data]
    assert len(mended) > len(saved) // 2, f"{len(mended)} of {len(saved)} cases were made again"
    for shard, data in saved.items():
        shard.write_bytes(data)


def full_disk(d):
    """Preparation on a full disk fails with the reason, and leaves nothing that counts as whole."""
    target = d.work / "state/preprocessed" / SET
    shutil.rmtree(target)
    target.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", target],
                                           capture_output=True).returncode != 0:
        print("  not checked: a small file system cannot be mounted here")
        return
    try:
        job = d.wait(d.submit({"type": "prepare", "dataset": SET}))
        assert job["state"] == "failed" and "space" in job["reason"]["message"].lower(), job
        assert not list(target.glob("voxeld/*/manifest.json"))
    finally:
        subprocess.run(["umount", target], check=True)
    assert d.wait(d.submit({"type": "prepare", "dataset": SET}))["state"] == "succeeded"


def without_the_daemon(d):
    path = d.work / "job.json"
    path.write_text(json.dumps(spec("alone")))
    run = subprocess.run([BINARY, "train", path, "--state", d.work / "alone", "--data", d.work / "data"],
                         capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    last = json.loads(run.stdout.splitlines()[-1])
    first = d.job(1)["result"]
    ours, theirs = last["validation"]["dice_per_class"], first["validation"]["dice_per_class"]
    assert last["event"] == "result" and all(abs(ours[c] - theirs[c]) < 1e-12 for c in theirs), (last, first)


CHECKS = (to_a_result, refusals, impossible_plan, without_the_daemon, replaced_result, prepared_once_for_many, cancelled,
          crashed_repeatedly, drained_and_resumed, broken_data, changed_source, killed_preparation,
          job_waits_for_its_data_set, told_to_systemd, damaged_store, full_disk)


def run(daemon, checks):
    """Checks in their order on one daemon, which is started and ends well; what went wrong is left for inspection."""
    done = False
    try:
        daemon.start()
        for check in checks:
            started = time.monotonic()
            check(daemon)
            print(f"{check.__name__}: {time.monotonic() - started:.1f} s", flush=True)
            assert daemon.process.poll() is None, "the daemon has ended"
        daemon.process.terminate()
        assert daemon.process.wait(timeout=60) == 0
        done = True
    finally:
        if daemon.process and daemon.process.poll() is None:
            daemon.process.kill()
        if done:
            shutil.rmtree(daemon.work)
        else:
            print((daemon.work / "voxeld.log").read_text()[-4000:], file=sys.stderr)
            print(f"left for inspection: {daemon.work}", file=sys.stderr)


def chosen(checks):
    """Those that the command line names; all where it names none."""
    return [c for c in checks if len(sys.argv) == 1 or c.__name__ in sys.argv[1:]]


def main():
    work = Path(tempfile.mkdtemp(prefix="voxeld-e2e-"))
    phantom(work)
    run(Daemon(work), [to_a_result] + [c for c in chosen(CHECKS) if c is not to_a_result])


if __name__ == "__main__":
    main()
