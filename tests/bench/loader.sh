# tests/bench/run loader [--setting NAME] [--short] [--samples N] [--clock cpu]: augmented samples a second on one core,
# reading included, beside nnU-Net's own loader with batchgeneratorsv2 in the same run: Hippocampus, a CT-sized phantom with a
# patch of 128x128x128, and the same patch with four channels. Target: ten times as many in each; at most 150 MB of
# private memory for Hippocampus.
set -euo pipefail
python=${VOXELD_VENV:-.venv}/bin/python
if ! "$python" -c 'import nnunetv2, zarr' 2>/dev/null; then
  echo '{"skipped": "nnU-Net is not installed: scripts/bootstrap --oracle makes a Python environment with it"}'
  exit 77
fi
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
export VOXELD_TEST_DATA=${VOXELD_TEST_DATA:-../shared/data}
exec "$python" tests/bench/loader.py "$VX_BUILD_DIR/daemon/voxeld" "$VX_BUILD_DIR/tests/bench/bench_loader" "$@"
