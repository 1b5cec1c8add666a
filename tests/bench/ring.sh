# tests/bench/run ring: from "sample ready" in a worker to "trainer awake", across processes, for a sample of 40x56x40 and
# for a batch of two of 128x128x128 beside Python's multiprocessing.Queue in the same run. Targets: p50 <= 40 us, p99 <=
# 250 us; the queue takes at least 30 times as long for the batch.
set -euo pipefail
exec python3 tests/bench/ring.py "$VX_BUILD_DIR/tests/bench/bench_ring" "$@"
