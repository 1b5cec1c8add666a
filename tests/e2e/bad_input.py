#!/usr/bin/env python3
"""Bad input, from outside: each gets a clear answer that names file, field and reason, and the daemon stays up.

  bad_input.py VOXELD
"""
import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from voxeld import PHANTOM, Daemon, call, phantom  # noqa: E402

SIZE = ("--cases", "6", "--shape", "20,20,20", "--labels", "2", "--seed", "3")
TINY = {
    "type": "train", "dataset": PHANTOM, "configuration": "3d_fullres", "fold": 0,
    "training": {"epochs": 1, "iterations_per_epoch": 2, "val_iterations_per_epoch": 1},
    "plan": {"batch_size": 2, "patch_size": [16, 16, 16], "features_per_stage": [16, 32]},
    "inference": {"mirroring": False},
}
checks = 0


def expect(condition, what):
    global checks
    checks += 1
    if not condition:
        raise SystemExit(f"bad_input: {what}")


# --- requests ---

REQUESTS = [  # body, status, code of the problem, pointer of its first error
    (b'{"type": "train", ', 400, "malformed_json", None),
    (b"[" * 100, 400, None, None),
    ([], 400, "not_an_object", None),
    ({**TINY, "epochs": 3}, 422, "invalid_request", "/epochs"),
    ({**TINY, "fold": "first"}, 422, "invalid_request", "/fold"),
    ({**TINY, "training": {"epochs": 10 ** 12}}, 422, "invalid_request", "/training/epochs"),
    ({**TINY, "training": {"initial_lr": -1}}, 422, "invalid_request", "/training/initial_lr"),
    ({**TINY, "plan": {"patch_size": [16, 16, 10 ** 9]}}, 422, "invalid_request", "/plan/patch_size/2"),
    ({**TINY, "dataset": "Dataset123_Nowhere"}, 422, "unknown_dataset", "/dataset"),
    ({**TINY, "dataset": "../../etc/passwd"}, 422, "invalid_request", "/dataset"),
]


def check_requests(daemon):
    for body, status, code, pointer in REQUESTS:
        got, reply = call("POST", daemon.url + "/v1/jobs", body, daemon.auth)
        expect(got == status, f"{body!r:.80}: {got} {reply}, wanted {status}")
        expect(reply.get("title") and reply.get("detail"), f"{body!r:.80}: no words in {reply}")
        expect(code in (None, reply["code"]), f"{body!r:.80}: code {reply['code']}, wanted {code}")
        if pointer is not None:
            pointers = [e["pointer"] for e in reply.get("errors", [])]
            expect(pointer in pointers, f"{body!r:.80}: pointers {pointers}, wanted {pointer}")
    for name in ("../secret", "Dataset999_Nothing", ""):
        got, reply = daemon.post("/v1/datasets", {"name": name})
        expect(400 <= got < 500 and reply["code"], f"registering {name!r}: {got} {reply}")


# --- data sets ---

def edit_gz(path, change):
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw = change(raw)
    path.write_bytes(gzip.compress(bytes(raw)))


def first(folder, kind):
    return sorted((folder / kind).glob("*.nii.gz"))[0]


def truncated(folder):
    path = first(folder, "imagesTr")
    path.write_bytes(path.read_bytes()[:200])
    return path


def lying_dimensions(folder):
    path = first(folder, "imagesTr")
    edit_gz(path, lambda raw: raw[:42] + struct.pack("<3h", 30000, 30000, 30000) + raw[48:])
    return path


def no_nifti(folder):
    path = first(folder, "imagesTr")
    path.write_bytes(gzip.compress(b"not a volume" * 100))
    return path


