#!/usr/bin/env python3
"""A host whose CUDA module is broken or has no driver: the daemon starts, refuses the GPU in one line, trains on the CPU;
so does a training without the daemon.

  no_gpu.py VOXELD
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from voxeld import PHANTOM, Daemon, phantom  # noqa: E402

SIZE = ("--cases", "5", "--shape", "20,20,20", "--labels", "2", "--seed", "3")
TRAINING = {"epochs": 1, "iterations_per_epoch": 2, "val_iterations_per_epoch": 1}
PLAN = {"batch_size": 2, "patch_size": [16, 16, 16], "features_per_stage": [16, 32]}


def spec(device, name):
    return {"type": "train", "dataset": PHANTOM, "configuration": "3d_fullres", "fold": 0, "training": TRAINING, "plan": PLAN,
            "resources": {"device": device}, "results": {"name": name}, "loader": {"workers": 1}}


def alone(voxeld, work, device):
    path = work / f"{device.replace(':', '-')}.json"
    path.write_text(json.dumps(spec(device, "alone-" + path.stem)))
    return subprocess.run([voxeld, "train", path, "--state", work / "alone", "--data", work / "data"], capture_output=True,
                          text=True, timeout=300)


def has_gpu():
    return Path("/dev/nvidia0").exists()


def main():
    voxeld = sys.argv[1]
    work = Path(tempfile.mkdtemp(prefix="voxeld-no-gpu-"))
    daemon = None
    try:
        phantom(voxeld, work / "data", PHANTOM, *SIZE)
        modules = work / "modules"
        modules.mkdir()
        (modules / "voxeld_cuda.so").write_text("no module")
        os.environ["VOXELD_MODULE_DIR"] = str(modules)
        refused = alone(voxeld, work, "cuda:0")
        lines = [line for line in refused.stderr.splitlines() if line.startswith('voxeld train: no device "cuda"')]
        assert refused.returncode != 0 and len(lines) == 1, (refused.returncode, refused.stderr)
        trained = alone(voxeld, work, "auto")
        assert trained.returncode == 0, trained.stderr
        daemon = Daemon(voxeld, work)
        assert daemon.register()["state"] == "ready"
        status, reply = daemon.post("/v1/jobs", spec("cuda:0", "gpu"))
        assert status == 422 and reply["code"] == "unknown_device", reply
        job = daemon.finished(daemon.submit(spec("auto", "cpu")), 300)
        assert job["state"] == "succeeded", job
        assert daemon.alive()
    finally:
        if daemon:
            daemon.stop(15)
        shutil.rmtree(work, ignore_errors=True)
    if not has_gpu():
        # The module of this build, where there is one: as clear without a driver.
        del os.environ["VOXELD_MODULE_DIR"]
        work = Path(tempfile.mkdtemp(prefix="voxeld-no-gpu-"))
        phantom(voxeld, work / "data", PHANTOM, *SIZE)
        refused = alone(voxeld, work, "cuda:0")
        shutil.rmtree(work, ignore_errors=True)
        assert refused.returncode != 0 and 'no device "cuda"' in refused.stderr, refused.stderr
    print("no_gpu: all is well")


if __name__ == "__main__":
    main()
