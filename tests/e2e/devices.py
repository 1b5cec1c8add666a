#!/usr/bin/env python3
"""GPUs as the daemon's devices, on a host without any: a CUDA module that computes on the CPU (tests/support/fake_cuda.c) and
NVIDIA's library played from a file. Two jobs side by side, a GPU lost in mid-training, both lost, an Xid, a job that moves to
another model, predictions, refused jobs, hosts that lack the module. Needs $VX_FAKE_MODULES and $VX_NVML_PLAYER.

  devices.py VOXELD [CHECK...]
"""
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from voxeld import PHANTOM, Daemon, phantom, wait_for  # noqa: E402

MODULES, PLAYER = os.environ.get("VX_FAKE_MODULES"), os.environ.get("VX_NVML_PLAYER")
GPU = {"cuda:0": "GPU-trace", "cuda:1": "GPU-trace-1"}
FINE = "util=50 total=80000000000 used=1000000000 cc=90"
STEPS = 60
SLOW_MS = 250  # of a step while something is waited for: jobs must outlast it


def spec(name, device, **more):
    return {"type": "train", "dataset": PHANTOM, "configuration": "3d_fullres", "fold": 0, "results": {"name": name},
            "training": {"epochs": 2, "iterations_per_epoch": STEPS // 2, "val_iterations_per_epoch": 1, "initial_lr": 0.05,
                         "momentum": 0.9, "checkpoint_seconds": 0},
            "plan": {"batch_size": 2, "patch_size": [16, 16, 16], "features_per_stage": [8, 16]},
            "loader": {"workers": 1, "tune": "off"}, "resources": {"device": device}, **more}


def weights(job):
    """Digest of every tensor of the final checkpoint; its metadata holds times."""
    data = (Path(job["result"]["results_path"]) / "checkpoint_final.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__")
    digest = hashlib.sha256()
    for name in sorted(header):
        begin, end = header[name]["data_offsets"]
        digest.update(name.encode() + data[8 + size + begin:8 + size + end])
    return digest.hexdigest()


def environment(job):
    """What the final checkpoint was made with."""
    data = (Path(job["result"]["results_path"]) / "checkpoint_final.safetensors").read_bytes()
    header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
    return json.loads(header["__metadata__"]["voxeld"])["environment"]


class Host:
    """A machine with two GPUs that do as they are told."""

    def __init__(self, voxeld):
        self.voxeld, self.work = voxeld, Path(tempfile.mkdtemp(prefix="voxeld-devices-"))
        self.fake, self.daemon = self.work / "fake", None
        self.fake.mkdir()
        phantom(voxeld, self.work / "data", PHANTOM, "--cases", "5", "--shape", "20,20,20", "--labels", "2", "--seed", "3")
        self.driver(FINE, FINE)

    def write(self, path, text):
        new = path.with_suffix(".new")
        new.write_text(text)
        new.rename(path)

    def driver(self, *gpus):
        """What NVIDIA's library says of each GPU from now on."""
        self.write(self.work / "nvml", "live\n" + "".join(f"@{i} {line}\n" for i, line in enumerate(gpus)))

    def lose(self, device, how="lost"):
        self.write(self.fake / GPU[device], how)

    def mend(self, device):
        (self.fake / GPU[device]).unlink(missing_ok=True)

    def slow(self, ms):
        for uuid in GPU.values():
            self.write(self.fake / f"{uuid}.slow", str(ms))

    def start(self, *options, modules=MODULES, work=None, **env):
        env = {**os.environ, "VX_FAKE_CUDA": str(self.fake), "VX_NVML_TRACE": str(self.work / "nvml"), **env}
        return Daemon(self.voxeld, work or self.work, "--nvml", PLAYER, "--module-dir", modules, "--device-retry", "1",
                      *options, env=env)

    def restart(self, *options):
        """Devices start in good health again."""
        self.daemon.stop(15)
        assert self.daemon.process.returncode == 0, self.daemon.process.returncode
        self.daemon = self.start(*options)

    def log(self):
        return (self.work / "voxeld.log").read_text()

    # --- questions ---

    def device(self, name):
        return next(d for d in self.daemon.get("/v1/devices")["devices"] if d["name"] == name)

    def job(self, number):
        return self.daemon.get(f"/v1/jobs/{number}")

    def events(self, job, kind):
        return [e["data"] for e in self.daemon.get(f"/v1/jobs/{job}/events?follow=false")["events"] if e["type"] == kind]

    def metric(self, line):
        return line in self.daemon.text("/metrics")[1].splitlines()

    def runs_on(self, job, device, steps=0):
        """Once the job is on that device and has done so many steps in all."""
        def there():
            return self.device(device)["job"] == job and (self.job(job)["progress"] or {}).get("done", 0) >= steps
        wait_for(f"job {job} on {device}", there, 60)

    def healthy(self, *names):
        wait_for(f"{names} to be healthy", lambda: all(self.device(n)["state"] != "unhealthy" for n in names), 60)

    def ended_well(self, job):
        end = self.daemon.finished(job, 120)
        assert end["state"] == "succeeded" and end["crashes"] == 0 and not self.events(job, "crash"), end
        return end


