"""A daemon of one's own for tests: started in a folder, spoken to over loopback. Python's standard library only."""
import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

PHANTOM = "Dataset999_Phantom"


def call(method, url, body=None, headers=None, timeout=30):
    """(status, parsed body). A body that is bytes goes out as it is."""
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return reply.status, json.loads(reply.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def wait_for(what, test, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = test()
        if value:
            return value
        time.sleep(0.2)
    raise SystemExit(f"timed out after {seconds} s: {what}")


def phantom(voxeld, out, name=PHANTOM, *options):
    subprocess.run([voxeld, "phantom", "--out", out, "--name", name, *options], check=True, stdout=subprocess.DEVNULL)
    return Path(out) / name


def children(pid, verb):
    """Pids of the processes of that verb that this daemon started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            argv = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if parent == pid and len(argv) > 1 and argv[1] == verb.encode():
            found.append(int(entry.name))
    return found


@contextlib.contextmanager
def paused(daemon):
    """The trainers stand still, so that no job ends meanwhile, however fast the machine is. Not for as long as a hang takes."""
    trainers = children(daemon.process.pid, "step")
    for pid in trainers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in trainers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class Daemon:
    def __init__(self, voxeld, work, *options, **popen):
        self.work, self.log = work, open(work / "voxeld.log", "a")
        self.command = [voxeld, "serve", "--state", work / "state", "--data", work / "data", "--listen", "127.0.0.1:0",
                        *options]
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self.log, text=True, **popen)
        line = self.process.stdout.readline()
        if not line.startswith("voxeld ready "):
            raise SystemExit(f"the daemon did not start: {(work / 'voxeld.log').read_text()}")
        self.page = line.split()[-1]
        self.url = self.page.split("/?")[0]
        self.auth = {"Authorization": "Bearer " + (work / "state" / "token").read_text().strip()}

    def get(self, path):
        return call("GET", self.url + path, headers=self.auth)[1]

    def text(self, path, accept="text/plain"):
        """(media type, text) of what is no JSON."""
        request = urllib.request.Request(self.url + path, headers={**self.auth, "Accept": accept})
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.headers["Content-Type"], reply.read().decode()

    def post(self, path, body):
        return call("POST", self.url + path, body, self.auth)

    def patch(self, path, body):
        return call("PATCH", self.url + path, body, self.auth)

    def register(self, name=PHANTOM, seconds=60):
        """The data set's document once it is ready or invalid."""
        status, reply = self.post("/v1/datasets", {"name": name})
        if status not in (200, 202):
            raise SystemExit(f"registering {name}: {status} {reply}")
        document = lambda: self.get(f"/v1/datasets/{name}")
        wait_for(f"{name} checked", lambda: document()["state"] != "registering", seconds)
        return document()

    def submit(self, spec):
        status, reply = self.post("/v1/jobs", spec)
        if status != 201:
            raise SystemExit(f"submitting: {status} {reply}")
        return reply["id"]

    def finished(self, job, seconds):
        """The job's document once it has ended."""
        document = lambda: self.get(f"/v1/jobs/{job}")
        wait_for(f"job {job} to end", lambda: document()["state"] in ("succeeded", "failed", "cancelled"), seconds)
        return document()

    def alive(self):
        return self.process.poll() is None

    def stop(self, number=9):
        if self.alive():
            self.process.send_signal(number)
        self.process.wait()
        self.log.close()
