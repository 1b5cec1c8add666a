# tests/bench/run tuner [sleeping | real]: jobs on a pretended device whose tuner starts with one worker, beside the best
# setting that trying all of them finds: samples that mostly sleep with a budget of 16 cores, and real transforms on two.
# Targets: within 15 % of its steps a second, reached within three minutes.
set -euo pipefail
exec python3 tests/bench/tuner.py "$VX_BUILD_DIR/daemon/voxeld" "$@"