def step_environment(pid):
    """Of the daemon's trainers: device they were given -> CUDA_VISIBLE_DEVICES."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                words = (entry / "cmdline").read_text().split("\0")
                if words[1] == "step":
                    env = dict(line.split("=", 1) for line in (entry / "environ").read_text().split("\0") if "=" in line)
                    found[env.get("CUDA_VISIBLE_DEVICES")] = words[words.index("--device") + 1]
        except (OSError, ValueError, IndexError):
            continue
    return found


def two_side_by_side(h):
    shown = h.daemon.get("/v1/devices")["devices"]
    assert [d["name"] for d in shown] == ["cuda:0", "cuda:1"], shown
    assert [d["uuid"] for d in shown] == list(GPU.values()), shown
    first = shown[0]
    assert sorted(first) == ["compute_capability", "job", "kind", "memory_available_bytes", "memory_bytes", "model", "name",
                             "reason", "state", "utilisation", "uuid"], first
    assert (first["kind"], first["model"], first["compute_capability"]) == ("cuda", "Trace player", "9.0"), first
    assert (first["state"], first["reason"], first["job"]) == ("idle", None, None), first
    assert (first["memory_bytes"], first["memory_available_bytes"]) == (80000000000, 79000000000), first
    h.slow(SLOW_MS)
    a, b = h.daemon.submit(spec("a", "auto")), h.daemon.submit(spec("b", "cuda:1"))
    h.runs_on(a, "cuda:0", 1)
    h.runs_on(b, "cuda:1", 1)
    assert h.device("cuda:0")["state"] == "busy"
    assert step_environment(h.daemon.process.pid) == {"GPU-trace": "cuda:0", "GPU-trace-1": "cuda:0"}
    assert "voxeld_cuda" not in Path(f"/proc/{h.daemon.process.pid}/maps").read_text(), "the daemon opened the module"
    third = h.daemon.submit(spec("third", "cuda"))
    wait_for("the third to wait its turn", lambda: h.job(third)["state"] == "ready", 60)
    assert h.job(third)["reason"] is None
    h.slow(0)
    h.weights = weights(h.ended_well(a))
    assert weights(h.ended_well(b)) == h.weights, "another GPU of the same model, the same weights"
    h.ended_well(third)


def refused(h):
    for device, words in (("cpu", 'no device "cpu": it has cuda:0, cuda:1;'), ("cuda:5", 'no device "cuda:5"')):
        status, reply = h.daemon.post("/v1/jobs", spec("x", device))
        assert (status, reply["code"]) == (422, "unknown_device") and words in reply["detail"], reply
    status, reply = h.daemon.post("/v1/jobs", spec("x", "auto", precision="fp32"))
    assert (status, reply["code"]) == (422, "precision_unsupported"), reply


def one_lost(h):
    """cuda:0 is lost in mid-training: the job goes on on cuda:1 from its checkpoint, the device is found well again."""
    h.slow(SLOW_MS)
    job = h.daemon.submit(spec("moved", "auto"))
    h.runs_on(job, "cuda:0", 3)
    h.lose("cuda:0")
    h.runs_on(job, "cuda:1", 3)
    device = h.device("cuda:0")
    assert device["state"] == "unhealthy" and device["reason"]["code"] == "device_lost", device
    assert "fake GPU GPU-trace is lost" in device["reason"]["message"], device
    assert h.metric('voxeld_device_healthy{device="cuda:0",uuid="GPU-trace"} 0')
    assert h.metric('voxeld_device_healthy{device="cuda:1",uuid="GPU-trace-1"} 1')
    assert "err devices unhealthy device=cuda:0 uuid=GPU-trace code=device_lost" in h.log()
    h.slow(0)
    assert weights(h.ended_well(job)) == h.weights
    (event,) = h.events(job, "device_lost")
    assert (event["device"], event["uuid"], event["code"]) == ("cuda:0", "GPU-trace", "device_lost"), event
    assert event["checkpoint_k"] >= 2, event
    assert not h.events(job, "trajectory") and "trajectory" not in h.job(job)["result"], "the same model"
    wait_for("a try that fails", lambda: "err devices still_unhealthy device=cuda:0" in h.log(), 60)
    h.mend("cuda:0")
    h.healthy("cuda:0")
    assert h.metric('voxeld_device_faults_total{device="cuda:1",uuid="GPU-trace-1"} 0')


def both_lost(h):
    """The job waits with its reason, as do others, and none goes to the CPU; it goes on when one is back."""
    h.slow(SLOW_MS)
    job = h.daemon.submit(spec("waited", "auto"))
    h.runs_on(job, "cuda:0", 3)
    h.lose("cuda:1")
    h.lose("cuda:0")
    waits = lambda number: h.job(number)["state"] == "ready" and (h.job(number)["reason"] or {}).get("code") == \
        "no_healthy_device"
    wait_for("the job to wait", lambda: waits(job), 60)
    reason = h.job(job)["reason"]["message"]
    assert reason.startswith("it waits for a healthy device: cuda:0 (") and ", cuda:1 (" in reason, reason
    late = h.daemon.submit(spec("late", "cuda:0"))
    wait_for("the late one to wait", lambda: waits(late), 60)
    assert len(h.events(job, "device_lost")) == 2
    assert h.daemon.post(f"/v1/jobs/{late}/cancel", {})[0] in (200, 202)
    assert h.daemon.finished(late, 60)["state"] == "cancelled"
    h.slow(0)
    h.mend("cuda:1")
    end = h.ended_well(job)
    assert weights(end) == h.weights and end["reason"] is None, end
    h.mend("cuda:0")


def xid(h):
    """The driver says that the GPU is gone, its process does not notice; the job moves to another model."""
    h.restart("--device-retry", "4")  # not before the job has left
    h.slow(SLOW_MS)
    h.write(h.fake / "GPU-trace-1.model", "Another GPU\n")
    job = h.daemon.submit(spec("xid", "auto"))
    h.runs_on(job, "cuda:0", 3)
    h.driver(FINE + " xid=31", FINE)  # a program's own error: nothing happens
    wait_for("Xid 31 counted", lambda: h.metric('voxeld_gpu_xid_errors_total{gpu="0",uuid="GPU-trace"} 1'), 30)
    assert h.device("cuda:0")["state"] == "busy"
    h.driver(FINE + " xid=79", FINE)
    h.runs_on(job, "cuda:1", 3)
    h.slow(0)
    assert h.ended_well(job)["result"]["trajectory"] == "approximate"
    (event,) = h.events(job, "device_lost")
    assert (event["device"], event["code"]) == ("cuda:0", "xid_79"), event
    assert event["message"] == "the driver reports Xid 79: it has fallen off the bus", event
    (event,) = h.events(job, "trajectory")
    assert event["trajectory"] == "approximate" and event["message"] == 'model was "Fake GPU", is "Another GPU"', event
    h.healthy("cuda:0")  # a try found it well
    h.driver(FINE, FINE)
    (h.fake / "GPU-trace-1.model").unlink()


def its_own_fault(h):
    """An illegal address ends the process as a lost GPU does, but it is the job's: it crashes, the GPU stays in use."""
    h.lose("cuda:1", "run 5 700")
    training = {**spec("", "")["training"], "checkpoint_seconds": 60}
    job = h.daemon.submit(spec("faulty", "cuda:1", training=training))
    end = h.daemon.finished(job, 120)
    assert (end["state"], end["reason"]["code"], end["crashes"]) == ("failed", "crashed_repeatedly", 3), end
    assert not h.events(job, "device_lost")
    wait_for("cuda:1 to be free", lambda: h.device("cuda:1")["state"] == "idle", 30)  # a moment after the job's end is told
    assert h.metric('voxeld_device_faults_total{device="cuda:1",uuid="GPU-trace-1"} 0')
    assert {e["code"] for e in h.events(job, "crash")} == {"device_lost"}
    h.mend("cuda:1")


