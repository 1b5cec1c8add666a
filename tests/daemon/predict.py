#!/usr/bin/env python3
"""Predictions from the outside: jobs of type predict and voxeld predict, against the validation of the same weights.
Needs $VX_BUILD_DIR and Python's standard library. Each check prints a line; the first failure ends the run."""
import gzip
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import e2e

LARGE = "Dataset995_Large"


def model_of(d):
    return d.work / "state/results" / e2e.SET / "first__nnUNetPlans__3d_fullres"


def spec(**more):
    return dict({"type": "predict", "dataset": e2e.SET, "results": {"name": "first"}, "input": "new"}, **more)


def new_folder(d, name, cases, of=e2e.SET):
    """Images of some cases in a folder beneath the data root."""
    folder = d.work / "data" / name
    folder.mkdir()
    for case in cases:
        image = f"{case}_0000.nii.gz"
        shutil.copy(d.work / "data" / of / "imagesTr" / image, folder / image)
    return folder


def validated(d):
    return sorted(p.name for p in (model_of(d) / "fold_0/validation").glob("*.nii.gz"))


def files(folder):
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def voxeld(d, *arguments):
    """(exit status, JSON lines)"""
    run = subprocess.run([e2e.BINARY, "predict", *map(str, arguments)], capture_output=True, text=True, timeout=120)
    return run.returncode, [json.loads(line) for line in run.stdout.splitlines()]


def events(d, number):
    return d.ask(f"/v1/jobs/{number}/events?follow=false")[1]["events"]


# --- checks; each takes the running daemon, which has a trained model ---

def a_trained_model(d):
    assert d.register(e2e.SET)["state"] == "ready"
    job = d.wait(d.submit(e2e.spec("first")))
    assert job["state"] == "succeeded", job
    new_folder(d, "new", [name.removesuffix(".nii.gz") for name in validated(d)])


def the_validation_again(d):
    """A job's predictions of the held-out cases are the validation's, byte for byte."""
    number = d.submit(spec())
    job = d.wait(number)
    assert job["state"] == "succeeded" and job["result"]["cases"] == 2 and job["fold"] is None, job
    assert job["progress"]["done"] == job["progress"]["total"] == 2 and job["checkpoint_step"] == 2, job
    listed = {a["name"] for a in d.ask(f"/v1/jobs/{number}/artifacts")[1]["artifacts"]}
    for name in validated(d):
        assert f"predictions/{name}" in listed, listed
        request = urllib.request.Request(f"{d.url}/v1/jobs/{number}/artifacts/predictions/{name}",
                                         headers={"Authorization": f"Bearer {d.token}"})
        with urllib.request.urlopen(request, timeout=30) as reply:
            assert reply.read() == (model_of(d) / "fold_0/validation" / name).read_bytes(), name
    assert {"predictions/dataset.json", "predictions/plans.json", "predictions/predict_args.json"} <= listed, listed
    seen = [e["type"] for e in events(d, number)]
    assert seen.count("case") == 2 and "epoch" not in seen, seen
    text = d.ask(f"/v1/jobs/{number}/log")[1]
    assert text.count("predicted phantom_") == 2 and "Prediction complete: 2 cases" in text, text


def the_same_by_hand(d):
    out = d.work / "by_hand"
    status, lines = voxeld(d, "--input", d.work / "data/new", "--output", out, "--results", d.work / "state/results",
                           "--dataset", e2e.SET, "--configuration", "3d_fullres", "--trainer", "first", "--save-probabilities")
    assert status == 0 and lines[-1]["event"] == "result" and lines[-1]["kept"] == 0, lines
    for name in validated(d):
        case = name.removesuffix(".nii.gz")
        assert (out / f"{case}.npz").exists() and (out / f"{case}.pkl").exists()
        ours, theirs = (gzip.decompress((folder / name).read_bytes()) for folder in (out, model_of(d) / "fold_0/validation"))
        assert ours == theirs, name
    args = json.loads((out / "predict_args.json").read_text())
    assert args["folds"] == ["0"] and args["mirror_axes"] == [0, 1, 2] and args["save_probabilities"], args
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("*.nii.gz")}
    status, lines = voxeld(d, "--input", d.work / "data/new", "--output", out, "--model", model_of(d), "--continue")
    assert status == 0 and lines[-1]["kept"] == 2, lines
    assert before == {p.name: p.stat().st_mtime_ns for p in out.glob("*.nii.gz")}
    status, lines = voxeld(d, "--input", d.work / "data/new", "--output", out, "--model", model_of(d), "--continue",
                           "--no-mirroring")
    assert status == 0 and lines[-1]["kept"] == 0, lines


