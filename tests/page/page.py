#!/usr/bin/env python3
"""The dashboard in headless Chromium while a training runs: progress and curves are there and move.

  page.py VOXELD [SCREENSHOT.png]      exit status 77 where chromium or chromedriver is absent

Speaks the WebDriver protocol to chromedriver with Python's standard library only.
"""
import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from voxeld import PHANTOM, Daemon, call, phantom, wait_for  # noqa: E402

JOB = {
    "type": "train", "dataset": PHANTOM, "configuration": "3d_fullres", "fold": 0,
    "training": {"epochs": 400, "iterations_per_epoch": 4, "val_iterations_per_epoch": 1},
    "plan": {"batch_size": 2, "patch_size": [16, 16, 16], "features_per_stage": [16, 32]},
}
# Canvases that hold a drawing: name -> number of pixels that are not background.
DRAWN = """return Array.from(document.querySelectorAll('canvas')).map(function (c) {
  if (!c.width || !c.height) { return [c.id, 0]; }
  var d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, n = 0;
  for (var i = 3; i < d.length; i += 4) { if (d[i] > 40) { n++; } }
  return [c.id, n];
});"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Browser:
    def __init__(self, chromedriver, chromium, work):
        self.port = free_port()
        # A group of its own, so that no browser outlives the test, however it ends.
        self.process = subprocess.Popen([chromedriver, f"--port={self.port}"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        base = f"http://127.0.0.1:{self.port}"

        def up():
            try:
                return call("GET", base + "/status")[1]["value"]["ready"]
            except (OSError, urllib.error.URLError):
                return False

        wait_for("chromedriver", up, 20)
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update", "--disable-sync",
                     "--disable-dev-shm-usage", "--window-size=1280,1000", f"--user-data-dir={work / 'profile'}"]
        session = call("POST", base + "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"binary": chromium, "args": arguments}}}}, timeout=90)[1]
        self.base = f"{base}/session/{session['value']['sessionId']}"

    def open(self, url):
        call("POST", self.base + "/url", {"url": url}, timeout=60)

    def run(self, script):
        return call("POST", self.base + "/execute/sync", {"script": script, "args": []})[1]["value"]

    def screenshot(self):
        return base64.b64decode(call("GET", self.base + "/screenshot", timeout=60)[1]["value"])

    def errors(self):
        entries = call("POST", self.base + "/se/log", {"type": "browser"})[1]["value"]
        return [e["message"] for e in entries if e["level"] == "SEVERE"]

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def check(daemon, browser, picture):
    daemon.register()
    job = daemon.submit(JOB)
    wait_for("five epochs", lambda: (daemon.get(f"/v1/jobs/{job}").get("progress") or {}).get("epoch", 0) >= 5, 120)
    browser.open(daemon.page)
    wait_for("two drawn curves", lambda: sum(n > 200 for _, n in browser.run(DRAWN)) >= 2, 30)
    text = browser.run("return document.body.innerText")
    for word in (PHANTOM, "running"):
        assert word in text, f"'{word}' is not on the page:\n{text}"
    progress = "return Array.from(document.querySelectorAll('#jobs progress')).map(function (p) { return p.value / p.max; })"
    before = browser.run(progress)
    assert before and max(before) > 0, f"no progress bar: {before}"
    wait_for("the progress bar to move", lambda: max(browser.run(progress)) > max(before), 30)
    assert "token=" not in browser.run("return location.href"), "the token stays in the address"
    picture.write_bytes(browser.screenshot())
    errors = browser.errors()
    assert not errors, f"errors in the browser's console: {errors}"
    print(f"page: progress {max(before):.3f}, curves {browser.run(DRAWN)}, screenshot {picture}")


def main():
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        if os.environ.get("VX_SKIP_LOG"):
            with open(os.environ["VX_SKIP_LOG"], "a") as log:
                log.write("chromium tests/page/page.py\n")
        print("skipped: chromium or chromedriver is absent")
        return 77
    work = Path(tempfile.mkdtemp(prefix="vx-page-"))
    picture = Path(sys.argv[2] if len(sys.argv) > 2 else work.parent / "voxeld-page.png")
    daemon = browser = None
    try:
        phantom(sys.argv[1], work / "data", PHANTOM, "--cases", "10", "--shape", "24,24,24", "--labels", "2", "--seed", "1")
        daemon = Daemon(sys.argv[1], work)
        browser = Browser(chromedriver, chromium, work)
        check(daemon, browser, picture)
    finally:
        for thing in (browser, daemon):
            if thing:
                thing.stop()
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