def predictions(h):
    """A prediction runs on a GPU, and moves from one that is lost under it."""
    h.restart("--device-retry", "30")  # a try would find it well, as it opens
    h.lose("cuda:0", "run 1")
    job = h.daemon.submit({"type": "predict", "dataset": PHANTOM, "configuration": "3d_fullres", "results": {"name": "a"},
                           "input": f"{PHANTOM}/imagesTr", "resources": {"device": "auto"}})
    end = h.ended_well(job)
    assert [e["device"] for e in h.events(job, "device_lost")] == ["cuda:0"], end
    h.mend("cuda:0")


def gone_after_a_restart(h):
    """A job that needs a GPU waits on a daemon that has none, beside one that runs; it goes on where there is one again."""
    h.slow(SLOW_MS)
    job = h.daemon.submit(spec("later", "cuda:1"))
    h.runs_on(job, "cuda:1", 3)
    h.restart("--devices", "cpu")
    wait_for("the job to wait", lambda: (h.job(job)["reason"] or {}).get("code") == "no_device", 60)
    assert h.job(job)["state"] == "ready" and h.job(job)["checkpoint_step"] >= 2, h.job(job)
    other = h.ended_well(h.daemon.submit(spec("meanwhile", "cpu", training={"epochs": 1, "iterations_per_epoch": 1,
                                                                            "val_iterations_per_epoch": 1})))
    assert h.job(job)["state"] == "ready", other
    h.slow(0)
    h.restart()
    assert weights(h.ended_well(job)) == h.weights


