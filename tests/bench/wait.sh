# tests/bench/run wait [--seconds S] [--repeats N]: how long the pretended device waits for real Hippocampus samples, one
# and two workers at loads from 0.5 to 1.0, beside what the simulator (tests/sim) makes of the same samples' costs.
# Targets: within 2 points of step time in every cell; at load 0.85 at most 1 % waiting; at load 1.0 at most 3 points more
# than a ring without end would wait.
set -euo pipefail
data=${VOXELD_TEST_DATA:-../shared/data}/Dataset004_Hippocampus
if [[ ! -e $data/dataset.json ]]; then
  echo '{"skipped": "no Dataset004_Hippocampus in $VOXELD_TEST_DATA"}'
  exit 77
fi
exec python3 tests/bench/wait.py "$VX_BUILD_DIR/daemon/voxeld" "$VX_BUILD_DIR/tests/sim/voxeld_sim" "$data" "$@"
