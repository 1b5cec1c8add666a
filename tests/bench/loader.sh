# tests/bench/run loader [SAMPLES]: augmented samples a second through one worker process, reading included. Target: 10
# times batchgeneratorsv2 on one core, and at most 150 MB of private memory. Real cases where the test data is there.
set -euo pipefail
data=${VOXELD_TEST_DATA:-../shared/data}/Dataset004_Hippocampus
exec "$VX_BUILD_DIR/tests/bench/bench_loader" "${1:-5000}" ${data:+$([[ -d $data ]] && echo "$data")}
