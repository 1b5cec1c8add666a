"""Counting checks: one line each with its figure, and the closing JSON line of tests/oracle/run."""
import json
import math
import sys


class Checks:
    def __init__(self, verbose=True):
        self.total = self.failed = self.skipped = 0

    def check(self, what, ok, figure=""):
        self.total += 1
        self.failed += not ok
        print(f"{'ok' if ok else 'DIFFERS'}  {what}  {figure}".rstrip(), flush=True)
        return ok

    def skip(self, what, reason):
        self.skipped += 1
        print(f"skipped  {what}  {reason}", flush=True)

    def at_most(self, what, figure, limit, more=""):
        return self.check(what, figure <= limit, f"{figure:.3g} (at most {limit:g}) {more}")

    def end(self, **figures):
        print(json.dumps({"name": "oracle", "checks": self.total, "failed": self.failed,
                          "skipped": self.skipped, **figures}))
        sys.exit(1 if self.failed else 0)


def no_peer(reason):
    """Ends the script as skipped."""
    print(json.dumps({"skipped": reason}))
    sys.exit(77)


def relative(got, want):
    return abs(got - want) / max(abs(want), 1e-300) if got != want else 0.0


def _same(path, got, want, loose):
    number = (int, float)
    if isinstance(got, number) and isinstance(want, number) and not isinstance(got, bool):
        if any(path.endswith(end) for end in loose):
            return math.isclose(got, want, rel_tol=1e-6, abs_tol=1e-12)
        return got == want
    return type(got) is type(want) and got == want


def compare(got, want, loose=(), path=""):
    """(fields compared, ["path: ours, theirs", ...]). Numbers are equal, or within 1e-6 where the path
    ends with a word of loose."""
    if isinstance(want, dict) and isinstance(got, dict):
        pairs = [(f"{path}/{k}", got.get(k, "absent"), want.get(k, "absent")) for k in sorted({*got, *want})]
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        pairs = [(f"{path}/{i}", g, w) for i, (g, w) in enumerate(zip(got, want))]
    else:
        if _same(path, got, want, loose):
            return 1, []
        return 1, [f"{path}: {json.dumps(got)[:60]}, nnU-Net {json.dumps(want)[:60]}"]
    n, differences = 0, []
    for pair in pairs:
        more, found = compare(pair[1], pair[2], loose, pair[0])
        n += more
        differences += found
    return n, differences
