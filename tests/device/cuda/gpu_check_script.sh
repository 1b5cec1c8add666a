#!/usr/bin/env bash
# scripts/gpu-check from end to end, the recording device in the place of a GPU and a tiny network in that of each it names:
# every part runs and is reported.
#   gpu_check_script.sh BUILD
set -euo pipefail
cd "$(dirname "$0")/../../.."
real=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/build/{daemon,tests/device/{cuda,kernels}} "$work/out"
cat >"$work/build/tests/device/cuda/gpu_check" <<SH
#!/bin/sh
mkdir -p "\$VOXELD_CUDA_PLANS" 2>/dev/null && cp "$work/plan.json" "\$VOXELD_CUDA_PLANS/" 2>/dev/null
exec "$real/tests/device/cuda/gpu_check_recorded" "\$1" tiny 2
SH
cat >"$work/plan.json" <<'JSON'
{"format": 1, "for": {"device": "NVIDIA H200", "processors": 132, "cudnn": 91900, "type": "bf16", "direction": "forward",
 "channels": [2, 32, 32], "in": [128, 128, 128], "kernel": [3, 3, 3], "stride": [1, 1, 1], "pad": [1, 1, 1]},
 "engine": 22, "rank": 3, "fallback": false, "tensor_core": true, "workspace": 0, "split": 0, "ms": 2.0, "checked_with": 62,
 "plan": "{}"}
JSON
printf '#!/bin/sh\necho "{}" >"$2"\n' >"$work/build/tests/device/cuda/gpu_plans"
printf '#!/bin/sh\necho the same bits\n' >"$work/build/tests/device/kernels/gpu_kernels"
chmod +x "$work"/build/tests/device/*/*
SLOWER=50 BUDGET=100000 VOXELD_TEST_DATA=/nonexistent scripts/gpu-check --build "$work/build" --out "$work/out" >"$work/log" 2>&1 || {
  cat "$work/log" >&2
  exit 1
}
python3 - "$work/out" <<'PY'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
[document] = [json.loads(p.read_text()) for p in out.glob("2*.json")]
[page] = [p.read_text() for p in out.glob("2*.md")]
checks = document["checks"]
kinds = [c["check"] for c in checks]
assert kinds.count("parity") == 9 and kinds.count("speed") == 2 and kinds.count("graph") == 1, kinds
assert all(c["passed"] for c in checks if "passed" in c), checks
assert all(c["status"] == 0 for c in checks if c["check"] == "part"), checks
[plan] = document["plans"]
# 2 x 2 x 128^3 outputs x 32 x 32 channels x 27 taps, in 2 ms
assert abs(plan["tflops"] - 2e-9 * 2 * 128**3 * 32 * 32 * 27 / 2.0) < 1e-6, plan
for word in ("no GPU", "Equal bits", "U-Net", "speed, 128^3", "| forward |"):
    assert word in page, word
assert (out / "deviceprop.json").exists() and (out / "kernels.txt").read_text() == "the same bits\n"
PY
echo "gpu_check_script: all is well"
