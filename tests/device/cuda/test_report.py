#!/usr/bin/env python3
"""report.py on figures made up: every target on both sides of its limit, its arithmetic, results that are cut off."""
import json
import tempfile
import unittest
from pathlib import Path

import report
from report import BIG, SMALL, Checks


def parity(error=0.004, n=9, passed=True):
    names = [f"operator {i}" for i in range(7)] + ["U-Net", "U-Net 2d, batch dice"]
    return [{"check": "parity", "of": name, "logits_error": 0.002, "gradient_error": error, "passed": passed} for name in names[:n]]


def speed(network, ms, precision="bf16"):
    return {"check": "speed", "network": network, "precision": precision, "train_ms": ms}


def layers(share=0.12, conv=20.0):
    return {"check": "layers", "network": BIG, "conv_ms": conv, "other_share": share, "other_gb_per_s": 2500.0,
            "copy_gb_per_s": 3000.0, "layers": [{"step": "encoder forward", "conv": True, "ms": 2.0}]}


def convolutions(missing=0):
    return {"check": "convolutions", "network": BIG, "bf16_ms": 18.25, "fp16_ms": 17.94, "without_plan": missing}


def peers(network, eager, compiled=None):
    rows = [{"check": "peer", "network": network, "compile": False, "train_ms": eager}]
    return rows + ([{"check": "peer", "network": network, "compile": True, "train_ms": compiled}] if compiled else [])


def end_to_end(**more):
    return {"check": "end_to_end", "loader_wait_share": 0.005, "sm_active": 0.95, **more}


def all_well():
    return [*parity(), {"check": "follow", "network": SMALL, "steps": 200, "mean_difference": 0.01},
            {"check": "determinism", "network": "small", "equal_bits": True}, {"check": "graph", "network": SMALL, "equal_bits": True},
            speed(BIG, 22.0), speed(SMALL, 4.0), *peers(BIG, 40.0, 33.0), *peers(SMALL, 9.0, 8.5), layers(), end_to_end(),
            {"check": "dice", "result": {"validation": {"mean_dice": 0.885}}},
            convolutions(), {"check": "part", "name": "sanitizer, kernels", "status": 0, "seconds": 9}]


PLANS = [{"direction": "forward"}]


def judge(lines, differ=0, plans=PLANS):
    return report.verdicts(Checks(report.newest(lines), [], differ), plans)


