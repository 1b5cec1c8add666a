# tests/bench/run cache [--rounds N] [--samples N] [--set NAME]: milliseconds and bytes to read a training sample, warm and
# cold, beside nnU-Net's data set class on blosc2 files of the same cases: phantoms as they are, real volumes as they are
# and resampled. Targets: half the bytes decoded and half the time warm, 1.5 times as fast cold; the same box not slower
# than blosc2; files at most 1.1 times as large.
# tests/bench/run cache --shapes: the table of core/cache/README.md, one line per way of coding and cutting the arrays.
set -euo pipefail
export VOXELD_TEST_DATA=${VOXELD_TEST_DATA:-../shared/data}
if [[ ${1:-} == --shapes ]]; then
  exec bash tests/bench/cache_shapes.sh "${@:2}"
fi
python=${VOXELD_VENV:-.venv}/bin/python
if ! "$python" -c 'import nnunetv2' 2>/dev/null; then
  echo '{"skipped": "nnU-Net is not installed: scripts/bootstrap --oracle makes a Python environment with it"}'
  exit 77
fi
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
exec "$python" tests/bench/cache.py "$VX_BUILD_DIR/daemon/voxeld" "$VX_BUILD_DIR/tests/bench/bench_cache" "$@"
