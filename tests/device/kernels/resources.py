#!/usr/bin/env python3
"""What ptxas says of our kernels: resources.py REPORT...

Prints registers, shared memory and the share of a multiprocessor's threads that fit, per kernel and chip. Fails where a
kernel spills or keeps a stack frame. Exit status 77 without reports: there was no nvcc."""
import os
import re
import sys
from pathlib import Path

PER_SM = {"registers": 65536, "threads": 2048, "shared": {"sm_80": 167936, "sm_90": 233472}}
BLOCK = 256


def kernels(text):
    """(kernel, chip, registers, shared bytes, stack, spill bytes) of one report."""
    entry = re.compile(r"Compiling entry function '(\w+)' for '(sm_\d+)'(.*?)(?=Compiling entry|\Z)", re.S)
    for name, chip, rest in entry.findall(text):
        stack, stores, loads = map(int, re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads",
                                                  rest).groups())
        registers = int(re.search(r"Used (\d+) registers", rest).group(1))
        shared = re.search(r"(\d+) bytes smem", rest)
        short = re.match(r"_Z\d+(\w+?)_kernel", name)
        yield (short.group(1) if short else name, chip, registers, int(shared.group(1)) if shared else 0, stack,
               stores + loads)


def occupancy(chip, registers, shared):
    blocks = min(PER_SM["threads"] // BLOCK, PER_SM["registers"] // (-(-registers // 8) * 8 * BLOCK))
    if shared:
        blocks = min(blocks, PER_SM["shared"][chip] // (shared + 1024))
    return blocks * BLOCK / PER_SM["threads"]


def main():
    reports = [Path(p) for p in sys.argv[1:] if Path(p).exists()]
    if not reports:
        print("no ptxas reports: built without nvcc")
        if os.environ.get("VX_SKIP_LOG"):
            with open(os.environ["VX_SKIP_LOG"], "a", encoding="utf-8") as log:
                log.write("nvcc tests/device/kernels/resources.py\n")
        return 77
    rows = sorted(k for r in reports for k in kernels(r.read_text()))
    bad = [k for k in rows if k[4] or k[5]]
    print(f"{'kernel':22} {'chip':6} {'registers':>9} {'shared':>7} {'occupancy':>9} {'spilled':>7}")
    for name, chip, registers, shared, stack, spilled in rows:
        print(f"{name:22} {chip:6} {registers:9} {shared:7} {occupancy(chip, registers, shared):9.0%} {stack + spilled:7}")
    chips = sorted({k[1] for k in rows})
    print(f"{len(rows)} kernels, {' '.join(chips)}, {len(bad)} with spills or a stack frame")
    return 1 if bad or chips != ["sm_80", "sm_90"] or len(rows) < 2 * len(reports) else 0


if __name__ == "__main__":
    sys.exit(main())
