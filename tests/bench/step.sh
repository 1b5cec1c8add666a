# tests/bench/run step [--features 16,32,64 ...]: seconds of one training step beside PyTorch's on the same CPU. Target: at
# most 0.6 of them. How much of our step oneDNN's primitives and our own kernels take is stated too.
set -euo pipefail
python=${VOXELD_VENV:-.venv}/bin/python
if [[ ! -x $python ]]; then
  echo '{"skipped": "no Python environment: scripts/bootstrap --oracle makes one with PyTorch"}'
  exit 77
fi
# PyTorch's threads wait in their own way; step.py sets what voxeld's spawner sets.
unset OMP_WAIT_POLICY
exec "$python" tests/bench/step.py "$VX_BUILD_DIR/tests/bench/bench_step" "$@"
