# tests/bench/run ring: from "sample ready" in a worker to "trainer awake", across processes. Target: p50 <= 40 us.
set -euo pipefail
exec "$VX_BUILD_DIR/tests/bench/bench_ring" "$@"
