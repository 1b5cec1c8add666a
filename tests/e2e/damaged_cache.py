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


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def point_outside(path):
    """The index's last entry beyond the end of the file, with a checksum that fits."""
    data = bytearray(path.read_bytes())
    entries = 1
    index = data[-4 - 16 * entries:-4]
    index[0:8] = (1 << 40).to_bytes(8, "little")
    data[-4 - 16 * entries:] = index + crc32c(index).to_bytes(4, "little")
    path.write_bytes(data)


def spoil(store, cases):
    """Damages that opening the store finds already: they are mended before the training starts."""
    shard = lambda case, name: next(store.glob(f"cases/{case}~*/{name}"))
    path = shard(cases[0], "seg/c/0/0/0")
    path.write_bytes(path.read_bytes()[:100])
    point_outside(shard(cases[1], "image/c/0/0/0/0"))
    shutil.rmtree(shard(cases[2], "case.json").parent)
    path = shard(cases[3], "case.json")
    path.write_text(path.read_text().replace('"channels": 1', '"channels": 2'))


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
    spoil(store, [split["cases"][i] for i in split["train"][2:6]])
    train(daemon, "spoilt")
    digests = lambda files: {name: digest for name, (digest, _) in files.items() if name.name != "manifest.json"}
    now, then = digests(files_of(store)), digests(before)
    changed = sorted(str(name) for name in {*now, *then} if now.get(name) != then.get(name))
    expect(not changed, f"what was made again is not what was there: {changed}")
    expect(weights(work, "spoilt") == weights(work, "whole"), "making cases again changed the training")
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
