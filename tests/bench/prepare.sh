# tests/bench/run prepare [ROUNDS]: seconds to prepare a case on one core (read, crop, normalise, resample, compress,
# write) beside nnU-Net's preprocessor, Hippocampus and SarcomaCT with a target spacing that makes both resample.
# Target: a fifth of nnU-Net's.
set -euo pipefail
python=${VOXELD_VENV:-.venv}/bin/python
if ! "$python" -c 'import nnunetv2' 2>/dev/null; then
  echo '{"skipped": "nnU-Net is not installed: scripts/bootstrap --oracle makes a Python environment with it"}'
  exit 77
fi
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
export VOXELD_TEST_DATA=${VOXELD_TEST_DATA:-../shared/data}
exec "$python" tests/bench/prepare.py "$VX_BUILD_DIR/daemon/voxeld" "$@"
