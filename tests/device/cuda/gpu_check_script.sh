#!/usr/bin/env bash
# scripts/gpu-check from end to end, without a GPU.
#   gpu_check_script.sh dry BUILD     the recording device, the CPU, tiny networks: every part runs and is reported
#   gpu_check_script.sh played BUILD  programs that are played: limits are kept, failures noted, nothing lost
#   gpu_check_script.sh pack BUILD    a pack, unpacked elsewhere: needs nothing of this machine but its C library, and runs
set -euo pipefail
cd "$(dirname "$0")/../../.."
what=$1 real=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=$work/out
here=tests/device/cuda
unset VOXELD_CUDA_EAGER

run() { # run EXPECTED-STATUS ARGUMENTS...
  local rc=0 expected=$1
  shift
  "${script:-scripts/gpu-check}" "$@" --out "$out" >"$work/log" 2>&1 || rc=$?
  ((rc == expected)) || { cat "$work/log" "$out/log.txt" >&2; echo "gpu_check_script: status $rc instead of $expected" >&2; exit 1; }
}

dry() {
  SLOWER=20 BUDGET=100000 run 0 --dry --build "$real"
  python3 - "$out" <<'PY'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
[document] = [json.loads(p.read_text()) for p in out.glob("2*.json")]
[page] = [p.read_text() for p in out.glob("2*.md")]
checks = document["checks"]
kinds = [c["check"] for c in checks]
assert kinds.count("parity") == 9 and kinds.count("speed") == 2 and kinds.count("graph") == 1 and kinds.count("layers") == 2, kinds
assert all(c["passed"] for c in checks if "passed" in c), checks
parts = {c["name"]: c["status"] for c in checks if c["check"] == "part"}
assert len(parts) == 20 and all(status in (0, 77) for status in parts.values()), parts
[follow] = [c for c in checks if c["check"] == "follow"]
assert (follow["steps"], follow["batch"]) == (4, 2) and abs(follow["loss"] - follow["loss_cpu_fp32"]) < 0.05, follow
[layers] = [c for c in checks if c["check"] == "layers" and c["network"].startswith("six")]
steps = layers["layers"]
names = [s["step"] for s in steps]
# Two stages of two convolutions, one transposed, two more behind it, one head; the gradient of the input is not asked for.
assert sum(s["conv"] for s in steps) == 3 * 8 - 1, names
assert sum(s["step"].endswith("forward") and not s["conv"] for s in steps) == 6, names
assert names[-2:] == ["gradient norm", "update"], names
assert abs(steps[0]["gflop"] - 2e-9 * 8**3 * 8 * 8 * 27) < 1e-7, steps[0]
assert "gb_per_s" in steps[1] and "gflop" not in steps[1], steps[1]
[whole] = [c for c in checks if c["check"] == "end_to_end"]
assert whole["epochs"] >= 1 and 0 <= whole["loader_wait_share"] <= 1 and abs(sum(whole["phases"].values())) > 0, whole
[dice] = [c for c in checks if c["check"] == "dice"]
assert dice["epochs"] == 3 and 0 <= dice["result"]["validation"]["mean_dice"] <= 1, dice
assert document["kernels"] == [] and "0 kernels differ" in (out / "kernels.txt").read_text()
for word in ("no GPU", "Equal bits", "U-Net", "speed, 128^3", "## Targets", "waiting for the loader"):
    assert word in page, word
PY
  record_fits
}

record_fits() { # the losses in the tree are of the weights and samples that a GPU would be given
  "$real/$here/gpu_check" record "Dataset004 3d_fullres" 2 2 "$work/record.json"
  python3 - "$work/record.json" $here/follow-cpu-fp32.json <<'PY'
import json, sys
now, kept = (json.load(open(path)) for path in sys.argv[1:])
close = lambda a, b, by: abs(a - b) <= by * abs(b)
assert all(close(a, b, 1e-6) for a, b in zip(now["fingerprint"], kept["fingerprint"])), (now, kept["fingerprint"])
assert len(kept["losses"]) == 200 and all(close(a, b, 1e-3) for a, b in zip(now["losses"], kept["losses"])), now
PY
}

# --- played ---

