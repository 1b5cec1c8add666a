#!/usr/bin/env python3
"""A bit flips in the prepared data: the case is made again, byte for byte, while the training goes on.

  damaged_cache.py VOXELD
"""
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from voxeld import PHANTOM, Daemon, phantom  # noqa: E402

SIZE = ("--cases", "8", "--shape", "20,24,20", "--labels", "2", "--seed", "3")
TRAIN = {
    "type": "train", "dataset": PHANTOM, "configuration": "3d_fullres", "fold": 0,
    "training": {"epochs": 2, "iterations_per_epoch": 8, "val_iterations_per_epoch": 1},
    "plan": {"batch_size": 2, "patch_size": [16, 16, 16], "features_per_stage": [8, 16]},
    "inference": {"mirroring": False},
}
PREPARE = {"type": "prepare", "dataset": PHANTOM, "configuration": "3d_fullres",
           "plan": {"batch_size": 2, "patch_size": [20, 20, 20]}}  # other chunks than the training would ask for


def expect(condition, what):
    if not condition:
        raise SystemExit(f"damaged_cache: {what}")


def files_of(store):
    return {p.relative_to(store): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_ino)
            for p in sorted(store.rglob("*")) if p.is_file() and p.name != ".lock"}


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def events(daemon, job, name):
    reply = daemon.get(f"/v1/jobs/{job}/events?follow=false")
    return [e for e in (reply.get("items") or reply.get("events")) if e.get("type", e.get("event")) == name]


def train(daemon, results):
    job = daemon.submit({**TRAIN, "results": {"name": results}})
    document = daemon.finished(job, 180)
    expect(document["state"] == "succeeded", f"{document['state']}: {document.get('reason')}")
    return job


def weights(work, results):
    [path] = (work / "state" / "results").rglob(f"{results}__*/fold_0/checkpoint_final.safetensors")
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    return hashlib.sha256(data[start:]).hexdigest()


def run(daemon, work):
    expect(daemon.register()["state"] == "ready", "the phantom was refused")
    expect(daemon.finished(daemon.submit(PREPARE), 60)["state"] == "succeeded", "not prepared")
    [manifest] = (work / "state").rglob("manifest.json")
    store = manifest.parent
    train(daemon, "whole")
    before = files_of(store)
    split = json.loads(next((work / "state").rglob("session.json")).read_text())["recipe"]
    victims = [split["cases"][i] for i in split["train"][:2]]
    for victim in victims:
        [shard] = store.glob(f"cases/{victim}~*/image/c/0/0/0/0")
        flip(shard, 200)
    job = train(daemon, "damaged")
    after = files_of(store)
    repaired = sorted(e["data"]["case"] for e in events(daemon, job, "case_repaired") if e["data"]["made"])
    expect(repaired == sorted(victims), f"repaired {repaired}, wanted {victims}")
    expect(not events(daemon, job, "worker_lost"), "a worker was lost")
    for name, (digest, inode) in before.items():
        mended = any(f"{v}~" in str(name) for v in victims)
        expect(after[name][0] == digest, f"{name} is not what it was")
        expect(mended or after[name][1] == inode, f"{name} was touched")
    expect(set(after) == set(before), f"other files: {set(after) ^ set(before)}")
    expect(weights(work, "damaged") == weights(work, "whole"), "the repair changed the training")
    return len(before)


def main():
    voxeld = Path(sys.argv[1]).resolve()
    work = Path(tempfile.mkdtemp(prefix="vx-damaged-"))
    daemon = None
    try:
        phantom(voxeld, work / "data", PHANTOM, *SIZE)
        daemon = Daemon(voxeld, work)
        print(f"damaged_cache: two cases mended, {run(daemon, work)} files as before, the weights too")
    finally:
        if daemon:
            daemon.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