class Targets(unittest.TestCase):
    def state(self, word, lines, **more):
        [v] = [v for v in judge(lines, **more) if word in v["target"]]
        return v["state"]

    def without(self, check, *instead, **of):
        def same(c):
            return c["check"] == check and all(c.get(k) == v for k, v in of.items())
        return [c for c in all_well() if not same(c)] + list(instead)

    def both(self, word, reached, missed, check, **of):
        """The target is reached with one line in the place of those of that check, missed with the other, and not measured without."""
        self.assertEqual(self.state(word, self.without(check, *reached, **of)), "reached")
        self.assertEqual(self.state(word, self.without(check, *missed, **of)), "missed")
        self.assertEqual(self.state(word, self.without(check, **of)), "not measured")

    def test_all_well(self):
        self.assertEqual({v["state"] for v in judge(all_well())}, {"reached"})

    def test_nothing_measured(self):
        self.assertEqual({v["state"] for v in judge([], differ=None, plans=[])}, {"not measured"})

    def test_operators(self):
        self.both("operators", parity(0.0100), parity(0.0101), "parity")
        self.assertEqual(self.state("operators", self.without("parity", *parity(n=8))), "missed")
        self.assertEqual(self.state("operators", self.without("parity", *parity(passed=False))), "missed")
        self.assertEqual(self.state("operators", self.without("parity", *parity(error=None))), "missed")  # not a number

    def test_losses(self):
        def row(value, steps=200):
            return [{"check": "follow", "network": SMALL, "steps": steps, "mean_difference": value}]
        self.both("losses", row(0.02), row(0.0201), "follow")
        self.assertEqual(self.state("losses", self.without("follow", *row(0.01, steps=199))), "missed")

    def test_step(self):
        self.both("training step", [speed(BIG, 25.0)], [speed(BIG, 25.1)], "speed", network=BIG, precision="bf16")

    def test_a_step_that_cudnn_alone_makes_too_long(self):
        lines = self.without("layers", layers(conv=25.5))
        lines = [c for c in lines if not (c["check"] == "speed" and c["network"] == BIG)] + [speed(BIG, 29.0)]
        self.assertEqual(self.state("training step", lines), "reached")
        self.assertEqual(self.state("training step", lines + [layers(conv=24.5)]), "missed")

    def test_pytorch(self):
        self.both("PyTorch's, 128^3", peers(BIG, 40, 28.61), peers(BIG, 40, 28.59), "peer", network=BIG)
        self.both("PyTorch's, Hippocampus", peers(SMALL, 8.01), peers(SMALL, 7.99), "peer", network=SMALL)

    def test_the_faster_of_pytorchs_variants_counts(self):
        self.assertEqual(self.state("PyTorch's, 128^3", self.without("peer", *peers(BIG, 28.0, 60.0), network=BIG)), "missed")

    def test_shares(self):
        self.both("no convolution", [layers(0.15)], [layers(0.151)], "layers")
        self.both("loader", [end_to_end(loader_wait_share=0.01)], [end_to_end(loader_wait_share=0.0101)], "end_to_end")
        self.both("multiprocessors", [end_to_end(sm_active=0.9)], [end_to_end(sm_active=0.899)], "end_to_end")

    def test_why_there_is_no_activity(self):
        lines = self.without("end_to_end", end_to_end(sm_active=None, sm_active_lacks="no GPM"))
        [v] = [v for v in judge(lines) if "multiprocessors" in v["target"]]
        self.assertEqual((v["state"], v["figure"]), ("not measured", "no GPM"))
        self.assertEqual(self.state("loader", lines), "reached")

    def test_dice(self):
        def row(value):
            return [{"check": "dice", "result": {"validation": {"mean_dice": value}}}]
        self.both("Dice", row(0.88), row(0.8799), "dice")

    def test_bits(self):
        for check, word in (("determinism", "twice"), ("graph", "single steps")):
            self.both(word, [{"check": check, "network": "x", "equal_bits": True}],
                      [{"check": check, "network": "x", "equal_bits": False}], check)
        self.assertEqual(self.state("own kernels", all_well(), differ=1), "missed")

    def test_sanitizer(self):
        def part(status):
            return {"check": "part", "name": "sanitizer, kernels", "status": status, "seconds": 1}
        self.both("sanitizer", [part(0)], [part(1)], "part")
        self.assertEqual(self.state("sanitizer", self.without("part", part(124))), "not measured")
        absent = {"check": "sanitizer", "skipped": "compute-sanitizer is not installed"}
        self.assertEqual(self.state("sanitizer", self.without("part", part(77), absent)), "reached")

    def test_both_types(self):
        self.both("fp16", [convolutions()], [convolutions(missing=1)], "convolutions")
        [v] = [v for v in judge(all_well()) if "fp16" in v["target"]]
        self.assertEqual(v["figure"], "18.2 ms in bf16, 17.9 ms in fp16")

    def test_a_part_that_ended_is_named(self):
        ended = {"check": "part", "name": "parity", "status": 124, "seconds": 60}
        [v] = [v for v in judge(self.without("parity", ended)) if "operators" in v["target"]]
        self.assertEqual(v["figure"], 'the part "parity" ended with 124')


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.dir = Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def test_the_later_result_counts_and_half_a_line_does_not(self):
        first, second = self.dir / "a.jsonl", self.dir / "b.jsonl"
        first.write_text(json.dumps(speed(BIG, 30.0)) + "\n" + json.dumps(speed(SMALL, 4.0)) + '\n{"check": "spe')
        second.write_text("\nwords\n3\n" + json.dumps(speed(BIG, 24.0)) + "\n")
        lines = report.read_results([first, second])
        self.assertEqual([(c["network"], c["train_ms"]) for c in lines], [(SMALL, 4.0), (BIG, 24.0)])

    def test_kernels(self):
        text = ("NVIDIA H200, 132 multiprocessors\nnorm forward           the same bits\n"
                "copy                               4300 GB/s\n"
                "norm forward               187.2 us    4301 GB/s   100 % of a copy \n0 kernels differ\n")
        (self.dir / "kernels.txt").write_text(text)
        rows, differ = report.read_kernels(self.dir / "kernels.txt")
        self.assertEqual(differ, 0)
        self.assertEqual(rows, [{"kernel": "copy", "gb_per_s": 4300.0},
                                {"kernel": "norm forward", "us": 187.2, "gb_per_s": 4301.0, "percent_of_copy": 100.0}])
        self.assertEqual(report.read_kernels(self.dir / "none"), ([], None))

    def test_flops_of_a_plan(self):
        plan = {"for": {"direction": "forward", "type": "bf16", "channels": [2, 32, 64], "in": [128, 128, 128], "kernel": [3, 3, 3],
                        "stride": [2, 2, 2], "pad": [1, 1, 1]},
                "engine": 22, "rank": 3, "tensor_core": True, "workspace": 0, "ms": 2.0, "checked_with": 62}
        (self.dir / "plan.json").write_text(json.dumps(plan))
        [row] = report.read_plans(self.dir)
        self.assertAlmostEqual(row["gflop"], 2e-9 * 2 * 64**3 * 32 * 64 * 27)
        self.assertAlmostEqual(row["tflops"], row["gflop"] / 2.0)
        (self.dir / "document").write_text(json.dumps({"plans": [row]}))
        self.assertEqual(report.read_plans(self.dir / "document"), [row])

    def test_the_page(self):
        device = {"model": "NVIDIA H200", "library": "cuDNN 9.19.0, CUDA 13.0"}
        c = Checks(all_well(), [{"kernel": "norm forward", "us": 187.0, "gb_per_s": 4301.0, "percent_of_copy": 100.0}], 0)
        document = {"device": device, "date": "2026-01-02", "commit": "abc", "verdicts": report.verdicts(c, PLANS), "plans": []}
        path = report.write(document, c, self.dir)
        self.assertEqual(path.name, "2026-01-02-nvidia-h200.md")
        text = path.read_text()
        for words in ("| training step, 128^3 | 25 ms, or cuDNN's limit | 22.0 ms, 20.0 ms of it convolutions | reached |",
                      "| norm forward | 187 | 4301 | 100 |", "| encoder forward | 2 |", "2500 of 3000 GB/s, 83%", "1.50 times", "2.12 times"):
            self.assertIn(words, text)
        self.assertEqual(json.loads((self.dir / "2026-01-02-nvidia-h200.json").read_text())["commit"], "abc")


if __name__ == "__main__":
    unittest.main()