play() { # play FILE: a program of the build, from stdin
  mkdir -p "$(dirname "$work/build/$1")"
  cat >"$work/build/$1"
  chmod +x "$work/build/$1"
}

played_build() {
  play $here/gpu_check <<'SH'
#!/bin/sh
[ "$1" = device ] && echo '{"check": "device", "model": "played", "library": "none", "passed": true}'
[ "$1" = parity ] && [ -n "$HANG" ] && { echo '{"check": "parity", "of": "U-Net", "passed": true}'; trap '' TERM; sleep 600; }
[ "$1 $2" = "determinism small" ] && { printf '{"check": "determinism", "cut o'; exit 3; }
[ "$1" = speed ] && echo "{\"check\": \"speed\", \"network\": \"$2\", \"precision\": \"bf16\", \"train_ms\": 3.25, \"validate_ms\": 1.5}"
exit 0
SH
  play $here/gpu_watch <<'SH'
#!/bin/sh
echo "$@" >>"$PLAYED"
case $1 in
  dice) if [ "$3" -gt "$MOST" ]; then echo '{"check": "dice", "too_slow": true, "epoch_seconds": 2.5}'; exit 75; fi
    echo '{"check": "dice", "result": {"validation": {"mean_dice": 0.9}}}' ;;
esac
SH
  play $here/gpu_convolutions <<'SH'
#!/bin/sh
echo '| bottleneck | 1 |'
echo "{\"check\": \"convolutions\", \"network\": \"$1\", \"bf16_ms\": 18.25, \"fp16_ms\": 17.5, \"without_plan\": 0}"
SH
  play daemon/voxeld <<'SH'
#!/bin/sh
exit 0
SH
  cp "$work/build/daemon/voxeld" "$work/build/$here/gpu_plans"
  play tests/device/kernels/gpu_kernels <<'SH'
#!/bin/sh
echo 'norm forward               187.2 us    4301 GB/s   100 % of a copy'
echo '0 kernels differ'
SH
}

limits() { # limits: name=limit:status of every part
  python3 -c '
import json, sys
for line in open(sys.argv[1]):
    o = json.loads(line)
    if o["check"] == "part":
        print("%s=%d:%d" % (o["name"].replace(" ", "_"), o["limit"], o["status"]))
' <(grep '"check": "part"' "$out/results.jsonl")
}

expect() { # expect WORDS: a line of that beginning among the limits
  grep -q "^$1" <<<"$(limits)" || { limits >&2; cat "$PLAYED" "$out/log.txt" >&2; echo "gpu_check_script: no $1" >&2; exit 1; }
}

play_sanitizer() { # play_sanitizer STATUS WORDS
  mkdir -p "$work/tools"
  printf '#!/bin/sh\necho "$VOXELD_CUDA_EAGER $@" >>"$PLAYED"\necho "%s"\nexit %d\n' "$2" "$1" >"$work/tools/compute-sanitizer"
  chmod +x "$work/tools/compute-sanitizer"
}