def label_of_other_shape(folder):
    labels = sorted((folder / "labelsTr").glob("*.nii.gz"))
    edit_gz(labels[0], lambda raw: raw[:42] + struct.pack("<h", struct.unpack_from("<h", raw, 42)[0] // 2) + raw[44:])
    return labels[0]


def label_value(folder):
    path = first(folder, "labelsTr")
    edit_gz(path, lambda raw: raw[:-1] + b"\x07")
    return path


def nan_in_image(folder):
    path = first(folder, "imagesTr")
    edit_gz(path, lambda raw: raw[:-4] + struct.pack("<f", float("nan")))
    return path


def missing_label(folder):
    path = first(folder, "labelsTr")
    path.unlink()
    return path


def wrong_count(folder):
    description = json.loads((folder / "dataset.json").read_text())
    description["numTraining"] = 99
    (folder / "dataset.json").write_text(json.dumps(description))
    return None


DAMAGES = [  # what is done, code of the finding (None: any)
    (truncated, "unreadable"),
    (lying_dimensions, "unreadable"),
    (no_nifti, "unreadable"),
    (label_of_other_shape, "shape_mismatch"),
    (label_value, "unexpected_label"),
    (nan_in_image, "not_finite"),
    (missing_label, "missing_label"),
    (wrong_count, "case_count"),
]


def check_datasets(daemon, voxeld, data):
    for number, (damage, code) in enumerate(DAMAGES, 100):
        name = f"Dataset{number}_{damage.__name__.replace('_', '-')}"
        path = damage(phantom(voxeld, data, name, *SIZE))
        document = daemon.register(name)
        expect(document["state"] == "invalid", f"{name}: state {document['state']}")
        errors = [f for f in document["report"]["findings"] if f["severity"] == "error"]
        hits = [f for f in errors if f["code"] == code]
        expect(hits, f"{name}: no finding {code} among {errors}")
        expect(hits[0]["message"], f"{name}: a finding without words")
        if path:
            words = json.dumps(hits[0])
            case = path.name.removesuffix(".nii.gz").removesuffix("_0000")
            expect(case in words, f"{name}: {words} does not name {case}")
        status, reply = daemon.post("/v1/jobs", {**TINY, "dataset": name})
        if status == 201:  # accepted while invalid: the job's reason must say so
            job = daemon.finished(reply["id"], 60)
            expect(job["state"] == "failed" and job["reason"]["code"], f"{name}: job {job['state']}")
        else:
            expect(status in (409, 422), f"{name}: a job on it got {status} {reply}")


# --- the daemon's surroundings ---

def check_second_daemon(daemon, voxeld, work):
    second = subprocess.run([voxeld, "serve", "--state", work / "state", "--data", work / "data", "--listen",
                             "127.0.0.1:0"], capture_output=True, text=True, timeout=30)
    expect(second.returncode != 0, "a second daemon started on the same state folder")
    expect(str(daemon.process.pid) in second.stderr, f"the refusal does not name the pid: {second.stderr}")


def check_existing_result(daemon):
    job = daemon.finished(daemon.submit(TINY), 120)
    expect(job["state"] == "succeeded", f"the tiny job ended {job['state']}: {job['reason']}")
    status, reply = daemon.post("/v1/jobs", TINY)
    expect(status == 409 and reply["code"] == "result_exists", f"the same job again: {status} {reply}")
    again = daemon.finished(daemon.submit({**TINY, "results": {"name": "other"}}), 120)
    expect(again["state"] == "succeeded", f"under another name: {again['reason']}")
    replaced = daemon.finished(daemon.submit({**TINY, "results": {"replace": True}}), 120)
    expect(replaced["state"] == "succeeded", f"with replace: {replaced['reason']}")
    folder = Path(replaced["result"]["results_path"])
    kept = [p.name for p in folder.parent.iterdir() if p.name.startswith("fold_0.")]
    expect(len(kept) == 1, f"the replaced result was not kept: {kept}")


def check_full_disk(voxeld, work):
    small = work / "small"
    small.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small],
                                           capture_output=True).returncode != 0:
        print("full disk: not tried, mounting is not allowed here")
        return
    daemon = None
    try:
        (work / "full").mkdir()
        (work / "full" / "data").symlink_to(work / "data")
        daemon = Daemon(voxeld, work / "full", "--preprocessed", small)
        daemon.register()
        job = daemon.finished(daemon.submit(TINY), 60)
        expect(job["state"] == "failed", f"prepared onto a full disk: {job['state']}")
        expect("space" in job["reason"]["message"].lower() or job["reason"]["code"] == "no_space_left",
               f"full disk: {job['reason']}")
        expect(not list(small.glob("**/manifest.json")), "a half-written cache counts as whole")
        expect(daemon.get("/v1/system") and daemon.alive(), "the daemon died of a full disk")
    finally:
        if daemon:
            daemon.stop()
        subprocess.run(["umount", "-l", small], check=False)


def main():
    voxeld = sys.argv[1]
    work = Path(tempfile.mkdtemp(prefix="vx-bad-"))
    phantom(voxeld, work / "data", PHANTOM, *SIZE)
    daemon = Daemon(voxeld, work)
    try:
        expect(daemon.register()["state"] == "ready", "the phantom is not usable")
        check_requests(daemon)
        check_datasets(daemon, voxeld, work / "data")
        check_second_daemon(daemon, voxeld, work)
        check_existing_result(daemon)
        expect(daemon.alive() and daemon.get("/v1/system"), "the daemon is gone")
        daemon.stop()
        check_full_disk(voxeld, work)
        print(f"bad_input: {checks} checks, the daemon stayed up")
    finally:
        daemon.stop()
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
