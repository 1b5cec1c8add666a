#!/usr/bin/env python3
"""Pretrained weights: a job starts from the .pth of an earlier one, and what does not fit, does not lie beneath the
daemon's folders or is no checkpoint is refused by name with nothing written.

  pretrained.py VOXELD
"""
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from voxeld import PHANTOM, Daemon, phantom, wait_for  # noqa: E402

SIZE = ("--cases", "6", "--shape", "20,24,20", "--labels", "2", "--seed", "3")


def expect(condition, what):
    if not condition:
        raise SystemExit(f"pretrained: {what}")


def spec(name, weights=None, features=(8, 16), epochs=1, **training):
    training = {"epochs": epochs, "iterations_per_epoch": 4, "val_iterations_per_epoch": 1, "seed": 7, **training}
    if weights:
        training["pretrained_weights"] = str(weights)
    return {"type": "train", "dataset": PHANTOM, "configuration": "3d_fullres", "fold": 0, "training": training,
            "plan": {"batch_size": 2, "patch_size": [16, 16, 16], "features_per_stage": list(features)},
            "inference": {"mirroring": False}, "results": {"name": name}}


def tensors(path):
    """(k, {name: (shape, bytes)}) of a checkpoint of voxeld."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:8 + size]), data[8 + size:]
    words = json.loads(header.pop("__metadata__")["voxeld"])
    return words["k"], {n: (t["shape"], body[slice(*t["data_offsets"])]) for n, t in header.items()}


def jobs_checkpoint(work, job):
    return work / "state" / "jobs" / str(job) / "checkpoint_latest.safetensors"


def source_of(daemon, work):
    """The fold folder of a finished training."""
    document = daemon.finished(daemon.submit(spec("source")), 180)
    expect(document["state"] == "succeeded", f"{document['state']}: {document.get('reason')}")
    return Path(document["result"]["results_path"])


def starts_from(daemon, work, fold, weights):
    """A long training's checkpoint of batch 0 has the file's weights but for the heads."""
    job = daemon.submit(spec("tuned" + weights.suffix[1:], weights, epochs=100000, checkpoint_seconds=60, seed=8))
    path = jobs_checkpoint(work, job)
    wait_for("the checkpoint of batch 0", path.exists, 120)
    k, now = tensors(path)
    daemon.post(f"/v1/jobs/{job}/cancel", None)
    daemon.finished(job, 60)
    _, then = tensors(fold / "checkpoint_final.safetensors")
    expect(k == 0, f"the checkpoint is of batch {k}")
    expect(set(now) == set(then), "not the same parameters")
    parameters = [n for n in now if not n.startswith("momentum.")]
    expect(all(not any(now["momentum." + n][1]) for n in parameters), "momentum was taken over")
    for name in parameters:
        same = now[name] == then[name]
        expect(same == (".seg_layers." not in name), f"{name}: same {same}")


def refused_at_once(daemon, work, weights, code):
    status, reply = daemon.post("/v1/jobs", spec("refused", weights))
    expect(400 <= status < 500 and reply["code"] == code, f"{weights}: {status} {reply}")
    expect(str(weights) in reply["detail"], f"the file is not named: {reply}")


def refused_by_the_job(daemon, work, code, words, **options):
    job = daemon.submit(spec("refused", **options))
    document = daemon.finished(job, 120)
    expect(document["state"] == "failed" and document["reason"]["code"] == code, document["reason"])
    expect(all(w in document["reason"]["message"] for w in words), f"{words} not in {document['reason']}")
    left = [p.name for p in (work / "state/jobs" / str(job)).iterdir() if "checkpoint" in p.name]
    expect(not left, f"{left} was written")
    expect(document["crashes"] == 0, "counted as a crash")


def hostile(path, marker):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        command = f"touch {marker}".encode()
        z.writestr("x/data.pkl", b"\x80\x02cposix\nsystem\nX" + len(command).to_bytes(4, "little") + command + b"\x85R.")


def run(daemon, work):
    expect(daemon.register()["state"] == "ready", "the phantom was refused")
    fold = source_of(daemon, work)
    relative = fold.relative_to(work / "state/results")
    starts_from(daemon, work, fold, relative / "checkpoint_final.pth")
    starts_from(daemon, work, fold, fold / "checkpoint_final.safetensors")
    refused_at_once(daemon, work, relative / "missing.pth", "no_weights")
    refused_at_once(daemon, work, "../../../../etc/passwd", "outside_root")
    refused_at_once(daemon, work, "/etc/passwd", "outside_root")
    (work / "data/out").symlink_to("/etc")
    refused_at_once(daemon, work, "out/passwd", "outside_root")
    refused_by_the_job(daemon, work, "weights_mismatch", ("encoder.stages.0.0.convs.0.conv.weight", "8 x 1", "12 x 1"),
                       weights=relative / "checkpoint_final.pth", features=(12, 16))
    refused_by_the_job(daemon, work, "weights_mismatch", ("encoder.stages.2.0.convs.0.conv.weight", "missing"),
                       weights=relative / "checkpoint_final.pth", features=(8, 16, 32))
    hostile(work / "data/hostile.pth", work / "executed")
    refused_by_the_job(daemon, work, "foreign_class", ("posix.system", "hostile.pth"), weights="hostile.pth")
    expect(not (work / "executed").exists(), "a pickle was executed")
    return fold


def without_the_daemon(voxeld, work, fold):
    elsewhere = work / "elsewhere.pth"
    shutil.copy(fold / "checkpoint_best.pth", elsewhere)
    (work / "spec.json").write_text(json.dumps(spec("alone", elsewhere)))
    done = subprocess.run([voxeld, "train", work / "spec.json", "--state", work / "alone", "--data", work / "data"],
                          capture_output=True, text=True, timeout=180)
    expect(done.returncode == 0, done.stdout[-500:] + done.stderr[-500:])


def main():
    voxeld, work = Path(sys.argv[1]), Path(tempfile.mkdtemp(prefix="voxeld-pretrained-"))
    try:
        phantom(voxeld, work / "data", PHANTOM, *SIZE)
        daemon = Daemon(voxeld, work)
        try:
            fold = run(daemon, work)
        finally:
            daemon.stop()
        without_the_daemon(voxeld, work, fold)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("pretrained: ok")


main()
