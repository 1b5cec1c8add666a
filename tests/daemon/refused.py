#!/usr/bin/env python3
"""What the daemon does while its database refuses to write, and what it leaves in a terminal and a journal.
Needs $VX_BUILD_DIR and Python's standard library. Each check prints a line; the first failure ends the run."""
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import e2e

LOCKED_S = 6.5  # longer than the writer waits for a lock (5 s): to it this is what a full disk is


class Daemon(e2e.Daemon):
    before = []

    def arguments(self):
        return self.before + super().arguments()


class Locked:
    """The database with a writer in it that is not the daemon."""

    def __init__(self, d):
        self.db = sqlite3.connect(d.work / "state/voxeld.db", isolation_level=None)

    def __enter__(self):
        self.db.execute("BEGIN IMMEDIATE")
        self.since = time.monotonic()

    def __exit__(self, *_):
        self.db.execute("ROLLBACK")
        self.db.close()


def started(d, name, **more):
    number = d.submit(e2e.spec(name, **more))
    deadline = time.monotonic() + 60
    while not e2e.children(d.process.pid, "step"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return number


def end_of_a_job(d):
    """The last change of a job is refused: it must not stay in running with no process."""
    number = started(d, "locked_end", epochs=1, iterations=5)
    with Locked(d):
        while e2e.children(d.process.pid, "step"):
            time.sleep(0.05)
        time.sleep(LOCKED_S)
        assert d.job(number)["state"] == "running"
    assert d.wait(number, limit=15)["state"] == "succeeded"


def start_of_a_job(d):
    """The changes before a job runs are refused: it must not be forgotten on the way."""
    number = d.submit(e2e.spec("locked_start", epochs=1, iterations=5))
    with Locked(d):
        time.sleep(LOCKED_S)
    assert d.wait(number, limit=60)["state"] == "succeeded"


def cancelled_while_it_ran(d):
    number = started(d, "cancelled", epochs=1000)
    assert d.ask(f"/v1/jobs/{number}/cancel", method="POST")[0] == 202
    job = d.wait(number, limit=30)
    assert job["state"] == "cancelled" and job["reason"]["code"] == "cancelled_by_user", job


def check_of_a_set(d):
    """The outcome of a check is refused: the set must not stay in registering."""
    e2e.phantom(d.work, "Dataset998_Locked", 6)
    status, _ = d.ask("/v1/datasets", {"name": "Dataset998_Locked"})
    assert status == 202
    with Locked(d):
        time.sleep(LOCKED_S + 3)
    deadline = time.monotonic() + 20
    while d.ask("/v1/datasets/Dataset998_Locked")[1]["state"] != "ready":
        assert time.monotonic() < deadline, d.ask("/v1/datasets/Dataset998_Locked")
        time.sleep(0.1)


def a_place_taken_meanwhile(d):
    """Two jobs for one place: the second is told when it starts, not after it has trained."""
    first = d.submit(e2e.spec("twice", epochs=1, iterations=5))
    second = d.submit(e2e.spec("twice", epochs=1000))
    assert d.wait(first)["state"] == "succeeded"
    job = d.wait(second, limit=30)
    assert (job["state"], job["reason"]["code"]) == ("failed", "result_exists"), job
    assert d.ask(f"/v1/jobs/{second}/epochs")[1]["epochs"] == []


def published_before_a_kill(d):
    """Killed between the rename of the result and the commit: the job ends well, its result stays."""
    number = started(d, "published", epochs=1, iterations=5)
    fold = d.work / "state/results" / e2e.SET / "published__nnUNetPlans__3d_fullres/fold_0"
    with Locked(d):
        while not fold.exists():
            time.sleep(0.02)
        inode = fold.stat().st_ino
        d.process.kill()
        d.process.wait()
    d.start()
    assert d.wait(number)["state"] == "succeeded"
    assert fold.stat().st_ino == inode and not list(fold.parent.glob("fold_0.*"))


def interrupted_in_a_terminal(d):
    """Ctrl-C reaches the whole process group: what it prepares is not counted as crashed."""
    target = d.work / "state/preprocessed" / e2e.SET
    d.process.terminate()
    assert d.process.wait(timeout=60) == 0
    shutil.rmtree(target, ignore_errors=True)
    d.before = ["setsid"]  # a session, and so a process group, of its own
    d.start()
    number = d.submit({"type": "prepare", "dataset": e2e.SET})
    while not e2e.children(d.process.pid, "prepare"):
        time.sleep(0.005)
    os.killpg(d.process.pid, signal.SIGINT)
    assert d.process.wait(timeout=60) == 0
    d.start()
    job = d.wait(number)
    crashes = [e for e in d.ask(f"/v1/jobs/{number}/events?follow=false")[1]["events"] if e["type"] == "crash"]
    assert job["state"] == "succeeded" and not crashes, (job, crashes)


def closed_terminal(d):
    """A hang-up stops the daemon as SIGTERM does: the training writes its checkpoint and goes on later."""
    number = started(d, "hung_up", epochs=1000)
    d.process.send_signal(signal.SIGHUP)
    assert d.process.wait(timeout=60) == 0
    d.start()
    assert d.wait(number, states=("running",))["reason"] is None
    d.ask(f"/v1/jobs/{number}/cancel", method="POST")
    assert d.wait(number)["state"] == "cancelled"


def urgent_job(d):
    """A late job with a high priority goes before those that have waited for the device for long."""
    first = started(d, "urgent_0", epochs=1000)
    usual = [d.submit(e2e.spec(f"urgent_{i}", epochs=1, iterations=3)) for i in range(1, 7)]
    for number in usual[:4]:
        d.wait(number, states=("ready",))
    urgent = d.submit(e2e.spec("urgent", epochs=1, iterations=3, priority=5))
    d.wait(urgent, states=("ready",), limit=10)
    d.ask(f"/v1/jobs/{first}/cancel", method="POST")
    jobs = [d.wait(number) for number in [urgent] + usual]
    assert all(job["state"] == "succeeded" for job in jobs), jobs
    assert [job["id"] for job in sorted(jobs, key=lambda job: job["started_at"])] == [urgent] + usual


def token_and_journal(d):
    """The journal is read by others than the daemon's user: no token in it."""
    read, write = os.pipe()
    st = os.fstat(write)
    env = dict(os.environ, JOURNAL_STREAM=f"{st.st_dev}:{st.st_ino}")
    with tempfile.TemporaryDirectory() as state:
        process = subprocess.Popen([e2e.BINARY, "serve", "--state", state, "--data", d.work / "data", "--listen",
                                    "127.0.0.1:0"], stdout=write, stderr=subprocess.DEVNULL, env=env)
        os.close(write)
        with os.fdopen(read) as out:
            line = out.readline()
            process.terminate()
            assert process.wait(timeout=30) == 0
        token = (Path(state) / "token").read_text().strip()
        assert line.startswith("voxeld ready http://127.0.0.1:") and token not in line, line


def one_socket_for_two(d):
    """A second daemon with a state folder of its own must not take the first one's socket away."""
    path = d.work / "socket"
    before = path.stat().st_ino
    with tempfile.TemporaryDirectory() as state:
        run = subprocess.run([e2e.BINARY, "serve", "--state", state, "--data", d.work / "data", "--listen", "127.0.0.1:0",
                              "--unix", path], capture_output=True, text=True, timeout=30)
    assert run.returncode == 1 and "--unix" in run.stderr and str(path) in run.stderr, run
    assert path.stat().st_ino == before


CHECKS = (end_of_a_job, start_of_a_job, cancelled_while_it_ran, check_of_a_set, a_place_taken_meanwhile,
          published_before_a_kill, interrupted_in_a_terminal, closed_terminal, urgent_job, token_and_journal,
          one_socket_for_two)


def registered(d):
    d.register(e2e.SET)


def main():
    work = Path(tempfile.mkdtemp(prefix="voxeld-refused-"))
    e2e.phantom(work)
    e2e.run(Daemon(work), [registered] + e2e.chosen(CHECKS))


if __name__ == "__main__":
    main()