def goes_on_on_the_cpu(h):
    """A job that began on a GPU goes on where there is none any more, with the CPU's threads."""
    h.restart("--cpu-threads", "3")
    h.slow(SLOW_MS)
    job = h.daemon.submit(spec("tocpu", "auto"))
    h.runs_on(job, "cuda:0", 3)
    h.restart("--devices", "cpu", "--cpu-threads", "3")
    h.slow(0)
    end = h.ended_well(job)
    made = environment(end)
    assert (made["device"], made["threads"]) == ("cpu:0", 3), made
    assert end["result"]["trajectory"] == "approximate", end


def hosts(h):
    """What the daemon makes of other hosts."""
    none = h.work / "none"
    none.mkdir()
    lines = lambda text: [line for line in text.splitlines() if " devices " in line]
    ways = [  # options, environment, modules; devices, what one line says
        ((), {}, none, ["cpu:0"], "GPUs are not used: no device \"cuda\": its module voxeld_cuda.so is not installed"),
        (("--devices", "cpu", "--cpu-jobs", "2"), {}, MODULES, ["cpu:0", "cpu:1"], None),
        (("--devices", "cuda:1, cpu"), {}, MODULES, ["cuda:1", "cpu:0"], None),
        ((), {"CUDA_VISIBLE_DEVICES": "GPU-trace-1"}, MODULES, ["cuda:1"], "cuda:0 is hidden by CUDA_VISIBLE_DEVICES"),
        ((), {"CUDA_VISIBLE_DEVICES": ""}, MODULES, ["cpu:0"], "cuda:0 is hidden by CUDA_VISIBLE_DEVICES"),
    ]
    for i, (options, env, modules, names, said) in enumerate(ways):
        work = h.work / f"host{i}"
        (work / "data").mkdir(parents=True)
        daemon = h.start(*options, modules=modules, work=work, **env)
        try:
            shown = [d["name"] for d in daemon.get("/v1/devices")["devices"]]
            assert shown == names, (options, env, shown)
            if names == ["cpu:0"]:
                status, reply = daemon.post("/v1/jobs", {"type": "predict", "dataset": PHANTOM, "input": "x",
                                                         "resources": {"device": "cuda"}})
                assert status in (404, 422), reply
        finally:
            daemon.stop(15)
        left_out = [line for line in lines((work / "voxeld.log").read_text()) if "left_out" in line]
        assert len(left_out) == (1 if said else 0) and all(said in line for line in left_out), left_out
    h.driver(FINE + " mig=1", FINE)
    not_started(h, MODULES, "cuda:0", "cuda:0 is split into instances (MIG)")
    h.driver(FINE, FINE)
    not_started(h, none, "cuda", "GPUs are not used: no device \"cuda\": its module voxeld_cuda.so is not installed")
    h.lose("cuda:0")
    not_started(h, MODULES, "cuda:0", "cuda:0 cannot be used: the fake GPU GPU-trace is lost")
    h.mend("cuda:0")


