#!/usr/bin/env python3
"""gpu_watch beside a training and a management library that are played.

  test_watch.py GPU_WATCH NVML_PLAYER
"""
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

WATCH, PLAYER = "", ""

# Epochs of 2 s by their own account, of which 1 % is waiting; they come faster than that. Arguments: epochs, what follows.
TRAINING = """
import json, sys, time
for i in range(int(sys.argv[1])):
    time.sleep(0.05)
    print(json.dumps({"event": "epoch", "epoch": i, "seconds": 2.0, "ema_dice": 0.1 * i,
                      "phases": {"wait_loader": 0.02, "compute": 1.9, "other": 0.08}}), flush=True)
if sys.argv[2] == "result":
    print(json.dumps({"event": "result", "validation": {"cases": 2, "mean_dice": 0.9}}))
elif sys.argv[2] == "fail":
    print(json.dumps({"error": {"code": "device_lost", "message": "gone"}}))
    sys.exit(1)
else:
    time.sleep(60)
"""


class Watch(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.dir = Path(self.folder.name)
        (self.dir / "training.py").write_text(TRAINING)

    def tearDown(self):
        self.folder.cleanup()

    def watch(self, options, training, trace="util=99 sm=95 tensor=40 dram=60 power=500000 cap=700000 clock=1980\n", library=None):
        (self.dir / "trace").write_text(trace)
        start = time.monotonic()
        run = subprocess.run([WATCH, "played", *options, "--nvml", library or PLAYER, "--", sys.executable, self.dir / "training.py",
                              *training], env={**os.environ, "VX_NVML_TRACE": str(self.dir / "trace")}, capture_output=True,
                             text=True, timeout=50)
        [line] = run.stdout.splitlines()
        return run.returncode, json.loads(line), time.monotonic() - start

    def test_a_whole_training(self):
        rc, line, _ = self.watch([], ["4", "result"])
        self.assertEqual((rc, line["check"], line["epochs"], line["status"]), (0, "played", 3, 0))  # the first one warms up
        self.assertAlmostEqual(line["loader_wait_share"], 0.01)
        self.assertAlmostEqual(line["epoch_seconds"], 2.0)
        self.assertAlmostEqual(line["phases"]["compute"], 5.7)
        self.assertEqual(line["result"]["validation"]["mean_dice"], 0.9)
        self.assertTrue(line["passed"] and not line["stopped"])

    def test_what_the_gpu_does_while_it_is_watched(self):
        rc, line, _ = self.watch(["--seconds", "1.5"], ["1000000", "wait"])
        self.assertEqual((rc, line["passed"], line["stopped"], line["status"]), (0, True, True, 128 + 15))
        self.assertGreaterEqual(line["looks"], 1)
        for key, value in (("sm_active", 0.95), ("tensor_active", 0.4), ("dram_active", 0.6), ("utilisation", 0.99),
                           ("power_watts", 500), ("sm_clock_mhz", 1980)):
            self.assertAlmostEqual(line[key], value)
        self.assertNotIn("sm_active_lacks", line)

    def test_a_gpu_without_activity_says_so(self):
        _, line, _ = self.watch(["--seconds", "1"], ["1000000", "wait"], trace="util=99\n")
        self.assertIsNone(line["sm_active"])
        self.assertIn("no GPM figures", line["sm_active_lacks"])
        self.assertAlmostEqual(line["utilisation"], 0.99)

    def test_no_library(self):
        rc, line, _ = self.watch([], ["4", "result"], library="/nonexistent.so")
        self.assertEqual((rc, line["passed"]), (0, True))
        self.assertIn("/nonexistent.so", line["sm_active_lacks"])

    def test_a_schedule_that_is_too_long_is_given_up(self):
        rc, line, seconds = self.watch(["--epochs", "1000", "--within", "30"], ["1000", "wait"])
        self.assertEqual((rc, line["too_slow"], line["passed"], line["epochs"]), (75, True, False, 2))
        self.assertAlmostEqual(line["epoch_seconds"], 2.0)
        self.assertLess(seconds, 40)

    def test_a_schedule_that_fits_is_kept(self):
        rc, line, _ = self.watch(["--epochs", "6", "--within", "600"], ["6", "result"])
        self.assertEqual((rc, line["too_slow"], line["epochs"]), (0, False, 5))

    def test_a_limit_holds_whatever_happens(self):
        rc, line, seconds = self.watch(["--limit", "1"], ["2", "wait"])
        self.assertEqual((rc == 0, line["passed"], line["stopped"], line["epochs"]), (False, False, True, 1))
        self.assertLess(seconds, 40)

    def test_a_training_that_fails(self):
        rc, line, _ = self.watch([], ["2", "fail"])
        self.assertEqual((rc, line["passed"], line["error"]["code"]), (1, False, "device_lost"))


if __name__ == "__main__":
    WATCH, PLAYER = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
