# tests/bench/run telemetry [--seconds S]: what measuring costs a training, in CPU time over the wall time of its steps.
# Target: at most 0.5 %. An on/off comparison cannot show as little, and there is nothing to switch off; so everything that
# measures is added up (telemetry.py says how).
set -euo pipefail
exec python3 tests/bench/telemetry.py "$VX_BUILD_DIR/daemon/voxeld" "$VX_BUILD_DIR/tests/bench/bench_telemetry" \
  "$VX_BUILD_DIR/tests/bench/libbench_telemetry_count.so" "$@"
