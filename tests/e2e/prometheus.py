#!/usr/bin/env python3
"""A real Prometheus beside a training: promtool finds nothing to say of /metrics, and what Prometheus stored is what the
daemon says itself.

  prometheus.py VOXELD [SECONDS]

promtool and prometheus are looked for in $VOXELD_VENV/bin and $PATH; without them the test is skipped (77).
"""
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from voxeld import PHANTOM, Daemon, phantom, wait_for  # noqa: E402

BOARD = Path(__file__).resolve().parents[2] / "api" / "dashboard" / "grafana.json"
SIZE = ("--cases", "6", "--shape", "20,20,20", "--labels", "2", "--seed", "3")
JOB = {"type": "train", "dataset": PHANTOM, "configuration": "3d_fullres", "fold": 0,
       "training": {"epochs": 100000, "iterations_per_epoch": 20, "val_iterations_per_epoch": 1},
       "plan": {"batch_size": 2, "patch_size": [16, 16, 16], "features_per_stage": [16, 32]}}
COUNTERS = ["voxeld_step_seconds_count", "voxeld_loader_samples_total", "voxeld_store_commits_total",
            'voxeld_step_phase_seconds_total{phase="compute"}']


def expect(condition, what):
    if not condition:
        raise SystemExit(f"prometheus: {what}")


def find(name):
    path = f"{os.environ.get('VOXELD_VENV', '.venv')}/bin:{os.environ['PATH']}"
    return shutil.which(name, path=path)


def value(text, series):
    lines = [line for line in text.splitlines() if line.startswith(series + " ")]
    expect(len(lines) == 1, f"{series}: {len(lines)} lines")
    return float(lines[0].split()[-1])


def check_texts(promtool, daemon):
    kind, text = daemon.text("/metrics")
    run = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    expect(run.returncode == 0 and not run.stderr.strip(), f"promtool: {run.stdout} {run.stderr}")
    expect(kind.startswith("text/plain; version=0.0.4"), kind)
    kind, text = daemon.text("/metrics", "application/openmetrics-text; version=1.0.0")
    expect(kind.startswith("application/openmetrics-text; version=1.0.0"), kind)
    expect(text.endswith("# EOF\n") and text.count("# EOF") == 1, "no EOF at the end")
    for line in text.splitlines():
        if line.startswith("# TYPE") and line.endswith(" counter"):
            expect(not line.split()[2].endswith("_total"), f"OpenMetrics: {line}")


def scrape(prometheus, daemon, work, seconds):
    """Prometheus over the daemon for some seconds; returns a function that asks it."""
    port = socket.create_server(("127.0.0.1", 0))
    where = f"127.0.0.1:{port.getsockname()[1]}"
    port.close()
    (work / "prometheus.yml").write_text(json.dumps({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "voxeld", "authorization": {"credentials_file": str(work / "state" / "token")},
                            "static_configs": [{"targets": [daemon.url.split("//")[1]]}]}]}))
    process = subprocess.Popen([prometheus, f"--config.file={work}/prometheus.yml", f"--storage.tsdb.path={work}/tsdb",
                                f"--web.listen-address={where}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(query, **more):
        kind = "query_range" if more else "query"
        words = urllib.parse.urlencode({"query": query, **more})
        with urllib.request.urlopen(f"http://{where}/api/v1/{kind}?{words}", timeout=10) as reply:
            return json.loads(reply.read())["data"]["result"]

    def up():
        try:
            return ask('up{job="voxeld"}') and ask('up{job="voxeld"}')[0]["value"][1] == "1"
        except OSError:
            return False

    wait_for("Prometheus to scrape", up, 60)
    time.sleep(seconds)
    return process, ask


def check_series(ask, daemon, seconds):
    before = {c: value(daemon.text("/metrics")[1], c) for c in COUNTERS}
    stored = {}

    def scraped():
        stored.update({c: float(ask(c)[0]["value"][1]) for c in COUNTERS})
        return all(stored[c] >= before[c] for c in COUNTERS)

    wait_for("a scrape in between", scraped, 60)
    after = {c: value(daemon.text("/metrics")[1], c) for c in COUNTERS}
    for c in COUNTERS:
        expect(before[c] <= stored[c] <= after[c], f"{c}: stored {stored[c]}, the daemon said {before[c]} to {after[c]}")
        expect(after[c] > 0, f"{c} stands at 0")
    now = time.time()
    misses = ask('up{job="voxeld"} == 0', start=now - seconds, end=now, step=1)
    expect(not misses, f"scrapes failed: {misses}")
    series = ask("voxeld_step_seconds_count", start=now - seconds, end=now, step=1)[0]["values"]
    numbers = [float(v) for _, v in series]
    expect(len(numbers) >= 0.8 * seconds and numbers == sorted(numbers), f"{len(numbers)} values in {seconds} s")


def check_board(ask):
    """Each question of the Grafana board is one that Prometheus understands, and that a training on the CPU answers unless it
    is about GPUs, verdicts or changes, of which there may be none."""
    panels = json.loads(BOARD.read_text())["panels"]
    for target in [t for panel in panels for t in panel["targets"]]:
        answer = ask(target["expr"])  # an error here ends the test
        may_be_empty = any(w in target["expr"] for w in ("_gpu_", "verdict_active", "tuning_changes"))
        expect(answer or may_be_empty, f"nothing is stored for {target['expr']}")
        label = target["legendFormat"].partition("{{")[2].partition("}}")[0]
        expect(not answer or not label or label in answer[0]["metric"], f"{target['expr']} has no label {label}: {answer[:1]}")


def main():
    voxeld, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 20
    promtool, prometheus = find("promtool"), find("prometheus")
    if not promtool or not prometheus:
        if os.environ.get("VX_SKIP_LOG"):
            with open(os.environ["VX_SKIP_LOG"], "a") as log:
                log.write("prometheus tests/e2e/prometheus.py\n")
        print("skipped: no prometheus; scripts/bootstrap --oracle brings one")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        work, process = Path(folder), None
        phantom(voxeld, work / "data", PHANTOM, *SIZE)
        daemon = Daemon(voxeld, work)
        try:
            expect(daemon.register()["state"] == "ready", "the data set is not ready")
            job = daemon.submit(JOB)
            wait_for("an epoch", lambda: daemon.get(f"/v1/jobs/{job}/epochs")["epochs"], 60)
            check_texts(promtool, daemon)
            process, ask = scrape(prometheus, daemon, work, seconds)
            check_series(ask, daemon, seconds)
            check_board(ask)
        finally:
            if process:
                process.terminate()
                process.wait()
            daemon.stop()
    print(f"prometheus: ok, {seconds:g} s")


if __name__ == "__main__":
    main()