def not_started(h, modules, devices, said):
    """Where none of the devices it was told to use is there, it says why and leaves."""
    work = Path(tempfile.mkdtemp(dir=h.work))
    (work / "data").mkdir()
    run = subprocess.run([h.voxeld, "serve", "--state", work / "state", "--data", work / "data", "--listen", "127.0.0.1:0",
                          "--nvml", PLAYER, "--module-dir", modules, "--devices", devices], capture_output=True, text=True,
                         timeout=120, env={**os.environ, "VX_FAKE_CUDA": str(h.fake), "VX_NVML_TRACE": str(h.work / "nvml")})
    assert run.returncode == 1 and f"none of \"{devices}\" is there" in run.stderr and said in run.stderr, run


CHECKS = (two_side_by_side, refused, one_lost, both_lost, xid, its_own_fault, predictions, gone_after_a_restart,
          goes_on_on_the_cpu, hosts)


def main():
    if not MODULES or not PLAYER:
        print("needs VX_FAKE_MODULES and VX_NVML_PLAYER")
        return 77
    h = Host(sys.argv[1])
    try:
        h.daemon = h.start()
        assert h.daemon.register()["state"] == "ready"
        for check in CHECKS:
            if not sys.argv[2:] or check.__name__ in sys.argv[2:] or check is two_side_by_side:
                started = time.monotonic()
                check(h)
                print(f"{check.__name__}: well ({time.monotonic() - started:.1f} s)", flush=True)
                h.restart()
        h.daemon.stop(15)
        assert h.daemon.process.returncode == 0
        h.daemon = None
    finally:
        if h.daemon:
            h.daemon.stop()
        if os.environ.get("VX_KEEP"):
            print(h.work)
        else:
            shutil.rmtree(h.work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