played() {
  played_build
  play_sanitizer 0 'ERROR SUMMARY: 0 errors'
  PATH=$work/tools:$PATH
  mkdir -p "$work/data/Dataset004_Hippocampus"
  echo '{}' >"$work/data/Dataset004_Hippocampus/dataset.json"
  export VOXELD_TEST_DATA=$work/data PLAYED=$work/played MOST=40 HANG='' PYTHON
  PYTHON=$(command -v python3)
  run 1 --build "$work/build"
  # Nothing took its time: every part had its most, but for a first one that may overrun less.
  expect 'profile=30:0' && expect 'speed,_128^3=150:0' && expect 'dice=120:0' && expect 'fp16=90:0' && expect 'determinism=30:3'
  # A schedule made from 3.25 ms a step was said to take 2.5 s an epoch: (114 - 25) / 1.0877 epochs, then (114 - 25) / 2.75,
  # less where a busy machine has taken seconds already.
  grep -Eq -- '--epochs (7[0-9]|8[01]) ' "$PLAYED" && grep -Eq -- '--epochs (2[6-9]|3[0-2]) ' "$PLAYED" || { cat "$PLAYED" >&2; exit 1; }
  grep -q 'reached: the convolutions .*: 18.2 ms in bf16, 17.5 ms in fp16' "$work/log"
  grep -q '| bottleneck | 1 |' "$out/convolutions.md"
  expect 'sanitizer,_kernels=90:0' && expect 'sanitizer,_a_step=60:0'
  grep -q '^1 --error-exitcode 1 .*gpu_check determinism tiny 1$' "$PLAYED"
  play_sanitizer 1 'Device not supported'
  run 1 --build "$work/build" --only sanitizer
  expect 'sanitizer,_kernels=90:77' && grep -q 'reached: compute-sanitizer: .* does not support' "$work/log"
  play_sanitizer 1 'ERROR SUMMARY: 2 errors'
  run 1 --build "$work/build" --only sanitizer
  expect 'sanitizer,_kernels=90:1' && grep -q 'missed: compute-sanitizer: 0 of 2' "$work/log"
  MOST=100 run 1 --build "$work/build" --only dice
  expect 'dice=120:0'
  grep -q '"mean_dice": 0.9' "$out"/2*.json

  # One that hangs and will not be ended, in a budget that is soon spent: the others are told so, and what came is there.
  local start=$SECONDS
  HANG=1 BUDGET=9 run 1 --build "$work/build" --only 'parity|kernels|fp16'
  ((SECONDS - start < 60)) || { echo "gpu_check_script: $((SECONDS - start)) s of 9" >&2; exit 1; }
  expect 'parity=[5-9]:137' && expect 'kernels=[0-3]:124' && expect 'fp16=[0-3]:124'
  python3 - "$out" <<'PY'
import json, pathlib, sys
[document] = [json.loads(p.read_text()) for p in pathlib.Path(sys.argv[1]).glob("2*.json")]
assert [c["of"] for c in document["checks"] if c["check"] == "parity"] == ["U-Net"], document["checks"]
states = {v["target"]: v for v in document["verdicts"]}
assert states["losses beside the CPU's in fp32"]["figure"] == "it was not run"
assert states["own kernels against the CPU"]["state"] == "not measured"
PY
  # The same, from files brought home.
  local home=$out
  out=$work/home run 1 --report "$home/results.jsonl"
  ls "$work"/home/2*-played.md >/dev/null
}

# --- a pack ---

pack() {
  [[ -x $real/daemon/voxeld_cuda.so || -e $real/daemon/voxeld_cuda.so ]] || local module=--dry
  VOXELD_TEST_DATA=/nonexistent scripts/gpu-check ${module:-} --build "$real" --pack "$work/pack.tar.gz" >"$work/log"
  grep -q 'without Dataset004' "$work/log"
  # With the data (16 MiB), the sources (9) and what people add it must stay below 64 MiB.
  (($(stat -c %s "$work/pack.tar.gz") < 36 * 1048576)) || { cat "$work/log" >&2; exit 1; }
  mkdir "$work/there"
  tar -xf "$work/pack.tar.gz" -C "$work/there"
  local bundle=$work/there/bundle f
  # Every library is in the pack, or the C library's, or comes with the GPU's driver and PyTorch.
  for f in $(find "$bundle/build" "$bundle"/lib* -type f); do
    env -i PATH="$PATH" LD_LIBRARY_PATH="$bundle/lib:$bundle/lib-c++" ldd "$f" 2>&1 | grep '=>' |
      grep -v -E "=> $bundle/|lib(c|m|dl|rt|pthread)\.so|libcudnn" && { echo "gpu_check_script: of $f" >&2; exit 1; }
  done
  script=$bundle/scripts/gpu-check
  SLOWER=20 BUDGET=100000 run 0 --dry --only 'parity|kernels|data|end to end'
  grep -q '"check": "end_to_end"' "$out/results.jsonl" && grep -q "$(cat "$bundle/COMMIT")" "$out"/2*.json
  # Where there is no GPU one line says so.
  if [[ -e $bundle/build/daemon/voxeld_cuda.so ]]; then
    rc=0
    "$script" --out "$out" >"$work/log" 2>&1 || rc=$?
    ((rc == 77)) && [[ $(wc -l <"$work/log") == 1 ]] || { cat "$work/log" >&2; exit 1; }
  fi
}

"$what"
echo "gpu_check_script: $what: all is well"
