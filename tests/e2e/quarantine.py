#!/usr/bin/env python3
"""A case that workers die over, and that cannot be made again, is left out; the training goes on and can be resumed.

  quarantine.py VOXELD
"""
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from voxeld import PHANTOM, Daemon, phantom, wait_for  # noqa: E402

SIZE = ("--cases", "8", "--shape", "20,24,20", "--labels", "2", "--seed", "3")
TRAIN = {
    "type": "train", "dataset": PHANTOM, "configuration": "3d_fullres", "fold": 0,
    "training": {"epochs": 3, "iterations_per_epoch": 50, "val_iterations_per_epoch": 3, "checkpoint_seconds": 0.25},
    "plan": {"batch_size": 2, "patch_size": [16, 16, 16], "features_per_stage": [8, 16]},
    "inference": {"mirroring": False}, "loader": {"workers": 2, "tune": "off"},
}


def expect(condition, what):
    if not condition:
        raise SystemExit(f"quarantine: {what}")


def ruin(store, raw, case):
    """The prepared case and the volume it was made from: same sizes, same times, other bytes."""
    [shard] = store.glob(f"cases/{case}~*/image/c/0/0/0/0")
    data = shard.read_bytes()
    shard.write_bytes(data[:100] + bytes(b ^ 0xFF for b in data[100:160]) + data[160:])
    for volume in raw.glob(f"imagesTr/{case}_*"):
        stat = volume.stat()
        volume.write_bytes(bytes(stat.st_size))
        os.utime(volume, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return shard


def events(daemon, job, name):
    reply = daemon.get(f"/v1/jobs/{job}/events?follow=false")
    return [e["data"] for e in reply["events"] if e["type"] == name]


def metrics(daemon):
    request = urllib.request.Request(daemon.url + "/metrics", headers=daemon.auth)
    return urllib.request.urlopen(request, timeout=30).read().decode()


def checkpoint(work, results):
    """(digest of the tensors, what is said beside them)"""
    [path] = (work / "state" / "results").rglob(f"{results}__*/fold_0/checkpoint_final.safetensors")
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    words = json.loads(json.loads(data[8:start])["__metadata__"]["voxeld"])
    return hashlib.sha256(data[start:]).hexdigest(), words


def check_job(daemon, work, job, results, case, shard):
    document = daemon.finished(job, 180)
    expect(document["state"] == "succeeded", f"{document['state']}: {document.get('reason')}")
    rows = document["result"]["quarantined"]
    expect([r["case"] for r in rows] == [case], f"result: {rows}")
    expect(document["progress"]["quarantined"] == [case], f"progress: {document['progress']}")
    expect(rows[0]["reason"] == "corrupt" and rows[0]["deaths"] == 3 and rows[0]["file"] == str(shard), rows)
    digest, words = checkpoint(work, results)
    expect([q["case"] for q in words["quarantines"]] == [case], f"checkpoint: {words['quarantines']}")
    expect(words["quarantines"][0]["from_k"] == rows[0]["from_k"], f"{words['quarantines']} {rows}")
    return digest, rows[0]


def one_case(daemon, work, case, shard):
    job = daemon.submit({**TRAIN, "results": {"name": "without"}})
    digest, row = check_job(daemon, work, job, "without", case, shard)
    lost = events(daemon, job, "worker_lost")
    on_case = [e for e in lost if e.get("case") == case]
    expect(len(on_case) >= 3 and len(lost) <= 5, f"{len(on_case)} of {len(lost)} workers were lost over {case}")
    for event in on_case:
        expect(event["reason"] == "corrupt" and event["file"] == str(shard) and event["exit_status"] == 1, event)
        expect(event["reading"] == "image" and event["max_rss_bytes"] > 1 << 20 and event["sample"]["k"] >= 0, event)
    expect(max(e["deaths_on_case"] for e in on_case) >= 3, on_case)
    [told] = events(daemon, job, "case_quarantined")
    expect(told == row, f"the event says {told}, the result {row}")
    found = re.search(r'voxeld_worker_restarts_total\{reason="corrupt"\} (\d+)', metrics(daemon))
    expect(found and int(found[1]) == len(lost), f"metric: {found}, {len(lost)} lost")
    return digest


def resumed(voxeld, daemon, work, case, shard, want):
    """The daemon is killed after the case went out; the resumed job makes the same batches."""
    job = daemon.submit({**TRAIN, "results": {"name": "resumed"}})
    wait_for("the quarantine", lambda: events(daemon, job, "case_quarantined"), 60)
    [told] = events(daemon, job, "case_quarantined")
    wait_for("some batches more", lambda: (daemon.get(f"/v1/jobs/{job}")["checkpoint_step"] or 0) > told["from_k"], 60)
    expect(daemon.get(f"/v1/jobs/{job}")["state"] == "running", "it ended before it could be killed")
    daemon.stop(signal.SIGKILL)
    live = json.loads((work / "state" / "jobs" / str(job) / "session_live.json").read_text())
    expect([q["case"] for q in live["quarantines"]] == [case], live)
    daemon = Daemon(voxeld, work)
    digest, row = check_job(daemon, work, job, "resumed", case, shard)
    expect(row == told, f"after the resume it says {row}, before {told}")
    expect(len(events(daemon, job, "case_quarantined")) == 1, "taken out twice")
    expect(digest == want, "the resumed training ended with other weights")
    return daemon


def every_case(daemon, work, store, raw, ruined):
    split = json.loads((work / "state" / "jobs" / "2" / "session.json").read_text())["recipe"]
    for case in {split["cases"][i] for i in split["train"]} - {ruined}:
        ruin(store, raw, case)
    job = daemon.submit({**TRAIN, "results": {"name": "none"}})
    document = daemon.finished(job, 180)
    expect(document["state"] == "failed", document)
    expect(document["reason"]["code"] == "all_cases_quarantined", document["reason"])
    expect(len(events(daemon, job, "case_quarantined")) == len(split["train"]), "not every case has its event")


def run(voxeld, work):
    phantom(voxeld, work / "data", PHANTOM, *SIZE)
    daemon = Daemon(voxeld, work)
    try:
        expect(daemon.register()["state"] == "ready", "the phantom was refused")
        job = daemon.submit({**TRAIN, "results": {"name": "whole"}})
        expect(daemon.finished(job, 120)["state"] == "succeeded", "the undisturbed training failed")
        whole, words = checkpoint(work, "whole")
        expect(words["quarantines"] == [], words["quarantines"])
        [manifest] = (work / "state").rglob("manifest.json")
        store, raw = manifest.parent, work / "data" / PHANTOM
        split = json.loads(next((work / "state").rglob("session.json")).read_text())["recipe"]
        case = split["cases"][split["train"][1]]
        shard = ruin(store, raw, case)
        digest = one_case(daemon, work, case, shard)
        expect(digest != whole, "the case made no difference")
        daemon = resumed(voxeld, daemon, work, case, shard, digest)
        every_case(daemon, work, store, raw, case)
    finally:
        daemon.stop()


def main():
    work = Path(tempfile.mkdtemp(prefix="vx-quarantine-"))
    kept = False
    try:
        start = time.monotonic()
        run(Path(sys.argv[1]).resolve(), work)
        print(f"quarantine: one case out, resumed alike, all out named; {time.monotonic() - start:.0f} s")
    except BaseException:
        kept = True
        print(f"left for inspection: {work}", file=sys.stderr)
        raise
    finally:
        if not kept:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
