"""What the scenarios do to the machine: cgroups (v1 and v2), neighbours, a cold page cache. Needs root where it says so."""
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path


class Cannot(Exception):
    """This machine does not allow it; the text says what is missing."""


def mounted(controller):
    """Where a controller of cgroup v1 is mounted; None without it."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup" and controller in options.split(","):
            return Path(where)
    return None


def unified():
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


def own_path(controller):
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") or (controller == "" and number == "0"):
            return path.lstrip("/")
    return ""


class Cgroup:
    """A group of one's own beneath the current one. `limits` are file contents of v1 and of v2."""

    def __init__(self, name, controller, v1, v2):
        self.path = None
        base = mounted(controller)
        limits = v1
        if base is None:
            base, limits = unified(), v2
            if base is None or controller.replace("blkio", "io") not in (base / "cgroup.controllers").read_text().split():
                raise Cannot(f"no cgroup controller {controller} is mounted")
        parent = base / own_path(controller if limits is v1 else "")
        path = parent / f"voxeld-scenario-{name}-{os.getpid()}"
        try:
            path.mkdir()
            self.path = path
            for file, text in limits:
                (path / file).write_text(text)
        except OSError as error:
            self.remove()
            raise Cannot(f"cgroup {path}: {error}") from None

    def write(self, file, text):
        (self.path / file).write_text(text)

    def read(self, file):
        return (self.path / file).read_text()

    def join(self):
        """For preexec_fn: the child, and all that it starts, lives in the group."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self):
        if self.path and self.path.exists():
            try:
                self.path.rmdir()
            except OSError as error:
                print(f"scenarios: {self.path} stays: {error}", file=sys.stderr)


def disk_of(path):
    """"major:minor" of the whole disk under a path, which is what a throttle takes."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    block = Path("/sys/dev/block") / number
    if not block.exists():
        raise Cannot(f"{path} lies on no block device")
    if (block / "partition").exists():
        number = (block.resolve().parent / "dev").read_text().strip()
    return number


def slow_disk(name, path, bytes_per_second):
    number = disk_of(path)
    return Cgroup(name, "blkio", [("blkio.throttle.read_bps_device", f"{number} {bytes_per_second}")],
                  [("io.max", f"{number} rbps={bytes_per_second}")])


class MemoryGroup(Cgroup):
    """A group that may use so many bytes. Without an OOM counter nothing is shown in it."""

    def __init__(self, name, limit):
        super().__init__(name, "memory", [("memory.limit_in_bytes", str(limit))], [("memory.max", str(limit))])
        self.counter = next((f for f in ("memory.events", "memory.oom_control") if (self.path / f).exists()), None)
        if not self.counter or "oom_kill " not in self.read(self.counter):
            self.remove()
            raise Cannot("the kernel does not count what it kills for lack of memory")

    def oom_kills(self):
        return int(self.read(self.counter).split("oom_kill ")[1].split()[0])


# Takes memory step by step and keeps it; with a counter file, until the kernel has killed somebody.
HOG = """
import pathlib, sys, time
mib, counter = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
kills = lambda: counter and pathlib.Path(counter).read_text().split("oom_kill ")[1].split()[0]
before, taken = kills(), []
while len(taken) < mib and kills() == before:
    taken.append(bytearray(b"1" * (1 << 20)))
print("full", flush=True)
time.sleep(3600)
"""


class Hogs:
    """Processes in a memory group that take so many MiB each."""

    def __init__(self, group, mib, n=1, until_a_kill=False):
        command = [sys.executable, "-c", HOG, str(mib)] + ([str(group.path / group.counter)] if until_a_kill else [])
        self.processes = [subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=group.join) for _ in range(n)]

    def full(self):
        for p in self.processes:
            p.stdout.readline()

    def stop(self):
        for p in self.processes:
            p.kill()
            p.wait()
            p.stdout.close()


def drop_from_page_cache(folder):
    for file in Path(folder).rglob("*"):
        if file.is_file():
            fd = os.open(file, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


class Evictor:
    """Somebody whose reading pushes the files below a folder out of the page cache, over and over."""

    def __init__(self, folder, every=0.3):
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(folder, every), daemon=True)
        self.thread.start()

    def run(self, folder, every):
        while not self.ending.wait(every):
            drop_from_page_cache(folder)

    def stop(self):
        self.ending.set()
        self.thread.join()


class Neighbours:
    """Processes that keep cores busy and are not voxeld's."""

    def __init__(self, n):
        self.processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(n)]

    def pids(self):
        return [p.pid for p in self.processes]

    def stop(self):
        for p in self.processes:
            p.kill()
            p.wait()


def children(pid, word):
    """Descendants of a process whose command line holds a word."""
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        try:
            kids = [int(k) for t in Path(f"/proc/{parent}/task").iterdir() for k in (t / "children").read_text().split()]
        except OSError:
            continue
        todo += kids
        for kid in kids:
            try:
                if word in Path(f"/proc/{kid}/cmdline").read_bytes().decode().split("\0"):
                    found.append(kid)
            except OSError:
                pass
    return found


def kill(pid, number):
    os.kill(pid, getattr(signal, number))