def into_the_results_folder(d):
    number = d.submit(spec(output=f"{e2e.SET}/new/deep", folds=[0], checkpoint="best",
                           inference={"mirroring": False, "step_size": 1, "save_probabilities": True}))
    job = d.wait(number)
    out = d.work / "state/results" / e2e.SET / "new/deep"
    assert job["state"] == "succeeded" and Path(job["result"]["output"]) == out, job
    assert len(list(out.glob("*.npz"))) == len(list(out.glob("*.pkl"))) == len(list(out.glob("*.nii.gz"))) == 2
    args = json.loads((out / "predict_args.json").read_text())
    assert args["checkpoint"] == "best" and args["mirror_axes"] == [] and args["step_size"] == 1, args


def refused_requests(d):
    (d.work / "data/way_out").symlink_to("/tmp")
    (d.work / "state/results/way_out").symlink_to("/tmp")
    model = model_of(d).relative_to(d.work / "state/results")
    for change, status, code, pointer in [
            ({"input": "missing"}, 422, "no_folder", "/input"),
            ({"input": "../state"}, 403, "outside_root", None),
            ({"input": "/etc"}, 403, "outside_root", None),
            ({"input": "way_out"}, 403, "outside_root", None),
            ({"output": "../x"}, 403, "outside_root", None),
            ({"output": "way_out/x"}, 403, "outside_root", None),
            ({"output": f"{model}/fold_0/validation"}, 422, "output_in_model", "/output"),
            ({"results": {"name": "nobody"}}, 422, "unknown_model", "/results/name"),
            ({"configuration": "2d"}, 422, "unknown_model", "/results/name"),
            ({"folds": [0, 4]}, 422, "unknown_fold", "/folds"),
            ({"folds": "all"}, 422, "unknown_fold", "/folds"),
            ({"resources": {"device": "cuda:7"}}, 422, "unknown_device", "/resources/device"),
            ({"fold": 0}, 422, "invalid_spec", "/fold"),
            ({"training": {}}, 422, "invalid_spec", "/training")]:
        got, reply = d.ask("/v1/jobs", spec(**change))
        assert got == status, (change, got, reply)
        assert code == "invalid_spec" or reply["code"] == code, (change, reply)
        assert not pointer or pointer in [e["pointer"] for e in reply["errors"]], (change, reply)
    assert not (d.work / "state/results/x").exists()


def refused_input(d):
    """What is wrong with the files is named, and nothing is written."""
    case = validated(d)[0].removesuffix(".nii.gz")
    image = d.work / "data/new" / f"{case}_0000.nii.gz"
    out = d.work / "state/results/refused"

    def second_channel(folder):
        shutil.copy(image, folder / f"{case}_0001.nii.gz")

    def first_channel_gone(folder):
        (folder / image.name).rename(folder / f"{case}_0001.nii.gz")

    def emptied(folder):
        for path in folder.iterdir():
            path.unlink()

    def cut_short(folder):
        path = sorted(folder.iterdir())[-1]  # the last case: the first must not have been written
        path.write_bytes(path.read_bytes()[:-200])

    for damage, code, word in [(second_channel, "extra_channel", f"{case}_0001"),
                               (first_channel_gone, "extra_channel", case), (emptied, "no_cases", "_0000.nii.gz"),
                               (cut_short, "nifti_damaged", "phantom_")]:
        folder = new_folder(d, damage.__name__, [name.removesuffix(".nii.gz") for name in validated(d)])
        damage(folder)
        job = d.wait(d.submit(spec(input=damage.__name__, output="refused")))
        assert job["state"] == "failed" and job["crashes"] == 0, job
        assert job["reason"]["code"] in (code, "nifti_truncated") and word in job["reason"]["message"], job["reason"]
        assert not out.exists(), (damage.__name__, files(out))
        status, lines = voxeld(d, "--input", folder, "--output", out, "--model", model_of(d))
        assert status == 1 and lines[-1]["error"]["code"] == job["reason"]["code"], lines
        assert not out.exists(), (damage.__name__, files(out))
    assert {"missing_channel", "extra_channel"} == {
        line["code"] for line in voxeld(d, "--input", d.work / "data/first_channel_gone", "--output", out, "--model",
                                        model_of(d))[1] if line.get("event") == "problem"}


def large_cases(d, name, n=4):
    """Cases that take about a second each."""
    if not (d.work / "data" / LARGE).exists():
        subprocess.run([e2e.BINARY, "phantom", "--out", d.work / "data", "--name", LARGE, "--cases", "5", "--shape",
                        "32,48,36", "--labels", "2", "--seed", "2"], check=True, stdout=subprocess.DEVNULL)
    names = sorted(p.name for p in (d.work / "data" / LARGE / "imagesTr").iterdir())
    new_folder(d, name, [p.removesuffix("_0000.nii.gz") for p in names[:n]], LARGE)


