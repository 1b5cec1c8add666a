#!/usr/bin/env python3
"""Structure rules that no compiler checks; README.md ("Layout") and CONTRIBUTING.md state them.

  headers    a public header (its first comment does not say "private to this room") includes its own room's and base's
             headers only
  third      a third party's header appears in the rooms that own it
  size       files of at most 500 lines, rooms of at most 16 source files, functions of at most 100 lines
  comments   no marks of unfinished work
Exit status 1 with one line per finding.
"""
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOP = ("core", "api", "db", "daemon")

# header prefix -> rooms that may include it
OWNERS = {
    "dnnl": {"core/device/cpu"},
    "sqlite3.h": {"db"},
    "microhttpd.h": {"api"},
    "curl/": {"api/ctl"},
    "uv.h": {"api", "daemon"},
    "systemd/": {"daemon"},
    "ini.h": {"daemon"},
    "png.h": {"daemon"},
    "nifti": {"core/volume"},
    "blosc.h": {"core/cache"},
    "sha2.h": {"core/base"},
    "zlib.h": {"core/volume", "core/checkpoint"},
    "cuda": {"core/device/cuda"},
    "cudnn": {"core/device/cuda/dnn"},
}
# Headers that include another room's header, each with its reason; the list may only shrink.
EMBEDS = {
    "core/spec/spec.h": "struct vx_job_spec holds a plan override by value",
}
# Functions longer than the limit, each with its reason; the list may only shrink.
LONG_FUNCTIONS = {}

findings = []


def room_of(path):
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if parts[0] == "core" else parts[0]


def sources():
    names = subprocess.run(["git", "ls-files", *TOP], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / n for n in names.split() if n.endswith((".c", ".h", ".cu", ".cuh")) and (ROOT / n).exists()]


def check_includes(path, text):
    room = room_of(path)
    own = room.split("/")[-1]
    rel = str(path.relative_to(ROOT))
    for line in re.finditer(r'^\s*#\s*include\s+([<"])([^">]+)[">]', text, re.M):
        kind, name = line.groups()
        private = "rivate to this room" in text[:600]
        if kind == '"' and path.suffix == ".h" and room != "daemon" and not private:
            if "/" in name and not name.startswith(("base/", own + "/")) and rel not in EMBEDS:
                findings.append(f"{rel}: public header includes {name}; forward-declare instead")
        if kind == "<":
            for prefix, owners in OWNERS.items():
                if name.startswith(prefix) and not any(rel.startswith(o + "/") for o in owners):
                    findings.append(f"{rel}: <{name}> belongs to {', '.join(sorted(owners))}")


def check_functions(path, lines):
    """A function starts at a line ending in '{' in column 0 context and ends at '}' in column 0."""
    start = None
    for number, line in enumerate(lines, 1):
        if start is None and re.match(r"^[A-Za-z_].*\)\s*\{\s*$", line):
            start = (number, re.search(r"(\w+)\s*\(", line))
        elif start is None and re.match(r"^\s+.*\)\s*\{\s*$", line) and number > 1 and re.match(r"^[A-Za-z_][^;{}=]*[,(]\s*$", lines[number - 2]):
            start = (number, re.search(r"(\w+)\s*\(", lines[number - 2]))
        elif start is not None and line.startswith("}"):
            length = number - start[0]
            name = start[1].group(1) if start[1] else "?"
            if length > 100 and name not in LONG_FUNCTIONS:
                findings.append(f"{path.relative_to(ROOT)}:{start[0]}: {name} has {length} lines")
            start = None


def main():
    per_room = defaultdict(int)
    for path in sources():
        text = path.read_text()
        lines = text.splitlines()
        per_room[str(path.parent.relative_to(ROOT))] += 1
        check_includes(path, text)
        check_functions(path, lines)
        if len(lines) > 500:
            findings.append(f"{path.relative_to(ROOT)}: {len(lines)} lines")
        for mark in re.finditer(r"\b(TODO|FIXME|XXX|HACK)\b", text):
            findings.append(f"{path.relative_to(ROOT)}: {mark.group(0)}")
    for room, n in per_room.items():
        headers = len(list((ROOT / room).glob("*.h")))
        if n - headers > 16:
            findings.append(f"{room}: {n - headers} source files besides {headers} headers; split the room")
    for f in findings:
        print(f)
    print(f"lint: {len(findings)} findings in {sum(per_room.values())} files")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