def child_of(d, number):
    while not (pids := e2e.children(d.process.pid, "predict")):
        assert d.job(number)["state"] not in e2e.ENDED, d.job(number)
        time.sleep(0.01)
    return pids[0]


def reference(d, name):
    """The same input without interruptions."""
    out = d.work / f"reference_{name}"
    status, lines = voxeld(d, "--input", d.work / "data" / name, "--output", out, "--model", model_of(d))
    assert status == 0, lines
    return {p.name: p.read_bytes() for p in out.glob("*.nii.gz")}


def same_outputs(out, want):
    assert {p.name: p.read_bytes() for p in out.glob("*.nii.gz")} == want
    assert not [p for p in out.iterdir() if ".tmp." in p.name], files(out)


def killed_and_resumed(d):
    large_cases(d, "killed")
    number = d.submit(spec(input="killed", output="killed"))
    out = d.work / "state/results/killed"
    pid = child_of(d, number)
    while not (finished := list(out.glob("*.nii.gz"))):
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    before = {p.name: p.stat().st_mtime_ns for p in finished}
    job = d.wait(number)
    assert job["state"] == "succeeded" and job["result"]["kept"] >= 1, job
    assert all((out / name).stat().st_mtime_ns == at for name, at in before.items()), "a finished case was made again"
    crashes = [e["data"] for e in events(d, number) if e["type"] == "crash"]
    assert len(crashes) == 1 and crashes[0]["signal"] == 9 and crashes[0]["role"] == "predict", crashes
    # a process killed between a file and its line takes the event with it
    assert [e["type"] for e in events(d, number)].count("case") in (3, 4)
    assert "the prediction crashed (exit status -1, signal 9)" in d.ask(f"/v1/jobs/{number}/log")[1]
    same_outputs(out, reference(d, "killed"))


def crashed_repeatedly(d):
    number = d.submit(spec(input="killed"))
    for _ in range(3):
        pid = child_of(d, number)
        os.kill(pid, signal.SIGKILL)
        while pid in e2e.children(d.process.pid, "predict"):
            time.sleep(0.01)
    job = d.wait(number)
    assert job["state"] == "failed" and job["reason"]["code"] == "crashed_repeatedly" and job["crashes"] == 3, job
    assert "signal" in json.dumps(job["result"]), job


def cancelled(d):
    number = d.submit(spec(input="killed", output="cancelled"))
    child_of(d, number)
    while not list((d.work / "state/results/cancelled").glob("*.nii.gz")):
        time.sleep(0.01)
    assert d.ask(f"/v1/jobs/{number}/cancel", b"")[0] == 202
    assert d.wait(number)["state"] == "cancelled" and not e2e.children(d.process.pid, "predict")
    assert 0 < len(list((d.work / "state/results/cancelled").glob("*.nii.gz"))) < 4


def daemon_stopped_and_killed(d):
    """A stop sends the job back to the queue, a kill leaves it running: both go on from the finished cases."""
    large_cases(d, "stopped")
    number = d.submit(spec(input="stopped", output="stopped"))
    out = d.work / "state/results/stopped"
    while not list(out.glob("*.nii.gz")):
        time.sleep(0.01)
    d.process.terminate()
    assert d.process.wait(timeout=60) == 0
    assert 0 < len(list(out.glob("*.nii.gz"))) < 4
    d.start()
    while len(list(out.glob("*.nii.gz"))) < 2:
        time.sleep(0.01)
    d.process.kill()
    d.process.wait()
    d.start()
    job = d.wait(number)
    assert job["state"] == "succeeded" and job["crashes"] == 0 and job["result"]["kept"] >= 2, job
    same_outputs(out, reference(d, "stopped"))


def model_without_its_data_set(d):
    """A model from elsewhere in the results folder: its data set is not known here."""
    other = "Dataset994_Elsewhere"
    shutil.copytree(model_of(d), d.work / "state/results" / other / "theirs__nnUNetPlans__3d_fullres")
    job = d.wait(d.submit(spec(dataset=other, results={"name": "theirs"})))
    assert job["state"] == "succeeded", job


CHECKS = [a_trained_model, the_validation_again, the_same_by_hand, into_the_results_folder, refused_requests, refused_input,
          killed_and_resumed, crashed_repeatedly, cancelled, daemon_stopped_and_killed, model_without_its_data_set]


def main():
    work = Path(tempfile.mkdtemp(prefix="voxeld-predict-"))
    e2e.phantom(work)
    e2e.run(e2e.Daemon(work), CHECKS)


if __name__ == "__main__":
    main()
